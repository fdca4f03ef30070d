#include "kern/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

enum { FILE_MAX = 1 << 20, CREATE_TRIES = 8, DEPTH_MAX = 64 };

struct cgroup {
	const struct cgroup_host *host;
	char *path;
	int fds[CGROUP_HIERARCHIES_MAX];   /* O_PATH-like folders, -1: not there */
	bool made[CGROUP_HIERARCHIES_MAX]; /* by this cgroup_open() */
};

/* ---- making folders ---- */

bool cgroup_path_good(const char *path)
{
	size_t components = 0;

	if (path[0] != '/' || strlen(path) >= PATH_MAX / 2)
		return false;
	for (const char *p = path; *p;) {
		size_t n;

		p += strspn(p, "/");
		n = strcspn(p, "/");
		if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.') ||
		    memchr(p, '\n', n))
			return false;
		components += n > 0;
		p += n;
	}
	return components > 0;
}

/* A cpuset of version 1 starts empty, and nobody can enter it before it has both. */
static int inherit_cpuset(int parent_fd, int fd)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };

	for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
		AUTO(free) char *own = NULL;
		AUTO(free) char *parent = NULL;
		int r = file_read(fd, files[i], FILE_MAX, &own, NULL);

		if (r < 0)
			return r;
		if (own[0] && own[0] != '\n')
			continue;
		r = file_read(parent_fd, files[i], FILE_MAX, &parent, NULL);
		if (r == 0)
			r = file_write_kernel(fd, files[i], parent);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Switches version 2's controllers on for the children of this folder.  One that cannot be is not
 * an error yet: only when something of it is asked for, its files are missing.
 */
static void enable_controllers(const struct cgroup_hierarchy *hierarchy, int fd)
{
	AUTO(free) char *list = mem_strdup(hierarchy->controllers);
	AUTO(free) char *on = NULL;
	char *save = NULL;

	if (file_read(fd, "cgroup.subtree_control", FILE_MAX, &on, NULL) < 0)
		return;
	for (char *c = strtok_r(list, ",", &save); c; c = strtok_r(NULL, ",", &save)) {
		AUTO(free) char *text = mem_printf("+%s", c);
		const char *found = strstr(on, c);

		if (found && (found[strlen(c)] == ' ' || found[strlen(c)] == '\n') &&
		    (found == on || found[-1] == ' '))
			continue;
		(void) file_write_kernel(fd, "cgroup.subtree_control", text);
	}
}

static int make_once(const struct cgroup_hierarchy *hierarchy, const char *path, bool *ret_made)
{
	AUTO(fd_close) int fd = open(hierarchy->mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool made = false;

	if (fd < 0)
		return -errno;
	for (const char *p = path + strspn(path, "/"); *p; p += strspn(p, "/")) {
		size_t n = strcspn(p, "/");
		AUTO(free) char *name = mem_strndup(p, n);
		int next, r = 0;

		if (hierarchy->v2)
			enable_controllers(hierarchy, fd);
		made = mkdirat(fd, name, 0755) == 0;
		if (!made && errno != EEXIST)
			return -errno;
		next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (next < 0)
			return -errno;
		if (!hierarchy->v2 && cgroup_hierarchy_offers(hierarchy, "cpuset"))
			r = inherit_cpuset(fd, next);
		close(fd);
		fd = next;
		if (r < 0)
			return r;
		p += n;
	}
	*ret_made = made;
	return TAKE_FD(fd);
}

static int open_existing(const struct cgroup_hierarchy *hierarchy, const char *path)
{
	AUTO(free) char *full = mem_printf("%s%s", hierarchy->mount, path);
	int fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A parent may be removed by another container's end between our mkdir()s. */
static int make(const struct cgroup_hierarchy *hierarchy, const char *path, bool *ret_made)
{
	int fd = -ENOENT;

	for (int i = 0; i < CREATE_TRIES && (fd == -ENOENT || fd == -ENODEV); i++)
		fd = make_once(hierarchy, path, ret_made);
	return fd;
}

/* Takes away what this cgroup_open() has made so far. */
static void undo(const struct cgroup *cgroup, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		AUTO(free)
		char *full = mem_printf("%s%s", cgroup->host->list[i].mount, cgroup->path);

		if (cgroup->made[i])
			rmdir(full);
	}
}

int cgroup_open(const struct cgroup_host *host, const char *path, bool create, struct cgroup **ret)
{
	AUTO(cgroup_free) struct cgroup *cgroup = NULL;
	size_t found = 0;

	if (!cgroup_path_good(path))
		return -EINVAL;
	cgroup = mem_new0(struct cgroup);
	cgroup->host = host;
	cgroup->path = mem_strdup(path);
	memset(cgroup->fds, -1, sizeof(cgroup->fds));
	for (size_t i = 0; i < host->count; i++) {
		int fd = create ? make(&host->list[i], path, &cgroup->made[i])
				: open_existing(&host->list[i], path);

		if (fd < 0 && create) {
			undo(cgroup, i);
			return fd;
		}
		found += fd >= 0;
		cgroup->fds[i] = fd < 0 ? -1 : fd;
	}
	if (found == 0 && !(create && host->count == 0))
		return -ENOENT;
	*ret = TAKE_PTR(cgroup);
	return 0;
}

void cgroup_free(struct cgroup *cgroup)
{
	if (!cgroup)
		return;
	for (size_t i = 0; i < cgroup->host->count; i++)
		fd_close(cgroup->fds[i]);
	free(cgroup->path);
	free(cgroup);
}

/* ---- files ---- */

static int find(const struct cgroup *cgroup, const char *controller)
{
	for (size_t i = 0; i < cgroup->host->count; i++)
		if (cgroup->fds[i] >= 0 &&
		    cgroup_hierarchy_offers(&cgroup->host->list[i], controller))
			return (int) i;
	return -1;
}

bool cgroup_has(const struct cgroup *cgroup, const char *controller)
{
	return find(cgroup, controller) >= 0;
}

bool cgroup_is_v2(const struct cgroup *cgroup, const char *controller)
{
	int i = find(cgroup, controller);

	return i >= 0 && cgroup->host->list[i].v2;
}

int cgroup_fd(const struct cgroup *cgroup, const char *controller)
{
	int i = find(cgroup, controller);

	return i < 0 ? -1 : cgroup->fds[i];
}

int cgroup_v2_fd(const struct cgroup *cgroup)
{
	for (size_t i = 0; i < cgroup->host->count; i++)
		if (cgroup->host->list[i].v2)
			return cgroup->fds[i];
	return -1;
}

bool cgroup_everywhere(const struct cgroup *cgroup)
{
	for (size_t i = 0; i < cgroup->host->count; i++)
		if (cgroup->fds[i] < 0)
			return false;
	return true;
}

int cgroup_own_v2(char **ret)
{
	AUTO(free) char *text = NULL;
	const char *line;
	int r = file_read(AT_FDCWD, "/proc/self/cgroup", FILE_MAX, &text, NULL);

	if (r < 0)
		return r;
	line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (!line)
		return -ENOENT;
	line = strchr(line, '/');
	if (!line)
		return -ENOENT;
	/* "/" is written without its slash, as what it goes in front of begins with one. */
	line += line[1] == '\n' || line[1] == '\0';
	*ret = mem_strndup(line, strcspn(line, "\n"));
	return 0;
}

int cgroup_open_v2(const struct cgroup_host *host, const char *path)
{
	for (size_t i = 0; cgroup_path_good(path) && i < host->count; i++)
		if (host->list[i].v2)
			return open_existing(&host->list[i], path);
	return -ENOENT;
}

int cgroup_write(const struct cgroup *cgroup, const char *controller, const char *file,
		 const char *text)
{
	int fd = cgroup_fd(cgroup, controller);

	return fd < 0 ? -EOPNOTSUPP : file_write_kernel(fd, file, text);
}

int cgroup_read(const struct cgroup *cgroup, const char *controller, const char *file, char **ret)
{
	int fd = cgroup_fd(cgroup, controller);

	return fd < 0 ? -EOPNOTSUPP : file_read(fd, file, FILE_MAX, ret, NULL);
}

int cgroup_open_tasks(const struct cgroup *cgroup, int *fds)
{
	int count = 0;

	for (size_t i = 0; i < cgroup->host->count; i++) {
		int fd;

		if (cgroup->host->list[i].v2 || cgroup->fds[i] < 0)
			continue;
		fd = openat(cgroup->fds[i], "tasks", O_WRONLY | O_CLOEXEC);
		if (fd < 0) {
			int r = -errno;

			while (count > 0)
				close(fds[--count]);
			return r;
		}
		fds[count++] = fd;
	}
	return count;
}

int cgroup_enter(const int *fds, int count)
{
	for (int i = 0; i < count; i++)
		if (write(fds[i], "0", 1) < 0)
			return -errno;
	return 0;
}

int cgroup_each(const struct cgroup *cgroup, cgroup_each_fn fn, void *data)
{
	for (size_t i = 0; i < cgroup->host->count; i++) {
		int r = cgroup->fds[i] < 0 ? 0 : fn(data, &cgroup->host->list[i], cgroup->fds[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- all processes ---- */

struct pids {
	pid_t *list;
	size_t count;
};

static int open_below(int fd, const char *name)
{
	int next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return next < 0 ? -errno : next;
}

/* Calls `fn` for each folder below `fd`, deepest first, then for itself. */
static int walk_tree(int fd, int depth, int (*fn)(int fd, void *data), void *data)
{
	int copy = open_below(fd, "."), r = 0;
	struct dirent *entry;
	DIR *dir;

	if (copy < 0)
		return copy;
	dir = fdopendir(copy);
	if (!dir) {
		close(copy);
		return -ENOMEM;
	}
	while (r == 0 && depth > 0 && (entry = readdir(dir))) {
		AUTO(fd_close) int next = -1;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		next = open_below(fd, entry->d_name);
		if (next >= 0)
			r = walk_tree(next, depth - 1, fn, data);
	}
	closedir(dir);
	return r < 0 ? r : fn(fd, data);
}

static int collect_pids(int fd, void *data)
{
	struct pids *pids = data;
	AUTO(free) char *text = NULL;
	int r = file_read(fd, "cgroup.procs", 16 << 20, &text, NULL);

	/* A threaded or just removed folder has no list of its own. */
	if (r == -EOPNOTSUPP || r == -ENOENT || r == -ENODEV)
		return 0;
	if (r < 0)
		return r;
	for (char *p = text, *end; *p; p = end + (*end == '\n')) {
		long pid = strtol(p, &end, 10);

		if (end == p)
			break;
		if (pid <= 0)
			continue; /* of another pid namespace: not ours to touch */
		pids->list = mem_realloc(pids->list, pids->count + 1, sizeof(pid_t));
		pids->list[pids->count++] = (pid_t) pid;
	}
	return 0;
}

/* The folder whose processes are looked at: any one knows them all. */
static int first_fd(const struct cgroup *cgroup)
{
	int fd = cgroup_fd(cgroup, "freezer");

	if (fd < 0)
		fd = cgroup_v2_fd(cgroup);
	for (size_t i = 0; fd < 0 && i < cgroup->host->count; i++)
		fd = cgroup->fds[i];
	return fd;
}

int cgroup_pids(const struct cgroup *cgroup, pid_t **ret, size_t *ret_count)
{
	struct pids pids = {};
	int fd = first_fd(cgroup), r;

	if (fd < 0)
		return -EOPNOTSUPP;
	r = walk_tree(fd, DEPTH_MAX, collect_pids, &pids);
	if (r < 0) {
		free(pids.list);
		return r;
	}
	*ret = pids.list;
	*ret_count = pids.count;
	return 0;
}

int cgroup_signal(const struct cgroup *cgroup, int signal_number)
{
	int v2 = cgroup_v2_fd(cgroup), frozen_before, r;
	AUTO(free) pid_t *list = NULL;
	size_t count = 0;

	if (signal_number == SIGKILL && v2 >= 0 && cgroup->host->mode == CGROUP_V2 &&
	    file_write_kernel(v2, "cgroup.kill", "1") == 0)
		return 0;
	/* Frozen, nobody can fork away while we go through the list. */
	frozen_before = cgroup_frozen(cgroup);
	if (frozen_before == 0)
		(void) cgroup_freeze(cgroup, true);
	r = cgroup_pids(cgroup, &list, &count);
	for (size_t i = 0; r == 0 && i < count; i++)
		if (kill(list[i], signal_number) < 0 && errno != ESRCH)
			r = -errno;
	if (frozen_before == 0 || signal_number == SIGKILL)
		(void) cgroup_freeze(cgroup, false);
	return r;
}

/* ---- the freezer ---- */

static int frozen_v2(int fd)
{
	AUTO(free) char *text = NULL;
	int r = file_read(fd, "cgroup.events", FILE_MAX, &text, NULL);

	return r < 0 ? r : strstr(text, "frozen 1") != NULL;
}

int cgroup_frozen(const struct cgroup *cgroup)
{
	AUTO(free) char *text = NULL;
	int r;

	if (!cgroup_has(cgroup, "freezer"))
		return cgroup_v2_fd(cgroup) < 0 ? -EOPNOTSUPP : frozen_v2(cgroup_v2_fd(cgroup));
	r = cgroup_read(cgroup, "freezer", "freezer.state", &text);
	return r < 0 ? r : strncmp(text, "FROZEN", 6) == 0 || strncmp(text, "FREEZING", 8) == 0;
}

/* Reading through the descriptor that is polled is what makes the next poll wait. */
static int read_frozen(int events)
{
	char text[256];
	ssize_t n = pread(events, text, sizeof(text) - 1, 0);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	return strstr(text, "frozen 1") != NULL;
}

static int freeze_v2(int fd, bool freeze)
{
	AUTO(fd_close) int events = openat(fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	int r;

	if (events < 0)
		return -errno;
	r = file_write_kernel(fd, "cgroup.freeze", freeze ? "1" : "0");
	for (int i = 0; r == 0 && i < 200; i++) {
		struct pollfd poll_fd = { .fd = events, .events = POLLPRI };

		r = read_frozen(events);
		if (r < 0 || (r == 1) == freeze)
			return r < 0 ? r : 0;
		r = poll(&poll_fd, 1, 10) < 0 ? -errno : 0;
	}
	return r < 0 ? r : -ETIMEDOUT;
}

/* Version 1 has no notification: its state must be read again until it is reached. */
static int freeze_v1(const struct cgroup *cgroup, bool freeze)
{
	const char *want = freeze ? "FROZEN" : "THAWED";

	for (int i = 0; i < 2000; i++) {
		struct timespec pause = { .tv_nsec = i < 10 ? 50000 : 1000000 };
		AUTO(free) char *text = NULL;
		int r = cgroup_write(cgroup, "freezer", "freezer.state", want);

		if (r == 0)
			r = cgroup_read(cgroup, "freezer", "freezer.state", &text);
		if (r < 0)
			return r;
		if (strncmp(text, want, strlen(want)) == 0)
			return 0;
		nanosleep(&pause, NULL);
	}
	return -ETIMEDOUT;
}

int cgroup_freeze(const struct cgroup *cgroup, bool freeze)
{
	if (cgroup_has(cgroup, "freezer"))
		return freeze_v1(cgroup, freeze);
	if (cgroup_v2_fd(cgroup) < 0)
		return -EOPNOTSUPP;
	return freeze_v2(cgroup_v2_fd(cgroup), freeze);
}

/* ---- the end ---- */

static int remove_below(const char *path, int depth)
{
	struct dirent *entry;
	int r = 0;
	DIR *dir;

	if (rmdir(path) == 0 || errno == ENOENT)
		return 0;
	if ((errno != EBUSY && errno != ENOTEMPTY) || depth == 0)
		return -errno;
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (entry = readdir(dir))) {
		AUTO(free) char *below = NULL;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		below = mem_printf("%s/%s", path, entry->d_name);
		r = remove_below(below, depth - 1);
	}
	closedir(dir);
	if (r < 0)
		return r;
	return rmdir(path) < 0 && errno != ENOENT ? -errno : 0;
}

int cgroup_remove(const struct cgroup_host *host, const char *path)
{
	int result = 0;

	if (!cgroup_path_good(path))
		return -EINVAL;
	for (size_t i = 0; i < host->count; i++) {
		AUTO(free) char *full = mem_printf("%s%s", host->list[i].mount, path);
		int r = remove_below(full, DEPTH_MAX);

		if (r < 0)
			result = r;
	}
	return result;
}
