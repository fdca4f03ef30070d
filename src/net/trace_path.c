#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/trace_internal.h"

/*
 * An event is about the probe when its packet is: when it has the addresses and ports that the
 * probe has, or had, or got on its way.  The kernel tells of the packet once for each chain with a
 * hook and gives it a number, by which what follows in that chain is known; and a packet of that
 * number whose addresses are others has been translated.
 */

static bool same_address(const struct route_ip *a, const struct route_ip *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static bool same_ends(const struct nft_flow_ends *a, const struct nft_flow_ends *b)
{
	return a->protocol == b->protocol && a->source_port == b->source_port &&
	       a->destination_port == b->destination_port && same_address(&a->source, &b->source) &&
	       same_address(&a->destination, &b->destination);
}

/* Of a connection it is what opens it, of echoes the question: not what comes later. */
static bool is_first(const struct nft_trace_packet *packet)
{
	if (packet->protocol == IPPROTO_TCP)
		return (packet->tcp_flags & (TH_SYN | TH_ACK | TH_RST | TH_FIN)) == TH_SYN;
	if (packet->protocol == IPPROTO_ICMP)
		return packet->icmp_type == ICMP_ECHO;
	if (packet->protocol == IPPROTO_ICMPV6)
		return packet->icmp_type == ICMP6_ECHO_REQUEST;
	return true;
}

/* What the other end says to it, at first. */
static bool is_answer(const struct nft_trace_packet *packet)
{
	if (packet->protocol == IPPROTO_TCP)
		return (packet->tcp_flags & TH_RST) ||
		       (packet->tcp_flags & (TH_SYN | TH_ACK)) == (TH_SYN | TH_ACK);
	if (packet->protocol == IPPROTO_ICMP)
		return packet->icmp_type == ICMP_ECHOREPLY;
	if (packet->protocol == IPPROTO_ICMPV6)
		return packet->icmp_type == ICMP6_ECHO_REPLY;
	return packet->protocol == IPPROTO_UDP;
}

static struct nft_flow_ends ends_of(const struct nft_trace_packet *packet)
{
	return (struct nft_flow_ends){ .source = packet->source,
				       .destination = packet->destination,
				       .protocol = packet->protocol,
				       .source_port = packet->source_port,
				       .destination_port = packet->destination_port };
}

void trace_path_init(struct trace_path *path, const char *table, const struct nft_flow_ends *probe)
{
	*path = (struct trace_path){ .table = table, .dropped_by = -1, .left_place = -1 };
	path->known[path->known_count++] = *probe;
}

void trace_path_done(struct trace_path *path)
{
	free(path->steps);
	path->steps = NULL;
	path->step_count = path->step_size = 0;
}

static bool knows(const struct trace_path *path, const struct nft_flow_ends *ends)
{
	for (size_t i = 0; i < path->known_count; i++)
		if (same_ends(&path->known[i], ends))
			return true;
	return false;
}

static struct trace_bound *find_bound(struct trace_path *path, int place, uint32_t id)
{
	size_t count = path->bound_count < TRACE_BOUND_MAX ? path->bound_count : TRACE_BOUND_MAX;

	for (size_t i = 0; i < count; i++)
		if (path->bound[i].place == place && path->bound[i].id == id)
			return &path->bound[i];
	return NULL;
}

static struct trace_bound *bind_packet(struct trace_path *path, int place, uint32_t id)
{
	struct trace_bound *bound = &path->bound[path->bound_count++ % TRACE_BOUND_MAX];

	*bound = (struct trace_bound){ .place = place, .id = id };
	return bound;
}

/* The same seen from the other end; an echo's id is the same both ways. */
static struct nft_flow_ends reversed(const struct nft_flow_ends *ends)
{
	bool ports = ends->protocol == IPPROTO_TCP || ends->protocol == IPPROTO_UDP;

	return (struct nft_flow_ends){ .source = ends->destination,
				       .destination = ends->source,
				       .protocol = ends->protocol,
				       .source_port =
					       ports ? ends->destination_port : ends->source_port,
				       .destination_port = ports ? ends->source_port : 0 };
}

/* What an event with the packet itself tells of it. */
static void take_packet(struct trace_bound *bound, bool back, const struct nft_flow_ends *ends,
			const struct nft_trace_event *event)
{
	bound->back = back;
	bound->ends = *ends;
	bound->iif = event->iif;
	bound->oif = event->oif;
	memcpy(bound->chain, event->chain, sizeof(bound->chain));
}

/* An answer has the addresses of the probe as it was somewhere, the other way round. */
static struct trace_bound *recognize_answer(struct trace_path *path, int place,
					    const struct nft_trace_event *event)
{
	struct trace_bound *bound = find_bound(path, place, event->id);
	struct nft_flow_ends ends, there;

	if (!event->has_packet)
		return bound && bound->back ? bound : NULL;
	ends = ends_of(&event->packet);
	there = reversed(&ends);
	if (!is_answer(&event->packet) || !knows(path, &there))
		return NULL;
	if (!bound)
		bound = bind_packet(path, place, event->id);
	take_packet(bound, true, &ends, event);
	return bound;
}

/* The packet that an event is about; NULL: it is not the probe. */
static struct trace_bound *recognize(struct trace_path *path, int place,
				     const struct nft_trace_event *event)
{
	struct trace_bound *bound = find_bound(path, place, event->id);
	struct nft_flow_ends ends;

	if (!event->has_packet)
		return bound && !bound->back ? bound : NULL;
	ends = ends_of(&event->packet);
	if (ends.protocol != path->known[0].protocol || !is_first(&event->packet))
		return NULL;
	if (!knows(path, &ends)) {
		if (!bound || bound->back || path->known_count == TRACE_KNOWN_MAX)
			return NULL;
		path->known[path->known_count++] = ends;
	}
	if (!bound)
		bound = bind_packet(path, place, event->id);
	take_packet(bound, false, &ends, event);
	return bound;
}

/* Of the answer only its end is told. */
static void follow_answer(struct trace_path *path, const struct trace_bound *bound,
			  const struct nft_trace_event *event)
{
	path->answer_dropped = event->kind != NFT_TRACE_RETURN && event->verdict == NF_DROP;
	if (!path->answer_dropped)
		return;
	path->answer_step =
		(struct trace_event){ .place = bound->place, .event = *event, .ends = bound->ends };
	path->answer_step.event.iif = bound->iif;
	path->answer_step.event.oif = bound->oif;
}

static void add_step(struct trace_path *path, const struct trace_bound *bound,
		     const struct nft_trace_event *event)
{
	struct trace_event *step;

	/* Its policy comes next. */
	if (event->kind == NFT_TRACE_RETURN && strcmp(event->chain, bound->chain) == 0)
		return;
	if (path->step_count == TRACE_STEPS_MAX) {
		path->truncated = true;
		return;
	}
	if (path->step_count == path->step_size) {
		path->step_size = path->step_size ? path->step_size * 2 : 32;
		path->steps = mem_realloc(path->steps, path->step_size, sizeof(*path->steps));
	}
	step = &path->steps[path->step_count++];
	*step = (struct trace_event){ .place = bound->place, .event = *event, .ends = bound->ends };
	step->event.iif = bound->iif;
	step->event.oif = bound->oif;
	if (event->kind != NFT_TRACE_RETURN && event->verdict == NF_DROP)
		path->dropped_by = (int) path->step_count - 1;
}

/* Tables of traces differ in the last character. */
static bool is_of_another_trace(const struct trace_path *path, const char *table)
{
	size_t size = strlen(path->table);

	return strlen(table) == size && strncmp(table, path->table, size - 1) == 0;
}

/* What says who has an address. */
static bool is_neighbour(const struct nft_trace_packet *packet)
{
	return packet->arp ||
	       (packet->protocol == IPPROTO_ICMPV6 && packet->icmp_type == ND_NEIGHBOR_ADVERT);
}

/* `gate`, or `gate0` of a device. */
static bool is_gate(const char *chain)
{
	return strncmp(chain, TRACE_GATE, strlen(TRACE_GATE)) == 0;
}

/* Our own chains say where it is, and are not to be told. */
static void pass_own(struct trace_path *path, const struct trace_bound *bound,
		     const struct nft_trace_event *event)
{
	bool arrives = strcmp(event->chain, TRACE_ARRIVE) == 0;

	if (!arrives && strcmp(event->chain, TRACE_LEAVE) != 0)
		return;
	/* The IP rules see a bridged frame once more, after those of the bridge, as the bridge's.
	 */
	if (event->family == NFPROTO_BRIDGE || path->left_place != bound->place ||
	    path->left_id != bound->id)
		path->left_by = arrives ? 0 : bound->oif;
	path->left_id = bound->id;
	path->left_place = bound->place;
	path->left = bound->ends;
}

void trace_path_add(struct trace_path *path, int place, const struct nft_trace_event *event)
{
	bool own = strcmp(event->table, path->table) == 0;
	const struct trace_bound *bound;

	if (own && strcmp(event->chain, TRACE_ANSWER) == 0) {
		if (event->kind == NFT_TRACE_RULE && event->has_packet && !path->answered &&
		    is_neighbour(&event->packet) == path->asking) {
			path->answered = true;
			path->answer = event->packet;
		}
		return;
	}
	if (path->over)
		return;
	if (own && is_gate(event->chain) && event->kind == NFT_TRACE_RULE) {
		path->over = path->started;
		path->started = true;
	}
	if (!path->started || path->over)
		return;
	bound = recognize_answer(path, place, event);
	if (bound) {
		follow_answer(path, bound, event);
		return;
	}
	bound = recognize(path, place, event);
	if (!bound)
		return;
	if (!path->has_entered[place]) {
		path->has_entered[place] = true;
		path->entered[place] = bound->ends;
	}
	path->dropped_by = -1;
	if (own)
		pass_own(path, bound, event);
	else if (!is_of_another_trace(path, event->table))
		add_step(path, bound, event);
}
