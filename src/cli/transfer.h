#pragma once
/*
 * cli/transfer.h - bytes on their way to or from the server, and a line that says how many.
 *
 * Used by `brume image import`, `image export` and `cp`.  One thread.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cli;
struct error;
struct tar;

struct transfer {
	struct cli *cli;
	const char *title;
	struct tar *tar; /* what is sent; or */
	int fd;          /* what is sent or written */
	uint64_t done_bytes, drawn_bytes;
	uint64_t total_bytes; /* 0 = not known */
};

/* So many bytes more have gone: draws now and then, on a terminal. */
void transfer_moved(struct transfer *transfer, size_t size);

/* Wipes the line. */
void transfer_clear(const struct transfer *transfer);

/* A client_source_fn from the tar or the descriptor, a client_sink_fn to the descriptor. */
ssize_t transfer_source(void *userdata, void *data, size_t size, struct error *err);
int transfer_sink(void *userdata, const void *data, size_t size);
