#include "agent/logtail.h"

#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "codec/logline.h"

enum { CHUNK_SIZE = 64 * 1024, FLAG_OFFSET = LOGLINE_PREFIX_SIZE - 2 };

/*
 * Reads from the start of `fd` and counts lines; stops behind the `skip`-th.  *ret_position is
 * where it stopped.  A last line without its end counts as one.
 */
static int64_t count_lines(int fd, int64_t skip, off_t *ret_position)
{
	AUTO(free) char *buffer = mem_zalloc(CHUNK_SIZE);
	off_t position = 0;
	int64_t count = 0;
	size_t column = 0; /* in the present line of the file */
	bool open_line = false, ends = false;
	ssize_t n;

	*ret_position = 0;
	if (skip == 0)
		return 0;
	while ((n = pread(fd, buffer, CHUNK_SIZE, position)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (buffer[i] != '\n') {
				if (column++ == FLAG_OFFSET)
					ends = buffer[i] == 'F';
				open_line = true;
				continue;
			}
			column = 0;
			if (!ends)
				continue;
			open_line = ends = false;
			*ret_position = position + i + 1;
			if (++count == skip)
				return count;
		}
		position += n;
	}
	return count + open_line;
}

static int open_log(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

void logtail_find(const char *path, int64_t lines, struct logtail *ret)
{
	AUTO(free) char *rotated = mem_printf("%s.1", path);
	AUTO(fd_close) int old = open_log(rotated);
	AUTO(fd_close) int present = open_log(path);
	off_t position = 0;

	ret->fd = -1;
	if (lines >= 0) {
		int64_t in_old = old < 0 ? 0 : count_lines(old, -1, &position);
		int64_t in_present = present < 0 ? 0 : count_lines(present, -1, &position);
		int64_t skip = in_old + in_present > lines ? in_old + in_present - lines : 0;

		position = 0;
		if (skip >= in_old) {
			if (present >= 0)
				count_lines(present, skip - in_old, &position);
			fd_close(TAKE_FD(old));
		} else {
			count_lines(old, skip, &position);
		}
	}
	ret->fd = old >= 0 ? TAKE_FD(old) : TAKE_FD(present);
	if (ret->fd >= 0)
		lseek(ret->fd, position, SEEK_SET);
}
