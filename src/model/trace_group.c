#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "model/trace_internal.h"

/* Security groups: which rule lets a packet out of its sender's port, and into its receiver's. */

/* One question to the groups of a port. */
struct question {
	const struct owner *owner;
	bool ingress;
	const struct ip *peer;          /* who is at the other end */
	const struct network *peer_net; /* as told by the interface; NULL: on none of ours */
};

static bool fits_protocol(const struct security_rule *rule, const struct trace_packet *packet)
{
	switch (rule->protocol) {
	case SECURITY_ANY:
		return true;
	case SECURITY_ICMP:
		return packet->protocol == TRACE_ICMP;
	case SECURITY_TCP:
	case SECURITY_UDP:
		break;
	}
	return packet->protocol == (rule->protocol == SECURITY_TCP ? TRACE_TCP : TRACE_UDP) &&
	       (rule->port == 0 || (packet->port >= rule->port && packet->port <= rule->last_port));
}

static const struct port *member_port(const struct walk *walk, const struct question *question)
{
	struct owner peer = {};

	if (question->peer_net && question->peer->family)
		peer = look_owner(walk->world, question->peer_net, question->peer);
	return peer.kind == OWNER_INSTANCE ? peer.port : NULL;
}

static bool fits_peer(const struct walk *walk, const struct security_rule *rule,
		      const struct question *question)
{
	struct subnet subnet;

	if (rule->group[0]) {
		const struct port *port = member_port(walk, question);

		return port && strv_contains(port->group_uids, rule->group_uid);
	}
	return !rule->cidr[0] || (subnet_parse(rule->cidr, 0, "", &subnet, NULL) == 0 &&
				  subnet_contains(&subnet, question->peer));
}

/* The number of the rule that lets it through; 0: none. */
static size_t find_rule(const struct walk *walk, const struct security_group *group,
			const struct question *question)
{
	const struct security_group_spec *spec = &group->spec;
	const struct security_rules *rules = question->ingress ? &spec->ingress : &spec->egress;

	for (size_t i = 0; i < rules->count; i++)
		if (fits_protocol(&rules->list[i], &walk->packet) &&
		    fits_peer(walk, &rules->list[i], question))
			return i + 1 + (question->ingress ? 0 : spec->ingress.count);
	return 0;
}

static void put_rule(struct strbuf *text, const struct security_group *group, size_t number)
{
	const struct security_group_spec *spec = &group->spec;
	bool ingress = number <= spec->ingress.count;
	const struct security_rule *rule =
		ingress ? &spec->ingress.list[number - 1]
			: &spec->egress.list[number - 1 - spec->ingress.count];
	char what[SECURITY_TEXT_SIZE];

	security_rule_format(rule, what);
	strbuf_printf(text, "rule %zu: %s %s ", number, what, ingress ? "from" : "to");
	if (rule->group[0])
		strbuf_printf(text, "group %s", rule->group);
	else
		strbuf_puts(text, rule->cidr[0] ? rule->cidr : "anybody");
}

static void say_passes(struct walk *walk, const struct question *question,
		       const struct security_group *group, size_t number)
{
	const char *instance = walk_name(walk, &question->owner->instance->meta);
	AUTO(strbuf_done) struct strbuf text = {};
	struct trace_hop *hop;

	if (!walk_is_ours(walk, &group->meta)) {
		walk_hop(walk, TRACE_GROUP, TRACE_PASSES, "", "its security groups let it in");
		return;
	}
	if (number > 0) {
		strbuf_printf(&text, "lets it %s by ", question->ingress ? "in" : "out");
		put_rule(&text, group, number);
	} else {
		strbuf_puts(&text, "lets everything out");
	}
	hop = walk_hop(walk, TRACE_GROUP, TRACE_PASSES, group->meta.name,
		       "group %s, which %s is in, %s", group->meta.name, instance,
		       strbuf_str(&text));
	hop->group = mem_strdup(group->meta.name);
	hop->ingress = question->ingress;
	hop->rule = number;
	memcpy(hop->group_uid, group->meta.uid, UID_SIZE);
	hop->rule_there =
		number && !question->ingress ? number - group->spec.ingress.count : number;
}

/* Whom a new rule is best about: the other's group where members are known, else its address. */
static void put_peer(struct strbuf *text, const struct walk *walk, const struct question *question,
		     const struct security_group *group)
{
	const struct port *port = member_port(walk, question);
	const struct security_group *other = port && port->group_uids && port->group_uids[0]
						     ? look_group(walk->world, port->group_uids[0])
						     : NULL;
	const char *way = question->ingress ? "from" : "to";
	char address[IP_TEXT_SIZE];

	if (other && walk_is_ours(walk, &other->meta)) {
		strbuf_printf(text, "--%s-group %s", way,
			      other == group ? SECURITY_GROUP_SELF : other->meta.name);
		return;
	}
	ip_format(question->peer, address);
	strbuf_printf(text, "--%s %s/%d", way, address, question->peer->family == 4 ? 32 : 128);
}

static void say_dropped(struct walk *walk, const struct question *question)
{
	const struct port *port = question->owner->port;
	const struct security_group *first = look_group(walk->world, port->group_uids[0]);
	char what[SECURITY_TEXT_SIZE], peer_ip[IP_TEXT_SIZE];
	AUTO(strbuf_done) struct strbuf names = {}, peer = {};
	struct trace_hop *hop;

	walk_end(walk, TRACE_DROPPED);
	if (!walk_is_ours(walk, &question->owner->instance->meta)) {
		walk_hop(walk, TRACE_GROUP, TRACE_HOP_DROPPED, "",
			 "the security groups of the instance there do not let it in");
		return;
	}
	for (char **uid = port->group_uids; *uid; uid++) {
		const struct security_group *group = look_group(walk->world, *uid);

		strbuf_printf(&names, "%s%s", names.size ? ", " : "",
			      group ? group->meta.name : *uid);
	}
	packet_format(&walk->packet, what);
	ip_format(question->peer, peer_ip);
	hop = walk_hop(walk, TRACE_GROUP, TRACE_HOP_DROPPED, strbuf_str(&names),
		       "no rule of group %s, which %s is in, lets %s %s %s %s", strbuf_str(&names),
		       question->owner->instance->meta.name, question->ingress ? "in" : "out", what,
		       question->ingress ? "from" : "to", peer_ip);
	if (!first)
		return;
	hop->group = mem_strdup(first->meta.name);
	hop->ingress = question->ingress;
	put_peer(&peer, walk, question, first);
	walk_advise(walk, "group allow %s --%s %s %s", first->meta.name,
		    question->ingress ? "in" : "out", what, strbuf_str(&peer));
}

static bool ask(struct walk *walk, const struct network *where, const struct question *question)
{
	const struct port *port = question->owner->port;

	/* Control has not put it into groups yet, or its network has none. */
	if (question->owner->kind != OWNER_INSTANCE || !port->group_uids || !port->group_uids[0] ||
	    !network_can(&where->spec, NETWORK_CAN_GROUPS))
		return true;
	for (char **uid = port->group_uids; *uid; uid++) {
		const struct security_group *group = look_group(walk->world, *uid);
		size_t number = group ? find_rule(walk, group, question) : 0;

		if (!group)
			continue;
		if (number > 0 || (!question->ingress && !group->spec.egress_limited)) {
			say_passes(walk, question, group, number);
			return true;
		}
	}
	say_dropped(walk, question);
	return false;
}

bool walk_ask_sender(struct walk *walk, const struct network *in, const struct network *out)
{
	struct owner owner = {};
	struct question question = { .owner = &owner,
				     .peer = &walk->packet.destination,
				     .peer_net = out };

	if (in && walk->packet.source.family)
		owner = look_owner(walk->world, in, &walk->packet.source);
	return ask(walk, in, &question);
}

bool walk_ask_receiver(struct walk *walk, const struct network *in, const struct network *out)
{
	struct owner owner = {};
	struct question question = {
		.owner = &owner, .ingress = true, .peer = &walk->packet.source, .peer_net = in
	};

	if (out)
		owner = look_owner(walk->world, out, &walk->packet.destination);
	return ask(walk, out, &question);
}
