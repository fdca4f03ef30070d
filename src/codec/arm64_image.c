#include "codec/arm64_image.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"

/* Documentation/arch/arm64/booting.rst, and drivers/firmware/efi/libstub/zboot-header.S. */
enum {
	IMAGE_FLAGS = 24,
	IMAGE_MAGIC = 56,
	IMAGE_HEADER_SIZE = 64,
	FLAG_BIG_ENDIAN = 1,
	ZBOOT_MAGIC = 4,
	ZBOOT_OFFSET = 8,
	ZBOOT_SIZE = 12,
	ZBOOT_HEADER_SIZE = 64,
	SIZE_WORD = 4,
};

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 |
	       (uint32_t) p[3] << 24;
}

static bool is_plain(const uint8_t *p, size_t size)
{
	return size >= IMAGE_HEADER_SIZE && memcmp(p + IMAGE_MAGIC, "ARM\x64", 4) == 0;
}

static bool is_zboot(const uint8_t *p, size_t size)
{
	return size >= ZBOOT_HEADER_SIZE && memcmp(p, "MZ", 2) == 0 &&
	       memcmp(p + ZBOOT_MAGIC, "zimg", 4) == 0;
}

bool arm64_image_is_likely(const void *data, size_t size)
{
	return is_plain(data, size) || is_zboot(data, size) || kernel_payload_is_gzip(data, size);
}

/* What the compressed part is, and how large it will be. */
static int find_payload(const uint8_t *p, size_t size, const uint8_t **ret, size_t *ret_size,
			size_t *ret_out_size, struct error *err)
{
	uint64_t offset = 0, in_size = size, word;

	if (is_zboot(p, size)) {
		offset = get32(p + ZBOOT_OFFSET);
		in_size = get32(p + ZBOOT_SIZE);
	}
	if (offset + in_size > size || in_size < SIZE_WORD)
		return error_say(err, -EBADMSG, "the kernel image is cut off or damaged");
	/* gzip ends with it, behind the others the kernel's build puts it. */
	word = offset + in_size;
	if (kernel_payload_is_gzip(p + offset, (size_t) in_size))
		word -= SIZE_WORD;
	if (word + SIZE_WORD > size)
		return error_say(err, -EBADMSG, "the kernel image is cut off or damaged");
	*ret = p + offset;
	*ret_size = (size_t) in_size;
	*ret_out_size = get32(p + word);
	return 0;
}

static int check_plain(const uint8_t *p, size_t size, struct error *err)
{
	if (!is_plain(p, size))
		return error_say(err, -EBADMSG, "not a Linux kernel image of arm64 (Image)");
	if (p[IMAGE_FLAGS] & FLAG_BIG_ENDIAN)
		return error_say(err, -EOPNOTSUPP,
				 "a big-endian kernel, which runs no programs of arm64 images");
	return 0;
}

int arm64_image_unwrap(const void *data, size_t size, void **ret, size_t *ret_size,
		       struct error *err)
{
	AUTO(free) void *out = NULL;
	const uint8_t *payload = NULL;
	size_t in_size = 0, out_size = size;
	int r = 0;

	if (is_plain(data, size)) {
		out = size <= KERNEL_PAYLOAD_MAX ? mem_try_alloc(size) : NULL;
		if (!out)
			return error_set(err, size <= KERNEL_PAYLOAD_MAX ? -ENOMEM : -EFBIG,
					 "the kernel");
		memcpy(out, data, size);
	} else {
		r = find_payload(data, size, &payload, &in_size, &out_size, err);
		if (r == 0)
			r = kernel_payload_unpack(payload, in_size, out_size, &out, err);
	}
	if (r == 0)
		r = check_plain(out, out_size, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(out);
	*ret_size = out_size;
	return 0;
}
