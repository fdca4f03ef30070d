#include "container/rdt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum { SCHEMATA_MAX = 65536 };

int rdt_check(const char *root, const struct oci_rdt *rdt, struct error *err)
{
	AUTO(free) char *path = NULL;

	if (!rdt->wanted)
		return 0;
	path = mem_printf("%s/schemata", root);
	if (access(path, W_OK) == 0)
		return 0;
	return error_say(err, -EOPNOTSUPP,
			 "linux.intelRdt: no resctrl file system is mounted at %s, or this "
			 "processor has nothing to allocate",
			 root);
}

/* The lines of `text`; of the L3 schema those that the bandwidth's own property replaces are left
 * out. */
static void add_lines(struct strbuf *lines, const char *text, bool without_bandwidth)
{
	while (text && *text) {
		size_t n = strcspn(text, "\n");

		if (n && !(without_bandwidth && strncmp(text, "MB:", 3) == 0))
			strbuf_printf(lines, "%.*s\n", (int) n, text);
		text += n + (text[n] == '\n');
	}
}

static void make_schemata(const struct oci_rdt *rdt, struct strbuf *lines)
{
	add_lines(lines, rdt->l3_cache, rdt->memory_bandwidth != NULL);
	add_lines(lines, rdt->memory_bandwidth, false);
	for (oci_strings line = rdt->schemata; line && *line; line++)
		add_lines(lines, *line, false);
}

/* Whether `line` stands in `text`, whose lines the kernel indents. */
static bool has_line(const char *text, const char *line, size_t size)
{
	while (*text) {
		size_t n;

		text += strspn(text, " \t");
		n = strcspn(text, "\n");
		if (n == size && memcmp(text, line, n) == 0)
			return true;
		text += n + (text[n] == '\n');
	}
	return false;
}

/* A class that is there already belongs to others too: it must be what was asked for. */
static int compare(int dir, const char *name, const char *wanted, struct error *err)
{
	AUTO(free) char *text = NULL;
	int r = file_read(dir, "schemata", SCHEMATA_MAX, &text, NULL);

	if (r < 0)
		return error_set(err, r, "linux.intelRdt: %s/schemata", name);
	for (; *wanted; wanted += strcspn(wanted, "\n") + 1) {
		size_t n = strcspn(wanted, "\n");

		if (!has_line(text, wanted, n))
			return error_say(err, -EEXIST,
					 "linux.intelRdt.closID: %s exists and has another schema "
					 "than \"%.*s\"",
					 name, (int) n, wanted);
	}
	return 0;
}

int rdt_join(const char *root, const struct oci_rdt *rdt, const char *id, pid_t pid,
	     struct error *err)
{
	const char *name = rdt->clos ? rdt->clos : id;
	AUTO(strbuf_done) struct strbuf lines = {};
	AUTO(free) char *path = mem_printf("%s/%s", root, name);
	AUTO(fd_close) int dir = -1;
	char text[16];
	bool made = false;
	int r = 0;

	if (!rdt->wanted)
		return 0;
	make_schemata(rdt, &lines);
	if (!rdt->clos || lines.size) {
		made = mkdir(path, 0755) == 0;
		if (!made && errno != EEXIST)
			return error_set(err, -errno, "linux.intelRdt: %s", path);
	}
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return error_set(err, -errno, "linux.intelRdt.closID: %s", path);
	if (lines.size && made)
		r = file_write_kernel(dir, "schemata", lines.data);
	else if (lines.size)
		r = compare(dir, name, lines.data, err);
	if (r < 0 && made)
		error_set(err, r, "linux.intelRdt: schemata of %s", name);
	snprintf(text, sizeof(text), "%d", (int) pid);
	if (r == 0) {
		r = file_write_kernel(dir, "tasks", text);
		if (r < 0)
			error_set(err, r, "linux.intelRdt: tasks of %s", name);
	}
	if (r < 0 && made)
		rmdir(path);
	return r;
}

void rdt_remove(const char *root, const struct oci_rdt *rdt, const char *id)
{
	AUTO(free) char *path = NULL;

	if (!rdt->wanted || rdt->clos)
		return;
	path = mem_printf("%s/%s", root, id);
	rmdir(path);
}
