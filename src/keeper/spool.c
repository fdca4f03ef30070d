#include "keeper/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/keeper_wire.h"

enum {
	HEAD_SIZE = 8192,
	/* A file that is never cut costs a page per page; one that is cut each time a call each
	 * time.
	 */
	FILE_MAX = 256 * 1024,
	TERMINAL_MAX = 3072,
};

static const char magic[8] = "brspool2";

/*
 * The first two pages, mapped: a store survives the process.  Data of pipes lies behind them, from
 * `committed` to the file's end; of a terminal, which cannot be spliced, in `terminal`.
 */
struct head {
	char magic[8];
	uint64_t committed; /* all of the file before this is in the log */
	uint64_t base;
	uint64_t position;
	int64_t time_ns;
	uint64_t max_bytes;
	uint32_t max_files;
	uint32_t stream;
	uint32_t torn;
	uint32_t terminal_begun; /* being read into: bytes may be there before their count is */
	uint32_t terminal_size;
	char path[KEEPER_TEXT_MAX];
	char terminal[TERMINAL_MAX];
};
_Static_assert(sizeof(struct head) <= HEAD_SIZE, "the head has two pages");

struct spool {
	int fd; /* -1: no file */
	struct head *head;
	char *map; /* the whole file, and room for it to grow */
	uint64_t size;
	char memory[16 * 1024]; /* without a file */
};

static bool head_valid(const struct head *head, uint64_t size)
{
	return memcmp(head->magic, magic, sizeof(magic)) == 0 && head->committed >= HEAD_SIZE &&
	       size <= FILE_MAX + SPOOL_BATCH_MAX && head->base <= head->position &&
	       head->terminal_size <= TERMINAL_MAX &&
	       (head->stream == LOGLINE_STDOUT || head->stream == LOGLINE_STDERR) &&
	       memchr(head->path, '\0', sizeof(head->path)) && head->path[0] == '/';
}

static void write_again(struct head *head, const char *text, size_t size, char *buffer)
{
	struct joblog_batch batch = { .stream = head->stream,
				      .time_ns = head->time_ns,
				      .text = text,
				      .size = size,
				      .base = head->base,
				      .position = head->position,
				      .torn = head->torn };
	struct joblog log;

	joblog_init(&log, head->path, head->max_bytes, head->max_files);
	joblog_write_again(&log, &batch, buffer);
	joblog_done(&log);
	log_info("log %s: %zu bytes that the keeper before had taken are written", head->path,
		 size);
}

/* Of a terminal's bytes whose count was not noted any more: it rarely sends NULs. */
static size_t guess_size(const struct head *head)
{
	size_t size = TERMINAL_MAX;

	while (size > 0 && !head->terminal[size - 1])
		size--;
	return size;
}

void spool_recover(const char *path, char *buffer)
{
	AUTO(free) char *data = NULL;
	size_t size;

	if (file_read(AT_FDCWD, path, FILE_MAX + SPOOL_BATCH_MAX, &data, &size) < 0 ||
	    size < HEAD_SIZE)
		return;
	struct head *head = (struct head *) data;
	if (!head_valid(head, size))
		return;
	if (head->committed < size)
		write_again(head, data + head->committed, size - head->committed, buffer);
	else if (head->terminal_begun && head->terminal_size == 0)
		head->terminal_size = (uint32_t) guess_size(head);
	if (head->terminal_begun && head->terminal_size > 0)
		write_again(head, head->terminal, head->terminal_size, buffer);
}

static int open_file(struct spool *spool, const char *path)
{
	AUTO(fd_close)
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	/* Room that is there now: a store into a full file system's hole would be the end of us. */
	int r = -posix_fallocate(fd, 0, HEAD_SIZE);
	if (r < 0)
		return r;
	spool->map =
		mmap(NULL, FILE_MAX + SPOOL_BATCH_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (spool->map == MAP_FAILED) {
		spool->map = NULL;
		return -errno;
	}
	spool->head = (struct head *) spool->map;
	memcpy(spool->head->magic, magic, sizeof(magic));
	spool->head->committed = spool->size = HEAD_SIZE;
	spool->fd = TAKE_FD(fd);
	return 0;
}

struct spool *spool_new(const char *path)
{
	struct spool *spool = mem_new0(struct spool);
	int r;

	spool->fd = -1;
	r = open_file(spool, path);
	if (r < 0)
		log_error("%s: %s; a crash of the keeper would lose output", path, strerror(-r));
	return spool;
}

static void describe(struct head *head, const struct joblog *log, const struct joblog_batch *batch)
{
	size_t size = strlen(log->path) + 1;

	head->base = batch->base;
	head->position = batch->position;
	head->time_ns = batch->time_ns;
	head->stream = batch->stream;
	head->torn = batch->torn;
	head->max_bytes = log->max_bytes;
	head->max_files = log->max_files;
	if (strcmp(head->path, log->path) != 0)
		memcpy(head->path, log->path, size);
	/* What follows is the kernel's doing; it must find this in place. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static ssize_t take_in_memory(struct spool *spool, int fd, struct joblog_batch *batch)
{
	ssize_t n;

	do
		n = read(fd, spool->memory, sizeof(spool->memory));
	while (n < 0 && errno == EINTR);
	batch->text = spool->memory;
	batch->size = n > 0 ? (size_t) n : 0;
	return n < 0 ? -errno : n;
}

static ssize_t take_from_terminal(struct spool *spool, int fd, struct joblog_batch *batch)
{
	struct head *head = spool->head;
	ssize_t n;

	head->terminal_begun = 1;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	do
		n = read(fd, head->terminal, sizeof(head->terminal));
	while (n < 0 && errno == EINTR);
	head->terminal_size = n > 0 ? (uint32_t) n : 0;
	if (n <= 0)
		head->terminal_begun = 0;
	batch->text = head->terminal;
	batch->size = n > 0 ? (size_t) n : 0;
	return n < 0 ? -errno : n;
}

static bool cut_file(struct spool *spool)
{
	if (ftruncate(spool->fd, HEAD_SIZE) < 0)
		return false;
	spool->head->committed = spool->size = HEAD_SIZE;
	return true;
}

ssize_t spool_take(struct spool *spool, int fd, struct joblog *log, struct joblog_batch *batch)
{
	ssize_t n;

	joblog_begin(log, batch);
	if (spool->fd < 0 || strlen(log->path) >= KEEPER_TEXT_MAX)
		return take_in_memory(spool, fd, batch);
	if (spool->size >= FILE_MAX && !cut_file(spool))
		return take_in_memory(spool, fd, batch);
	describe(spool->head, log, batch);
	loff_t offset = (loff_t) spool->size;
	do
		n = splice(fd, NULL, spool->fd, &offset, SPOOL_BATCH_MAX,
			   SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EINVAL)
		return take_from_terminal(spool, fd, batch);
	/* A full file system must not stop what can still be logged elsewhere. */
	if (n < 0 && errno != EAGAIN)
		return take_in_memory(spool, fd, batch);
	batch->text = spool->map + spool->size;
	batch->size = n > 0 ? (size_t) n : 0;
	spool->size += batch->size;
	return n < 0 ? -errno : n;
}

void spool_commit(struct spool *spool)
{
	struct head *head = spool->head;

	if (spool->fd < 0)
		return;
	head->committed = spool->size;
	if (!head->terminal_begun)
		return;
	head->terminal_begun = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	memset(head->terminal, 0, head->terminal_size);
	head->terminal_size = 0;
}

void spool_free(struct spool *spool)
{
	if (!spool)
		return;
	if (spool->map)
		munmap(spool->map, FILE_MAX + SPOOL_BATCH_MAX);
	fd_close(spool->fd);
	free(spool);
}
