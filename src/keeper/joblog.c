#include "keeper/joblog.h"

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
#include "codec/keeper_wire.h"

/*
 * A batch on its way to the files.  After a crash the log may be ahead of it: what lies before the
 * log's end is counted and not written.
 */
struct output {
	struct joblog *log;
	char *buffer;
	size_t used;
	uint64_t base,
		size_bytes; /* of the file in which the buffer's end belongs, and where in there */
	int result;
};

void joblog_init(struct joblog *log, const char *path, uint64_t max_bytes, uint32_t max_files)
{
	*log = (struct joblog){ .path = mem_strdup(path),
				.fd = -1,
				.max_bytes = max_bytes ? max_bytes : JOBLOG_MAX_DEFAULT_BYTES,
				.max_files = max_files ? max_files : JOBLOG_FILES_DEFAULT };
	if (log->max_files < JOBLOG_FILES_MIN)
		log->max_files = JOBLOG_FILES_MIN;
}

/* The n-th file; the first has the log's own name. */
static char *file_name(const struct joblog *log, uint32_t n)
{
	return n == 0 ? mem_strdup(log->path) : mem_printf("%s.%u", log->path, n);
}

static bool read_base(int fd, uint64_t *ret)
{
	char head[LOGLINE_HEAD_SIZE];

	return pread(fd, head, sizeof(head), 0) == sizeof(head) &&
	       logline_parse_head(head, sizeof(head), ret) == 0;
}

/* Where the file before this one ends.  A crash between two renames may have left a hole. */
static uint64_t end_of_older(const struct joblog *log)
{
	for (uint32_t n = 1; n < KEEPER_LOG_FILES_MAX; n++) {
		AUTO(free) char *name = file_name(log, n);
		AUTO(fd_close) int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		uint64_t base = 0;
		struct stat st;

		if (fd < 0 || fstat(fd, &st) < 0)
			continue;
		read_base(fd, &base);
		return base + (uint64_t) st.st_size;
	}
	return 0;
}

static int begin_file(struct joblog *log, int fd)
{
	char head[LOGLINE_HEAD_SIZE];
	ssize_t n;

	log->base = end_of_older(log);
	logline_write_head(head, log->base);
	n = write(fd, head, sizeof(head));
	if (n == sizeof(head)) {
		log->size_bytes = sizeof(head);
		return 0;
	}
	int r = n < 0 ? -errno : -ENOSPC;
	return ftruncate(fd, 0) < 0 ? -errno : r;
}

static int open_file(struct joblog *log)
{
	/* A name below a folder that only root may write; O_NOFOLLOW all the same. */
	AUTO(fd_close)
	int fd = open(log->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	struct stat st;
	char last;
	int r = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	log->size_bytes = (uint64_t) st.st_size;
	log->torn = st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n';
	if (st.st_size == 0)
		r = begin_file(log, fd);
	else if (!read_base(fd, &log->base))
		log->base = end_of_older(log);
	if (r < 0)
		return r;
	log->fd = TAKE_FD(fd);
	return 0;
}

/* From the oldest on, so that a crash in between leaves a hole and never loses a file too many. */
static int rotate(struct joblog *log)
{
	joblog_close(log);
	for (uint32_t n = log->max_files - 1; n > 0; n--) {
		AUTO(free) char *from = file_name(log, n - 1);
		AUTO(free) char *to = file_name(log, n);

		if (rename(from, to) < 0 && errno != ENOENT)
			return -errno;
	}
	return open_file(log);
}

static int write_out(struct joblog *log, const char *data, size_t size)
{
	ssize_t n;

	do
		n = write(log->fd, data, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	log->size_bytes += (uint64_t) n;
	if ((size_t) n == size) {
		log->torn = false;
		return 0;
	}
	if (n > 0)
		log->torn = data[n - 1] != '\n';
	return -ENOSPC;
}

static uint64_t end_of(const struct joblog *log)
{
	return log->base + log->size_bytes;
}

static void flush(struct output *out)
{
	uint64_t begin = out->base + out->size_bytes - out->used;
	uint64_t there = end_of(out->log) > begin ? end_of(out->log) - begin : 0;
	size_t skip = there < out->used ? (size_t) there : out->used;

	if (out->result == 0 && out->used > skip)
		out->result = write_out(out->log, out->buffer + skip, out->used - skip);
	out->used = 0;
}

static void go_to_next_file(struct output *out)
{
	flush(out);
	out->base += out->size_bytes;
	out->size_bytes = LOGLINE_HEAD_SIZE;
	if (out->result == 0 && end_of(out->log) < out->base + out->size_bytes)
		out->result = rotate(out->log);
}

static void put(struct output *out, const char *data, size_t size)
{
	memcpy(out->buffer + out->used, data, size);
	out->used += size;
	out->size_bytes += size;
}

/* The time is the same for all lines of a batch, so its text is made once. */
static void put_lines(struct output *out, const struct joblog_batch *batch)
{
	const char *text = batch->text;
	size_t size = batch->size;
	char prefix[LOGLINE_PREFIX_SIZE];

	logline_write_prefix(prefix, batch->time_ns, batch->stream, false);
	while (size > 0) {
		size_t limit = size < LOGLINE_TEXT_MAX ? size : LOGLINE_TEXT_MAX;
		const char *end = memchr(text, '\n', limit);
		size_t piece = end ? (size_t) (end - text) : limit;

		size_t line_size = LOGLINE_PREFIX_SIZE + piece + 1;

		if (out->size_bytes > LOGLINE_HEAD_SIZE &&
		    out->size_bytes + line_size > out->log->max_bytes)
			go_to_next_file(out);
		if (out->used + line_size > JOBLOG_BUFFER_SIZE)
			flush(out);
		prefix[LOGLINE_FLAG_OFFSET] = end ? 'F' : 'P';
		put(out, prefix, sizeof(prefix));
		put(out, text, piece);
		put(out, "\n", 1);
		piece += end != NULL;
		text += piece;
		size -= piece;
	}
}

static void report(struct joblog *log, int r)
{
	if (r < 0 && !log->failing)
		log_warning("log %s: %s, dropping output until it can be written", log->path,
			    strerror(-r));
	log->failing = r < 0;
}

void joblog_begin(struct joblog *log, struct joblog_batch *batch)
{
	int r = log->fd < 0 ? open_file(log) : 0;

	batch->base = log->base;
	batch->position = r < 0 ? JOBLOG_NOWHERE : end_of(log);
	batch->torn = r == 0 && log->torn;
	if (r < 0)
		report(log, r);
}

/* Puts the batch where `out` says that it belongs. */
static void write_batch(struct output *out, const struct joblog_batch *batch, bool torn)
{
	if (torn)
		put(out, "\n", 1);
	put_lines(out, batch);
	flush(out);
	report(out->log, out->result);
}

void joblog_write(struct joblog *log, const struct joblog_batch *batch, char *buffer)
{
	int r = log->fd < 0 ? open_file(log) : 0;
	struct output out = { log, buffer, 0, log->base, log->size_bytes, r };

	write_batch(&out, batch, r == 0 && log->torn);
}

void joblog_write_again(struct joblog *log, const struct joblog_batch *batch, char *buffer)
{
	int r = batch->position == JOBLOG_NOWHERE || log->fd >= 0 ? 0 : open_file(log);

	if (batch->position == JOBLOG_NOWHERE || r < 0 || end_of(log) <= batch->position) {
		joblog_write(log, batch, buffer);
		return;
	}
	struct output out = { log, buffer, 0, batch->base, batch->position - batch->base, 0 };
	write_batch(&out, batch, batch->torn);
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
