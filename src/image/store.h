#pragma once
/*
 * image/store.h - the content store of a node: blobs, unpacked layers, and who needs them.
 *
 *	STATE/images/lock		one agent at a time
 *	STATE/images/records/UID.json	one per image resource: what the resource's image consists
 *of STATE/images/blobs/sha256/HEX	verified blobs as they were transferred (needed for export)
 *	STATE/images/layers/HEX/	one per diff id: `fs` is the tree, `meta.json` its
 *attributes STATE/images/partial/		beginnings of blobs, to go on with
 *	STATE/images/jobs/		folders of running workers; removed when the store is opened
 *
 * Nothing is counted: what a record or a running instance reaches is kept, the rest is garbage.  A
 * crash leaves at worst garbage.  Blobs and layers appear by rename() after they were verified;
 *those that were not yet on the disk when the machine stopped are dropped when the store is opened.
 * Used by the agent; uses kern/ and codec/.  Thread-safe; the calls block.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "image/info.h"

struct error;
struct image_store;

struct image_store_config {
	const char *dir;     /* STATE/images; made when missing (the parents must exist) */
	const char *worker;  /* path of brume-image-worker; NULL: beside the running executable */
	const char *boot_id; /* NULL: the kernel's; tests give their own */
};

/* -EWOULDBLOCK when another process has it open. */
int image_store_open(const struct image_store_config *config, struct image_store **ret,
		     struct error *err);

/* What the image with this uid consists of; -ENOENT when it is not here or not complete. */
int image_store_lookup(struct image_store *store, const char *uid, struct image_info *ret,
		       struct error *err);

/* The uids of all complete images, as a strv. */
int image_store_list(struct image_store *store, char ***ret_uids, struct error *err);

/* Forgets the image; its contents go with the next image_store_gc().  One that is not here is fine.
 */
int image_store_remove(struct image_store *store, const char *uid, struct error *err);

struct image_gc_result {
	uint64_t freed_bytes; /* of blobs and partial blobs */
	unsigned int layers, blobs;
};

/*
 * Removes every layer and blob that no record, no running pull or import, and none of `live_layers`
 * (a strv of diff ids: the layers of instances that exist) needs.  `ret` may be NULL.
 */
int image_store_gc(struct image_store *store, char *const *live_layers, struct image_gc_result *ret,
		   struct error *err);

/* No call may be running. */
void image_store_free(struct image_store *store);
DEFINE_AUTO(struct image_store *, image_store_free)
