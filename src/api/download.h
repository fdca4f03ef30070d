#pragma once
/*
 * api/download.h - what the agent sends on a stream as the body of an answer, as it comes.
 *
 * The first bytes decide: until they are there an error is a proper answer, afterwards it can only
 * cut the body short.  Used by the handlers that give tars and long lists.  Thread: the loop's.
 */
#include <jansson.h>
#include <stdbool.h>

struct error;
struct request;

struct download {
	const char *content_type;
	/* The stream begins with a line of JSON: it becomes this header.  NULL: it does not. */
	const char *line_header;
	bool line_only; /* and nothing else: the line is the answer */
};

/* Opens the stream and answers later.  `arguments` are those of link_stream_open(). */
int download_start(struct request *req, const json_t *arguments, const struct download *download,
		   struct error *err);
