#pragma once
/*
 * image/helper_internal.h - the agent's side of a worker that reads or writes one instance.
 *
 * Starts brume-image-worker with up to four descriptors beside the wire, sends it one request and
 * listens to it until it is done.  Used by disk.c, files.c, kernel_import.c and upper.c.
 */
#include <jansson.h>
#include <stdint.h>

struct error;

struct helper {
	const char *worker; /* path of the program */
	const char *action;
	int stream_fd;                                     /* its descriptor 4, or -1 */
	int root_fd;                                       /* 5 */
	int extra_fd;                                      /* 6, or -1 */
	int more_fd;                                       /* 7, or -1 */
	int cancel_fd;                                     /* readable: it is killed; or -1 */
	void (*progress)(uint64_t done_bytes, void *data); /* or NULL */
	void *progress_data;
};

/*
 * `request` is taken.  `ret` (may be NULL) is its last message.  Returns after the worker's end,
 * whatever it was.
 */
int helper_run(const struct helper *helper, json_t *request, json_t **ret, struct error *err);
