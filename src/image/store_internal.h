#pragma once
/*
 * image/store_internal.h - what pull, import, export and rootfs need to know of the store.
 *
 * A *claim* is what a running job (pull, import, export) uses or makes: a root for the garbage
 * collection as long as the job runs, and the way two jobs notice that they want the same layer.
 * Claims live in memory only.  All functions take the store's lock themselves.
 */
#include <pthread.h>
#include <stdbool.h>

#include "image/store.h"

struct image_store {
	char *dir;
	char *worker;
	char boot_id[40];
	int dir_fd, lock_fd;
	pthread_mutex_t lock; /* claims, and every change below dir except in jobs/ */
	struct claim *claims;
	unsigned long serial; /* of names in trash/ */
	pthread_t settler;    /* brings what is new to the disk and notes it */
	pthread_cond_t settle;
	bool settler_runs, settle_wanted, stopping;
};

struct claim {
	struct claim *next;
	char **layers; /* hex of diff ids */
	char **blobs;  /* texts of digests */
	char **making; /* hex of diff ids that this job unpacks */
	int wake_fd;   /* eventfd: another claim ended */
	bool linked;
};

/* Where things are, relative to store->dir_fd. */
enum { STORE_NAME_SIZE = 24 + DIGEST_TEXT_SIZE };
void store_layer_name(const struct digest *diff_id, char ret[STORE_NAME_SIZE]); /* layers/HEX */
void store_blob_name(const struct digest *digest, char ret[STORE_NAME_SIZE]); /* blobs/sha256/HEX */
void store_partial_name(const struct digest *digest, char ret[STORE_NAME_SIZE]);

bool store_has_layer(struct image_store *store, const struct digest *diff_id);
bool store_has_blob(struct image_store *store, const struct digest *digest);

/* Joins the claims; nothing is claimed yet. */
int store_claim_begin(struct image_store *store, struct claim *claim);

/* Claims the images recorded with this reference and platform; hands out what their references
 * named. */
int store_claim_known(struct image_store *store, struct claim *claim, const char *reference,
		      const char *platform, char ***ret_tops);

/*
 * Claims an image and says what is missing of each layer (bits WIRE_NEED_*).  -EAGAIN when another
 * job is making one of the layers: then wait for claim->wake_fd and ask again.
 */
int store_claim_image(struct image_store *store, struct claim *claim, const struct image_info *info,
		      unsigned int *need);

/* Claims what an image consists of, as far as it is there. */
void store_claim_contents(struct image_store *store, struct claim *claim,
			  const struct image_info *info);

/* Claims a recorded image, for reading it. */
int store_claim_record(struct image_store *store, struct claim *claim, const char *uid,
		       struct image_info *ret, struct error *err);

/* The recorded image that was claimed as known and whose reference named `top`. */
int store_find_known(struct image_store *store, const char *reference, const char *platform,
		     const struct digest *top, struct image_info *ret, struct error *err);

/* Moves verified things (names relative to `job_fd`) into the store.  One that is there stays. */
int store_put_layer(struct image_store *store, int job_fd, const char *name,
		    const struct digest *diff_id, struct error *err);
int store_put_blob(struct image_store *store, int job_fd, const char *name,
		   const struct digest *digest, struct error *err);
int store_put_record(struct image_store *store, const char *uid, const struct image_info *info,
		     struct error *err);

/* Takes a blob or its beginning out of the store into the job's folder; absent is fine. */
void store_take_blob(struct image_store *store, const struct digest *digest, int job_fd,
		     const char *name, unsigned int owner);

/* Keeps the beginning of a blob for later. */
void store_keep_partial(struct image_store *store, int job_fd, const char *name,
			const struct digest *digest);

/* Ends the claim and wakes those who wait.  An unlinked claim is fine. */
void store_claim_end(struct image_store *store, struct claim *claim);

/* store_settle.c: what is new is marked until it is on the disk. */
int store_mark_fresh(struct image_store *store, const struct digest *digest);
int store_drop_unsettled(struct image_store *store, struct error *err);
void store_settle(struct image_store *store); /* with the lock held: ask for it */
int store_settler_start(struct image_store *store, struct error *err);
void store_settler_stop(struct image_store *store);
