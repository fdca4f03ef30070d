#include "guest/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "codec/guest_config.h"
#include "kern/mount.h"

enum { WHY_SIZE = 128 };

static int mount_at(int root_fd, const char *target, const char *type, const char *const *options,
		    uint64_t attr, struct error *err)
{
	char why[WHY_SIZE] = "";
	AUTO(fd_close) int place_fd = mount_create_in_root(root_fd, target, MOUNT_PLACE_DIR, 0755);
	AUTO(fd_close) int mount_fd = -1;
	int r;

	if (place_fd < 0)
		return error_set(err, place_fd, "make %s", target);
	mount_fd = mount_make(type, type, options, attr, why, sizeof(why));
	if (mount_fd < 0)
		return error_set(err, mount_fd, "mount %s on %s%s%s", type, target,
				 why[0] ? ": " : "", why);
	r = mount_attach(mount_fd, place_fd);
	return r < 0 ? error_set(err, r, "mount %s on %s", type, target) : 0;
}

static int mount_kernel(int root_fd, struct error *err)
{
	static const struct {
		const char *target, *type;
		const char *const options[4];
		uint64_t attr;
		bool optional; /* a kernel of one's own may not have it */
	} mounts[] = {
		{ "dev", "devtmpfs", { NULL }, MOUNT_ATTR_NOSUID, false },
		{ "dev/pts",
		  "devpts",
		  { "mode=0620", "gid=5", "ptmxmode=0666", NULL },
		  MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
		  false },
		{ "dev/shm",
		  "tmpfs",
		  { "mode=1777", NULL },
		  MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
		  false },
		{ "dev/mqueue",
		  "mqueue",
		  { NULL },
		  MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
		  true },
		{ "sys",
		  "sysfs",
		  { NULL },
		  MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
		  false },
		{ "sys/fs/cgroup",
		  "cgroup2",
		  { NULL },
		  MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
		  true },
	};

	for (size_t i = 0; i < ARRAY_COUNT(mounts); i++) {
		int r = mount_at(root_fd, mounts[i].target, mounts[i].type, mounts[i].options,
				 mounts[i].attr, err);

		if (r < 0 && !mounts[i].optional)
			return r;
	}
	return 0;
}

static void link_device(int dev_fd, const char *target, const char *name)
{
	(void) !symlinkat(target, dev_fd, name);
}

static int make_device_links(int root_fd, struct error *err)
{
	AUTO(fd_close) int dev_fd = mount_open_in_root(root_fd, "dev", O_PATH | O_DIRECTORY);

	if (dev_fd < 0)
		return error_set(err, dev_fd, "open /dev");
	link_device(dev_fd, "/proc/self/fd", "fd");
	link_device(dev_fd, "/proc/self/fd/0", "stdin");
	link_device(dev_fd, "/proc/self/fd/1", "stdout");
	link_device(dev_fd, "/proc/self/fd/2", "stderr");
	return 0;
}

/* The options that are the mount's, not tmpfs' own. */
static uint64_t tmpfs_attr(const char *options)
{
	static const struct {
		const char *word;
		uint64_t attr;
	} known[] = { { "ro", MOUNT_ATTR_RDONLY },
		      { "nosuid", MOUNT_ATTR_NOSUID },
		      { "nodev", MOUNT_ATTR_NODEV },
		      { "noexec", MOUNT_ATTR_NOEXEC } };
	AUTO(free) char *copy = mem_strdup(options ? options : "");
	char *rest = copy, *word;
	uint64_t attr = 0;

	while ((word = strsep(&rest, ",")))
		for (size_t i = 0; i < ARRAY_COUNT(known); i++)
			if (strcmp(word, known[i].word) == 0)
				attr |= known[i].attr;
	return attr;
}

static int mount_tmpfs(const struct guest_config *config, int root_fd, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < config->tmpfs_count; i++) {
		const struct guest_tmpfs *tmpfs = &config->tmpfs[i];
		AUTO(strv_free) char **options = NULL;

		strv_append_take(&options, mem_printf("mode=%04o", tmpfs->mode));
		if (tmpfs->size_bytes > 0)
			strv_append_take(
				&options,
				mem_printf("size=%llu", (unsigned long long) tmpfs->size_bytes));
		r = mount_at(root_fd, tmpfs->target, "tmpfs", (const char *const *) options,
			     tmpfs_attr(tmpfs->options), err);
	}
	return r;
}

/* A file of ours over one of the image, so that it is no change of the instance's. */
static int put_file(int root_fd, const char *name, const char *text, struct error *err)
{
	AUTO(free) char *source = mem_printf("/brume/%s", name);
	AUTO(free) char *target = mem_printf("etc/%s", name);
	AUTO(fd_close) int place_fd = -1;
	char place[32];
	int r = file_write_atomic(AT_FDCWD, source, text, strlen(text), 0644, 0);

	if (r < 0)
		return error_set(err, r, "write %s", source);
	place_fd = mount_create_in_root(root_fd, target, MOUNT_PLACE_FILE, 0644);
	if (place_fd < 0)
		return error_set(err, place_fd, "make /%s", target);
	snprintf(place, sizeof(place), "/proc/self/fd/%d", place_fd);
	if (mount(source, place, NULL, MS_BIND, NULL) < 0)
		return error_set(err, -errno, "mount on /%s", target);
	return 0;
}

static char *resolv_conf(const struct guest_config *config)
{
	AUTO(strbuf_done) struct strbuf text = {};

	for (size_t i = 0; i < config->search_count; i++)
		strbuf_printf(&text, "%s %s", i == 0 ? "search" : "", config->search[i]);
	if (config->search_count > 0)
		strbuf_puts(&text, "\n");
	for (size_t i = 0; i < config->nameserver_count; i++)
		strbuf_printf(&text, "nameserver %s\n", config->nameservers[i]);
	return strbuf_take(&text);
}

static int put_files(const struct guest_config *config, int root_fd, struct error *err)
{
	AUTO(free) char *hostname = mem_printf("%s\n", config->hostname);
	AUTO(free) char *resolv = resolv_conf(config);
	int r = put_file(root_fd, "hostname", hostname, err);

	if (r == 0 && config->hosts)
		r = put_file(root_fd, "hosts", config->hosts, err);
	if (r == 0 && resolv[0])
		r = put_file(root_fd, "resolv.conf", resolv, err);
	return r;
}

int setup_root(const struct guest_config *config, int root_fd, struct error *err)
{
	int r = mount_kernel(root_fd, err);

	if (r == 0)
		r = make_device_links(root_fd, err);
	if (r == 0)
		r = put_files(config, root_fd, err);
	if (r == 0)
		r = mount_tmpfs(config, root_fd, err);
	if (r == 0) {
		/* Where the command's own proc comes. */
		AUTO(fd_close)
		int proc_fd = mount_create_in_root(root_fd, "proc", MOUNT_PLACE_DIR, 0555);

		if (proc_fd < 0)
			return error_set(err, proc_fd, "make /proc");
	}
	if (r == 0 && config->read_only) {
		r = mount_change(root_fd, "", false, MOUNT_ATTR_RDONLY, 0, 0);
		if (r < 0)
			return error_set(err, r, "make the root read-only");
	}
	return r;
}

static int set_sysctls(const struct guest_config *config, int proc_fd, struct error *err)
{
	for (size_t i = 0; i < config->sysctl_count; i++) {
		AUTO(free) char *path = mem_printf("sys/%s", config->sysctls[i].name);
		int r;

		for (char *p = path + 4; *p; p++)
			*p = *p == '.' ? '/' : *p == '/' ? '.' : *p;
		r = strstr(path, "/../")
			    ? -EINVAL
			    : file_write_kernel(proc_fd, path, config->sysctls[i].value);
		if (r < 0)
			return error_set(err, r, "sysctl %s=%s", config->sysctls[i].name,
					 config->sysctls[i].value);
	}
	return 0;
}

static int limit_processes(const struct guest_config *config, struct error *err)
{
	char text[32];
	int r;

	if (config->pids_max == 0)
		return 0;
	snprintf(text, sizeof(text), "%llu", (unsigned long long) config->pids_max);
	r = file_write_kernel(AT_FDCWD, "/sys/fs/cgroup/cgroup.subtree_control", "+pids");
	if (r == 0 && mkdir("/sys/fs/cgroup/instance", 0755) < 0 && errno != EEXIST)
		r = -errno;
	if (r == 0)
		r = file_write_kernel(AT_FDCWD, "/sys/fs/cgroup/instance/pids.max", text);
	return r < 0 ? error_set(err, r, "limit the number of processes") : 0;
}

int setup_machine(const struct guest_config *config, int proc_fd, struct error *err)
{
	struct timespec now = { .tv_sec = config->time_ms / 1000,
				.tv_nsec = config->time_ms % 1000 * 1000000 };
	struct timespec before;

	if (sethostname(config->hostname, strlen(config->hostname)) < 0)
		return error_set(err, -errno, "set the host name");
	/* A machine's own clock is right, if it has one. */
	if (config->time_ms > 0 && clock_gettime(CLOCK_REALTIME, &before) == 0 &&
	    before.tv_sec < now.tv_sec - 60 * 60)
		clock_settime(CLOCK_REALTIME, &now);
	int r = set_sysctls(config, proc_fd, err);
	return r < 0 ? r : limit_processes(config, err);
}
