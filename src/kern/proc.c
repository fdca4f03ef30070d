#include "kern/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

enum { TEXT_SIZE = 8192, MS_PER_S = 1000 };

/* As proc(5) numbers the fields; the first one behind name and state. */
enum { STAT_FIRST = 4, STAT_UTIME = 14, STAT_STIME = 15, STAT_RSS = 24 };

/* The next of the numbers at *at, which moves behind it.  No sscanf() here: it weighs 80 KB in
 * brume-init. */
static bool next_number(const char **at, uint64_t *ret)
{
	char *end;

	*ret = strtoull(*at, &end, 10);
	if (end == *at)
		return false;
	*at = end;
	return true;
}

/*
 * "1 (name) S 0 ...": the name may hold anything, also parentheses and line ends, so the numbers
 * are looked for behind the last one.
 */
int proc_parse_stat(const char *text, struct proc *proc)
{
	const char *open = strchr(text, '('), *close = strrchr(text, ')'), *at;
	uint64_t numbers[STAT_RSS + 1];
	int64_t rss_pages;
	size_t size;

	if (!open || !close || close < open || close[1] != ' ' || close[2] == '\0')
		return -EINVAL;
	at = close + 3;
	for (size_t i = STAT_FIRST; i <= STAT_RSS; i++)
		if (!next_number(&at, &numbers[i]))
			return -EINVAL;
	proc->state = close[2];
	rss_pages = (int64_t) numbers[STAT_RSS];
	size = (size_t) (close - open - 1);
	size = size < sizeof(proc->name) ? size : sizeof(proc->name) - 1;
	memcpy(proc->name, open + 1, size);
	proc->name[size] = '\0';
	proc->cpu_ms = (numbers[STAT_UTIME] + numbers[STAT_STIME]) * MS_PER_S /
		       (uint64_t) sysconf(_SC_CLK_TCK);
	proc->rss_bytes =
		rss_pages > 0 ? (uint64_t) rss_pages * (uint64_t) sysconf(_SC_PAGESIZE) : 0;
	return 0;
}

/* The numbers behind "KEY:" at the start of a line. */
static const char *line_of(const char *text, const char *key)
{
	size_t size = strlen(key);

	while (text && *text) {
		if (strncmp(text, key, size) == 0 && text[size] == ':')
			return text + size + 1;
		text = strchr(text, '\n');
		text += text != NULL;
	}
	return NULL;
}

int proc_parse_status(const char *text, struct proc *proc)
{
	/* The name stands first and its line ends are escaped by the kernel. */
	const char *uids = line_of(text, "Uid"), *pids = line_of(text, "NSpid");
	uint64_t real_uid, uid, outer, inner;

	if (!uids || !next_number(&uids, &real_uid) || !next_number(&uids, &uid))
		return -EINVAL;
	proc->uid = (uid_t) uid;
	if (pids && next_number(&pids, &outer) && next_number(&pids, &inner))
		proc->inside_pid = (pid_t) inner;
	return 0;
}

static ssize_t read_file(int proc_fd, pid_t pid, const char *name, char *ret, size_t size)
{
	char path[32];
	ssize_t n;

	snprintf(path, sizeof(path), "%d/%s", pid, name);
	AUTO(fd_close) int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, ret, size);
	return n < 0 ? -errno : n;
}

int proc_read(int proc_fd, pid_t pid, struct proc *ret)
{
	struct proc proc = { .pid = pid, .inside_pid = pid };
	char text[TEXT_SIZE];
	ssize_t n = read_file(proc_fd, pid, "stat", text, sizeof(text) - 1);
	int r = n <= 0 ? -ESRCH : 0;

	if (r == 0) {
		text[n] = '\0';
		r = proc_parse_stat(text, &proc);
	}
	n = r == 0 ? read_file(proc_fd, pid, "status", text, sizeof(text) - 1) : 0;
	if (r == 0 && n <= 0)
		r = -ESRCH;
	if (r == 0) {
		text[n] = '\0';
		r = proc_parse_status(text, &proc);
	}
	if (r < 0)
		return r;
	n = read_file(proc_fd, pid, "cmdline", proc.command, sizeof(proc.command));
	proc.command_size = n > 0 ? (size_t) n : 0;
	*ret = proc;
	return 0;
}

char *proc_command(const struct proc *proc)
{
	AUTO(strbuf_done) struct strbuf out = {};

	if (proc->command_size == 0) {
		strbuf_puts(&out, "[");
		strbuf_put_printable(&out, proc->name, strlen(proc->name));
		strbuf_puts(&out, "]");
		return strbuf_take(&out);
	}
	for (size_t i = 0; i < proc->command_size;) {
		size_t size = strnlen(proc->command + i, proc->command_size - i);

		strbuf_puts(&out, i > 0 ? " " : "");
		strbuf_put_printable(&out, proc->command + i, size);
		i += size + 1;
	}
	if (proc->command_size == sizeof(proc->command))
		strbuf_puts(&out, "…");
	return strbuf_take(&out);
}
