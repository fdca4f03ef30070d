#pragma once
/*
 * vmm/memory.h - the memory of a guest as this process sees it.
 *
 * One memfd, mapped once for each range of guest physical addresses that it fills: below the hole
 * and above 4 GiB (vmm/layout.h).  It is sparse: what the guest never touches costs nothing.
 * Used by everything in vmm/.  Thread-safe: ranges never change after guest_memory_new();
 * guest_memory_load() is for one thread at a time, while nobody calls guest_memory_discard().
 *
 * The guest writes this memory at any moment.  Who needs a value twice copies it first:
 * guest_memory_read() for structures, guest_memory_range() only for payload that goes to or comes
 * from a system call untouched.  No function trusts an address or a size; none of them fails
 * loudly: a guest that points outside hurts only itself.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "vmm/layout.h"

struct error;
struct guest_memory;

enum { GUEST_MEMORY_RANGES_MAX = 2 };

struct guest_memory_options {
	uint64_t size_bytes;      /* a multiple of 4 KiB, at least 1 MiB */
	uint64_t huge_page_bytes; /* 0: ordinary pages; 2 MiB or 1 GiB from hugetlbfs */
	/* Hints.  Hosts rarely give them to memfds: the memory is then anonymous, without an fd. */
	bool thp;       /* MADV_HUGEPAGE */
	bool mergeable; /* MADV_MERGEABLE: opt-in to KSM */
	int fd;         /* a memfd of size_bytes to use (borrowed), or -1: makes its own */
};

struct guest_memory_range {
	gpa_t start;
	uint64_t size_bytes;
	uint64_t offset; /* in the memfd */
	void *host;
};

int guest_memory_new(const struct guest_memory_options *options, struct guest_memory **ret,
		     struct error *err);
void guest_memory_free(struct guest_memory *memory);
DEFINE_AUTO(struct guest_memory *, guest_memory_free)

/* The ranges, lowest first. */
const struct guest_memory_range *guest_memory_ranges(const struct guest_memory *memory,
						     unsigned int *ret_count);

uint64_t guest_memory_size(const struct guest_memory *memory);
/* -1 when the memory is anonymous. */
int guest_memory_fd(const struct guest_memory *memory);

/* Where [address, address + size) lies in this process; NULL unless all of it is in one range. */
void *guest_memory_range(const struct guest_memory *memory, gpa_t address, uint64_t size);

/* Copy all or nothing; -EFAULT when not all of it is memory. */
int guest_memory_read(const struct guest_memory *memory, gpa_t address, void *data, size_t size);
int guest_memory_write(const struct guest_memory *memory, gpa_t address, const void *data,
		       size_t size);

/*
 * Fills a part, which is all zero, from a file.  -EFAULT when not all of it is memory, -EIO when
 * the file is shorter.  Without huge pages, those of a file that nobody may write (mode 0444, as a
 * node's kernels are) are not copied: the guest sees the file's own, which all guests share, until
 * it writes to them.  They are not in the memfd; who saves memory reads guest_memory_range().
 */
int guest_memory_load(const struct guest_memory *memory, gpa_t address, int fd, uint64_t offset,
		      uint64_t size);

/* Gives the pages that lie wholly in the range back to the host; the guest reads zeroes there. */
int guest_memory_discard(const struct guest_memory *memory, gpa_t address, uint64_t size);
