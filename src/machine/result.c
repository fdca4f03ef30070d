/*
 * What a machine leaves in its run folder: how its command ended, and its last words.  The folder
 * is the jail's, so everything in it is a stranger's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "machine/machine.h"
#include "machine/ring.h"

enum { STATUS_MAX = 8192, REASON_MAX = 300, ESCAPE_MAX = 64 };

/* The first bytes of a regular file that lies there itself.  -ENOENT: there is none. */
static int read_file(const char *run_dir, const char *name, size_t max, char **ret,
		     size_t *ret_size, struct error *err)
{
	AUTO(fd_close) int dir_fd = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (dir_fd < 0)
		return errno == ENOENT ? -ENOENT : error_set(err, -errno, "%s", run_dir);
	/* Not blocking: it may be a pipe. */
	AUTO(fd_close)
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : error_set(err, -errno, "the machine's %s", name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return error_say(err, -EPROTO, "the machine's %s is no file", name);
	AUTO(free) char *text = mem_zalloc(max + 1);
	ssize_t n = pread(fd, text, max, 0);
	if (n < 0)
		return error_set(err, -errno, "the machine's %s", name);
	*ret_size = (size_t) n;
	*ret = TAKE_PTR(text);
	return 0;
}

/* "refused 127 TEXT": the program's own fault. */
static int read_refusal(const char *text, struct error *err)
{
	if (strncmp(text, "127 ", 4) == 0)
		return error_say(err, -ENOENT, "%s", text + 4);
	if (strncmp(text, "126 ", 4) == 0)
		return error_say(err, -ENOEXEC, "%s", text + 4);
	return error_say(err, -EPROTO, "the machine's status is not understood: refused %s", text);
}

int machine_exit_code(const char *run_dir, int *ret_code, struct error *err)
{
	AUTO(strbuf_done) struct strbuf reason = {};
	AUTO(free) char *text = NULL;
	size_t size = 0;
	char *end;
	int r = read_file(run_dir, "status", STATUS_MAX, &text, &size, err);

	/* brume-vmm makes the file before there is something to say. */
	if (r == -ENOENT || (r == 0 && size == 0))
		return 0;
	if (r < 0)
		return r;
	size_t line = strcspn(text, "\r\n");
	text[line] = '\0';
	if (strncmp(text, "exit ", 5) == 0) {
		unsigned long code = strtoul(text + 5, &end, 10);
		if (*end || end == text + 5 || code > 255)
			return error_say(err, -EPROTO, "the guest's exit code is no number to 255");
		*ret_code = (int) code;
		return 1;
	}
	strbuf_put_printable(&reason, text, line < REASON_MAX ? line : REASON_MAX);
	if (strncmp(text, "error ", 6) == 0)
		return error_say(err, -EIO, "the guest could not start: %s",
				 strbuf_str(&reason) + 6);
	if (strncmp(text, "refused ", 8) == 0)
		return read_refusal(strbuf_str(&reason) + 8, err);
	if (strncmp(text, "monitor ", 8) == 0)
		return error_say(err, -EIO, "the machine could not run: %s",
				 strbuf_str(&reason) + 8);
	return error_say(err, -EPROTO, "the machine's status is not understood: %s",
			 strbuf_str(&reason));
}

/* Bytes of an escape sequence that begins here (ESC [ ... letter, ESC letter). */
static size_t escape_size(const char *text, size_t size)
{
	size_t n = 1;

	if (n < size && text[n] == '[') {
		for (n++; n < size && n < ESCAPE_MAX; n++)
			if (text[n] >= 0x40 && text[n] <= 0x7e)
				return n + 1;
		return n;
	}
	return n < size && (unsigned char) text[n] >= 0x20 ? n + 1 : n;
}

static void put_clean(struct strbuf *out, const char *text, size_t size)
{
	for (size_t i = 0; i < size;) {
		size_t n = 0;

		while (i + n < size && ((unsigned char) text[i + n] >= 0x20))
			n++;
		strbuf_put_printable(out, text + i, n);
		i += n;
		if (i == size)
			break;
		if (text[i] == 0x1b) {
			i += escape_size(text + i, size - i);
			continue;
		}
		if (text[i] == '\n' || text[i] == '\t')
			strbuf_append(out, text + i, 1);
		i++;
	}
}

int machine_last_words(enum machine_backend backend, const char *run_dir, size_t max_bytes,
		       char **ret, struct error *err)
{
	AUTO(strbuf_done) struct strbuf text = {}, clean = {};
	AUTO(free) char *file = NULL;
	size_t size = 0;
	int r = read_file(run_dir, "console", RING_FILE_MAX, &file, &size, err);

	(void) backend;
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0)
		ring_decode(file, size, &text);
	put_clean(&clean, strbuf_str(&text), text.size);
	while (clean.size > 0 && strchr("\n\t ", clean.data[clean.size - 1]))
		clean.data[--clean.size] = '\0';
	if (clean.size > max_bytes) {
		/* Whole lines, when there are any. */
		strbuf_consume(&clean, clean.size - max_bytes);
		const char *newline = memchr(clean.data, '\n', clean.size);
		if (newline)
			strbuf_consume(&clean, (size_t) (newline - clean.data) + 1);
	}
	*ret = strbuf_take(&clean);
	return 0;
}
