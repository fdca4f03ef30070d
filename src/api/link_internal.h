#pragma once
/*
 * api/link_internal.h - what api/link and api/link_stream share.
 */
#include <uthash.h>

#include "api/link.h"
#include "base/conn.h"
#include "base/strbuf.h"

struct link_stream {
	struct link *link;
	uint64_t id;
	const struct link_stream_ops *ops;
	void *user;
	uint64_t out_credit;   /* bytes that may be sent */
	uint64_t in_credit;    /* bytes that the agent may still send */
	uint64_t in_consumed;  /* not given back yet */
	struct strbuf waiting; /* chunks beyond the credit, see link_stream.c */
	bool full;             /* link_stream_write() has said 1 */
	UT_hash_handle hh;
};

struct link {
	sd_event *event;
	int listen_fd;
	uid_t allowed_uid;
	sd_event_source *accept;
	struct conn *conn;
	bool greeted; /* the agent's hello has come */
	const struct link_ops *ops;
	void *user;
	uint64_t last_id;
	struct link_stream *streams;
};

/* Sends what is in `out`; breaks the connection when it does not fit.  Frees `out`. */
void link_send(struct link *link, struct strbuf *out);

/* The frames of a stream; those of an id that has ended are dropped. */
int link_stream_handle(struct link *link, const struct frame *frame, struct error *err);

/* Ends all streams with an error. */
void link_streams_break(struct link *link, const char *message);
