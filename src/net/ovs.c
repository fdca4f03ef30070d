#include "net/ovs_internal.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "net/name.h"
#include "net/node_internal.h"
#include "net/ovs_db_internal.h"

enum { CARRY_OUT_MS = 5000 };

void ovs_things_done(struct ovs_things *things)
{
	strv_free(things->bridges);
	strv_free(things->networks);
	strv_free(things->interfaces);
	strv_free(things->ports);
	*things = (struct ovs_things){};
}

static bool is_absent(int r)
{
	return r == -ENOENT || r == -ECONNREFUSED;
}

/* ---- operations ---- */

static json_t *named(const char *name)
{
	return json_pack("[[s, s, s]]", "name", "==", name);
}

static json_t *select_by_name(const char *table, const char *name, json_t *columns)
{
	return json_pack("{s:s, s:s, s:o, s:o}", "op", "select", "table", table, "where",
			 named(name), "columns", columns);
}

/* Asks ovs-vswitchd to carry out what is written, and for the number that says so. */
static void append_next(json_t *operations)
{
	json_array_append_new(operations,
			      json_pack("{s:s, s:s, s:[], s:[[s, s, i]]}", "op", "mutate", "table",
					"Open_vSwitch", "where", "mutations", "next_cfg", "+=", 1));
	json_array_append_new(operations,
			      json_pack("{s:s, s:s, s:[], s:[s]}", "op", "select", "table",
					"Open_vSwitch", "where", "columns", "next_cfg"));
}

/* Changes, and waits until it is so. */
static int carry_out(struct net *net, json_t *operations, struct error *err)
{
	AUTO(json_decref) json_t *results = NULL, *waited = NULL;
	const json_t *row;
	json_int_t number;
	size_t last;
	int r;

	append_next(operations);
	last = json_array_size(operations) - 1;
	r = ovs_db_transact(net->ovs_socket, operations, &results, err);
	if (r < 0)
		return r;
	row = json_array_get(ovs_db_rows(results, last), 0);
	number = json_integer_value(json_object_get(row, "next_cfg"));
	/* As long as there is a row that has not come so far. */
	return ovs_db_transact(net->ovs_socket,
			       json_pack("[{s:s, s:s, s:i, s:[[s, s, I]], s:[s], s:s, s:[]}]", "op",
					 "wait", "table", "Open_vSwitch", "timeout", CARRY_OUT_MS,
					 "where", "cur_cfg", "<", number, "columns", "cur_cfg",
					 "until", "==", "rows"),
			       &waited, err);
}

static json_t *ids(const struct net *net, const char *network_uid, const char *port_uid)
{
	json_t *pairs = json_pack("[[s, s], [s, s]]", "brume-owner", net->prefix, "brume-network",
				  network_uid);

	if (port_uid)
		json_array_append_new(pairs, json_pack("[s, s]", "brume-port", port_uid));
	return json_pack("[s, o]", "map", pairs);
}

static bool is_ours(const struct net *net, const json_t *row)
{
	const char *owner = ovs_db_map_get(row, "external_ids", "brume-owner");

	return owner && strcmp(owner, net->prefix) == 0;
}

/* ---- bridges ---- */

/* *ret_row is NULL when there is none; it is a part of *ret_results. */
static int look_for_bridge(struct net *net, const char *bridge, json_t **ret_results,
			   const json_t **ret_row, struct error *err)
{
	json_t *columns = json_pack("[s, s, s]", "_uuid", "external_ids", "ports");
	int r = ovs_db_transact(net->ovs_socket,
				json_pack("[o]", select_by_name("Bridge", bridge, columns)),
				ret_results, err);

	if (r == 0)
		*ret_row = json_array_get(ovs_db_rows(*ret_results, 0), 0);
	return r;
}

int ovs_find_bridge(struct net *net, const char *bridge, struct error *err)
{
	AUTO(json_decref) json_t *results = NULL;
	const json_t *row;
	int r = look_for_bridge(net, bridge, &results, &row, err);

	if (r == 0 && !row)
		return error_say(err, -ENODEV, "uplink %s: Open vSwitch has no such bridge",
				 bridge);
	return r;
}

static json_t *insert_bridge(const struct net *net, const char *bridge, const char *network_uid)
{
	json_t *operations = json_array();

	json_array_append_new(operations, json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "op", "insert",
						    "table", "Interface", "uuid-name", "i", "row",
						    "name", bridge, "type", "internal"));
	json_array_append_new(operations,
			      json_pack("{s:s, s:s, s:s, s:{s:s, s:[s, s]}}", "op", "insert",
					"table", "Port", "uuid-name", "p", "row", "name", bridge,
					"interfaces", "named-uuid", "i"));
	json_array_append_new(operations,
			      json_pack("{s:s, s:s, s:s, s:{s:s, s:[s, s], s:o}}", "op", "insert",
					"table", "Bridge", "uuid-name", "b", "row", "name", bridge,
					"ports", "named-uuid", "p", "external_ids",
					ids(net, network_uid, NULL)));
	json_array_append_new(operations,
			      json_pack("{s:s, s:s, s:[], s:[[s, s, [s, [[s, s]]]]]}", "op",
					"mutate", "table", "Open_vSwitch", "where", "mutations",
					"bridges", "insert", "set", "named-uuid", "b"));
	return operations;
}

int ovs_ensure_bridge(struct net *net, const char *bridge, const char *network_uid,
		      struct error *err)
{
	AUTO(json_decref) json_t *results = NULL;
	const json_t *row;
	int r = look_for_bridge(net, bridge, &results, &row, err);

	if (r < 0)
		return r;
	if (row && !is_ours(net, row))
		return error_say(err, -EEXIST,
				 "Open vSwitch has a bridge %s that does not belong to network %s",
				 bridge, network_uid);
	return carry_out(net, row ? json_array() : insert_bridge(net, bridge, network_uid), err);
}

int ovs_remove_bridge(struct net *net, const char *bridge, struct error *err)
{
	AUTO(json_decref) json_t *results = NULL;
	struct error absent = {};
	const json_t *row;
	int r = look_for_bridge(net, bridge, &results, &row, &absent);

	if (is_absent(r))
		return 0;
	if (r < 0)
		return error_say(err, r, "%s", absent.msg);
	if (!row || !is_ours(net, row) || !ovs_db_uuid(row))
		return 0;
	r = carry_out(net,
		      json_pack("[{s:s, s:s, s:[], s:[[s, s, [s, [[s, s]]]]]}]", "op", "mutate",
				"table", "Open_vSwitch", "where", "mutations", "bridges", "delete",
				"set", "uuid", ovs_db_uuid(row)),
		      &absent);
	/* A switch that does not run now will read it when it does. */
	return r < 0 && r != -ETIMEDOUT ? error_say(err, r, "%s", absent.msg) : 0;
}

/* ---- ports ---- */

static json_t *take_away(const char *uuid)
{
	return json_pack("{s:s, s:s, s:[[s, s, [s, s]]], s:[[s, s, [s, [[s, s]]]]]}", "op",
			 "mutate", "table", "Bridge", "where", "ports", "includes", "uuid", uuid,
			 "mutations", "ports", "delete", "set", "uuid", uuid);
}

static void append_port(const struct net *net, json_t *operations, const char *bridge,
			const char *interface, const char *network_uid, const char *port_uid)
{
	json_array_append_new(operations,
			      json_pack("{s:s, s:s, s:s, s:{s:s}}", "op", "insert", "table",
					"Interface", "uuid-name", "i", "row", "name", interface));
	json_array_append_new(operations,
			      json_pack("{s:s, s:s, s:s, s:{s:s, s:[s, s], s:o}}", "op", "insert",
					"table", "Port", "uuid-name", "p", "row", "name", interface,
					"interfaces", "named-uuid", "i", "external_ids",
					ids(net, network_uid, port_uid)));
	json_array_append_new(operations,
			      json_pack("{s:s, s:s, s:o, s:[[s, s, [s, [[s, s]]]]]}", "op",
					"mutate", "table", "Bridge", "where", named(bridge),
					"mutations", "ports", "insert", "set", "named-uuid", "p"));
}

/* Its row says why the switch does not take the interface. */
static int check_interface(struct net *net, const char *interface, struct error *err)
{
	AUTO(json_decref) json_t *results = NULL;
	const char *error;
	int r = ovs_db_transact(
		net->ovs_socket,
		json_pack("[o]", select_by_name("Interface", interface, json_pack("[s]", "error"))),
		&results, err);

	if (r < 0)
		return r;
	error = ovs_db_text(json_array_get(ovs_db_rows(results, 0), 0), "error");
	return error && error[0]
		       ? error_say(err, -EIO, "Open vSwitch does not take interface %s: %.200s",
				   interface, error)
		       : 0;
}

int ovs_ensure_port(struct net *net, const char *bridge, const char *interface,
		    const char *network_uid, const char *port_uid, struct error *err)
{
	AUTO(json_decref) json_t *results = NULL;
	json_t *operations;
	const json_t *port, *on;
	const char *uuid;
	int r = ovs_db_transact(
		net->ovs_socket,
		json_pack("[o, o]",
			  select_by_name("Port", interface,
					 json_pack("[s, s]", "_uuid", "external_ids")),
			  select_by_name("Bridge", bridge, json_pack("[s, s]", "_uuid", "ports"))),
		&results, err);

	if (r < 0)
		return r;
	port = json_array_get(ovs_db_rows(results, 0), 0);
	on = json_array_get(ovs_db_rows(results, 1), 0);
	uuid = ovs_db_uuid(port);
	if (!on)
		return error_say(err, -ENODEV, "Open vSwitch has no bridge %s (any more)", bridge);
	if (uuid && !is_ours(net, port))
		return error_say(err, -EEXIST,
				 "Open vSwitch has a port %s that does not belong to port %s",
				 interface, port_uid);
	operations = json_array();
	if (uuid && !ovs_db_refers(on, "ports", uuid)) {
		json_array_append_new(operations, take_away(uuid));
		uuid = NULL;
	}
	if (!uuid)
		append_port(net, operations, bridge, interface, network_uid, port_uid);
	/* Also when it is there: the interface may be another one of the same name. */
	r = carry_out(net, operations, err);
	return r < 0 ? r : check_interface(net, interface, err);
}

int ovs_remove_port(struct net *net, const char *interface, struct error *err)
{
	json_t *columns = json_pack("[s, s]", "_uuid", "external_ids");
	AUTO(json_decref) json_t *results = NULL, *removed = NULL;
	struct error absent = {};
	const json_t *port;
	int r = ovs_db_transact(net->ovs_socket,
				json_pack("[o]", select_by_name("Port", interface, columns)),
				&results, &absent);

	if (is_absent(r))
		return 0;
	if (r < 0)
		return error_say(err, r, "%s", absent.msg);
	port = json_array_get(ovs_db_rows(results, 0), 0);
	if (!port || !is_ours(net, port) || !ovs_db_uuid(port))
		return 0;
	/* Nobody waits: the interface itself ends by other hands. */
	return ovs_db_transact(net->ovs_socket, json_pack("[o]", take_away(ovs_db_uuid(port))),
			       &removed, err);
}

/* ---- what there is ---- */

static json_t *select_own(const struct net *net, const char *table)
{
	return json_pack("{s:s, s:s, s:[[s, s, [s, [[s, s]]]]], s:[s, s]}", "op", "select", "table",
			 table, "where", "external_ids", "includes", "map", "brume-owner",
			 net->prefix, "columns", "name", "external_ids");
}

static void take_rows(const json_t *rows, const char *key, char ***names, char ***uids)
{
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		const char *name = ovs_db_text(row, "name");
		const char *uid = ovs_db_map_get(row, "external_ids", key);

		if (!name || !uid || !name_is_uid(uid))
			continue;
		strv_append(names, name);
		strv_append(uids, uid);
	}
}

int ovs_list(struct net *net, struct ovs_things *ret, struct error *err)
{
	AUTO(json_decref) json_t *results = NULL;
	struct ovs_things things = {};
	struct error absent = {};
	int r = ovs_db_transact(
		net->ovs_socket,
		json_pack("[o, o]", select_own(net, "Bridge"), select_own(net, "Port")), &results,
		&absent);

	if (r < 0 && !is_absent(r))
		return error_say(err, r, "%s", absent.msg);
	if (r == 0) {
		take_rows(ovs_db_rows(results, 0), "brume-network", &things.bridges,
			  &things.networks);
		take_rows(ovs_db_rows(results, 1), "brume-port", &things.interfaces, &things.ports);
	}
	*ret = things;
	return 0;
}
