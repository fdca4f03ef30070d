#include "codec/bzimage.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "codec/kernel_payload.h"

enum {
	HEADER_MIN_SIZE = 0x264, /* up to init_size, protocol 2.10 */
	HEADER_MIN_208 = 0x250,  /* up to payload_length */
	SECTOR_SIZE = 512,
};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t) (p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t) get16(p) | (uint32_t) get16(p + 2) << 16;
}

bool bzimage_is_elf(const void *data, size_t size)
{
	const uint8_t *p = data;

	return size >= sizeof(Elf64_Ehdr) && memcmp(p, ELFMAG, SELFMAG) == 0 &&
	       p[EI_CLASS] == ELFCLASS64;
}

/* The version's text lies in the setup part; cut at the first byte that does not belong. */
static void read_version(const uint8_t *p, size_t size, struct bzimage *image)
{
	size_t at = (size_t) get16(p + 0x20e) + 0x200, n = 0;

	if (at == 0x200)
		return;
	while (at + n < size && at + n < image->setup_size && n < sizeof(image->version) - 1 &&
	       p[at + n] >= ' ' && p[at + n] < 0x7f)
		n++;
	memcpy(image->version, p + at, n);
}

int bzimage_decode(const void *data, size_t size, struct bzimage *ret, struct error *err)
{
	const uint8_t *p = data;
	struct bzimage image = {};
	unsigned int sectors;

	if (size < HEADER_MIN_SIZE || memcmp(p + 0x202, "HdrS", 4) != 0 ||
	    get16(p + 0x1fe) != 0xaa55)
		return error_say(err, -EBADMSG, "not a Linux kernel image (bzImage)");
	image.protocol = get16(p + 0x206);
	if (image.protocol < 0x0208)
		return error_say(err, -EBADMSG,
				 "a kernel image with boot protocol %u.%u; 2.8 or later is needed",
				 image.protocol >> 8, image.protocol & 0xffu);
	image.header_end = 0x202u + p[0x201];
	sectors = p[0x1f1] ? p[0x1f1] : 4;
	image.setup_size = (sectors + 1) * SECTOR_SIZE;
	image.loadflags = p[0x211];
	image.initrd_address_max = get32(p + 0x22c);
	image.kernel_alignment = get32(p + 0x230);
	image.relocatable = p[0x234] != 0;
	image.xloadflags = get16(p + 0x236);
	image.command_line_max = get32(p + 0x238);
	if (image.protocol >= 0x020a && image.header_end >= HEADER_MIN_SIZE) {
		memcpy(&image.preferred_address, p + 0x258, sizeof(image.preferred_address));
		image.preferred_address = le64toh(image.preferred_address);
		image.init_size = get32(p + 0x260);
	}
	image.payload_offset = (uint64_t) image.setup_size + get32(p + 0x248);
	image.payload_size = get32(p + 0x24c);
	if (image.header_end < HEADER_MIN_208 || image.setup_size < image.header_end ||
	    image.payload_size < 8 || image.payload_offset + image.payload_size > size)
		return error_say(err, -EBADMSG, "the kernel image is cut off or damaged");
	read_version(p, size, &image);
	*ret = image;
	return 0;
}

int bzimage_unwrap(const void *data, size_t size, void **ret, size_t *ret_size, struct error *err)
{
	AUTO(free) void *out = NULL;
	const uint8_t *payload;
	struct bzimage image;
	size_t in_size, out_size;
	int r = bzimage_decode(data, size, &image, err);

	if (r < 0)
		return r;
	payload = (const uint8_t *) data + image.payload_offset;
	in_size = (size_t) image.payload_size;
	/* The kernel's own loader reads its size from there too. */
	out_size = get32(payload + in_size - 4);
	r = kernel_payload_unpack(payload, in_size, out_size, &out, err);
	if (r < 0)
		return r;
	if (!bzimage_is_elf(out, out_size))
		return error_say(err, -EBADMSG, "the kernel image holds no 64-bit ELF");
	*ret = TAKE_PTR(out);
	*ret_size = out_size;
	return 0;
}
