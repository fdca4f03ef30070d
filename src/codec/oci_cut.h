#pragma once
/*
 * codec/oci_cut.h - finds the seccomp profile in the text of a config.json without parsing it.
 *
 * A docker-like profile is nine tenths of the file, and it is nearly always one that was compiled
 * before: the runtime hashes these bytes and looks the filter up.  Pure.  Used by codec/oci_spec.
 */
#include <stdbool.h>
#include <stddef.h>

/*
 * True, and where it is, when the document has an object "linux" with an object "seccomp".  False
 * for everything unusual (escaped names, malformed text): the parser decides then.
 */
bool oci_cut_seccomp(const char *text, size_t size, size_t *ret_start, size_t *ret_size);
