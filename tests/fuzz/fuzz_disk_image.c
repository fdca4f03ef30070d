/* The first 8 bytes: the size that the file pretends to have.  What passes is bounded. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "codec/disk_image.h"
#include "codec/qcow2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum disk_format format;
	struct qcow2 image = {};
	uint64_t file_bytes, virtual_bytes = 0;
	struct error err = {};

	if (size < sizeof(file_bytes))
		return 0;
	memcpy(&file_bytes, data, sizeof(file_bytes));
	data += sizeof(file_bytes);
	size -= sizeof(file_bytes);
	if (size > file_bytes)
		size = (size_t) file_bytes;
	if (disk_image_guess(data, size, &format, &err) < 0 || format == DISK_NONE)
		return 0;
	if (disk_image_check(format, data, size, file_bytes, &virtual_bytes, &err) < 0) {
		if (!err.msg[0])
			abort();
		return 0;
	}
	if (virtual_bytes == 0)
		abort();
	if (format == DISK_QCOW2 &&
	    (qcow2_decode(data, size, file_bytes, &image, &err) < 0 ||
	     image.virtual_bytes != virtual_bytes || virtual_bytes > QCOW2_VIRTUAL_BYTES_MAX ||
	     image.cluster_bytes < 512 || image.cluster_bytes > 2 << 20))
		abort();
	return 0;
}
