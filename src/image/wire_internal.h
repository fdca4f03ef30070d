#pragma once
/*
 * image/wire_internal.h - one JSON object per line between the agent's side and its image worker.
 *
 * To the worker: the request, then (after `layers`) the reply that says which layers are needed.
 * From the worker, by their member "type":
 *
 *	unchanged {top}			the registry's manifest is one of the request's `known`
 *	layers {info}			what the image consists of; the worker waits for the reply
 *	node {layer, path, mode, uid, gid, major, minor}	a device that only root can make
 *	opaque {layer, path}		a folder that hides the layers below
 *	layer {layer, bytes, inodes, root?}	layer unpacked and verified
 *	progress {done, total, text}
 *	done {}, error {code, message}	the last one
 *
 * Lines are limited in size before they are stored.  A file name in `path` has every byte that is
 * not plain ASCII, and '%', written as %XX.  A reader belongs to one thread; writers may be
 *several.
 */
#include <jansson.h>
#include <stddef.h>

#include "base/strbuf.h"

struct error;

enum {
	WIRE_LINE_MAX = 4 << 20,
	WIRE_NODES_MAX = 4096,
	WIRE_OPAQUE_MAX = 65536,

	WIRE_NEED_BLOB = 1, /* bits of the reply's `need`, one number per layer */
	WIRE_NEED_LAYER = 2,
};

struct wire {
	int fd; /* borrowed */
	struct strbuf in;
	size_t scanned; /* bytes of `in` known to hold no line end */
};

/* Blocks until everything is written.  The reference of `object` is taken. */
int wire_send(int fd, json_t *object);

/*
 * Takes a line that has arrived, *ret NULL when none is complete.  wire_fill() reads once; it
 * returns 0 at the end, -EAGAIN when nothing is there, else a count.
 */
int wire_next(struct wire *wire, json_t **ret, struct error *err);
int wire_fill(struct wire *wire);

/* Blocks for the next line; -EPIPE at the end. */
int wire_receive(struct wire *wire, json_t **ret, struct error *err);

void wire_done(struct wire *wire);

/* File names in JSON. */
char *wire_path_encode(const char *path);
int wire_path_decode(const char *text, char **ret);
