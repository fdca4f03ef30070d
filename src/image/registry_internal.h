#pragma once
/*
 * image/registry_internal.h - one repository of an OCI distribution registry.
 *
 * Finds out how the registry wants to be talked to: TLS or (only when asked) plain http; anonymous,
 * basic or token authentication.  Documents are verified against the digest that names them.
 * Used by the worker.  One thread.
 */
#include <stdbool.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "codec/digest.h"
#include "codec/oci_image.h"

struct error;
struct registry;

struct registry_config {
	const char *host; /* HOST[:PORT] */
	const char *path; /* of the repository */
	bool insecure;
	const char *username, *password; /* NULL: anonymous */
};

int registry_new(const struct registry_config *config, struct registry **ret, struct error *err);
void registry_free(struct registry *registry);
DEFINE_AUTO(struct registry *, registry_free)

struct registry_document {
	struct strbuf body;
	struct digest digest;
	char media_type[OCI_MEDIA_TYPE_SIZE]; /* "" when the registry did not say */
};

/* The digest of what a tag or digest names, without its contents; DIGEST_NONE if it does not tell.
 */
int registry_head(struct registry *registry, const char *tag_or_digest, struct digest *ret,
		  struct error *err);

/* A manifest or index.  With `expected` its contents must have that digest. */
int registry_manifest(struct registry *registry, const char *tag_or_digest,
		      const struct digest *expected, struct registry_document *ret,
		      struct error *err);

/* A small blob as a whole. */
int registry_document(struct registry *registry, const struct digest *digest, size_t size_max,
		      struct registry_document *ret, struct error *err);

/* What a transfer of a blob needs.  New strings; *ret_authorization NULL when there is none. */
void registry_blob_url(struct registry *registry, const struct digest *digest, char **ret_url,
		       char **ret_authorization);

/* Gets a new token, after a transfer was answered with 401. */
int registry_renew(struct registry *registry, struct error *err);

/* What an HTTP status that is no success means; `what` names the thing. */
int registry_status_error(struct registry *registry, long status, const struct strbuf *body,
			  const char *what, struct error *err);

bool registry_is_insecure(const struct registry *registry);

void registry_document_done(struct registry_document *document);
static inline void registry_document_done_autop(struct registry_document *document)
{
	registry_document_done(document);
}
