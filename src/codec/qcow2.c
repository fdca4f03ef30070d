#include "codec/qcow2.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/strbuf.h"

/* QEMU's docs/interop/qcow2.txt; all numbers are big-endian. */
enum {
	AT_VERSION = 4,
	AT_BACKING_OFFSET = 8,
	AT_BACKING_SIZE = 16,
	AT_CLUSTER_BITS = 20,
	AT_VIRTUAL_BYTES = 24,
	AT_CRYPT_METHOD = 32,
	AT_L1_COUNT = 36,
	AT_L1_OFFSET = 40,
	AT_REFCOUNT_OFFSET = 48,
	AT_REFCOUNT_CLUSTERS = 56,
	AT_SNAPSHOT_COUNT = 60,
	HEADER_2_BYTES = 72,
	AT_INCOMPATIBLE = 72,
	AT_AUTOCLEAR = 88,
	AT_REFCOUNT_ORDER = 96,
	AT_HEADER_BYTES = 100,
	HEADER_3_BYTES = 104,
	AT_COMPRESSION = 104,

	CLUSTER_BITS_MIN = 9,
	CLUSTER_BITS_MAX = 21,
	EXTENDED_CLUSTER_BITS_MIN = 14,
	REFCOUNT_ORDER_MAX = 6,

	INCOMPATIBLE_DIRTY = 1 << 0,
	INCOMPATIBLE_CORRUPT = 1 << 1,
	INCOMPATIBLE_DATA_FILE = 1 << 2,
	INCOMPATIBLE_COMPRESSION = 1 << 3,
	INCOMPATIBLE_EXTENDED_L2 = 1 << 4,
	INCOMPATIBLE_KNOWN = (1 << 5) - 1,
	AUTOCLEAR_BITMAPS = 1 << 0,

	COMPRESSION_ZSTD = 1,
};

#define EXTENSION_CRYPT UINT32_C(0x0537be77)
#define EXTENSION_DATA_FILE UINT32_C(0x44415441)

static const uint8_t magic[4] = { 'Q', 'F', 'I', 0xfb };

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return be32toh(value);
}

static uint64_t get64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return be64toh(value);
}

bool qcow2_is(const void *bytes, size_t size)
{
	return size >= sizeof(magic) && memcmp(bytes, magic, sizeof(magic)) == 0;
}

static int refuse(struct error *err, const char *what)
{
	return error_say(err, -EINVAL,
			 "the qcow2 image %s; `qemu-img convert -O qcow2 OLD NEW` makes one that "
			 "can be taken",
			 what);
}

static int damaged(struct error *err, const char *what)
{
	return error_say(err, -EBADMSG, "the qcow2 image is damaged: %s", what);
}

/* Is the table a whole number of clusters into the file, and inside of it? */
static bool lies_within(uint64_t offset, uint64_t bytes, uint32_t cluster_bytes,
			uint64_t file_bytes)
{
	return offset >= cluster_bytes && offset % cluster_bytes == 0 && offset <= file_bytes &&
	       bytes <= file_bytes - offset;
}

static int check_features(const uint8_t *header, uint32_t cluster_bits, struct error *err)
{
	uint64_t incompatible = get64(header + AT_INCOMPATIBLE);
	uint32_t header_bytes = get32(header + AT_HEADER_BYTES);

	if (incompatible & ~(uint64_t) INCOMPATIBLE_KNOWN)
		return refuse(err, "needs a feature that is not known here");
	if (incompatible & INCOMPATIBLE_DATA_FILE)
		return refuse(err, "keeps its data in another file");
	if (incompatible & (INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT))
		return error_say(err, -EINVAL,
				 "the qcow2 image was not closed properly; `qemu-img check -r all` "
				 "mends it");
	if (get64(header + AT_AUTOCLEAR) & AUTOCLEAR_BITMAPS)
		return refuse(err, "holds dirty bitmaps");
	if ((incompatible & INCOMPATIBLE_EXTENDED_L2) && cluster_bits < EXTENDED_CLUSTER_BITS_MIN)
		return damaged(err, "its clusters are too small for what they hold");
	if ((incompatible & INCOMPATIBLE_COMPRESSION) &&
	    (header_bytes <= AT_COMPRESSION || header[AT_COMPRESSION] > COMPRESSION_ZSTD))
		return refuse(err, "is compressed in a way that is not known here");
	if (get32(header + AT_REFCOUNT_ORDER) > REFCOUNT_ORDER_MAX)
		return damaged(err, "its reference counts are too wide");
	return 0;
}

/* Behind the header: {u32 type, u32 size, bytes, padding to 8}, until type 0. */
static int check_extensions(const uint8_t *bytes, size_t size, size_t at, struct error *err)
{
	while (at + 8 <= size) {
		uint32_t type = get32(bytes + at), length = get32(bytes + at + 4);

		if (type == 0)
			return 0;
		if (type == EXTENSION_CRYPT)
			return refuse(err, "is encrypted");
		if (type == EXTENSION_DATA_FILE)
			return refuse(err, "keeps its data in another file");
		at += 8;
		if (length > size - at)
			return damaged(err, "a part of its header does not end in time");
		at += (length + 7) / 8 * 8;
	}
	return 0;
}

static int check_tables(const uint8_t *header, const struct qcow2 *image, bool extended,
			uint64_t file_bytes, struct error *err)
{
	uint64_t per_l2 = image->cluster_bytes / (extended ? 16 : 8);
	uint64_t needed = (image->virtual_bytes + image->cluster_bytes * per_l2 - 1) /
			  (image->cluster_bytes * per_l2);
	uint64_t l1_bytes = (uint64_t) get32(header + AT_L1_COUNT) * 8;
	uint64_t refcount_bytes =
		(uint64_t) get32(header + AT_REFCOUNT_CLUSTERS) * image->cluster_bytes;

	if (l1_bytes > QCOW2_L1_BYTES_MAX || refcount_bytes > QCOW2_REFCOUNT_BYTES_MAX)
		return damaged(err, "its tables are too large");
	if (l1_bytes / 8 < needed)
		return damaged(err, "its table is smaller than its disk");
	if (!lies_within(get64(header + AT_L1_OFFSET), l1_bytes, image->cluster_bytes,
			 file_bytes) ||
	    refcount_bytes == 0 ||
	    !lies_within(get64(header + AT_REFCOUNT_OFFSET), refcount_bytes, image->cluster_bytes,
			 file_bytes))
		return damaged(err, "it is cut off, or its tables lie outside of it");
	return 0;
}

static int check_old_members(const uint8_t *header, struct error *err)
{
	if (get64(header + AT_BACKING_OFFSET) != 0 || get32(header + AT_BACKING_SIZE) != 0)
		return refuse(err, "is the difference to another file (its backing file)");
	if (get32(header + AT_CRYPT_METHOD) != 0)
		return refuse(err, "is encrypted");
	if (get32(header + AT_SNAPSHOT_COUNT) != 0)
		return refuse(err, "holds snapshots");
	return 0;
}

int qcow2_decode(const void *bytes, size_t size, uint64_t file_bytes, struct qcow2 *ret,
		 struct error *err)
{
	const uint8_t *header = bytes;
	struct qcow2 image = {};
	uint32_t cluster_bits;
	size_t header_bytes = HEADER_2_BYTES;
	bool extended = false;
	int r;

	if (size < HEADER_2_BYTES || !qcow2_is(bytes, size))
		return error_say(err, -EBADMSG, "not a qcow2 image");
	image.version = get32(header + AT_VERSION);
	if (image.version != 2 && image.version != 3)
		return error_say(err, -EINVAL,
				 "a qcow2 image of version %u is not known here; there are 2 and 3",
				 image.version);
	cluster_bits = get32(header + AT_CLUSTER_BITS);
	if (cluster_bits < CLUSTER_BITS_MIN || cluster_bits > CLUSTER_BITS_MAX)
		return damaged(err, "its clusters have an impossible size");
	image.cluster_bytes = UINT32_C(1) << cluster_bits;
	image.virtual_bytes = get64(header + AT_VIRTUAL_BYTES);
	if (image.virtual_bytes == 0 || image.virtual_bytes > QCOW2_VIRTUAL_BYTES_MAX)
		return error_say(err, -EINVAL,
				 "the disk of the qcow2 image must have from 1 byte to 64 TiB");
	r = check_old_members(header, err);
	if (r == 0 && image.version == 3) {
		header_bytes = size < HEADER_3_BYTES ? 0 : get32(header + AT_HEADER_BYTES);
		if (header_bytes < HEADER_3_BYTES || header_bytes % 8 != 0 ||
		    header_bytes > image.cluster_bytes || header_bytes > size)
			return damaged(err, "its header has an impossible size");
		extended = get64(header + AT_INCOMPATIBLE) & INCOMPATIBLE_EXTENDED_L2;
		r = check_features(header, cluster_bits, err);
	}
	if (r == 0)
		r = check_extensions(header,
				     size < image.cluster_bytes ? size : image.cluster_bytes,
				     header_bytes, err);
	if (r == 0)
		r = check_tables(header, &image, extended, file_bytes, err);
	if (r == 0)
		*ret = image;
	return r;
}

/* ---- an empty one ---- */

enum { NEW_CLUSTER_BITS = 16, NEW_CLUSTER_BYTES = 1 << NEW_CLUSTER_BITS, NEW_REFCOUNT_ORDER = 4 };

static void put16(uint8_t *at, uint16_t value)
{
	value = htobe16(value);
	memcpy(at, &value, sizeof(value));
}

static void put32(uint8_t *at, uint32_t value)
{
	value = htobe32(value);
	memcpy(at, &value, sizeof(value));
}

static void put64(uint8_t *at, uint64_t value)
{
	value = htobe64(value);
	memcpy(at, &value, sizeof(value));
}

/* Clusters: the header, the table of reference counts, the first of them, and the L1 table. */
void qcow2_append_empty(struct strbuf *out, uint64_t virtual_bytes)
{
	const uint64_t per_l2 = (uint64_t) NEW_CLUSTER_BYTES * (NEW_CLUSTER_BYTES / 8);
	uint64_t l1_count = virtual_bytes / per_l2 + (virtual_bytes % per_l2 > 0);
	uint32_t l1_clusters =
		(uint32_t) ((l1_count * 8 + NEW_CLUSTER_BYTES - 1) >> NEW_CLUSTER_BITS);
	uint32_t clusters = 3 + l1_clusters;
	size_t size = (size_t) clusters << NEW_CLUSTER_BITS;
	uint8_t *image = strbuf_reserve(out, size);

	memset(image, 0, size);
	memcpy(image, magic, sizeof(magic));
	put32(image + AT_VERSION, 3);
	put32(image + AT_CLUSTER_BITS, NEW_CLUSTER_BITS);
	put64(image + AT_VIRTUAL_BYTES, virtual_bytes);
	put32(image + AT_L1_COUNT, (uint32_t) l1_count);
	put64(image + AT_L1_OFFSET, UINT64_C(3) << NEW_CLUSTER_BITS);
	put64(image + AT_REFCOUNT_OFFSET, UINT64_C(1) << NEW_CLUSTER_BITS);
	put32(image + AT_REFCOUNT_CLUSTERS, 1);
	put32(image + AT_REFCOUNT_ORDER, NEW_REFCOUNT_ORDER);
	put32(image + AT_HEADER_BYTES, HEADER_3_BYTES);
	put64(image + NEW_CLUSTER_BYTES, UINT64_C(2) << NEW_CLUSTER_BITS);
	for (uint32_t i = 0; i < clusters; i++)
		put16(image + 2 * NEW_CLUSTER_BYTES + (size_t) i * 2, 1);
	strbuf_grown(out, size);
}
