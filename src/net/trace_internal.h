#pragma once
/*
 * net/trace_internal.h - the parts of one trace.
 *
 *	trace.c		the order of things, and what is told in the end
 *	trace_places.c	the node and its routers: sockets and the rules in them
 *	trace_probe.c	the probe of a container: a socket
 *	trace_frame.c	the probe of a machine, and echoes: frames by hand
 *	trace_path.c	which events are about the probe; pure
 *
 * Private to these files.
 */
#include "net/name.h"
#include "net/trace.h"

struct nft;

/* Our chains.  What goes by `gate` is the probe, on its first step. */
#define TRACE_GATE "gate"
#define TRACE_ENTER "enter"
#define TRACE_LEAVE "leave"
#define TRACE_ARRIVE "arrive"
#define TRACE_ANSWER "answer" /* to a machine */

enum {
	TRACE_TABLE_SIZE = NAME_PREFIX_MAX + 4,
	TRACE_PLACES_MAX = 33, /* the node comes first */
	TRACE_KNOWN_MAX = 16,
	TRACE_BOUND_MAX = 64,
	TRACE_PORTS_MAX = 8,
};

/* A checked trace_spec. */
struct trace_plan {
	const struct trace_spec *spec;
	char table[TRACE_TABLE_SIZE];
	struct nft_flow_ends ends; /* the source's port, or the echo's id, when that is known */
	struct route_ip next_hop;  /* of a machine */
	uint8_t mac[LINK_MAC_SIZE];
	char device[IF_NAMESIZE];
};

/* ---- trace_path.c */

struct trace_event {
	int place;
	struct nft_trace_event event;
	struct nft_flow_ends ends;
};

/* A packet, as long as the kernel tells it as the same one. */
struct trace_bound {
	int place;
	uint32_t id, iif, oif;
	struct nft_flow_ends ends;
	char chain[NFT_TRACE_NAME_SIZE]; /* with a hook: where it is */
	bool back;                       /* it is the answer to the probe */
};

struct trace_path {
	const char *table;
	struct nft_flow_ends known[TRACE_KNOWN_MAX]; /* the probe as it was, and as it became */
	size_t known_count;
	struct trace_bound bound[TRACE_BOUND_MAX];
	size_t bound_count;
	bool started, over; /* a second one has come by the gate: sent again */
	bool truncated;
	struct trace_event *steps;
	size_t step_count, step_size;
	int dropped_by;                     /* the last event was that this step dropped it */
	bool has_entered[TRACE_PLACES_MAX]; /* as it came into each place */
	struct nft_flow_ends entered[TRACE_PLACES_MAX];
	int left_place; /* -1: nowhere */
	uint32_t left_by, left_id;
	struct nft_flow_ends left;
	bool answer_dropped; /* the last that was told of the answer: by this step */
	struct trace_event answer_step;
	/* Of a machine: whether its next hop is asked for, and what has come to it. */
	bool asking, answered;
	struct nft_trace_packet answer;
};

void trace_path_init(struct trace_path *path, const char *table, const struct nft_flow_ends *probe);
void trace_path_add(struct trace_path *path, int place, const struct nft_trace_event *event);
void trace_path_done(struct trace_path *path);

/* ---- trace_places.c */

struct trace_place {
	char router[TRACE_ROUTER_SIZE]; /* "" = the node */
	int nsid, netns_fd;
	struct nft *nft; /* the tables live as long */
};

struct trace_places {
	struct net *net;
	struct trace_place list[TRACE_PLACES_MAX];
	size_t count;
	int events_fd;
	int own_nsid; /* ours, seen from ourselves; NFT_TRACE_HERE when there is none */
};

/* Opens sockets everywhere; no rules yet. */
int trace_places_open(struct trace_places *places, struct net *net, struct error *err);

/* Switches the trace on for this probe. */
int trace_places_switch_on(struct trace_places *places, const struct trace_plan *plan,
			   struct error *err);

/* The place of an event; -1: it is none of ours. */
int trace_places_find(const struct trace_places *places, int nsid);

/* The name of an interface there, "" when there is none (any more). */
void trace_places_interface(struct trace_places *places, int place, uint32_t index,
			    char ret[IF_NAMESIZE]);
void trace_places_close(struct trace_places *places);
static inline void trace_places_close_autop(struct trace_places *places)
{
	trace_places_close(places);
}

/* ---- trace_probe.c */

struct trace_probe {
	int fd;
	struct nft_flow_ends ends;
	bool sent;
	bool answered;
	enum trace_answer answer;
	struct route_ip answer_from;
};

/* Opens it in the instance's namespace: then its port, or id, is known. */
int trace_probe_open(struct trace_probe *probe, struct net *net, const struct trace_plan *plan,
		     struct error *err);
int trace_probe_send(struct trace_probe *probe, struct error *err);

/* What poll() is to wait for, and what to do then. */
short trace_probe_events(const struct trace_probe *probe);
void trace_probe_read(struct trace_probe *probe);
void trace_probe_close(struct trace_probe *probe);
static inline void trace_probe_close_autop(struct trace_probe *probe)
{
	trace_probe_close(probe);
}

/* ---- trace_frame.c */

enum { TRACE_FRAME_MAX = 192 };

/* What stands in a probe that carries something. */
#define TRACE_TEXT "brume network trace"

/* The descriptor of a tap that one of these processes has open; -ENODEV: none has. */
int trace_tap_borrow(const pid_t *pids, size_t count, const char *interface, int *ret_fd);

/* "Who has the next hop?", asked by the guest; the size. */
size_t trace_frame_ask(const struct trace_plan *plan, uint8_t ret[TRACE_FRAME_MAX]);

/* The probe itself, sent to this MAC. */
size_t trace_frame_probe(const struct trace_plan *plan, const uint8_t to[LINK_MAC_SIZE],
			 uint8_t ret[TRACE_FRAME_MAX]);

/* The echo alone, for a socket of a container; the sum of ICMPv6 is the kernel's business. */
size_t trace_frame_echo(const struct nft_flow_ends *ends, uint8_t ret[TRACE_FRAME_MAX]);

/* Hands a frame to the node as the machine does. */
int trace_frame_send(int tap_fd, const uint8_t *frame, size_t size);

/* What a packet on its way to the machine says about the probe. */
void trace_frame_judge(const struct trace_plan *plan, const struct nft_trace_packet *packet,
		       enum trace_answer *ret, struct route_ip *ret_from);
