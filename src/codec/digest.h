#pragma once
/*
 * codec/digest.h - names of contents: "sha256:" or "sha512:" and hex digits.
 *
 * A struct digest is a value (copy and compare it freely).  Text from outside becomes a digest only
 * through digest_parse(), so a digest can always be used as a file name.
 * Used by image/ and by whoever stores content by its name.  Pure, thread-safe.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;

enum digest_kind { DIGEST_NONE, DIGEST_SHA256, DIGEST_SHA512 };

enum {
	DIGEST_BYTES_MAX = 64,
	DIGEST_TEXT_SIZE = 7 + 128 + 1, /* "sha512:", hex, NUL */
};

struct digest {
	enum digest_kind kind; /* DIGEST_NONE: no digest */
	uint8_t bytes[DIGEST_BYTES_MAX];
};

/* "sha256:<64 hex>" or "sha512:<128 hex>", lower case only.  -EINVAL says what would be right. */
int digest_parse(const char *text, struct digest *ret, struct error *err);

/* The text; "" for DIGEST_NONE. */
void digest_format(const struct digest *digest, char ret[DIGEST_TEXT_SIZE]);

/* Only the hex digits of the text above; the file name in a content store. */
void digest_hex(const struct digest *digest, char ret[DIGEST_TEXT_SIZE]);

bool digest_equal(const struct digest *a, const struct digest *b);
