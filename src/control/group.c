#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "control/control_internal.h"
#include "model/instance_patch.h"

/*
 * Security groups: their rules, and which port is in which.  A port in a group other than the
 * default one reserves it, `/groupuse/GROUP_UID/PORT_UID`, so that a launch and a deletion at the
 * same time cannot both win.  The default one cannot be deleted, and launches that say nothing
 * about groups write no key more.
 */

/* Whoever makes a rule about another group, or deletes a group, writes this key. */
static const char groups_key[] = "/lock/groups";

enum { USERS_SHOWN = 5 };

/* ---- rules */

static void take_lock(struct draft *draft)
{
	struct claim *lock = mirror_find_claim(draft->control, groups_key);

	store_txn_compare(&draft->txn, STORE_MOD_REVISION, groups_key, lock ? lock->revision : 0);
	store_ops_put(&draft->txn.then, groups_key, "{}", 0);
}

static int find_group(struct control *control, const char *project, const char *name,
		      struct item **ret, struct error *err)
{
	struct item *item = mirror_find(control, KIND_GROUP, project, name);

	if (!item)
		return error_say(err, -ENOENT, "security group \"%s\" does not exist", name);
	if (item->meta->deleted_ms)
		return error_say(err, -EBUSY, "security group \"%s\" is being deleted", name);
	*ret = item;
	return 0;
}

/* The group that a rule names; one that is about its own needs nobody else to stay. */
static int resolve_rule(struct draft *draft, const struct meta *own, struct security_rule *rule,
			bool *ret_others, struct error *err)
{
	struct item *item = NULL;
	int r;

	if (!rule->group[0])
		return 0;
	if (strcmp(rule->group, SECURITY_GROUP_SELF) == 0 || strcmp(rule->group, own->name) == 0) {
		snprintf(rule->group, sizeof(rule->group), "%s", own->name);
		memcpy(rule->group_uid, own->uid, UID_SIZE);
		return 0;
	}
	r = find_group(draft->control, own->project, rule->group, &item, err);
	if (r < 0)
		return r;
	memcpy(rule->group_uid, item->meta->uid, UID_SIZE);
	*ret_others = true;
	return 0;
}

static int resolve_rules(struct draft *draft, const struct meta *own, struct security_rules *rules,
			 const char *way, bool *ret_others, struct error *err)
{
	for (size_t i = 0; i < rules->count; i++) {
		int r = resolve_rule(draft, own, &rules->list[i], ret_others, err);

		if (r < 0)
			return error_wrap(err, r, "%s[%zu]", way, i);
	}
	return 0;
}

static int resolve(struct draft *draft, const struct meta *own, struct security_group_spec *spec,
		   struct error *err)
{
	bool others = false;
	int r = resolve_rules(draft, own, &spec->ingress, "ingress", &others, err);

	if (r == 0)
		r = resolve_rules(draft, own, &spec->egress, "egress", &others, err);
	if (r == 0 && others)
		take_lock(draft);
	return r;
}

void group_create_default(struct draft *draft, const char *project)
{
	struct security_group *group = mem_new0(struct security_group);
	AUTO(json_decref)
	json_t *rule = json_pack("{s:s, s:s, s:{s:s}}", "way", "ingress", "protocol", "any", "from",
				 "group", SECURITY_GROUP_SELF);

	meta_new(draft->control, &group->meta, project, SECURITY_GROUP_DEFAULT, NULL);
	mem_replace(&group->spec.node, draft->control->node);
	/* Its own members, everything: a rule of ours cannot be refused. */
	(void) security_group_change(&group->spec, SECURITY_GROUP_ADD, rule, NULL);
	(void) resolve(draft, &group->meta, &group->spec, NULL);
	draft_create(draft, KIND_GROUP, group);
}

static void keep_known(struct control *control, const struct meta *own,
		       struct security_rules *rules)
{
	size_t kept = 0;

	for (size_t i = 0; i < rules->count; i++) {
		struct security_rule *rule = &rules->list[i];

		if (rule->group[0] && strcmp(rule->group, own->name) != 0 &&
		    !mirror_find(control, KIND_GROUP, own->project, rule->group))
			free(rule->description);
		else
			rules->list[kept++] = *rule;
	}
	rules->count = kept;
}

void group_restore(struct draft *draft, struct security_group *group, const json_t *undo)
{
	struct security_group_spec *spec = &group->spec;

	/* What was in force before was good once: it cannot be refused now. */
	(void) security_group_change(spec, SECURITY_GROUP_REPLACE, undo, NULL);
	keep_known(draft->control, &group->meta, &spec->ingress);
	keep_known(draft->control, &group->meta, &spec->egress);
	(void) resolve(draft, &group->meta, spec, NULL);
	group->meta.generation++;
}

/* ---- requests */

static int prepare_create(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	struct control *control = work->control;
	const struct group_request *body = request->body;
	AUTO(security_group_free) struct security_group *group = mem_new0(struct security_group);
	struct operation *operation;
	struct item *item;
	int r = require_project(control, request->project, err);

	if (r < 0)
		return r;
	if (strcmp(body->name, SECURITY_GROUP_SELF) == 0)
		return error_say(err, -EINVAL,
				 "name: \"self\" means the group itself in its rules");
	item = mirror_find(control, KIND_GROUP, request->project, body->name);
	if (item)
		return error_say(err, -EEXIST, "security group \"%s\" %s", body->name,
				 item->meta->deleted_ms ? "is still being deleted"
							: "exists already");
	meta_new(control, &group->meta, request->project, body->name, body->labels);
	security_group_spec_copy(&group->spec, &body->spec);
	mem_replace(&group->spec.node, control->node);
	r = resolve(draft, &group->meta, &group->spec, err);
	if (r < 0)
		return r;
	operation = draft_operation(draft, OPERATION_CREATE, KIND_GROUP, &group->meta);
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	draft_create(draft, KIND_GROUP, TAKE_PTR(group));
	return WORK_COMMIT;
}

static void create_free(void *body)
{
	group_request_free(body);
}

void control_group_create(struct control *control, const char *project,
			  const struct group_request *body, control_done_fn done, void *data)
{
	struct request *request = request_new(project, body->name, done, data);
	struct group_request *copy = mem_new0(struct group_request);

	copy->name = mem_strdup(body->name);
	copy->labels = strv_copy(body->labels);
	security_group_spec_copy(&copy->spec, &body->spec);
	request->body = copy;
	request->body_free = create_free;
	request_start(control, request, prepare_create);
}

struct change {
	enum security_group_change change;
	json_t *body;
};

static void change_free(void *data)
{
	struct change *change = data;

	json_decref(change->body);
	free(change);
}

static int prepare_change(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const struct change *change = request->body;
	AUTO(json_decref) json_t *before = NULL, *after = NULL, *undo = json_object();
	struct security_group *group;
	struct item *item;
	int r = request_item(request, KIND_GROUP, &item, err);

	if (r < 0)
		return r;
	if (item->meta->deleted_ms)
		return error_say(err, -EBUSY, "security group \"%s\" is being deleted",
				 request->name);
	group = draft_edit(draft, item);
	before = security_group_spec_encode(&group->spec);
	security_group_spec_put_user(undo, &group->spec);
	r = security_group_change(&group->spec, change->change, change->body, err);
	if (r == 0)
		r = resolve(draft, &group->meta, &group->spec, err);
	if (r < 0)
		return r;
	after = security_group_spec_encode(&group->spec);
	return request_update(request, draft, item, &group->meta, !json_equal(before, after), undo);
}

void control_group_change(struct control *control, const char *project, const char *name,
			  enum security_group_change change, const json_t *body, uint64_t if_match,
			  control_done_fn done, void *data)
{
	struct request *request = request_new(project, name, done, data);
	struct change *copy = mem_new0(struct change);

	copy->change = change;
	copy->body = json_deep_copy(body);
	request->body = copy;
	request->body_free = change_free;
	request->if_match = if_match;
	request_start(control, request, prepare_change);
}

static bool names_group(const struct security_rules *rules, const char *uid)
{
	for (size_t i = 0; i < rules->count; i++)
		if (strcmp(rules->list[i].group_uid, uid) == 0)
			return true;
	return false;
}

static bool is_user(const struct item *item, const char *uid)
{
	if (item->kind == KIND_GROUP && strcmp(item->meta->uid, uid) != 0)
		return names_group(&item_group(item)->spec.ingress, uid) ||
		       names_group(&item_group(item)->spec.egress, uid);
	if (item->kind != KIND_INSTANCE)
		return false;
	for (size_t i = 0; i < item_instance(item)->spec.port_count; i++)
		if (strv_contains(item_instance(item)->spec.ports[i].group_uids, uid))
			return true;
	return false;
}

/* Instances in the group, or else groups with a rule about it. */
static int refuse_used(struct control *control, const struct item *group, enum kind kind,
		       const char *one, const char *several, struct error *err)
{
	AUTO(strbuf_done) struct strbuf names = {};
	struct item *item, *next;
	unsigned int count = 0;

	HASH_ITER(by_key, control->items, item, next)
	{
		if (item->kind != kind || !is_user(item, group->meta->uid))
			continue;
		if (count++ < USERS_SHOWN)
			strbuf_printf(&names, "%s%s", count > 1 ? ", " : "", item->meta->name);
	}
	if (count == 0)
		return 0;
	if (count > USERS_SHOWN)
		strbuf_printf(&names, " and %u more", count - USERS_SHOWN);
	return error_say(err, -EBUSY, "security group \"%s\" is used by %s %s", group->meta->name,
			 count == 1 ? one : several, strbuf_str(&names));
}

static int prepare_delete(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	AUTO(free) char *prefix = NULL;
	struct item *item;
	int r = request_item(request, KIND_GROUP, &item, err);

	if (r < 0)
		return r;
	if (strcmp(request->name, SECURITY_GROUP_DEFAULT) == 0)
		return error_say(err, -EBUSY,
				 "security group \"default\" cannot be deleted: ports that name no "
				 "group are in it; its rules can be changed");
	r = refuse_used(work->control, item, KIND_INSTANCE, "instance", "instances", err);
	if (r == 0)
		r = refuse_used(work->control, item, KIND_GROUP, "a rule of group",
				"rules of groups", err);
	if (r < 0)
		return r;
	prefix = mem_printf("/groupuse/%s/", item->meta->uid);
	store_txn_compare(&draft->txn, STORE_PREFIX_EMPTY, prefix, 0);
	take_lock(draft);
	return request_delete(request, draft, item);
}

void control_group_delete(struct control *control, const char *project, const char *name,
			  uint64_t if_match, control_done_fn done, void *data)
{
	struct request *request = request_new(project, name, done, data);

	request->if_match = if_match;
	request_start(control, request, prepare_delete);
}

/* ---- the groups of ports */

static void use_key(char key[CLAIM_KEY_SIZE], const char *group_uid, const struct port *port)
{
	snprintf(key, CLAIM_KEY_SIZE, "/groupuse/%s/%s", group_uid, port->uid);
}

static void release(struct draft *draft, const struct port *port, const char *group_uid)
{
	char key[CLAIM_KEY_SIZE];

	use_key(key, group_uid, port);
	if (mirror_find_claim(draft->control, key))
		store_ops_delete(&draft->txn.then, key);
}

/* Frames of some networks do not pass a bridge of ours: their ports have no groups at all. */
static const struct item *groupless_network(struct control *control, const struct port *port)
{
	const struct item *item = mirror_find_uid(control, port->network_uid);

	return item && item->kind == KIND_NETWORK &&
			       !network_can(&item_network(item)->spec, NETWORK_CAN_GROUPS)
		       ? item
		       : NULL;
}

/* One of the names of a port; that of the default group reserves nothing. */
static int take_group(struct draft *draft, const struct instance *instance,
		      const struct port *before, struct port *port, const char *name,
		      struct error *err)
{
	char key[CLAIM_KEY_SIZE];
	struct item *item = NULL;
	int r = find_group(draft->control, instance->meta.project, name, &item, err);

	if (r < 0)
		return r;
	strv_append(&port->group_uids, item->meta->uid);
	if (strcmp(name, SECURITY_GROUP_DEFAULT) == 0 ||
	    (before && strv_contains(before->group_uids, item->meta->uid)))
		return 0;
	use_key(key, item->meta->uid, port);
	draft_claim_port(draft, key, instance->meta.uid, port->uid);
	draft_require(draft, item);
	return 0;
}

int groups_take(struct draft *draft, const struct instance *instance, const struct port *before,
		struct port *port, struct error *err)
{
	static const char *const none[] = { SECURITY_GROUP_DEFAULT, NULL };
	const char *const *names = port->groups ? (const char *const *) port->groups : none;
	const struct item *groupless = groupless_network(draft->control, port);
	int r = 0;

	strv_free(port->group_uids);
	port->group_uids = mem_new0(char *);
	if (groupless && port->groups)
		return network_require(&item_network(groupless)->spec, groupless->meta->name,
				       NETWORK_CAN_GROUPS, err);
	if (groupless)
		return 0;
	for (; r == 0 && *names; names++)
		r = take_group(draft, instance, before, port, *names, err);
	for (char **uid = before ? before->group_uids : NULL; r == 0 && uid && *uid; uid++)
		if (!strv_contains(port->group_uids, *uid))
			release(draft, before, *uid);
	return r;
}

int groups_update(struct draft *draft, struct instance *instance, const struct port *before,
		  struct error *err)
{
	struct instance_spec *spec = &instance->spec;
	int r = 0;

	for (size_t i = 0; r == 0 && i < spec->port_count; i++)
		if (!strv_equal(before[i].groups, spec->ports[i].groups))
			r = groups_take(draft, instance, &before[i], &spec->ports[i], err);
	return r;
}

void groups_release(struct draft *draft, const struct port *port)
{
	for (char **uid = port->group_uids; uid && *uid; uid++)
		release(draft, port, *uid);
}

bool groups_settle(struct draft *draft, struct instance *instance)
{
	struct item *item = mirror_find(draft->control, KIND_GROUP, instance->meta.project,
					SECURITY_GROUP_DEFAULT);
	bool changed = false;

	if (!item || instance->meta.deleted_ms)
		return false;
	for (size_t i = 0; i < instance->spec.port_count; i++) {
		struct port *port = &instance->spec.ports[i];

		if (port->group_uids || port->leaving)
			continue;
		port->group_uids = mem_new0(char *);
		if (!groupless_network(draft->control, port))
			strv_append(&port->group_uids, item->meta->uid);
		changed = true;
	}
	return changed;
}

/* What of an undo there still is to go back to. */
static json_t *prune(struct control *control, const struct instance *instance, const json_t *undo)
{
	json_t *pruned = json_deep_copy(undo), *ports = json_object_get(pruned, "ports"), *port;
	const char *network;
	void *next;

	json_object_foreach_safe(ports, next, network, port)
	{
		const struct port *there =
			ports_find(instance->spec.ports, instance->spec.port_count, network);
		json_t *groups = json_object_get(port, "groups");

		for (size_t i = json_array_size(groups); i > 0; i--)
			if (!mirror_find(control, KIND_GROUP, instance->meta.project,
					 json_string_value(json_array_get(groups, i - 1))))
				json_array_remove(groups, i - 1);
		if (json_is_array(groups) && json_array_size(groups) == 0)
			json_object_set_new(port, "groups", json_null());
		if (!there || there->leaving)
			json_object_del(ports, network);
	}
	return pruned;
}

int groups_take_back(struct draft *draft, struct instance *instance, const json_t *undo,
		     struct error *err)
{
	AUTO(json_decref) json_t *pruned = prune(draft->control, instance, undo);
	struct instance_spec *spec = &instance->spec;
	size_t count = spec->port_count;
	struct port *before = ports_copy(spec->ports, count);
	int r = instance_patch(instance, pruned, err);

	if (r == 0)
		r = groups_update(draft, instance, before, err);
	ports_free(before, count);
	return r;
}
