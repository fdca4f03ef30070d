#include "keeper/joblog.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

void joblog_init(struct joblog *log, const char *path, uint64_t max_bytes)
{
	*log = (struct joblog){ .path = mem_strdup(path),
				.fd = -1,
				.max_bytes = max_bytes ? max_bytes : JOBLOG_MAX_DEFAULT_BYTES };
}

static int open_file(struct joblog *log)
{
	/* A name below a folder that only root may write; O_NOFOLLOW all the same. */
	AUTO(fd_close)
	int fd = open(log->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	struct stat st;
	char last;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	log->size_bytes = (uint64_t) st.st_size;
	log->torn = st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n';
	log->fd = TAKE_FD(fd);
	return 0;
}

static int rotate(struct joblog *log)
{
	AUTO(free) char *old = mem_printf("%s.1", log->path);

	joblog_close(log);
	if (rename(log->path, old) < 0 && errno != ENOENT)
		return -errno;
	return open_file(log);
}

static int write_out(struct joblog *log, const char *data, size_t size)
{
	ssize_t n;
	int r = 0;

	if (log->fd < 0)
		r = open_file(log);
	if (r == 0 && log->size_bytes > 0 && log->size_bytes + size > log->max_bytes)
		r = rotate(log);
	if (r < 0)
		return r;
	if (log->torn && write(log->fd, "\n", 1) != 1)
		return -EIO;
	log->torn = false;
	do
		n = write(log->fd, data, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	log->size_bytes += (uint64_t) n;
	if ((size_t) n == size)
		return 0;
	log->torn = n > 0 && data[n - 1] != '\n';
	return -ENOSPC;
}

static void flush(struct joblog *log, const char *data, size_t size)
{
	int r = size > 0 ? write_out(log, data, size) : 0;

	if (r < 0 && !log->failing)
		log_warning("log %s: %s, dropping output until it can be written", log->path,
			    strerror(-r));
	log->failing = r < 0;
}

void joblog_write(struct joblog *log, enum logline_stream stream, int64_t time_ns, const char *text,
		  size_t size, char *buffer)
{
	size_t used = 0;

	assert(size <= LOGLINE_TEXT_MAX);
	while (size > 0) {
		const char *end = memchr(text, '\n', size);
		size_t piece = end ? (size_t) (end - text) : size;

		if (used + LOGLINE_PREFIX_SIZE + piece + 1 > JOBLOG_BUFFER_SIZE) {
			flush(log, buffer, used);
			used = 0;
		}
		logline_write_prefix(buffer + used, time_ns, stream, !end);
		used += LOGLINE_PREFIX_SIZE;
		memcpy(buffer + used, text, piece);
		used += piece;
		buffer[used++] = '\n';
		text += end ? piece + 1 : piece;
		size -= end ? piece + 1 : piece;
	}
	flush(log, buffer, used);
}

void joblog_close(struct joblog *log)
{
	fd_close(log->fd);
	log->fd = -1;
}

void joblog_done(struct joblog *log)
{
	if (log->path)
		joblog_close(log);
	free(log->path);
	log->path = NULL;
}
