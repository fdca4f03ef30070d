#include "kern/cgroup_host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/file.h"
#include "base/mem.h"

enum { FILE_MAX = 1 << 20, MOUNTINFO_MAX = 64 << 20 };

/* "\040" and the like, in place. */
static void unescape(char *s)
{
	char *out = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*out++ = (char) ((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = '\0';
}

/* Version 1: the superblock's options name the controllers among flags like "rw". */
static char *v1_controllers(char *options)
{
	static const char *const flags[] = { "rw",
					     "ro",
					     "xattr",
					     "noprefix",
					     "clone_children",
					     "cpuset_v2_mode",
					     "favordynmods",
					     "nofavordynmods" };
	char *out = mem_strdup(""), *save = NULL;

	for (char *o = strtok_r(options, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		bool flag = strncmp(o, "release_agent=", 14) == 0;
		char *longer;

		for (size_t i = 0; i < ARRAY_COUNT(flags); i++)
			flag = flag || strcmp(o, flags[i]) == 0;
		if (flag)
			continue;
		longer = mem_printf("%s%s%s", out, out[0] ? "," : "", o);
		free(out);
		out = longer;
	}
	return out;
}

static bool known_mount(const struct cgroup_host *host, const char *controllers, bool v2)
{
	for (size_t i = 0; i < host->count; i++)
		if (host->list[i].v2 == v2 &&
		    (v2 || strcmp(host->list[i].controllers, controllers) == 0))
			return true;
	return false;
}

/* "36 35 98:0 /root /mount options... - type source options" */
static void parse_line(char *line, bool (*visible)(const char *mount, bool v2),
		       struct cgroup_host *host)
{
	char *separator = strstr(line, " - cgroup"), *save = NULL, *mount = NULL, *options;
	struct cgroup_hierarchy *new = &host->list[host->count];
	bool v2;

	if (!separator || host->count == CGROUP_HIERARCHIES_MAX)
		return;
	v2 = strncmp(separator, " - cgroup2 ", 11) == 0;
	if (!v2 && strncmp(separator, " - cgroup ", 10) != 0)
		return;
	options = strrchr(separator, ' ') + 1;
	*separator = '\0';
	mount = strtok_r(line, " ", &save);
	for (int i = 0; i < 4 && mount; i++)
		mount = strtok_r(NULL, " ", &save);
	if (!mount)
		return;
	unescape(mount);
	if (!visible(mount, v2))
		return;
	new->controllers = v2 ? mem_strdup("") : v1_controllers(options);
	if (known_mount(host, new->controllers, v2)) {
		free(new->controllers);
		new->controllers = NULL;
		return;
	}
	new->mount = mem_strdup(mount);
	new->v2 = v2;
	host->count++;
}

int cgroup_host_parse(const char *mountinfo, bool (*visible)(const char *mount, bool v2),
		      struct cgroup_host *ret)
{
	struct cgroup_host host = {};
	bool v1 = false, v2 = false;

	for (const char *line = mountinfo; *line;) {
		size_t length = strcspn(line, "\n");
		AUTO(free) char *copy = mem_strndup(line, length);

		parse_line(copy, visible, &host);
		line += length;
		line += *line == '\n';
	}
	for (size_t i = 0; i < host.count; i++) {
		v1 = v1 || !host.list[i].v2;
		v2 = v2 || host.list[i].v2;
	}
	host.mode = v1 && v2 ? CGROUP_HYBRID : v1 ? CGROUP_V1 : v2 ? CGROUP_V2 : CGROUP_NONE;
	*ret = host;
	return 0;
}

/* What version 2 offers, as "cpu,memory". */
static int read_v2_controllers(struct cgroup_hierarchy *hierarchy)
{
	AUTO(free) char *path = mem_printf("%s/cgroup.controllers", hierarchy->mount);
	AUTO(free) char *text = NULL;
	int r = file_read(AT_FDCWD, path, FILE_MAX, &text, NULL);

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	for (char *p = text; *p; p++)
		if (*p == ' ')
			*p = ',';
	mem_replace(&hierarchy->controllers, text);
	return 0;
}

/* Another mount may lie over it, as a container engine inside of a container leaves them. */
static bool is_visible(const char *mount, bool v2)
{
	struct statfs fs;

	return statfs(mount, &fs) == 0 &&
	       fs.f_type == (v2 ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC);
}

int cgroup_host_read(struct cgroup_host **ret)
{
	AUTO(cgroup_host_free) struct cgroup_host *host = mem_new0(struct cgroup_host);
	AUTO(free) char *text = NULL;
	int r = file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL);

	if (r == 0)
		r = cgroup_host_parse(text, is_visible, host);
	for (size_t i = 0; r == 0 && i < host->count; i++)
		if (host->list[i].v2)
			r = read_v2_controllers(&host->list[i]);
	if (r < 0)
		return r;
	/* A version 2 tree without controllers next to version 1 is of no use to anybody. */
	for (size_t i = 0; host->mode == CGROUP_HYBRID && i < host->count; i++) {
		if (!host->list[i].v2 || host->list[i].controllers[0])
			continue;
		free(host->list[i].controllers);
		free(host->list[i].mount);
		host->list[i] = host->list[--host->count];
	}
	*ret = TAKE_PTR(host);
	return 0;
}

void cgroup_host_free(struct cgroup_host *host)
{
	if (!host)
		return;
	for (size_t i = 0; i < host->count; i++) {
		free(host->list[i].controllers);
		free(host->list[i].mount);
	}
	free(host);
}

bool cgroup_hierarchy_offers(const struct cgroup_hierarchy *hierarchy, const char *controller)
{
	size_t length = strlen(controller);

	for (const char *p = hierarchy->controllers; *p;) {
		size_t n = strcspn(p, ",");

		if (n == length && memcmp(p, controller, n) == 0)
			return true;
		p += n;
		p += *p == ',';
	}
	return false;
}
