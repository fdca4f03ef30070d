#pragma once
/*
 * agent/document_stream.h - a stream whose answer is one document, which a worker makes.
 *
 * Used by flow_stream.c, kernels.c, top.c, trace_stream.c and traffic_stream.c.  The client may go
 * at any time: what the worker needs stays until the work has ended, and its document is dropped.
 * An agent that ends drops work that has not begun.
 */
#include "agent/stream.h"

struct error;
struct pool;
struct strbuf;

struct document_ops {
	/* On a worker: appends the document to `ret`, or fails with words. */
	int (*work)(void *data, struct strbuf *ret, struct error *err);
	/* On the loop's thread: nobody waits for the document any more.  May be NULL. */
	void (*cancel)(void *data);
	/* On the loop's thread, when the work has ended. */
	void (*free)(void *data);
};

/* Takes `data` over.  For the end of a stream's opening: nothing fails any more. */
void document_stream_open(struct stream *stream, struct pool *pool, const struct document_ops *ops,
			  void *data, const struct stream_ops **ret_ops, void **ret_data);
