#include "model/trace_live.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/strbuf.h"

enum { TEXT_MAX = 200 };

json_t *trace_live_question(const struct trace *trace, const char *uid)
{
	const struct trace_packet *sent = &trace->sent;
	char source[IP_TEXT_SIZE], destination[IP_TEXT_SIZE];
	json_t *question;

	if (!sent->source.family)
		return NULL;
	ip_format(&sent->source, source);
	ip_format(&sent->destination, destination);
	question = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i}", "kind", "trace", "uid", uid,
			     "port", trace->port_uid, "protocol",
			     trace_protocol_names[sent->protocol], "source", source, "destination",
			     destination, "timeout_ms", TRACE_LIVE_TIMEOUT_MS);
	if (sent->port)
		json_object_set_new(question, "destination_port", json_integer(sent->port));
	return question;
}

/* ---- steps */

static const char *text_at(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* Of brume on this node: whose tables are called by the node's prefix. */
static bool is_ours(const struct trace *trace, const json_t *step)
{
	const char *table = text_at(step, "table");
	size_t size = strlen(trace->prefix);

	return size > 0 && strncmp(table, trace->prefix, size) == 0 &&
	       (table[size] == '\0' || table[size] == '-');
}

/* What brume's chains are for. */
static enum trace_hop_kind kind_of(const json_t *step, bool *ret_ingress)
{
	static const struct {
		const char *begin;
		enum trace_hop_kind kind;
		bool ingress;
	} chains[] = {
		{ "c-", TRACE_GROUP, true },     { "g-", TRACE_GROUP, true },
		{ "e-", TRACE_GROUP, false },    { "x-", TRACE_GROUP, false },
		{ "walls", TRACE_WALL, false },  { "forward", TRACE_WALL, false },
		{ "input", TRACE_WALL, false },  { "guard", TRACE_ROUTER, false },
		{ "b-", TRACE_BALANCER, false },
	};
	const char *chain = text_at(step, "chain"), *table = text_at(step, "table");
	size_t size = strlen(table);

	*ret_ingress = false;
	if (strcmp(text_at(step, "family"), "bridge") == 0)
		return TRACE_GUARD;
	if (strcmp(text_at(step, "place"), "router") == 0)
		return TRACE_ROUTER;
	if (size > 2 && strcmp(table + size - 2, "-b") == 0)
		return TRACE_BALANCER;
	for (size_t i = 0; i < ARRAY_COUNT(chains); i++)
		if (starts(chain, chains[i].begin)) {
			*ret_ingress = chains[i].ingress;
			return chains[i].kind;
		}
	return TRACE_NODE;
}

/* "table inet brume, chain c-4 (brume's)" */
static void put_place(struct strbuf *text, const struct trace *trace, const json_t *step)
{
	const char *expression = text_at(step, "expression");
	bool router = strcmp(text_at(step, "place"), "router") == 0;

	strbuf_printf(text, "%stable %.20s %.64s, chain %.64s", router ? "a router's " : "",
		      text_at(step, "family"), text_at(step, "table"), text_at(step, "chain"));
	if (expression[0])
		strbuf_printf(text, ", %.120s", expression);
	else if (strcmp(text_at(step, "kind"), "policy") == 0)
		strbuf_puts(text, ", by its policy");
	strbuf_puts(text, is_ours(trace, step) ? " (brume's)" : " (not brume's)");
}

/* ---- where both can differ */

static const struct trace_hop *last_hop(const struct trace *trace)
{
	return trace->hop_count ? &trace->hops[trace->hop_count - 1] : NULL;
}

static bool is_dropped_there(const struct trace *trace, const json_t *step)
{
	const struct trace_hop *hop = last_hop(trace);
	bool ingress;
	enum trace_hop_kind kind = kind_of(step, &ingress);

	if (!hop || hop->verdict != TRACE_HOP_DROPPED || !is_ours(trace, step))
		return false;
	/* What a gateway, or a router, refuses is in chains of either. */
	if (kind == TRACE_WALL && hop->kind == TRACE_ROUTER)
		return true;
	return kind == hop->kind && (kind != TRACE_GROUP || ingress == hop->ingress);
}

/* Does nothing but silence say that it did not arrive? */
static bool needs_no_rule(const struct trace *trace)
{
	const struct trace_hop *hop = last_hop(trace);

	return trace->verdict == TRACE_UNREACHABLE || trace->verdict == TRACE_LEAVES ||
	       (hop && (hop->kind == TRACE_BRIDGE || hop->kind == TRACE_ROUTER ||
			hop->kind == TRACE_BALANCER));
}

static bool arrived(const json_t *answer, const struct trace *trace)
{
	const char *what = text_at(answer, "answer");
	char destination[IP_TEXT_SIZE];

	ip_format(&trace->sent.destination, destination);
	if (strcmp(what, "connected") == 0 || strcmp(what, "reply") == 0 ||
	    strcmp(what, "refused") == 0)
		return true;
	/* Nobody has to answer a datagram. */
	if (strcmp(what, "none") == 0)
		return trace->sent.protocol == TRACE_UDP;
	return strcmp(text_at(answer, "answer_from"), destination) == 0;
}

/* The hop that says what the chain of a group was expected to do; NULL: it is none, or another's.
 */
static const struct trace_hop *hop_of(const struct trace *trace, const json_t *step)
{
	const char *chain = text_at(step, "chain");
	const char *dash = strchr(chain, '-');
	const char *uid = dash ? strchr(dash + 1, '-') : NULL;
	bool ingress = chain[0] == 'g';

	if (!is_ours(trace, step) || (chain[0] != 'g' && chain[0] != 'x') || !uid ||
	    dash != chain + 1)
		return NULL;
	for (size_t i = 0; i < trace->hop_count; i++) {
		const struct trace_hop *hop = &trace->hops[i];

		if (hop->kind == TRACE_GROUP && hop->ingress == ingress && hop->group &&
		    hop->verdict == TRACE_PASSES && strcmp(hop->group_uid, uid + 1) == 0)
			return hop;
	}
	return NULL;
}

static size_t rule_of(const json_t *step)
{
	return (size_t) strtoul(text_at(step, "comment"), NULL, 10);
}

/* A step that names a group's rule in the words of who made it. */
static void explain(const struct trace *trace, json_t *step)
{
	const struct trace_hop *hop = hop_of(trace, step);
	size_t number = rule_of(step);
	json_t *text;

	if (!hop || strcmp(text_at(step, "verdict"), "accept") != 0)
		return;
	if (number)
		text = json_sprintf("rule %zu of group %s", number + hop->rule - hop->rule_there,
				    hop->group);
	else
		text = json_sprintf("group %s", hop->group);
	json_object_set_new(step, "text", text);
}

/* A group's rule that let it pass is not the one that was expected.  NULL: they are the same. */
static const json_t *other_rule(const struct trace *trace, const json_t *steps,
				const struct trace_hop **ret_hop)
{
	const json_t *step;
	size_t at;

	json_array_foreach(steps, at, step)
	{
		const struct trace_hop *hop = hop_of(trace, step);

		if (!hop || strcmp(text_at(step, "verdict"), "accept") != 0 ||
		    rule_of(step) == hop->rule_there)
			continue;
		*ret_hop = hop;
		return step;
	}
	return NULL;
}

/* ---- the judgement */

static bool judge_drop(const struct trace *trace, const json_t *step, struct strbuf *text)
{
	bool agrees = is_dropped_there(trace, step);
	bool was_to_end = trace->verdict == TRACE_DROPPED || trace->verdict == TRACE_UNREACHABLE;

	strbuf_puts(text, agrees       ? "the kernel dropped it there, too: "
			  : was_to_end ? "the kernel dropped it elsewhere: "
				       : "the kernel dropped it: ");
	put_place(text, trace, step);
	return agrees;
}

static const char *answer_words(const json_t *answer)
{
	static const char *const words[][2] = {
		{ "connected", "it was answered: connected" },
		{ "refused", "it was answered: nobody listens there" },
		{ "reply", "it was answered" },
		{ "unreachable", "it was answered: unreachable" },
		{ "none", "nobody answered" },
	};

	for (size_t i = 0; i < ARRAY_COUNT(words); i++)
		if (strcmp(words[i][0], text_at(answer, "answer")) == 0)
			return words[i][1];
	return NULL;
}

static bool judge_answer(const struct trace *trace, const json_t *answer, const json_t *steps,
			 struct strbuf *text)
{
	const struct trace_hop *hop = NULL;
	const json_t *other = other_rule(trace, steps, &hop);
	const char *from = text_at(answer, "answer_from");
	bool there = arrived(answer, trace), agrees;

	strbuf_printf(text, "no rule dropped it, and %s", answer_words(answer));
	if (from[0])
		strbuf_printf(text, " (said %.46s)", from);
	if (json_is_object(json_object_get(answer, "answer_dropped_by"))) {
		strbuf_puts(text, ": the answer was dropped on its way back: ");
		put_place(text, trace, json_object_get(answer, "answer_dropped_by"));
	}
	if (trace->verdict == TRACE_DELIVERED)
		agrees = there;
	else if (trace->verdict == TRACE_LEAVES)
		agrees = true;
	else
		agrees = needs_no_rule(trace) &&
			 (!there || strcmp(text_at(answer, "answer"), "refused") == 0 ||
			  strcmp(text_at(answer, "answer"), "none") == 0);
	if (other) {
		strbuf_printf(text, "; rule %.16s of group %s let it pass, not rule %zu",
			      text_at(other, "comment"), hop->group, hop->rule_there);
		agrees = false;
	}
	return agrees;
}

int trace_live_judge(const struct trace *trace, json_t *answer, struct error *err)
{
	const json_t *steps = json_object_get(answer, "steps");
	const json_t *dropped = json_object_get(answer, "dropped_by");
	AUTO(strbuf_done) struct strbuf text = {}, line = {};
	json_t *step = NULL, *each;
	bool agrees = false;
	size_t at;

	if (!json_is_object(answer) || !json_is_array(steps) || !answer_words(answer) ||
	    json_array_size(steps) > TRACE_STEPS_SHOWN_MAX)
		return error_say(err, -EPROTO, "the node's answer is not understood");
	if (json_is_integer(dropped) && json_integer_value(dropped) >= 0)
		step = json_array_get(steps, (size_t) json_integer_value(dropped));
	if (!json_is_true(json_object_get(answer, "sent")))
		strbuf_printf(&text, "it could not be sent: %s", answer_words(answer));
	else if (step)
		agrees = judge_drop(trace, step, &text);
	else
		agrees = judge_answer(trace, answer, steps, &text);
	json_array_foreach(steps, at, each) explain(trace, each);
	/* Names of foreign tables, and rules, are a stranger's. */
	strbuf_put_printable(&line, strbuf_str(&text), text.size);
	json_object_set_new(answer, "agrees", json_boolean(agrees));
	json_object_set_new(answer, "text", json_string(strbuf_str(&line)));
	return 0;
}
