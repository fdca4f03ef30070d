#pragma once
/*
 * image/worker_internal.h - what the two actions of the worker share.
 *
 * In the sandbox: /job/blobs (files named by digest), /job/layers (folders 0, 1, ...).
 */
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "codec/image_ref.h"
#include "image/info.h"
#include "image/layer_internal.h"
#include "image/wire_internal.h"

enum { WORKER_PARALLEL = 6 }; /* layers in work at the same time */

struct worker {
	struct wire wire;
	pthread_mutex_t send_lock;
	int job_fd, blobs_fd, layers_fd;
	struct tree_limits limits;
	uint64_t blob_bytes_max;

	/* The request. */
	char *name;     /* goes into image_info.reference */
	char *platform; /* "linux/amd64" */
	struct image_ref reference;
	bool insecure;
	char *username, *password;
	char **known; /* digests of what the reference named before */
	char *format; /* of an import: "raw", "qcow2"; NULL: it is found out */

	struct image_info info;
	unsigned int *need; /* one per layer of info, bits WIRE_NEED_* */
};

/* A layer of the image at work. */
struct worker_layer {
	struct worker *worker;
	size_t index;
	int blob_fd;
	struct layer layer;
};

/* Sends to the parent, from any thread; a parent that is gone ends the worker. */
void worker_send(struct worker *worker, json_t *object);
void worker_progress(struct worker *worker, uint64_t done, uint64_t total, const char *text);

/* Writes a document to its place among the blobs. */
int worker_save(struct worker *worker, const struct digest *digest, const void *data, size_t size,
		struct error *err);

/* Fills worker->info from the documents, and checks that they fit each other. */
int worker_describe(struct worker *worker, const struct oci_manifest *manifest,
		    const struct oci_image *image, struct error *err);

/* Tells the parent what the image consists of, and learns what is needed. */
int worker_negotiate(struct worker *worker, struct error *err);

/* Prepares layer `index` for layer_start(); its blob's file is open and has *ret_size bytes. */
int worker_layer_open(struct worker *worker, size_t index, struct worker_layer *ret,
		      uint64_t *ret_size, struct error *err);
/* Sets limits and reports of a layer. */
void worker_layer_prepare(struct worker_layer *work);
/* An empty folder for it (again). */
int worker_layer_folder(struct worker_layer *work, struct error *err);
/* Tells the parent that it is unpacked and verified. */
void worker_layer_report(struct worker_layer *work);
void worker_layer_close(struct worker_layer *work);

/* worker_disk.c: a disk of an image, see disk.h. */
int disk_worker(struct wire *wire, const char *action, struct error *err);
/* worker_kernel.c: a kernel is taken apart, see kernel.h. */
int kernel_worker(struct wire *wire, const char *action, struct error *err);

/*
 * Of an import that has no documents: the job's file input is the image's only blob, and of its
 * platform and that both are made.
 */
int worker_import_blob(struct worker *worker, struct oci_descriptor *blob,
		       const struct digest *diff_id, const char *input, struct error *err);

/* worker_import_disk.c: DISK_NONE when the input is something else; `input` names it in /job. */
int worker_find_disk(struct worker *worker, struct spool *spool, enum disk_format *ret,
		     struct error *err);
int worker_import_disk(struct worker *worker, struct spool *spool, enum disk_format format,
		       const char *input, struct error *err);

int worker_pull(struct worker *worker, struct error *err);
int worker_import(struct worker *worker, struct error *err);
