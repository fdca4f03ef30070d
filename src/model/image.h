#pragma once
/*
 * model/image.h - an immutable OCI image of a project, named by reference.
 *
 * control/ writes the spec ("pull this"), image/ does it through agent/, which reports the status.
 * No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "model/health.h"
#include "model/meta.h"

enum image_source { IMAGE_PULL, IMAGE_IMPORT, IMAGE_COMMIT };
enum image_state { IMAGE_PENDING, IMAGE_PULLING, IMAGE_READY, IMAGE_FAILED, IMAGE_GONE };
const char *image_state_name(enum image_state state);

/* What an image is made of that comes from an instance. */
struct image_commit_spec {
	char instance_uid[UID_SIZE];
	char *instance; /* its name then */
	char **changes; /* of the configuration, see codec/image_change.h */
	char *message;
	char *author;
	char *created_by; /* what ran in the instance */
	bool pause;       /* while its files are read */
};

struct image_spec {
	enum image_source source;
	char *reference;
	char *platform; /* "linux/amd64"; NULL = the node's */
	bool insecure;  /* plain HTTP or an unknown certificate is fine */
	char *username;
	char *password;    /* removed when the pull has ended */
	char *upload;      /* import: uid of the operation whose stream carries the bytes */
	uint64_t pull_seq; /* +1 per pull: "begin again" */
	char *node;
	bool implicit; /* made by a launch */
	char *format;  /* of an import that is a disk: "raw", "qcow2"; NULL: it is found out */
	struct image_commit_spec commit;
};

struct image_layer {
	char *digest;
	char *diff_id;
	uint64_t size_bytes;
};

/* What the image says about running it. */
struct image_config {
	char **entrypoint;
	char **command;
	char **env; /* "NAME=value" */
	char *workdir;
	char *user;
	char **exposed; /* "80/tcp" */
	char **labels;  /* "KEY=value" */
	char *stop_signal;
	struct health_check healthcheck; /* type IMAGE: it says nothing */
};

struct image_status {
	uint64_t generation;
	uint64_t pull_seq; /* carried out */
	enum image_state state;
	char *digest; /* of the manifest */
	uint64_t size_bytes;
	struct image_layer *layers;
	size_t layer_count;
	char *architecture;
	char *os;
	int64_t created_ms;
	struct image_config config;
	char *disk_format;      /* it is a disk, not a tree: "raw", "qcow2"; NULL: it is none */
	uint64_t virtual_bytes; /* of that disk, as a guest sees it */
	uint64_t done_bytes;    /* progress */
	uint64_t total_bytes;
	char *progress_text;
	char *error;
};

struct image {
	struct meta meta;
	struct image_spec spec;
	struct image_status status;
};

int image_decode(const json_t *doc, struct image **ret, struct error *err);
json_t *image_encode(const struct image *image, unsigned int parts); /* enum encode */
void image_free(struct image *image);
DEFINE_AUTO(struct image *, image_free)

int image_spec_decode(const json_t *object, struct image_spec *spec, struct error *err);
json_t *image_spec_encode(const struct image_spec *spec, unsigned int parts);
void image_spec_done(struct image_spec *spec);

/* "raw" or "qcow2". */
bool image_format_is_valid(const char *format);

void image_commit_spec_copy(struct image_commit_spec *to, const struct image_commit_spec *from);
void image_commit_spec_done(struct image_commit_spec *commit);

/* Status alone, as it travels over the agent link.  `status` may be zeroed. */
int image_status_decode(const json_t *object, struct image_status *status, struct error *err);
json_t *image_status_encode(const struct image_status *status);
void image_status_done(struct image_status *status);

void image_config_done(struct image_config *config);
