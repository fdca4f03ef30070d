#include "codec/disk_image.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "codec/qcow2.h"

const char *const disk_format_names[] = { "none", "raw", "qcow2", NULL };

enum { BOOT_SIGNATURE_AT = 510, TAR_MAGIC_AT = 257 };

/* Formats that others write, by what stands at the beginning. */
static const struct {
	const char *name, *magic;
	size_t offset;
} foreign[] = {
	{ "VMDK", "KDMV", 0 },
	{ "VMDK", "# Disk DescriptorFile", 0 },
	{ "VHDX", "vhdxfile", 0 },
	{ "VHD", "conectix", 0 },
	{ "QED", "QED", 0 },
	{ "VDI", "\x7f\x10\xda\xbe", 64 },
	{ "ISO 9660", "CD001", 32769 },
};

int disk_image_guess(const void *head, size_t size, enum disk_format *ret, struct error *err)
{
	const unsigned char *bytes = head;

	*ret = DISK_NONE;
	if (qcow2_is(head, size)) {
		*ret = DISK_QCOW2;
		return 0;
	}
	if (size >= TAR_MAGIC_AT + 5 && memcmp(bytes + TAR_MAGIC_AT, "ustar", 5) == 0)
		return 0;
	for (size_t i = 0; i < ARRAY_COUNT(foreign); i++) {
		size_t length = strlen(foreign[i].magic);

		if (size >= foreign[i].offset + length &&
		    memcmp(bytes + foreign[i].offset, foreign[i].magic, length) == 0)
			return error_say(err, -EINVAL,
					 "the input is a %s image; only qcow2 and raw disks are "
					 "taken (qemu-img convert makes them)",
					 foreign[i].name);
	}
	if (size >= DISK_SECTOR_BYTES && bytes[BOOT_SIGNATURE_AT] == 0x55 &&
	    bytes[BOOT_SIGNATURE_AT + 1] == 0xaa)
		*ret = DISK_RAW;
	return 0;
}

int disk_image_check(enum disk_format format, const void *head, size_t size, uint64_t file_bytes,
		     uint64_t *ret_virtual_bytes, struct error *err)
{
	struct qcow2 image = {};
	int r;

	if (format == DISK_QCOW2) {
		r = qcow2_decode(head, size, file_bytes, &image, err);
		if (r == 0)
			*ret_virtual_bytes = image.virtual_bytes;
		return r;
	}
	if (format != DISK_RAW)
		return error_say(err, -EINVAL, "not the image of a disk");
	if (file_bytes == 0 || file_bytes % DISK_SECTOR_BYTES != 0)
		return error_say(err, -EINVAL,
				 "a raw disk consists of sectors of %d bytes; this has %llu bytes",
				 DISK_SECTOR_BYTES, (unsigned long long) file_bytes);
	*ret_virtual_bytes = file_bytes;
	return 0;
}
