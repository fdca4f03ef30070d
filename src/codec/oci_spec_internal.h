#pragma once
/*
 * codec/oci_spec_internal.h - how the decoders of config.json read members without copying them.
 *
 * On top of json_reader: strings are borrowed from the document, arrays live in the spec's arena.
 */
#include "base/error.h"
#include "codec/oci_spec.h"

/* Zeroed memory that lives as long as the spec. */
void *oci_alloc(struct oci_spec *spec, size_t count, size_t size);

/* json_parse() for documents with numbers up to 2^64-1. */
int oci_parse(const char *text, size_t size, json_t **ret, struct error *err);

/* "where.name: message"; remembers the first failure of the reader. */
int oci_fail(struct json_reader *in, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

void oci_read_text(struct json_reader *in, const json_t *object, const char *name,
		   const char **ret);
void oci_read_texts(struct oci_spec *spec, struct json_reader *in, const json_t *object,
		    const char *name, oci_strings *ret);
void oci_read_opt(struct json_reader *in, const json_t *object, const char *name, int64_t min,
		  int64_t max, struct oci_opt *ret);
/* Up to 2^64-1, which json_read_uint64() cannot. */
void oci_read_u64(struct json_reader *in, const json_t *object, const char *name, uint64_t *ret);
/* An object whose members are all strings. */
void oci_read_pairs(struct oci_spec *spec, struct json_reader *in, const json_t *object,
		    const char *name, struct oci_pair **ret, size_t *ret_count);
/* Fails when the member is not there: for numbers of which 0 would be a guess. */
void oci_require(struct json_reader *in, const json_t *object, const char *name);
/* Decodes one object of a list into `ret`; `in` names it, like "mounts[2]". */
typedef void (*oci_item_fn)(struct oci_spec *spec, struct json_reader *in, const json_t *object,
			    void *ret);
/* A list of objects as a new array of `size` bytes each; NULL when it is absent. */
void *oci_read_list(struct oci_spec *spec, struct json_reader *in, const json_t *object,
		    const char *name, size_t size, oci_item_fn decode, size_t *ret_count);
/* "major" and "minor" of a device, both required. */
void oci_read_device_number(struct json_reader *in, const json_t *object, uint32_t *ret_major,
			    uint32_t *ret_minor);
/* What the specification defines and we do not do: an error unless it is absent or empty. */
void oci_refuse(struct json_reader *in, const json_t *object, const char *name, const char *why);

int oci_decode_process(struct oci_spec *spec, const json_t *object, const char *where,
		       struct error *err);
void oci_decode_id_maps(struct oci_spec *spec, struct json_reader *in, const json_t *object,
			const char *name, struct oci_id_maps *ret);
int oci_decode_linux(struct oci_spec *spec, const json_t *object, struct error *err);
int oci_decode_resources(struct oci_spec *spec, const json_t *object, struct error *err);
