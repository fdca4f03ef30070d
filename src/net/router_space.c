#include "net/router_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/netlink.h"

/*
 * A router's namespace.  Nobody lives in it; a mount of it on a file of the run folder keeps it,
 * so it needs no process, and dies with the machine as the run folder does.
 */

enum { LOOPBACK_INDEX = 1, NOTE_MAX = 256, STACKED_MAX = 16 };

static char *path_of(const struct net *net, const char *uid, const char *name)
{
	return mem_printf("%s/%s%s%s", net->routers_dir, uid, name[0] ? "/" : "", name);
}

int router_space_run(struct net *net, int netns_fd,
		     int (*fn)(struct net *net, void *data, struct error *err), void *data,
		     struct error *err)
{
	int r;

	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return error_set(err, -errno, "cannot enter a router's network namespace");
	r = fn(net, data, err);
	/* This thread has other work afterwards; in the wrong namespace it would do it there. */
	if (setns(net->self_netns_fd, CLONE_NEWNET) < 0)
		abort();
	return r;
}

/* Before anything is connected: what the interfaces to come are born with, too. */
static int set_up(struct net *net, struct error *err)
{
	static const struct {
		int family;
		const char *name, *key, *value;
	} sysctls[] = {
		{ AF_INET, "all", "forwarding", "1" },
		{ AF_INET, "all", "rp_filter", "0" },
		{ AF_INET, "default", "rp_filter", "0" },
		{ AF_INET, "all", "send_redirects", "0" },
		{ AF_INET, "default", "send_redirects", "0" },
		{ AF_INET6, "all", "forwarding", "1" },
		{ AF_INET6, "default", "forwarding", "1" },
		{ AF_INET6, "default", "accept_ra", "0" },
		{ AF_INET6, "default", "accept_dad", "0" },
	};
	AUTO(netlink_free) struct netlink *nl = NULL;
	int r = 0;

	for (size_t i = 0; i < ARRAY_COUNT(sysctls); i++) {
		if (sysctls[i].family == AF_INET6 && !net->ipv6)
			continue;
		r = link_sysctl(sysctls[i].family, sysctls[i].name, sysctls[i].key,
				sysctls[i].value);
		if (r < 0)
			return error_set(err, r, "cannot set %s of a router", sysctls[i].key);
	}
	r = netlink_open(NETLINK_ROUTE, &nl);
	if (r == 0)
		r = link_set(nl, LOOPBACK_INDEX, &(struct link_change){ .up = true });
	return r < 0 ? error_set(err, r, "cannot turn on a router's loopback") : 0;
}

static int make(struct net *net, const char *path, struct error *err)
{
	AUTO(fd_close)
	int file = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (file < 0)
		return error_set(err, -errno, "cannot create %s", path);
	if (unshare(CLONE_NEWNET) < 0)
		return error_set(err, -errno, "cannot make a network namespace");
	r = set_up(net, err);
	if (r == 0 && mount("/proc/thread-self/ns/net", path, NULL, MS_BIND, NULL) < 0)
		r = error_set(err, -errno, "cannot keep a network namespace at %s", path);
	if (setns(net->self_netns_fd, CLONE_NEWNET) < 0)
		abort();
	return r;
}

/* A file on which nothing is mounted is left from before a reboot, or of a crash. */
static int open_held(const char *path)
{
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct statfs fs;

	if (fd < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	return fs.f_type == NSFS_MAGIC ? TAKE_FD(fd) : -ENOENT;
}

int router_space_open(struct net *net, const char *uid)
{
	AUTO(free) char *path = path_of(net, uid, "net");

	return open_held(path);
}

int router_space_ensure(struct net *net, const char *uid, struct error *err)
{
	AUTO(free) char *folder = path_of(net, uid, "");
	AUTO(free) char *path = path_of(net, uid, "net");
	int fd = open_held(path), r;

	if (fd >= 0)
		return fd;
	if (fd != -ENOENT)
		return error_set(err, fd, "cannot open %s", path);
	r = file_mkdir_all(folder, 0700);
	if (r < 0)
		return error_set(err, r, "cannot create %s", folder);
	r = make(net, path, err);
	if (r < 0)
		return r;
	fd = open_held(path);
	return fd < 0 ? error_set(err, fd, "cannot open %s", path) : fd;
}

int router_space_remove(struct net *net, const char *uid, struct error *err)
{
	AUTO(free) char *folder = path_of(net, uid, "");
	AUTO(free) char *path = path_of(net, uid, "net");
	int r;

	for (int i = 0; i < STACKED_MAX; i++) {
		if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
			continue;
		if (errno == EINVAL || errno == ENOENT)
			break;
		return error_set(err, -errno, "cannot give up %s", path);
	}
	r = file_remove_tree(AT_FDCWD, folder);
	return r < 0 ? error_set(err, r, "cannot remove %s", folder) : 0;
}

char *router_space_read(struct net *net, const char *uid, const char *name)
{
	AUTO(free) char *path = path_of(net, uid, name);
	char *text = NULL;

	return file_read(AT_FDCWD, path, NOTE_MAX, &text, NULL) < 0 ? mem_strdup("") : text;
}

int router_space_write(struct net *net, const char *uid, const char *name, const char *text)
{
	AUTO(free) char *path = path_of(net, uid, name);

	return file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, false);
}

static void dir_close(DIR *dir)
{
	if (dir)
		closedir(dir);
}
DEFINE_AUTO(DIR *, dir_close)

int router_space_list(struct net *net, char ***ret, struct error *err)
{
	AUTO(dir_close) DIR *dir = opendir(net->routers_dir);
	struct dirent *entry;

	if (!dir && errno == ENOENT)
		return 0;
	if (!dir)
		return error_set(err, -errno, "cannot list %s", net->routers_dir);
	while ((entry = readdir(dir)))
		if (name_is_uid(entry->d_name))
			strv_append(ret, entry->d_name);
	return 0;
}
