#pragma once
/*
 * codec/image_ref.h - references to images as people write them: HOST[:PORT]/PATH[:TAG][@DIGEST].
 *
 * The first component is a host when it has a '.' or a ':' or is "localhost", as everywhere in this
 * field.  A short name (`web`, `team/web:2`) has no host: it is completed with the registry that
 * the administrator configured, and is an error when there is none: no registry is built in.
 * Without tag and digest the tag is "latest".  Used by control (names of images), cli and image/.
 * Pure, thread-safe.
 */
#include "base/cleanup.h"

struct error;

enum { IMAGE_REF_TEXT_MAX = 512 };

struct image_ref {
	char *host;   /* "registry.example.org:5000" */
	char *path;   /* "team/web" */
	char *tag;    /* "latest", NULL when only a digest was given */
	char *digest; /* "sha256:...", or NULL */
};

/*
 * `default_registry` (HOST[:PORT], optionally /PREFIX) completes short names; NULL or "" when there
 * is none.  Fills a zeroed `ret`; on failure it stays zeroed.
 */
int image_ref_parse(const char *text, const char *default_registry, struct image_ref *ret,
		    struct error *err);

/* The normalized reference: the name of the image resource.  Caller frees. */
char *image_ref_text(const struct image_ref *ref);

void image_ref_done(struct image_ref *ref);
static inline void image_ref_done_autop(struct image_ref *ref)
{
	image_ref_done(ref);
}
