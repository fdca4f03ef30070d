#include "model/port.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/member.h"
#include "model/meta.h"

#define MAC_EXAMPLE "02:00:5e:10:00:01"

int mac_canonical(const char *text, char ret[MAC_TEXT_SIZE])
{
	char mac[MAC_TEXT_SIZE] = "";
	bool any = false;

	if (strlen(text) != MAC_TEXT_SIZE - 1)
		return -EINVAL;
	for (size_t i = 0; i < MAC_TEXT_SIZE - 1; i++) {
		if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char) text[i]))
			return -EINVAL;
		mac[i] = (char) tolower((unsigned char) text[i]);
		any = any || (mac[i] != ':' && mac[i] != '0');
	}
	/* The lowest bit of the first byte says that it is a group's. */
	if (!any || strchr("13579bdf", mac[1]))
		return -EINVAL;
	memcpy(ret, mac, sizeof(mac));
	return 0;
}

static int set_ip(const char *text, int family, char ret[IP_TEXT_SIZE])
{
	struct ip ip;

	if (ip_parse(text, &ip) < 0 || ip.family != family)
		return -EINVAL;
	ip_format(&ip, ret);
	return 0;
}

/* ---- groups ---- */

int port_groups_check(char *const *groups, const char *where, struct error *err)
{
	int r = 0;

	if (groups && !groups[0])
		return error_say(err, -EINVAL,
				 "%s: must name one group at least; without the member it is "
				 "\"default\"",
				 where);
	if (strv_count(groups) > PORT_GROUPS_MAX)
		return error_say(err, -EINVAL, "%s: at most %d groups are allowed", where,
				 PORT_GROUPS_MAX);
	for (size_t i = 0; r == 0 && groups && groups[i]; i++) {
		r = name_check(groups[i], where, err);
		for (size_t k = 0; r == 0 && k < i; k++)
			if (strcmp(groups[k], groups[i]) == 0)
				r = error_say(err, -EINVAL, "%s: \"%s\" is given twice", where,
					      groups[i]);
	}
	return r;
}

int port_groups_parse(const char *text, char ***groups, struct error *err)
{
	AUTO(free) char *copy = mem_strdup(text);
	char *rest = copy, *name;
	int r;

	while ((name = strsep(&rest, ",")))
		strv_append(groups, name);
	r = port_groups_check(*groups, "group", err);
	if (r < 0) {
		strv_free(*groups);
		*groups = NULL;
	}
	return r;
}

/* ---- the text form ---- */

static int parse_member(const char *member, struct port *port, struct error *err)
{
	const char *value = strchr(member, '=');
	size_t size = value ? (size_t) (value - member) : strlen(member);
	bool twice = false, good = false;

	value = value ? value + 1 : "";
	if (port_limits_knows(member, size))
		return port_limits_parse(member, value, &port->limits, err);
	if (size == 5 && memcmp(member, "group", size) == 0)
		return port_groups_parse(value, &port->groups, err);
	if (strcmp(member, "spoofing") == 0) {
		port->spoofing = true;
		return 0;
	}
	if (size == 2 && memcmp(member, "ip", size) == 0) {
		twice = port->ipv4[0];
		good = set_ip(value, 4, port->ipv4) == 0;
	} else if (size == 3 && memcmp(member, "ip6", size) == 0) {
		twice = port->ipv6[0];
		good = set_ip(value, 6, port->ipv6) == 0;
	} else if (size == 3 && memcmp(member, "mac", size) == 0) {
		twice = port->mac[0];
		good = mac_canonical(value, port->mac) == 0;
	} else {
		return error_say(err, -EINVAL,
				 "\"%.64s\" is not known, use NETWORK[,ip=ADDRESS][,ip6=ADDRESS]"
				 "[,mac=ADDRESS][,group=NAME][,ingress=RATE][,egress=RATE]"
				 "[,burst=SIZE][,spoofing]",
				 member);
	}
	if (twice)
		return error_say(err, -EINVAL, "%.*s is given twice", (int) size, member);
	return good ? 0
		    : error_say(err, -EINVAL, "%.*s \"%.64s\" is not %s", (int) size, member, value,
				size == 2          ? "an IPv4 address like 10.1.0.5"
				: member[0] == 'i' ? "an IPv6 address like fd00::5"
						   : "a unicast address like " MAC_EXAMPLE);
}

int port_parse(const char *text, struct port *ret, struct error *err)
{
	AUTO(free) char *copy = mem_strdup(text);
	char *rest = copy, *member = strsep(&rest, ",");
	AUTO(port_done) struct port port = {};
	int r = name_check(member, "the network's name", err);

	if (r < 0)
		return r;
	snprintf(port.network, sizeof(port.network), "%s", member);
	while (r == 0 && (member = strsep(&rest, ",")))
		r = parse_member(member, &port, err);
	if (r == 0)
		r = port_limits_check(&port.limits, "burst", err);
	if (r < 0)
		return r;
	*ret = port;
	port = (struct port){};
	return 0;
}

/* ---- JSON ---- */

static void read_ip(struct json_reader *in, const json_t *object, const char *name, int family,
		    char ret[IP_TEXT_SIZE])
{
	AUTO(free) char *text = NULL;

	json_read_string(in, object, name, &text);
	if (in->result == 0 && text && text[0] && set_ip(text, family, ret) < 0)
		member_fail(in, name, "\"%.64s\" is not an IPv%d address", text, family);
}

static void read_mac(struct json_reader *in, const json_t *object, char ret[MAC_TEXT_SIZE])
{
	AUTO(free) char *text = NULL;

	json_read_string(in, object, "mac", &text);
	if (in->result == 0 && text && text[0] && mac_canonical(text, ret) < 0)
		member_fail(in, "mac", "\"%.32s\" must be a unicast address like " MAC_EXAMPLE,
			    text);
}

static void read_network(struct json_reader *in, const json_t *object, struct port *port)
{
	AUTO(free) char *text = NULL;
	char path[MEMBER_PATH_MAX];
	int r;

	json_read_string(in, object, "network", &text);
	if (in->result < 0)
		return;
	if (!text || !text[0]) {
		member_fail(in, "network", "must name the network to join");
		return;
	}
	r = name_check(text, member_path(path, in->where, "network"), in->err);
	if (r < 0)
		in->result = r;
	else
		snprintf(port->network, sizeof(port->network), "%s", text);
}

/* Stores of earlier versions may have an empty list; that is none, too. */
static void read_groups(struct json_reader *in, const json_t *object, bool user, struct port *port)
{
	char path[MEMBER_PATH_MAX];

	json_read_strv(in, object, "groups", &port->groups);
	if (!user && port->groups && !port->groups[0]) {
		strv_free(port->groups);
		port->groups = NULL;
	}
	if (in->result == 0)
		in->result = port_groups_check(port->groups, member_path(path, in->where, "groups"),
					       in->err);
}

static void read_group_uids(struct json_reader *in, const json_t *object, struct port *port)
{
	json_read_strv(in, object, "group_uids", &port->group_uids);
	if (in->result == 0 && strv_count(port->group_uids) > PORT_GROUPS_MAX)
		member_fail(in, "group_uids", "at most %d are allowed", PORT_GROUPS_MAX);
	for (size_t i = 0; in->result == 0 && port->group_uids && port->group_uids[i]; i++)
		if (!uid_is_valid(port->group_uids[i]))
			member_fail(in, "group_uids", "must be 32 of 0-9 and a-f each");
}

static void read_interface(struct json_reader *in, const json_t *object, struct port *port)
{
	AUTO(free) char *text = NULL;

	json_read_string(in, object, "interface", &text);
	if (in->result < 0 || !text)
		return;
	if (strlen(text) != 4 || strncmp(text, "eth", 3) != 0 || !isdigit((unsigned char) text[3]))
		member_fail(in, "interface", "\"%.16s\" must be like eth0", text);
	else
		memcpy(port->interface, text, 5);
}

static int decode(const json_t *object, const char *where, bool user, struct port *ret,
		  struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	AUTO(port_done) struct port port = {};

	read_network(&in, object, &port);
	read_ip(&in, object, "ipv4", 4, port.ipv4);
	read_ip(&in, object, "ipv6", 6, port.ipv6);
	read_mac(&in, object, port.mac);
	read_groups(&in, object, user, &port);
	json_read_bool(&in, object, "spoofing", &port.spoofing);
	port_limits_read(&in, object, &port.limits);
	if (!user) {
		member_read_uid(&in, object, "uid", port.uid);
		member_read_uid(&in, object, "network_uid", port.network_uid);
		read_group_uids(&in, object, &port);
		read_interface(&in, object, &port);
		json_read_bool(&in, object, "leaving", &port.leaving);
		if (in.result == 0 && (!port.uid[0] || !port.network_uid[0] || !port.interface[0]))
			member_fail(&in, port.uid[0] ? "network_uid" : "uid",
				    "uid, network_uid and interface must be given");
	}
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	*ret = port;
	port = (struct port){};
	return 0;
}

int port_request_decode(const json_t *doc, struct port *ret, struct error *err)
{
	return decode(doc, "", true, ret, err);
}

json_t *port_encode(const struct port *port)
{
	json_t *object = json_object();

	json_put_string(object, "network", port->network);
	json_put_string(object, "ipv4", port->ipv4);
	json_put_string(object, "ipv6", port->ipv6);
	json_put_string(object, "mac", port->mac);
	json_put_strv(object, "groups", port->groups);
	if (port->spoofing)
		json_object_set_new(object, "spoofing", json_true());
	port_limits_put(object, &port->limits);
	json_put_string(object, "uid", port->uid);
	json_put_string(object, "network_uid", port->network_uid);
	json_put_strv(object, "group_uids", port->group_uids);
	json_put_string(object, "interface", port->interface);
	if (port->leaving)
		json_object_set_new(object, "leaving", json_true());
	return object;
}

void port_copy(struct port *to, const struct port *from)
{
	*to = *from;
	to->groups = strv_copy(from->groups);
	to->group_uids = strv_copy(from->group_uids);
}

void port_done(struct port *port)
{
	strv_free(port->groups);
	strv_free(port->group_uids);
	*port = (struct port){};
}

/* ---- lists ---- */

void ports_free(struct port *ports, size_t count)
{
	for (size_t i = 0; i < count; i++)
		port_done(&ports[i]);
	free(ports);
}

struct port *ports_copy(const struct port *ports, size_t count)
{
	struct port *copy = ports ? mem_new0_array(struct port, count + 1) : NULL;

	for (size_t i = 0; i < count; i++)
		port_copy(&copy[i], &ports[i]);
	return copy;
}

struct port *ports_find(const struct port *ports, size_t count, const char *network)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(ports[i].network, network) == 0)
			return (struct port *) &ports[i];
	return NULL;
}

void ports_append(struct port **ports, size_t *count, struct port *port)
{
	*ports = mem_realloc(*ports, *count + 1, sizeof(**ports));
	(*ports)[(*count)++] = *port;
	*port = (struct port){};
}

void ports_remove(struct port *ports, size_t *count, size_t at)
{
	port_done(&ports[at]);
	--*count;
	memmove(&ports[at], &ports[at + 1], (*count - at) * sizeof(*ports));
}

/* What a list under construction has; its count grows with it. */
struct list {
	struct port *ports;
	size_t count;
};

static void list_done(struct list *list)
{
	ports_free(list->ports, list->count);
}
static inline void list_done_autop(struct list *list)
{
	list_done(list);
}

int ports_read(struct json_reader *in, const json_t *object, const char *name, bool user,
	       struct port **ret, size_t *ret_count)
{
	char path[MEMBER_PATH_MAX], item_path[MEMBER_PATH_MAX + 32];
	AUTO(list_done) struct list list = {};
	json_t *array = NULL, *item;
	size_t i;

	json_read_array(in, object, name, &array);
	if (in->result < 0 || !array)
		return in->result;
	if (json_array_size(array) > PORTS_MAX)
		return member_fail(in, name, "an instance can have %d at most", PORTS_MAX);
	member_path(path, in->where, name);
	list.ports = mem_new0_array(struct port, json_array_size(array) + 1);
	json_array_foreach(array, i, item)
	{
		snprintf(item_path, sizeof(item_path), "%s[%zu]", path, i);
		int r = decode(item, item_path, user, &list.ports[i], in->err);
		if (r < 0) {
			in->result = r;
			return r;
		}
		list.count = i + 1;
		if (ports_find(list.ports, i, list.ports[i].network))
			return member_fail(in, name, "network \"%s\" is given twice",
					   list.ports[i].network);
	}
	ports_free(*ret, *ret_count);
	*ret = TAKE_PTR(list.ports);
	*ret_count = list.count;
	list.count = 0;
	return 0;
}

json_t *ports_encode(const struct port *ports, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, port_encode(&ports[i]));
	return array;
}
