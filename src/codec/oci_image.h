#pragma once
/*
 * codec/oci_image.h - the documents of the OCI image specification and of Docker's image format 2.
 *
 * Decodes manifests, image indexes (manifest lists), image configurations, the oci-layout marker
 * and the manifest.json of `docker save`; encodes those that an import has to make.  All of them
 * come from strangers: they are bounded, digests are checked to be well-formed, and unknown members
 * are ignored because the specification says so.  Used by image/.  Pure, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "codec/digest.h"
#include "codec/oci_healthcheck.h"

struct error;

enum {
	OCI_DOCUMENT_MAX = 4 << 20, /* bytes of one document */
	OCI_LAYERS_MAX = 500,       /* what overlayfs can stack */
	OCI_INDEX_MAX = 1000,       /* manifests in one index */
	OCI_MEDIA_TYPE_SIZE = 128,
};

/* What a document is, by its media type or, where that is missing, by its members. */
enum oci_kind { OCI_OTHER, OCI_MANIFEST, OCI_INDEX, OCI_CONFIG, OCI_LAYER };

#define OCI_TYPE_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_TYPE_INDEX "application/vnd.oci.image.index.v1+json"
#define OCI_TYPE_CONFIG "application/vnd.oci.image.config.v1+json"
#define OCI_TYPE_LAYER "application/vnd.oci.image.layer.v1.tar"
#define OCI_TYPE_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define OCI_TYPE_DOCKER_INDEX "application/vnd.docker.distribution.manifest.list.v2+json"
#define OCI_TYPE_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define OCI_TYPE_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"

struct oci_descriptor {
	char media_type[OCI_MEDIA_TYPE_SIZE]; /* "" when not given */
	struct digest digest;
	uint64_t size_bytes;
	/* Only in an index; "" when not given. */
	char os[32], architecture[32], variant[32];
	char *ref_name; /* annotation org.opencontainers.image.ref.name, or NULL */
};

struct oci_manifest {
	char media_type[OCI_MEDIA_TYPE_SIZE];
	struct oci_descriptor config;
	struct oci_descriptor *layers; /* lowest first */
	size_t layer_count;
};

struct oci_index {
	struct oci_descriptor *manifests;
	size_t count;
};

/* What an image says about how it wants to run; lists are NULL when absent. */
struct oci_image_config {
	char **entrypoint;
	char **cmd;
	char **env; /* NAME=value */
	char *workdir;
	char *user;
	char **exposed_ports; /* "80/tcp" */
	char **labels;        /* NAME=value */
	char *stop_signal;
	struct oci_healthcheck healthcheck;
};

/* The image configuration document. */
struct oci_image {
	char *architecture;
	char *variant;
	char *os;
	char *created; /* RFC 3339, "" when unknown */
	struct oci_image_config config;
	struct digest *diff_ids; /* lowest first */
	size_t layer_count;
};

/* One image of the manifest.json of `docker save`; names of files inside the tar. */
struct oci_docker_save {
	char *config;
	char **repo_tags;
	char **layers;
};

enum oci_kind oci_kind_of(const char *media_type);

/* Manifest or index?  By `mediaType`, else by members.  `media_type` (from HTTP) may be NULL. */
enum oci_kind oci_document_kind(const json_t *document, const char *media_type);

int oci_manifest_decode(const json_t *document, struct oci_manifest *ret, struct error *err);
int oci_index_decode(const json_t *document, struct oci_index *ret, struct error *err);
int oci_image_decode(const json_t *document, struct oci_image *ret, struct error *err);
int oci_layout_decode(const json_t *document, struct error *err);
int oci_docker_save_decode(const json_t *document, struct oci_docker_save **ret, size_t *ret_count,
			   struct error *err);

/* New references.  The manifest that is made says OCI types. */
json_t *oci_manifest_encode(const struct oci_manifest *manifest);
json_t *oci_index_encode(const struct oci_index *index);
json_t *oci_image_encode(const struct oci_image *image);

/* Image configuration as the member `config` of an image's status, and back. */
json_t *oci_image_config_json(const struct oci_image_config *config);
int oci_image_config_read(const json_t *object, struct oci_image_config *ret, struct error *err);

void oci_image_config_done(struct oci_image_config *config);
void oci_manifest_done(struct oci_manifest *manifest);
void oci_index_done(struct oci_index *index);
void oci_image_done(struct oci_image *image);
void oci_docker_save_free(struct oci_docker_save *images, size_t count);

static inline void oci_image_config_done_autop(struct oci_image_config *config)
{
	oci_image_config_done(config);
}
static inline void oci_manifest_done_autop(struct oci_manifest *manifest)
{
	oci_manifest_done(manifest);
}
static inline void oci_index_done_autop(struct oci_index *index)
{
	oci_index_done(index);
}
static inline void oci_image_done_autop(struct oci_image *image)
{
	oci_image_done(image);
}
