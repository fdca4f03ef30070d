#include "machine/ring.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"

static const char magic[8] = "brumerng";

struct ring_file {
	char magic[8];
	uint64_t total; /* bytes that were ever put there; little endian */
	char data[RING_SIZE];
};
_Static_assert(sizeof(struct ring_file) == RING_FILE_MAX, "no padding");

struct ring {
	struct ring_file *file;
	uint64_t total;
};

int ring_new(int dir_fd, const char *name, struct ring **ret, struct error *err)
{
	AUTO(ring_free) struct ring *ring = mem_new0(struct ring);

	if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		return error_set(err, -errno, "remove the old %s", name);
	AUTO(fd_close)
	int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return error_set(err, -errno, "create %s", name);
	/* Space that is not there would be a SIGBUS later. */
	int r = posix_fallocate(fd, 0, RING_FILE_MAX);
	if (r != 0)
		return error_set(err, -r, "%s", name);
	void *map = mmap(NULL, RING_FILE_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return error_set(err, -errno, "map %s", name);
	ring->file = map;
	memcpy(ring->file->magic, magic, sizeof(magic));
	*ret = TAKE_PTR(ring);
	return 0;
}

void ring_put(struct ring *ring, const void *data, size_t size)
{
	const char *from = data;

	while (size > 0) {
		size_t at = ring->total % RING_SIZE;
		size_t n = size < RING_SIZE - at ? size : RING_SIZE - at;

		memcpy(ring->file->data + at, from, n);
		ring->total += n;
		from += n;
		size -= n;
	}
	ring->file->total = htole64(ring->total);
}

static void copy(const char *data, uint64_t total, struct strbuf *out)
{
	size_t at = total % RING_SIZE;

	if (total >= RING_SIZE)
		strbuf_append(out, data + at, RING_SIZE - at);
	strbuf_append(out, data, at);
}

void ring_copy(const struct ring *ring, struct strbuf *out)
{
	copy(ring->file->data, ring->total, out);
}

void ring_free(struct ring *ring)
{
	if (!ring)
		return;
	if (ring->file)
		munmap(ring->file, RING_FILE_MAX);
	free(ring);
}

void ring_decode(const void *file, size_t size, struct strbuf *out)
{
	uint64_t total;

	if (size == RING_FILE_MAX && memcmp(file, magic, sizeof(magic)) == 0) {
		memcpy(&total, (const char *) file + sizeof(magic), sizeof(total));
		copy((const char *) file + RING_HEADER_SIZE, le64toh(total), out);
		return;
	}
	size_t skip = size > RING_SIZE ? size - RING_SIZE : 0;
	strbuf_append(out, (const char *) file + skip, size - skip);
}
