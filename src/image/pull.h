#pragma once
/*
 * image/pull.h - bring an image from a registry into the store.
 *
 * The network, the compression and the tar are the business of a sandboxed brume-image-worker; this
 * side starts it, believes nothing it says unchecked, and moves what it verified into the store.
 * On failure or cancellation nothing remains but the blobs' beginnings, which the next pull goes on
 * with.  Layers that another pull is just fetching are waited for, not fetched twice.
 * Used by the agent.  Thread-safe, blocks until done; killing the process is safe at any instant.
 */
#include <stdbool.h>
#include <stdint.h>

#include "image/info.h"

struct error;
struct image_store;

/* 0 in any member: the default in brackets. */
struct image_limits {
	uint64_t blob_bytes;     /* one compressed layer (32 GiB) */
	uint64_t unpacked_bytes; /* all layers of an image (128 GiB) */
	uint64_t inodes;         /* all layers of an image (4 million) */
};

struct image_pull {
	const char *uid;                 /* of the image resource */
	const char *reference;           /* HOST/PATH..., normalized or not */
	const char *default_registry;    /* for short names; NULL: none */
	const char *platform;            /* NULL: linux/ and this machine's architecture */
	bool insecure;                   /* plain http, and certificates are not checked */
	const char *username, *password; /* NULL: anonymous */
	struct image_limits limits;
	int cancel_fd; /* when it becomes readable the pull ends with -ECANCELED; -1: never */
};

/* Called from the thread of the pull; `text` is what is being done, total 0 while unknown. */
typedef void (*image_progress_fn)(uint64_t done_bytes, uint64_t total_bytes, const char *text,
				  void *data);

/* Records the image under its uid and fills a zeroed `ret` (may be NULL). */
int image_pull(struct image_store *store, const struct image_pull *pull, image_progress_fn progress,
	       void *progress_data, struct image_info *ret, struct error *err);
