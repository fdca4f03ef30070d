#include "net/trace.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "kern/nft.h"
#include "kern/nft_text.h"
#include "net/address.h"
#include "net/node_internal.h"
#include "net/trace_internal.h"

enum {
	GRACE_MS = 250, /* who refuses a packet says so in this time, if at all */
	NEIGHBOUR_MS = 1000,
	CHAINS_MAX = 128,
	TEXT_TIMEOUT_MS = 2000,
};

/* ---- what is asked ---- */

static int plan_protocol(const struct trace_spec *spec, int family, uint8_t *ret, struct error *err)
{
	bool icmp = strcmp(spec->protocol, "icmp") == 0;

	if (icmp)
		*ret = family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	else if (strcmp(spec->protocol, "tcp") == 0)
		*ret = IPPROTO_TCP;
	else if (strcmp(spec->protocol, "udp") == 0)
		*ret = IPPROTO_UDP;
	else
		return error_say(err, -EINVAL, "protocol '%.16s': must be tcp, udp or icmp",
				 spec->protocol);
	if (icmp != (spec->port == 0))
		return error_say(err, -EINVAL,
				 icmp ? "port: icmp has none" : "port: must be 1 to 65535");
	return 0;
}

/* Many hosts at once, or this one: no probe answers what becomes of such. */
static bool is_somebody(const struct route_ip *ip)
{
	static const uint8_t zeros[16];

	if (memcmp(ip->bytes, zeros, sizeof(zeros)) == 0)
		return false;
	return ip->family == AF_INET ? ip->bytes[0] < 224 && ip->bytes[0] != 127
				     : ip->bytes[0] != 0xff &&
					       (memcmp(ip->bytes, zeros, 15) || ip->bytes[15] > 1);
}

/*
 * Who has the next hop is asked as the guest would; of an interface of Open vSwitch the kernel
 * tells no frame's own header, and only ARP says it once more.
 */
static int refuse_ipv6(const struct trace_plan *plan, struct error *err)
{
	const struct trace_spec *spec = plan->spec;

	for (size_t i = 0; i < spec->port_count; i++)
		if (plan->ends.source.family == AF_INET6 &&
		    strcmp(spec->ports[i].uid, spec->machine->port_uid) == 0 &&
		    strcmp(spec->ports[i].driver, "ovs") == 0)
			return error_say(
				err, -EOPNOTSUPP,
				"of a virtual machine on a network of driver ovs only IPv4 "
				"can be traced by a packet; the trace without --live knows "
				"IPv6, too");
	return 0;
}

static int plan_machine(struct trace_plan *plan, const struct net *net, struct error *err)
{
	const struct trace_machine *machine = plan->spec->machine;
	struct route_ip subnet;

	if (!name_is_uid(machine->port_uid) || name_parse_mac(machine->mac, plan->mac) < 0)
		return error_say(err, -EINVAL, "port '%.40s': its MAC is not known",
				 machine->port_uid ? machine->port_uid : "");
	if (refuse_ipv6(plan, err) < 0)
		return -EOPNOTSUPP;
	name_veth(net->prefix, machine->port_uid, plan->device);
	plan->next_hop = plan->ends.destination;
	if (machine->subnet && address_parse_subnet(machine->subnet, &subnet) == 0 &&
	    address_inside(&subnet, &plan->ends.destination))
		return 0;
	if (!machine->gateway || address_parse(machine->gateway, &plan->next_hop) < 0 ||
	    plan->next_hop.family != plan->ends.source.family)
		return error_say(err, -ENETUNREACH,
				 "%s is not in the network of this port, which has no gateway",
				 plan->spec->destination);
	return 0;
}

static int make_plan(const struct net *net, const struct trace_spec *spec, struct trace_plan *ret,
		     struct error *err)
{
	struct trace_plan plan = { .spec = spec };
	int r;

	if (address_parse(spec->source, &plan.ends.source) < 0)
		return error_say(err, -EINVAL, "source '%.64s': must be an address",
				 spec->source ? spec->source : "");
	if (address_parse(spec->destination, &plan.ends.destination) < 0 ||
	    plan.ends.destination.family != plan.ends.source.family ||
	    !is_somebody(&plan.ends.destination))
		return error_say(err, -EINVAL, "destination '%.64s': must be one host's %s address",
				 spec->destination ? spec->destination : "",
				 plan.ends.source.family == AF_INET ? "IPv4" : "IPv6");
	r = plan_protocol(spec, plan.ends.source.family, &plan.ends.protocol, err);
	if (r < 0)
		return r;
	plan.ends.destination_port = spec->port;
	if (spec->timeout_ms < 1 || spec->timeout_ms > TRACE_TIMEOUT_MAX_MS)
		return error_say(err, -EINVAL, "timeout: must be 1 to %d ms", TRACE_TIMEOUT_MAX_MS);
	if (spec->slot >= TRACE_SLOTS || spec->port_count > TRACE_PORTS_MAX)
		return error_say(err, -EINVAL, "too many traces, or ports");
	for (size_t i = 0; i < spec->port_count; i++)
		if (!name_is_uid(spec->ports[i].uid))
			return error_say(err, -EINVAL,
					 "port uid '%.40s': must be 1 to 32 of 0-9 and a-f",
					 spec->ports[i].uid);
	snprintf(plan.table, sizeof(plan.table), "%s-t%u", net->prefix, spec->slot + 1);
	if (spec->machine)
		r = plan_machine(&plan, net, err);
	if (r == 0)
		*ret = plan;
	return r;
}

/* ---- listening ---- */

struct listener {
	struct trace_places *places;
	struct trace_path path;
	bool lost;
};

static void take_event(const struct nft_trace_event *event, void *data)
{
	struct listener *listener = data;
	int place = trace_places_find(listener->places, event->nsid);

	if (place >= 0)
		trace_path_add(&listener->path, place, event);
}

static void listen_now(struct listener *listener)
{
	if (nft_trace_read(listener->places->events_fd, take_event, listener) < 0)
		listener->lost = true;
}

static uint64_t now_ms(void)
{
	return clock_monotonic_us(clock_system()) / 1000;
}

/*
 * Until there is an answer (`probe` of a container, the path's of a machine), the time is up, or
 * nobody wants it.  What was dropped is not waited for longer than an answer to that takes.
 */
static int await(struct listener *listener, struct trace_probe *probe, int cancel_fd,
		 uint32_t timeout_ms, struct error *err)
{
	uint64_t end_ms = now_ms() + timeout_ms;
	bool dropped = false;

	for (;;) {
		struct pollfd fds[] = { { .fd = listener->places->events_fd, .events = POLLIN },
					{ .fd = cancel_fd, .events = POLLIN },
					{ .fd = probe ? probe->fd : -1 } };
		uint64_t now = now_ms();

		listen_now(listener);
		if (probe ? probe->answered : listener->path.answered)
			return 0;
		if (!dropped && (listener->path.dropped_by >= 0 || listener->path.answer_dropped)) {
			dropped = true;
			end_ms = now + GRACE_MS < end_ms ? now + GRACE_MS : end_ms;
		}
		if (now >= end_ms)
			return 0;
		if (probe)
			fds[2].events = trace_probe_events(probe);
		if (poll(fds, ARRAY_COUNT(fds), (int) (end_ms - now)) < 0 && errno != EINTR)
			return error_set(err, -errno, "poll");
		if (fds[1].revents)
			return error_say(err, -ECANCELED, "nobody waits for the trace any more");
		if (fds[2].revents)
			trace_probe_read(probe);
	}
}

static int run_container(struct net *net, struct trace_plan *plan, struct listener *listener,
			 struct trace_result *result, struct error *err)
{
	AUTO(trace_probe_close) struct trace_probe probe = { .fd = -1 };
	int r = trace_probe_open(&probe, net, plan, err);

	if (r < 0)
		return r;
	plan->ends = probe.ends;
	trace_path_init(&listener->path, plan->table, &plan->ends);
	r = trace_places_switch_on(listener->places, plan, err);
	if (r == 0)
		r = trace_probe_send(&probe, err);
	if (r == 0)
		r = await(listener, &probe, plan->spec->cancel_fd, plan->spec->timeout_ms, err);
	result->sent = probe.sent;
	result->answer = probe.answered ? probe.answer : TRACE_ANSWER_NONE;
	result->answer_from = probe.answer_from;
	return r;
}

/* ---- of a machine ---- */

static int send_frame(int tap_fd, const uint8_t *frame, size_t size, struct error *err)
{
	int r = trace_frame_send(tap_fd, frame, size);

	return r < 0 ? error_set(err, r, "cannot send on the machine's interface") : 0;
}

/* The MAC of the next hop, as the guest would find it out; -EHOSTUNREACH: nobody answers. */
static int ask_neighbour(const struct trace_plan *plan, struct listener *listener, int tap_fd,
			 uint8_t ret[LINK_MAC_SIZE], struct error *err)
{
	uint8_t frame[TRACE_FRAME_MAX];
	size_t size = trace_frame_ask(plan, frame);
	uint32_t timeout_ms = plan->spec->timeout_ms < NEIGHBOUR_MS ? plan->spec->timeout_ms
								    : (uint32_t) NEIGHBOUR_MS;
	int r = send_frame(tap_fd, frame, size, err);

	listener->path.asking = true;
	if (r == 0)
		r = await(listener, NULL, plan->spec->cancel_fd, timeout_ms, err);
	if (r < 0)
		return r;
	if (!listener->path.answered || !listener->path.answer.has_mac)
		return -EHOSTUNREACH;
	memcpy(ret, listener->path.answer.mac, LINK_MAC_SIZE);
	listener->path.asking = listener->path.answered = false;
	return 0;
}

static uint16_t choose_port(void)
{
	uint16_t port = 0;

	rng_system()->fill(rng_system(), &port, sizeof(port));
	/* Where guests' own connections begin, rarely. */
	return port | 0xc000;
}

static int run_machine(struct trace_plan *plan, struct listener *listener,
		       struct trace_result *result, struct error *err)
{
	const struct trace_machine *machine = plan->spec->machine;
	uint8_t frame[TRACE_FRAME_MAX], to[LINK_MAC_SIZE];
	AUTO(fd_close) int tap_fd = -1;
	int r = trace_tap_borrow(machine->pids, machine->pid_count, plan->device, &tap_fd);

	if (r < 0)
		return error_say(err, -EOPNOTSUPP,
				 "no process of the machine has its interface %s open (%s): only "
				 "taps can be traced from",
				 plan->device, strerror(-r));
	plan->ends.source_port = choose_port();
	trace_path_init(&listener->path, plan->table, &plan->ends);
	r = trace_places_switch_on(listener->places, plan, err);
	if (r == 0)
		r = ask_neighbour(plan, listener, tap_fd, to, err);
	if (r == -EHOSTUNREACH) {
		result->answer = TRACE_ANSWER_UNREACHABLE;
		result->answer_from = plan->ends.source;
		return 0;
	}
	if (r == 0)
		r = send_frame(tap_fd, frame, trace_frame_probe(plan, to, frame), err);
	if (r < 0)
		return r;
	result->sent = true;
	r = await(listener, NULL, plan->spec->cancel_fd, plan->spec->timeout_ms, err);
	if (r == 0 && listener->path.answered)
		trace_frame_judge(plan, &listener->path.answer, &result->answer,
				  &result->answer_from);
	return r;
}

/* ---- what is told ---- */

static void copy_router(const struct trace_places *places, int place, char ret[TRACE_ROUTER_SIZE])
{
	memcpy(ret, places->list[place].router, TRACE_ROUTER_SIZE);
}

static void take_steps(struct listener *listener, struct trace_result *result)
{
	const struct trace_path *path = &listener->path;

	result->answer_dropped = path->answer_dropped && result->answer == TRACE_ANSWER_NONE;
	result->steps = mem_new0_array(struct trace_step, path->step_count + 1);
	result->step_count = path->step_count + result->answer_dropped;
	for (size_t i = 0; i < result->step_count; i++) {
		const struct trace_event *from =
			i < path->step_count ? &path->steps[i] : &path->answer_step;
		struct trace_step *step = &result->steps[i];

		step->event = from->event;
		step->ends = from->ends;
		step->hook = "?";
		copy_router(listener->places, from->place, step->router);
		trace_places_interface(listener->places, from->place, from->event.iif, step->iif);
		trace_places_interface(listener->places, from->place, from->event.oif, step->oif);
	}
	result->truncated = path->truncated || listener->lost;
	result->dropped_by = path->dropped_by;
	if (path->left_place < 0)
		return;
	result->left = path->left;
	copy_router(listener->places, path->left_place, result->left_router);
	trace_places_interface(listener->places, path->left_place, path->left_by, result->left_by);
}

struct hooks {
	struct trace_result *result;
	const struct trace_place *place;
};

static void take_hook(const struct nft_hook *hook, void *data)
{
	const struct hooks *hooks = data;

	for (size_t i = 0; i < hooks->result->step_count; i++) {
		struct trace_step *step = &hooks->result->steps[i];

		if (step->event.family == hook->family &&
		    strcmp(step->router, hooks->place->router) == 0 &&
		    strcmp(step->event.table, hook->table) == 0 &&
		    strcmp(step->event.chain, hook->chain) == 0)
			step->hook = nft_hook_name(hook->family, hook->hook);
	}
}

/* A chain that others jump to is where the one with the hook is. */
static void take_hooks(const struct trace_places *places, struct trace_result *result)
{
	for (size_t i = 0; i < places->count; i++) {
		struct hooks hooks = { .result = result, .place = &places->list[i] };

		/* Changed meanwhile: what was read until then is true. */
		(void) nft_list_hooks(places->list[i].nft, take_hook, &hooks);
	}
	for (size_t i = 1; i < result->step_count; i++) {
		struct trace_step *step = &result->steps[i];

		if (strcmp(step->hook, "?") == 0 && step->event.id == step[-1].event.id)
			step->hook = step[-1].hook;
	}
}

struct texts {
	struct trace_result *result;
	struct nft_text_chain chains[CHAINS_MAX];
	int owners[CHAINS_MAX]; /* a step in that chain */
	size_t count;
};

static bool same_chain(const struct trace_step *a, const struct trace_step *b)
{
	return a->event.family == b->event.family && strcmp(a->router, b->router) == 0 &&
	       strcmp(a->event.table, b->event.table) == 0 &&
	       strcmp(a->event.chain, b->event.chain) == 0;
}

static void take_text(size_t chain, uint64_t handle, const char *expression, const char *comment,
		      void *data)
{
	const struct texts *texts = data;
	const struct trace_step *owner = &texts->result->steps[texts->owners[chain]];

	for (size_t i = 0; i < texts->result->step_count; i++) {
		struct trace_step *step = &texts->result->steps[i];

		if (step->event.handle != handle || !same_chain(step, owner))
			continue;
		mem_replace(&step->expression, expression);
		mem_replace(&step->comment, comment[0] ? comment : NULL);
	}
}

static void add_chain(const struct trace_places *places, struct texts *texts, size_t i)
{
	const struct trace_step *steps = texts->result->steps;
	bool known = steps[i].event.handle == 0 || texts->count == CHAINS_MAX;
	size_t place = 0;

	for (size_t n = 0; n < texts->count && !known; n++)
		known = same_chain(&steps[i], &steps[texts->owners[n]]);
	if (known)
		return;
	while (place + 1 < places->count &&
	       strcmp(places->list[place].router, steps[i].router) != 0)
		place++;
	texts->owners[texts->count] = (int) i;
	texts->chains[texts->count++] =
		(struct nft_text_chain){ .netns_fd = place == 0 ? places->net->self_netns_fd
								: places->list[place].netns_fd,
					 .family = nft_family_name(steps[i].event.family),
					 .table = steps[i].event.table,
					 .chain = steps[i].event.chain };
}

/* What dropped it comes first: the time for all of this is limited. */
static void take_texts(const struct trace_places *places, struct trace_result *result)
{
	struct texts texts = { .result = result };

	if (result->answer_dropped)
		add_chain(places, &texts, result->step_count - 1);
	if (result->dropped_by >= 0)
		add_chain(places, &texts, (size_t) result->dropped_by);
	for (size_t i = 0; i < result->step_count; i++)
		add_chain(places, &texts, i);
	/* Without words the handles are told. */
	(void) nft_text_read(texts.chains, texts.count, TEXT_TIMEOUT_MS, take_text, &texts);
}

static bool is_translated(const struct nft_flow_ends *first, const struct nft_flow_ends *reply)
{
	return first->source_port !=
		       (first->destination_port ? reply->destination_port : reply->source_port) ||
	       first->destination_port != (first->destination_port ? reply->source_port : 0) ||
	       !address_equal(&first->source, &reply->destination) ||
	       !address_equal(&first->destination, &reply->source);
}

/* What tracking knows of the probe, where it was first translated. */
static void take_flow(const struct listener *listener, struct trace_result *result)
{
	const struct trace_places *places = listener->places;
	bool translated = false;

	for (size_t i = 0; i < places->count && !translated; i++) {
		struct nft_flow_ends reply;

		if (!listener->path.has_entered[i] ||
		    nft_flow_find(nft_netlink(places->list[i].nft), &listener->path.entered[i],
				  &reply) < 0)
			continue;
		translated = is_translated(&listener->path.entered[i], &reply);
		if (result->tracked.source.family && !translated)
			continue;
		result->tracked = listener->path.entered[i];
		result->tracked_reply = reply;
		copy_router(places, (int) i, result->tracked_router);
	}
}

void trace_result_done(struct trace_result *result)
{
	for (size_t i = 0; i < result->step_count; i++) {
		free(result->steps[i].expression);
		free(result->steps[i].comment);
	}
	free(result->steps);
	*result = (struct trace_result){ .dropped_by = -1 };
}

static int run(struct net *net, struct trace_plan *plan, struct listener *listener,
	       struct trace_result *result, struct error *err)
{
	int r = plan->spec->machine ? run_machine(plan, listener, result, err)
				    : run_container(net, plan, listener, result, err);

	if (r < 0)
		return r;
	/* What was told before the answer came. */
	listen_now(listener);
	take_steps(listener, result);
	take_hooks(listener->places, result);
	take_flow(listener, result);
	take_texts(listener->places, result);
	return 0;
}

int trace_run(struct net *net, const struct trace_spec *spec, struct trace_result *ret,
	      struct error *err)
{
	AUTO(trace_result_done) struct trace_result result = { .dropped_by = -1 };
	AUTO(trace_places_close) struct trace_places places = { .events_fd = -1 };
	struct listener listener = { .places = &places };
	struct trace_plan plan;
	int r = make_plan(net, spec, &plan, err);

	if (r < 0)
		return r;
	r = trace_places_open(&places, net, err);
	if (r == 0)
		r = run(net, &plan, &listener, &result, err);
	trace_path_done(&listener.path);
	if (r < 0)
		return r;
	*ret = result;
	result = (struct trace_result){ .dropped_by = -1 };
	return 0;
}
