/*
 * What really becomes of one packet of an instance, over a stream: one JSON document (0001).
 *
 * The loop's thread looks up what net/trace.h needs, a worker sends the probe and waits.  Who goes
 * before the answer has come ends the wait.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/document_stream.h"
#include "agent/instance_trace.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "model/member.h"
#include "net/trace.h"

enum { PORT_MAX = 65535, WORD_MAX = 64, EXPRESSION_MAX = 200 };

struct trace_stream {
	struct agent *agent;
	struct instance_trace from;
	char *protocol, *source, *destination;
	uint32_t port, timeout_ms;
	unsigned int slot; /* TRACE_SLOTS: none yet */
	int cancel_fd;
};

static void trace_stream_free(void *data)
{
	struct trace_stream *trace = data;

	if (trace->slot < TRACE_SLOTS)
		trace->agent->trace_slots &= ~(1U << trace->slot);
	fd_close(trace->cancel_fd);
	free(trace->protocol);
	free(trace->source);
	free(trace->destination);
	free(trace);
}

static void trace_stream_cancel(void *data)
{
	struct trace_stream *trace = data;

	eventfd_write(trace->cancel_fd, 1);
}

/* ---- the document ---- */

/* Names of others may hold anything that nftables takes. */
static void put_text(json_t *object, const char *name, const char *text, size_t max_bytes)
{
	AUTO(strbuf_done) struct strbuf printable = {};
	size_t size = text ? strlen(text) : 0;

	if (size == 0)
		return;
	strbuf_put_printable(&printable, text, size < max_bytes ? size : max_bytes);
	json_put_string(object, name, strbuf_str(&printable));
}

static void put_address(json_t *object, const char *name, const struct route_ip *address)
{
	struct ip ip = { .family = address->family == AF_INET ? 4 : 6 };
	char text[IP_TEXT_SIZE];

	if (!address->family)
		return;
	memcpy(ip.bytes, address->bytes, sizeof(ip.bytes));
	ip_format(&ip, text);
	json_put_string(object, name, text);
}

/* The id of an echo is nobody's port. */
static void put_ends(json_t *object, const struct nft_flow_ends *ends)
{
	put_address(object, "source", &ends->source);
	put_address(object, "destination", &ends->destination);
	if (ends->protocol != IPPROTO_TCP && ends->protocol != IPPROTO_UDP)
		return;
	member_put_uint(object, "source_port", ends->source_port);
	member_put_uint(object, "destination_port", ends->destination_port);
}

static void put_place(json_t *object, const char *router)
{
	json_put_string(object, "place", router[0] ? "router" : "node");
	json_put_string(object, "router", router);
}

static const char *verdict_name(int verdict)
{
	switch (verdict) {
	case NF_ACCEPT:
		return "accept";
	case NF_DROP:
		return "drop";
	case NF_QUEUE:
		return "queue";
	case NF_STOLEN:
		return "stolen";
	case NFT_JUMP:
		return "jump";
	case NFT_GOTO:
		return "goto";
	case NFT_RETURN:
		return "return";
	default:
		return "continue";
	}
}

static json_t *encode_step(const struct trace_step *step)
{
	static const char *const kinds[] = { [NFT_TRACE_RULE] = "rule",
					     [NFT_TRACE_POLICY] = "policy",
					     [NFT_TRACE_RETURN] = "return" };
	const struct nft_trace_event *event = &step->event;
	json_t *object = json_object();

	put_place(object, step->router);
	json_put_string(object, "family", nft_family_name(event->family));
	put_text(object, "table", event->table, WORD_MAX);
	put_text(object, "chain", event->chain, WORD_MAX);
	json_put_string(object, "hook", step->hook[0] == '?' ? NULL : step->hook);
	json_put_string(object, "kind", kinds[event->kind]);
	member_put_uint(object, "rule", event->handle);
	put_text(object, "comment", step->comment, EXPRESSION_MAX);
	put_text(object, "expression", step->expression, EXPRESSION_MAX);
	json_put_string(object, "verdict", verdict_name(event->verdict));
	put_text(object, "to", event->to, WORD_MAX);
	put_text(object, "iif", step->iif, WORD_MAX);
	put_text(object, "oif", step->oif, WORD_MAX);
	put_ends(object, &step->ends);
	member_put_uint(object, "mark", event->mark);
	return object;
}

static json_t *encode_ends(const struct nft_flow_ends *ends)
{
	json_t *object = json_object();

	put_ends(object, ends);
	return object;
}

static json_t *encode(const struct trace_result *result)
{
	static const char *const answers[] = { [TRACE_ANSWER_NONE] = "none",
					       [TRACE_ANSWER_CONNECTED] = "connected",
					       [TRACE_ANSWER_REFUSED] = "refused",
					       [TRACE_ANSWER_REPLY] = "reply",
					       [TRACE_ANSWER_UNREACHABLE] = "unreachable" };
	json_t *steps = json_array(), *flow;
	json_t *document =
		json_pack("{s:b, s:s, s:o, s:b}", "sent", result->sent, "answer",
			  answers[result->answer], "steps", steps, "truncated", result->truncated);

	put_address(document, "answer_from", &result->answer_from);
	for (size_t i = 0; i < result->step_count - result->answer_dropped; i++)
		json_array_append_new(steps, encode_step(&result->steps[i]));
	if (result->answer_dropped)
		json_object_set_new(document, "answer_dropped_by",
				    encode_step(&result->steps[result->step_count - 1]));
	if (result->dropped_by >= 0)
		json_object_set_new(document, "dropped_by", json_integer(result->dropped_by));
	if (result->left.source.family) {
		json_t *left = encode_ends(&result->left);

		put_place(left, result->left_router);
		put_text(left, "oif", result->left_by, WORD_MAX);
		json_object_set_new(document, "left", left);
	}
	if (result->tracked.source.family) {
		flow = json_pack("{s:o, s:o}", "original", encode_ends(&result->tracked), "reply",
				 encode_ends(&result->tracked_reply));
		put_place(flow, result->tracked_router);
		json_object_set_new(document, "conntrack", flow);
	}
	return document;
}

/* ---- on a worker ---- */

static int run(const struct trace_stream *trace, struct trace_result *ret, struct error *err)
{
	const struct instance_trace *from = &trace->from;
	const struct network_args *network = &from->ports[from->port].network;
	bool ipv6 = strchr(trace->source, ':') != NULL;
	struct trace_port ports[PORTS_MAX];
	AUTO(fd_close) int netns_fd = -1;
	AUTO(free) pid_t *pids = NULL;
	struct trace_machine machine = { .port_uid = from->ports[from->port].uid,
					 .mac = from->ports[from->port].mac,
					 .subnet = ipv6 ? network->ipv6 : network->ipv4,
					 .gateway = ipv6 ? network->gateway6 : network->gateway4 };
	struct trace_spec spec = { .slot = trace->slot,
				   .ports = ports,
				   .port_count = from->port_count,
				   .protocol = trace->protocol,
				   .source = trace->source,
				   .destination = trace->destination,
				   .port = (uint16_t) trace->port,
				   .timeout_ms = trace->timeout_ms,
				   .cancel_fd = trace->cancel_fd };
	int r;

	for (size_t i = 0; i < from->port_count; i++)
		ports[i] = (struct trace_port){ .uid = from->ports[i].uid,
						.driver = from->ports[i].network.driver,
						.uplink = from->ports[i].network.uplink };
	if (from->machine) {
		r = instance_trace_pids(trace->agent, from, &pids, &machine.pid_count, err);
		machine.pids = pids;
		spec.machine = &machine;
	} else {
		r = netns_fd = instance_trace_open(from, err);
	}
	spec.netns_fd = netns_fd;
	return r < 0 ? r : trace_run(trace->agent->net, &spec, ret, err);
}

static int work(void *data, struct strbuf *ret, struct error *err)
{
	AUTO(trace_result_done) struct trace_result result = { .dropped_by = -1 };
	AUTO(json_decref) json_t *document = NULL;
	AUTO(free) char *text = NULL;
	int r = run(data, &result, err);

	if (r < 0)
		return r;
	document = encode(&result);
	text = json_text(document);
	strbuf_puts(ret, text);
	return 0;
}

/* ---- on the loop ---- */

static int read_arguments(struct trace_stream *trace, const json_t *arguments, struct error *err)
{
	struct json_reader in = { .err = err, .where = "trace" };
	char uid[UID_SIZE] = "", port_uid[UID_SIZE] = "";
	int r;

	json_read_any(&in, arguments, "kind", NULL);
	member_read_uid(&in, arguments, "uid", uid);
	member_read_uid(&in, arguments, "port", port_uid);
	member_read_text(&in, arguments, "protocol", WORD_MAX, &trace->protocol);
	member_read_text(&in, arguments, "source", WORD_MAX, &trace->source);
	member_read_text(&in, arguments, "destination", WORD_MAX, &trace->destination);
	json_read_uint32(&in, arguments, "destination_port", PORT_MAX, &trace->port);
	json_read_uint32(&in, arguments, "timeout_ms", TRACE_TIMEOUT_MAX_MS, &trace->timeout_ms);
	r = json_reader_finish(&in, arguments);
	if (r < 0)
		return r;
	if (!uid[0] || !port_uid[0] || !trace->protocol || !trace->source || !trace->destination)
		return error_say(
			err, -EINVAL,
			"trace: uid, port, protocol, source and destination must be there");
	return instance_trace_find(trace->agent, uid, port_uid, trace->source, &trace->from, err);
}

static int take_slot(struct trace_stream *trace, struct error *err)
{
	for (unsigned int i = 0; i < TRACE_SLOTS; i++) {
		if (trace->agent->trace_slots & 1U << i)
			continue;
		trace->agent->trace_slots |= 1U << i;
		trace->slot = i;
		return 0;
	}
	return error_say(err, -EBUSY,
			 "%d packets are being traced on this node already; try again in a moment",
			 TRACE_SLOTS);
}

static int begin(struct trace_stream *trace, const json_t *arguments, struct error *err)
{
	int r = read_arguments(trace, arguments, err);

	if (r < 0)
		return r;
	trace->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (trace->cancel_fd < 0)
		return error_set(err, -errno, "eventfd");
	return take_slot(trace, err);
}

int trace_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	       void **ret_data, struct error *err)
{
	enum { TIMEOUT_MS = 2000 };
	static const struct document_ops ops = { work, trace_stream_cancel, trace_stream_free };
	struct trace_stream *trace = mem_new0(struct trace_stream);
	int r;

	trace->agent = stream_agent(stream);
	trace->slot = TRACE_SLOTS;
	trace->cancel_fd = -1;
	trace->timeout_ms = TIMEOUT_MS;
	r = begin(trace, arguments, err);
	if (r < 0) {
		trace_stream_free(trace);
		return r;
	}
	document_stream_open(stream, trace->agent->files_pool, &ops, trace, ret_ops, ret_data);
	return 0;
}
