#pragma once
/*
 * base/cleanup.h - scope-bound release of resources.
 *
 *	AUTO(tap_free) struct tap *tap = NULL;	released when it leaves scope
 *	*ret = TAKE_PTR(tap);			ownership moves out, nothing released
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* "unused": releasing it may be all that is done with it; clang would complain. */
#define AUTO(fn) __attribute__((cleanup(fn##_autop), unused))

/* Makes AUTO(fn) work for a release function `fn` that takes a `type`. */
#define DEFINE_AUTO(type, fn)                                                                      \
	static inline void fn##_autop(type *p)                                                     \
	{                                                                                          \
		fn(*p);                                                                            \
	}

#define TAKE_PTR(p) TAKE_(p, NULL)
#define TAKE_FD(fd) TAKE_(fd, -1)
#define TAKE_(x, empty)                                                                            \
	({                                                                                         \
		__typeof__(x) *take_p_ = &(x);                                                     \
		__typeof__(x) take_v_ = *take_p_;                                                  \
		*take_p_ = (empty);                                                                \
		take_v_;                                                                           \
	})

#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

static inline void fd_close(int fd)
{
	if (fd >= 0)
		close(fd);
}
DEFINE_AUTO(int, fd_close)

/* AUTO(free) works for every pointer type. */
static inline void free_autop(void *p)
{
	free(*(void **) p);
}

static inline void file_close(FILE *f)
{
	if (f)
		fclose(f);
}
DEFINE_AUTO(FILE *, file_close)
