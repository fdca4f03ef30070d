#include "codec/oci_platform.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum { LISTED_PLATFORMS_MAX = 12 };

/* "arm64" and "arm64/v8" are the same machine. */
static const char *plain_variant(const char *architecture, const char *variant)
{
	if (!variant || (strcmp(architecture, "arm64") == 0 && strcmp(variant, "v8") == 0))
		return "";
	return variant;
}

static bool platform_fits(const char *platform, const char *os, const char *architecture,
			  const char *variant)
{
	const char *first = strchr(platform, '/'), *second = first ? strchr(first + 1, '/') : NULL;
	size_t os_size = first ? (size_t) (first - platform) : strlen(platform);
	const char *want = first ? first + 1 : "";
	size_t want_size = second ? (size_t) (second - want) : strlen(want);

	if (strlen(os) != os_size || strncmp(os, platform, os_size) != 0 ||
	    strlen(architecture) != want_size || strncmp(architecture, want, want_size) != 0)
		return false;
	return !second || strcmp(plain_variant(architecture, second + 1),
				 plain_variant(architecture, variant)) == 0;
}

int oci_platform_check(const char *platform, struct error *err)
{
	unsigned int slashes = 0;
	bool good = platform[0] && platform[0] != '/' && strlen(platform) < 64;

	for (const char *p = platform; good && *p; p++) {
		if (*p == '/') {
			slashes++;
			good = p[1] && p[1] != '/';
		} else {
			good = (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '_' ||
			       *p == '.' || *p == '-';
		}
	}
	if (!good || slashes < 1 || slashes > 2)
		return error_say(err, -EINVAL,
				 "bad platform '%.80s': OS/ARCHITECTURE like linux/amd64 is right",
				 platform);
	return 0;
}

int oci_index_select(const struct oci_index *index, const char *platform, size_t *ret,
		     struct error *err)
{
	AUTO(strbuf_done) struct strbuf list = {};
	unsigned int listed = 0;

	for (size_t i = 0; i < index->count; i++) {
		const struct oci_descriptor *entry = &index->manifests[i];
		enum oci_kind kind =
			entry->media_type[0] ? oci_kind_of(entry->media_type) : OCI_MANIFEST;

		/* Attestations are listed as "unknown/unknown". */
		if ((kind != OCI_MANIFEST && kind != OCI_INDEX) ||
		    strcmp(entry->os, "unknown") == 0)
			continue;
		if (!entry->os[0] ||
		    platform_fits(platform, entry->os, entry->architecture, entry->variant)) {
			*ret = i;
			return 0;
		}
		if (listed++ < LISTED_PLATFORMS_MAX)
			strbuf_printf(&list, "%s%s/%s%s%s", list.size ? ", " : "", entry->os,
				      entry->architecture, entry->variant[0] ? "/" : "",
				      entry->variant);
	}
	if (listed == 0)
		return error_say(err, -ENOENT, "the image index names no image");
	return error_say(err, -ENOENT, "the image is not made for %s; there is: %s%s", platform,
			 strbuf_str(&list), listed > LISTED_PLATFORMS_MAX ? ", ..." : "");
}

int oci_image_check_platform(const struct oci_image *image, const char *platform, struct error *err)
{
	const char *os = image->os && image->os[0] ? image->os : "linux";

	if (!image->architecture || !image->architecture[0] ||
	    platform_fits(platform, os, image->architecture, image->variant))
		return 0;

	/* Many images leave their variant out; then the architecture decides. */
	AUTO(free) char *own = mem_printf("%s/%s", os, image->architecture);
	if ((!image->variant || !image->variant[0]) && strncmp(platform, own, strlen(own)) == 0 &&
	    platform[strlen(own)] == '/')
		return 0;
	return error_say(err, -ENOEXEC, "the image is made for %.60s, not for %s", own, platform);
}
