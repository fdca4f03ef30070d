#pragma once
/*
 * codec/oci_platform.h - "linux/arm/v7": which of an index's images fits, and whether an image
 * does.
 *
 * Used by image/.  Pure, thread-safe.
 */
#include "codec/oci_image.h"

/*
 * Chooses from an index by "os/architecture[/variant]".  -ENOENT lists what there is.
 * An entry that names no platform fits everything.
 */
int oci_index_select(const struct oci_index *index, const char *platform, size_t *ret,
		     struct error *err);

/* Checks "os/architecture[/variant]". */
int oci_platform_check(const char *platform, struct error *err);

/* Does an image configuration fit the platform?  -ENOEXEC names both. */
int oci_image_check_platform(const struct oci_image *image, const char *platform,
			     struct error *err);
