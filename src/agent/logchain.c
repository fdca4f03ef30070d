#include "agent/logchain.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"

/* A block holds the longest line at least once. */
enum { BLOCK_SIZE = 64 * 1024 };

static bool known(const struct logchain *chain, const struct stat *st)
{
	for (unsigned int i = 0; i < chain->count; i++)
		if (chain->files[i].inode == st->st_ino && chain->files[i].device == st->st_dev)
			return true;
	return false;
}

static void add(struct logchain *chain, const char *name)
{
	AUTO(fd_close) int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	/* A file that was renamed under our hands is met again under its next name. */
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || known(chain, &st))
		return;
	chain->files[chain->count++] =
		(struct logchain_file){ TAKE_FD(fd), st.st_dev, st.st_ino, 0 };
}

static uint64_t file_end(const struct logchain_file *file)
{
	struct stat st;

	return fstat(file->fd, &st) < 0 ? file->base : file->base + (uint64_t) st.st_size;
}

static void reverse(struct logchain *chain)
{
	for (unsigned int i = 0, j = chain->count; i + 1 < j; i++) {
		struct logchain_file file = chain->files[i];

		chain->files[i] = chain->files[--j];
		chain->files[j] = file;
	}
}

static void read_bases(struct logchain *chain)
{
	uint64_t end = 0;

	for (unsigned int i = 0; i < chain->count; i++) {
		struct logchain_file *file = &chain->files[i];
		char head[LOGLINE_HEAD_SIZE];
		ssize_t n = pread(file->fd, head, sizeof(head), 0);

		if (n < 0 || logline_parse_head(head, (size_t) n, &file->base) < 0 ||
		    file->base < end)
			file->base = end;
		end = file_end(file);
	}
}

void logchain_open(struct logchain *chain, const char *path)
{
	chain->count = 0;
	/* From the newest on: a rotation meanwhile shows a file twice, and hides none. */
	for (unsigned int i = 0; i < KEEPER_LOG_FILES_MAX; i++) {
		AUTO(free) char *name = i ? mem_printf("%s.%u", path, i) : mem_strdup(path);

		if (chain->count < KEEPER_LOG_FILES_MAX)
			add(chain, name);
	}
	reverse(chain);
	read_bases(chain);
}

bool logchain_is_outdated(const struct logchain *chain, const char *path)
{
	const struct logchain_file *newest;
	struct stat st;

	if (stat(path, &st) < 0)
		return false;
	if (chain->count == 0)
		return true;
	newest = &chain->files[chain->count - 1];
	return newest->inode != st.st_ino || newest->device != st.st_dev;
}

uint64_t logchain_begin(const struct logchain *chain)
{
	return chain->count > 0 ? chain->files[0].base : 0;
}

uint64_t logchain_end(const struct logchain *chain)
{
	return chain->count > 0 ? file_end(&chain->files[chain->count - 1]) : 0;
}

size_t logchain_read(const struct logchain *chain, uint64_t *position, char *buffer, size_t size)
{
	for (unsigned int i = 0; i < chain->count; i++) {
		const struct logchain_file *file = &chain->files[i];

		if (i + 1 < chain->count && *position >= file_end(file))
			continue;
		if (*position < file->base)
			*position = file->base;
		ssize_t n = pread(file->fd, buffer, size, (off_t) (*position - file->base));
		if (n > 0)
			return (size_t) n;
	}
	return 0;
}

void logchain_drop(struct logchain *chain, uint64_t position)
{
	unsigned int gone = 0;

	while (gone + 1 < chain->count && chain->files[gone + 1].base <= position)
		close(chain->files[gone++].fd);
	chain->count -= gone;
	memmove(chain->files, chain->files + gone, chain->count * sizeof(chain->files[0]));
}

/*
 * The first line at or behind `position` that was written at `time_ns` or later; false at the end.
 * *ret_begin is where it begins, or where the last line ends.
 */
static bool scan(const struct logchain *chain, uint64_t position, int64_t time_ns, char *buffer,
		 uint64_t *ret_begin, int64_t *ret_time_ns)
{
	struct logline parsed;
	size_t size;

	*ret_begin = position;
	while ((size = logchain_read(chain, &position, buffer, BLOCK_SIZE)) > 0) {
		char *line = buffer, *end;

		for (; (end = memchr(line, '\n', (size_t) (buffer + size - line)));
		     line = end + 1) {
			*ret_begin = position + (uint64_t) (line - buffer);
			if (logline_parse(line, (size_t) (end - line), &parsed) < 0 ||
			    parsed.time_ns < time_ns)
				continue;
			*ret_time_ns = parsed.time_ns;
			return true;
		}
		/* A block without a line is none of ours: over it. */
		position += line > buffer ? (uint64_t) (line - buffer) : size;
		*ret_begin = position;
	}
	return false;
}

uint64_t logchain_find_time(const struct logchain *chain, int64_t time_ns)
{
	AUTO(free) char *buffer = mem_zalloc(BLOCK_SIZE);
	uint64_t low = logchain_begin(chain), high = logchain_end(chain), at;
	int64_t found_ns;

	/* Every line before `low` is older.  A middle inside of a line finds the next one. */
	while (high - low > BLOCK_SIZE) {
		uint64_t middle = low + (high - low) / 2;

		if (scan(chain, middle, INT64_MIN, buffer, &at, &found_ns) && at < high &&
		    found_ns < time_ns)
			low = at;
		else
			high = middle;
	}
	scan(chain, low, time_ns, buffer, &at, &found_ns);
	return at;
}

/* Lines are counted backwards, until one is met that is too many. */
struct counting {
	int64_t left;
	unsigned int streams;
	unsigned int open; /* streams of which a piece was met already */
	uint64_t begin;    /* of the last one that counted */
};

static bool count_line(struct counting *counting, const char *text, size_t size, uint64_t position)
{
	struct logline line;

	if (logline_parse(text, size, &line) < 0 || !(counting->streams & (1U << line.stream)))
		return false;
	unsigned int bit = 1U << line.stream;
	/* An end, or a last line that has none yet. */
	if (!line.partial || !(counting->open & bit)) {
		if (counting->left == 0)
			return true;
		counting->left--;
		counting->open |= bit;
	}
	counting->begin = position;
	return false;
}

static bool count_block(struct counting *counting, const char *block, size_t size,
			uint64_t position)
{
	size_t end = size;

	while (end > 0) {
		const char *text = memrchr(block, '\n', end - 1);
		size_t start = text ? (size_t) (text - block) + 1 : 0;

		if (count_line(counting, block + start, end - 1 - start, position + start))
			return true;
		end = start;
	}
	return false;
}

/* One file, from `end` back to `begin`. */
static bool count_file(struct counting *counting, const struct logchain_file *file, uint64_t begin,
		       uint64_t end, char *block)
{
	uint64_t at = end;

	while (at > begin) {
		size_t want = at - begin < BLOCK_SIZE ? (size_t) (at - begin) : BLOCK_SIZE;
		uint64_t from = at - want;
		ssize_t n = pread(file->fd, block, want, (off_t) (from - file->base));
		char *first, *last;

		if (n <= 0)
			return false;
		/* Whole lines only: the first one belongs to the block before. */
		first = from == begin ? block : memchr(block, '\n', (size_t) n);
		last = memrchr(block, '\n', (size_t) n);
		first = first && from != begin ? first + 1 : first;
		if (!first || !last || first > last) {
			at = from;
			continue;
		}
		if (count_block(counting, first, (size_t) (last + 1 - first),
				from + (uint64_t) (first - block)))
			return true;
		at = from + (uint64_t) (first - block);
	}
	return false;
}

uint64_t logchain_find_tail(const struct logchain *chain, uint64_t begin, uint64_t end,
			    int64_t lines, unsigned int streams)
{
	AUTO(free) char *block = mem_zalloc(BLOCK_SIZE);
	struct counting counting = { .left = lines, .streams = streams, .begin = end };

	for (unsigned int i = chain->count; i-- > 0;) {
		const struct logchain_file *file = &chain->files[i];
		uint64_t stop = file_end(file) < end ? file_end(file) : end;
		uint64_t start = file->base > begin ? file->base : begin;

		if (stop > start && count_file(&counting, file, start, stop, block))
			break;
	}
	return counting.begin;
}

void logchain_close(struct logchain *chain)
{
	while (chain->count > 0)
		close(chain->files[--chain->count].fd);
}
