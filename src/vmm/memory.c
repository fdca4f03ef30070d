#include "vmm/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

enum {
	PAGE_SIZE = 4096,
	SIZE_MIN = 1 << 20,
	VIEWS_MAX = 64,
	VIEW_BYTES_MIN = 64 << 10, /* smaller ones are copied */
};
#define HUGE_2M (2ull << 20)
#define HUGE_1G (1ull << 30)
/* Far above what a processor addresses (52 bits), far below where sums could overflow. */
#define SIZE_MAX_BYTES (1ull << 46)

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif
#ifndef MFD_HUGE_1GB
#define MFD_HUGE_1GB (30U << 26)
#endif

/* Where a file's own pages, copied when they are written, lie in front of the memory. */
struct view {
	char *host;
	uint64_t size;
};

struct views {
	unsigned int count;
	struct view all[VIEWS_MAX];
};

struct guest_memory {
	uint64_t size_bytes;
	int fd; /* -1: anonymous */
	unsigned int range_count;
	struct guest_memory_range ranges[GUEST_MEMORY_RANGES_MAX];
	uint64_t huge_page_bytes;
	bool thp, mergeable;
	struct views *views;
	struct {
		void *start;
		size_t size;
	} reserved[GUEST_MEMORY_RANGES_MAX];
};

static int check_options(const struct guest_memory_options *options, struct error *err)
{
	uint64_t page = options->huge_page_bytes ? options->huge_page_bytes : PAGE_SIZE;

	if (page != PAGE_SIZE && page != HUGE_2M && page != HUGE_1G)
		return error_say(err, -EINVAL, "huge pages have 2 MiB or 1 GiB, not %llu bytes",
				 (unsigned long long) page);
	if (options->size_bytes < SIZE_MIN || options->size_bytes > SIZE_MAX_BYTES)
		return error_say(err, -EINVAL, "a guest needs memory of 1 MiB to 64 TiB");
	if (options->size_bytes % page != 0)
		return error_say(err, -EINVAL,
				 "the guest's memory must be a multiple of its pages (%llu KiB)",
				 (unsigned long long) page / 1024);
	return 0;
}

/* *ret_fd: a memfd, or -1 for anonymous memory. */
static int open_backing(const struct guest_memory_options *options, int *ret_fd, struct error *err)
{
	AUTO(fd_close) int fd = -1;
	unsigned int flags = MFD_CLOEXEC;
	struct stat st;

	if (options->fd >= 0) {
		if (fstat(options->fd, &st) < 0)
			return error_set(err, -errno, "the guest's memory file");
		if ((uint64_t) st.st_size < options->size_bytes)
			return error_say(err, -EINVAL,
					 "the guest's memory file is smaller than its memory");
		fd = fcntl(options->fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return error_set(err, -errno, "the guest's memory file");
		*ret_fd = TAKE_FD(fd);
		return 0;
	}
	if ((options->thp || options->mergeable) && options->huge_page_bytes == 0) {
		*ret_fd = -1;
		return 0;
	}
	if (options->huge_page_bytes == HUGE_2M)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	else if (options->huge_page_bytes == HUGE_1G)
		flags |= MFD_HUGETLB | MFD_HUGE_1GB;
	fd = memfd_create("guest", flags);
	if (fd < 0)
		return error_set(err, -errno, "making the guest's memory");
	if (ftruncate(fd, (off_t) options->size_bytes) < 0)
		return error_set(err, -errno, "making %llu MiB of guest memory",
				 (unsigned long long) options->size_bytes >> 20);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* A core of the monitor must not hold what its guest knows.  Hints may fail. */
static int advise(const struct guest_memory *memory, void *host, size_t size)
{
	madvise(host, size, MADV_DONTDUMP);
	madvise(host, size, MADV_DONTFORK);
	if (memory->thp)
		madvise(host, size, MADV_HUGEPAGE);
	return memory->mergeable && madvise(host, size, MADV_MERGEABLE) < 0 ? -errno : 0;
}

/* Puts a part of the memory, given by its place in this process, (back) there. */
static int map_part(const struct guest_memory *memory, const struct guest_memory_range *range,
		    char *host, size_t size)
{
	uint64_t offset = range->offset + (uint64_t) (host - (char *) range->host);
	int flags = MAP_FIXED | MAP_NORESERVE |
		    (memory->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);

	if (mmap(host, size, PROT_READ | PROT_WRITE, flags, memory->fd,
		 memory->fd >= 0 ? (off_t) offset : 0) == MAP_FAILED)
		return -errno;
	return 0;
}

/*
 * Maps one range inside of a reservation, so that it is aligned as huge pages need it and has pages
 * without access at both ends.
 */
static int map_range(struct guest_memory *memory, const struct guest_memory_options *options,
		     unsigned int i, struct error *err)
{
	struct guest_memory_range *range = &memory->ranges[i];
	uint64_t align = options->huge_page_bytes > HUGE_2M ? options->huge_page_bytes : HUGE_2M;
	size_t size = range->size_bytes + 2 * align;
	void *start;
	int r;

	start = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return error_set(err, -errno, "room for %llu MiB of guest memory",
				 (unsigned long long) range->size_bytes >> 20);
	memory->reserved[i].start = start;
	memory->reserved[i].size = size;
	range->host = (void *) (((uintptr_t) start + align) & ~(uintptr_t) (align - 1));
	r = map_part(memory, range, range->host, range->size_bytes);
	if (r < 0)
		return error_set(err, r, "mapping %llu MiB of guest memory%s",
				 (unsigned long long) range->size_bytes >> 20,
				 options->huge_page_bytes ? " of huge pages" : "");
	r = advise(memory, range->host, range->size_bytes);
	return r < 0 ? error_set(err, r, "asking for merged pages (KSM)") : 0;
}

int guest_memory_new(const struct guest_memory_options *options, struct guest_memory **ret,
		     struct error *err)
{
	AUTO(guest_memory_free) struct guest_memory *memory = NULL;
	uint64_t low;
	int r = check_options(options, err);

	if (r < 0)
		return r;
	memory = mem_new0(struct guest_memory);
	memory->fd = -1;
	memory->size_bytes = options->size_bytes;
	memory->huge_page_bytes = options->huge_page_bytes;
	memory->thp = options->thp;
	memory->mergeable = options->mergeable;
	memory->views = mem_new0(struct views);
	r = open_backing(options, &memory->fd, err);
	if (r < 0)
		return r;
	low = options->size_bytes < LAYOUT_HOLE_START ? options->size_bytes : LAYOUT_HOLE_START;
	memory->ranges[0].size_bytes = low;
	memory->range_count = 1;
	if (options->size_bytes > low) {
		memory->ranges[1].start = LAYOUT_HIGH_START;
		memory->ranges[1].size_bytes = options->size_bytes - low;
		memory->ranges[1].offset = low;
		memory->range_count = 2;
	}
	for (unsigned int i = 0; i < memory->range_count; i++) {
		r = map_range(memory, options, i, err);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(memory);
	return 0;
}

void guest_memory_free(struct guest_memory *memory)
{
	if (!memory)
		return;
	for (unsigned int i = 0; i < GUEST_MEMORY_RANGES_MAX; i++)
		if (memory->reserved[i].start)
			munmap(memory->reserved[i].start, memory->reserved[i].size);
	fd_close(memory->fd);
	free(memory->views);
	free(memory);
}

const struct guest_memory_range *guest_memory_ranges(const struct guest_memory *memory,
						     unsigned int *ret_count)
{
	*ret_count = memory->range_count;
	return memory->ranges;
}

uint64_t guest_memory_size(const struct guest_memory *memory)
{
	return memory->size_bytes;
}

int guest_memory_fd(const struct guest_memory *memory)
{
	return memory->fd;
}

static const struct guest_memory_range *find_range(const struct guest_memory *memory, gpa_t address,
						   uint64_t size)
{
	for (unsigned int i = 0; i < memory->range_count; i++) {
		const struct guest_memory_range *range = &memory->ranges[i];
		uint64_t offset = address - range->start;

		if (address >= range->start && offset <= range->size_bytes &&
		    size <= range->size_bytes - offset)
			return range;
	}
	return NULL;
}

void *guest_memory_range(const struct guest_memory *memory, gpa_t address, uint64_t size)
{
	const struct guest_memory_range *range = find_range(memory, address, size);

	return range ? (char *) range->host + (address - range->start) : NULL;
}

int guest_memory_read(const struct guest_memory *memory, gpa_t address, void *data, size_t size)
{
	const void *host = guest_memory_range(memory, address, size);

	if (!host)
		return -EFAULT;
	memcpy(data, host, size);
	return 0;
}

int guest_memory_write(const struct guest_memory *memory, gpa_t address, const void *data,
		       size_t size)
{
	void *host = guest_memory_range(memory, address, size);

	if (!host)
		return -EFAULT;
	memcpy(host, data, size);
	return 0;
}

/* ---- files in memory ---- */

static int read_all(int fd, char *host, uint64_t offset, uint64_t size)
{
	while (size > 0) {
		ssize_t n = pread(fd, host, size, (off_t) offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		host += n;
		offset += (uint64_t) n;
		size -= (uint64_t) n;
	}
	return 0;
}

/* Copies a part without holes. */
static int copy_data(const struct guest_memory *memory, const struct guest_memory_range *range,
		     char *host, int fd, uint64_t offset, uint64_t size)
{
	off_t place = (off_t) (range->offset + (uint64_t) (host - (char *) range->host));
	uint64_t done = 0;
	off_t at = (off_t) offset;

	if (memory->fd >= 0 && lseek(memory->fd, place, SEEK_SET) < 0)
		return -errno;
	while (memory->fd >= 0 && done < size) {
		ssize_t n = sendfile(memory->fd, fd, &at, size - done);

		if (n == 0)
			return -EIO;
		if (n > 0)
			done += (uint64_t) n;
		else if (errno != EINTR)
			break; /* hugetlbfs cannot be written to, some files cannot be spliced */
	}
	return read_all(fd, host + done, offset + done, size - done);
}

/* 1: done.  0: it has to be copied. */
static int view_file(const struct guest_memory *memory, char *host, int fd, uint64_t offset,
		     uint64_t size)
{
	struct views *views = memory->views;
	void *view;

	if (size < VIEW_BYTES_MIN || (uintptr_t) host % PAGE_SIZE || offset % PAGE_SIZE ||
	    views->count == VIEWS_MAX)
		return 0;
	/* Somewhere first: a file that cannot be mapped must not leave a hole in the memory. */
	view = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd,
		    (off_t) offset);
	if (view == MAP_FAILED)
		return 0;
	if (mremap(view, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, host) == MAP_FAILED) {
		munmap(view, size);
		return -errno;
	}
	(void) advise(memory, host, size);
	views->all[views->count++] = (struct view){ host, size };
	return 1;
}

/*
 * Who may write the file could change a running guest, or end it.  Huge pages are worth more than
 * shared ones: each small page of a kernel costs two faults, when it is read and when it is
 * patched.
 */
static bool may_view(const struct guest_memory *memory, const struct stat *st)
{
	return S_ISREG(st->st_mode) && !(st->st_mode & 0222) && !memory->thp &&
	       !memory->huge_page_bytes;
}

int guest_memory_load(const struct guest_memory *memory, gpa_t address, int fd, uint64_t offset,
		      uint64_t size)
{
	const struct guest_memory_range *range = find_range(memory, address, size);
	uint64_t end = offset + size, at = offset;
	struct stat st;
	char *host;
	int r = 0;

	if (!range)
		return -EFAULT;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (end < offset || (uint64_t) st.st_size < end)
		return -EIO;
	host = (char *) range->host + (address - range->start);
	/* Part by part without holes: those are zeroes, as the memory is already. */
	while (r == 0 && at < end) {
		off_t data = lseek(fd, (off_t) at, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		uint64_t from = at, to = end, whole;

		if (data < 0 && errno == ENXIO)
			break;
		if (data >= 0 && hole > data) {
			from = (uint64_t) data;
			to = (uint64_t) hole < end ? (uint64_t) hole : end;
		}
		if (from >= end)
			break;
		whole = (to - from) & ~(uint64_t) (PAGE_SIZE - 1);
		r = may_view(memory, &st)
			    ? view_file(memory, host + (from - offset), fd, from, whole)
			    : 0;
		if (r > 0)
			from += whole;
		if (r >= 0)
			r = copy_data(memory, range, host + (from - offset), fd, from, to - from);
		at = to;
	}
	return r;
}

/* Takes views of files away where they lie in front of a part of the memory. */
static int drop_views(const struct guest_memory *memory, const struct guest_memory_range *range,
		      char *host, uint64_t size)
{
	struct views *views = memory->views;
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < views->count; i++) {
		const struct view *view = &views->all[i];
		char *from = host > view->host ? host : view->host;
		char *to = host + size < view->host + view->size ? host + size
								 : view->host + view->size;

		if (from >= to)
			continue;
		r = map_part(memory, range, from, (size_t) (to - from));
		if (r == 0)
			(void) advise(memory, from, (size_t) (to - from));
	}
	/* All of it: a restart. */
	for (unsigned int i = 0; r == 0 && i < views->count;) {
		if (views->all[i].host >= host &&
		    views->all[i].host + views->all[i].size <= host + size)
			views->all[i] = views->all[--views->count];
		else
			i++;
	}
	return r;
}

int guest_memory_discard(const struct guest_memory *memory, gpa_t address, uint64_t size)
{
	const struct guest_memory_range *range = find_range(memory, address, size);
	uint64_t start, end;
	int r;

	if (!range)
		return -EFAULT;
	start = (address - range->start + PAGE_SIZE - 1) & ~(uint64_t) (PAGE_SIZE - 1);
	end = (address - range->start + size) & ~(uint64_t) (PAGE_SIZE - 1);
	if (start >= end)
		return 0;
	r = drop_views(memory, range, (char *) range->host + start, end - start);
	if (r < 0)
		return r;
	if (memory->fd >= 0 &&
	    fallocate(memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t) (range->offset + start), (off_t) (end - start)) < 0)
		return -errno;
	if (memory->fd < 0 && madvise((char *) range->host + start, end - start, MADV_DONTNEED) < 0)
		return -errno;
	return 0;
}
