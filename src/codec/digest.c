#include "codec/digest.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

static size_t kind_size(enum digest_kind kind)
{
	switch (kind) {
	case DIGEST_SHA256:
		return 32;
	case DIGEST_SHA512:
		return 64;
	case DIGEST_NONE:
		break;
	}
	return 0;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int digest_parse(const char *text, struct digest *ret, struct error *err)
{
	struct digest digest = {};
	const char *hex = text ? text + 7 : "";

	if (text && strncmp(text, "sha256:", 7) == 0)
		digest.kind = DIGEST_SHA256;
	else if (text && strncmp(text, "sha512:", 7) == 0)
		digest.kind = DIGEST_SHA512;
	else
		return error_say(err, -EINVAL,
				 "bad digest '%.40s': it must begin with sha256: or sha512:",
				 text ? text : "");

	size_t size = kind_size(digest.kind);
	if (strnlen(hex, DIGEST_TEXT_SIZE) != 2 * size)
		return error_say(err, -EINVAL,
				 "bad digest '%.90s': %zu hex digits must follow the colon", text,
				 2 * size);
	for (size_t i = 0; i < size; i++) {
		int high = hex_value(hex[2 * i]), low = hex_value(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return error_say(
				err, -EINVAL,
				"bad digest '%.90s': only the digits 0-9 and a-f may follow "
				"the colon",
				text);
		digest.bytes[i] = (uint8_t) (high << 4 | low);
	}
	*ret = digest;
	return 0;
}

void digest_hex(const struct digest *digest, char ret[DIGEST_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	size_t size = kind_size(digest->kind);

	for (size_t i = 0; i < size; i++) {
		ret[2 * i] = digits[digest->bytes[i] >> 4];
		ret[2 * i + 1] = digits[digest->bytes[i] & 15];
	}
	ret[2 * size] = '\0';
}

void digest_format(const struct digest *digest, char ret[DIGEST_TEXT_SIZE])
{
	ret[0] = '\0';
	if (digest->kind == DIGEST_NONE)
		return;
	memcpy(ret, digest->kind == DIGEST_SHA256 ? "sha256:" : "sha512:", 7);

	char hex[DIGEST_TEXT_SIZE];
	digest_hex(digest, hex);
	memcpy(ret + 7, hex, 2 * kind_size(digest->kind) + 1);
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
	return a->kind == b->kind && memcmp(a->bytes, b->bytes, kind_size(a->kind)) == 0;
}
