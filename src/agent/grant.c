#include "agent/grant.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

static int open_resolved(int dir_fd, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = { .flags = flags | O_PATH | O_CLOEXEC, .resolve = resolve };
	int fd;

	do
		fd = (int) syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd < 0 ? -errno : fd;
}

static bool is_below(const char *path, const char *folder)
{
	size_t size = strlen(folder);

	if (size == 1)
		return true;
	return strncmp(path, folder, size) == 0 && (path[size] == '/' || !path[size]);
}

/* Images, other instances' files and sockets of the daemons are nobody's, whatever is allowed. */
static int refuse_own(const struct grants_args *args, int fd, const char *source, struct error *err)
{
	const char *const own[] = { args->state, args->run_dir };
	char link[40], path[PATH_MAX], real[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return error_set(err, -errno, "mount %s", source);
	path[n] = '\0';
	for (size_t i = 0; i < ARRAY_COUNT(own); i++)
		if (realpath(own[i], real) && (is_below(path, real) || is_below(real, path)))
			return error_say(err, -EPERM,
					 "mount %s: it holds the node's own files (%s)", source,
					 own[i]);
	return 0;
}

/* Below the entry's folder, however many links there are on the way. */
static int open_source(const struct policy_mount *entry, const char *source, struct error *err)
{
	const char *rest = source + (strlen(entry->path) == 1 ? 0 : strlen(entry->path));
	AUTO(fd_close)
	int folder = open_resolved(AT_FDCWD, entry->path, O_DIRECTORY, RESOLVE_NO_MAGICLINKS);
	int fd;

	if (folder < 0)
		return error_set(err, folder, "mount %s: the policy's %s", source, entry->path);
	rest += strspn(rest, "/");
	fd = open_resolved(folder, rest[0] ? rest : ".", 0,
			   RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
	if (fd == -EXDEV)
		return error_say(err, -EPERM,
				 "mount %s: a link on the way leads out of %s, which is all that "
				 "this node's policy allows",
				 source, entry->path);
	return fd < 0 ? error_set(err, fd, "mount %s", source) : fd;
}

/* Who may mount in its own namespace can make a mount writable again. */
static bool may_mount(const struct run_options *run)
{
	if (run->privileged)
		return true;
	for (char *const *name = run->cap_add; name && *name; name++)
		if (strcmp(*name, "ALL") == 0 || strcmp(*name, "CAP_SYS_ADMIN") == 0)
			return true;
	return false;
}

static int grant_mount(const struct grants_args *args, const struct policy *policy,
		       const struct instance_mount *mount, struct grant *grant, struct error *err)
{
	const struct policy_mount *entry = policy_find_mount(policy, args->project, mount->source);
	struct stat st;
	int r;

	if (!entry)
		return error_say(err, -EPERM,
				 "mount %s: this node's policy does not allow it (see %s)",
				 mount->source, args->policy_path);
	if (entry->read_only && !mount->read_only)
		return error_say(err, -EPERM,
				 "mount %s: this node's policy allows it read-only; ask for that",
				 mount->source);
	if (entry->read_only && may_mount(args->run))
		return error_say(err, -EPERM,
				 "mount %s: this node's policy gives it read-only, and an instance "
				 "with CAP_SYS_ADMIN could undo that",
				 mount->source);
	grant->fd = open_source(entry, mount->source, err);
	if (grant->fd < 0)
		return grant->fd;
	if (fstat(grant->fd, &st) < 0)
		return error_set(err, -errno, "mount %s", mount->source);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode) && !S_ISSOCK(st.st_mode))
		return error_say(err, -EPERM, "mount %s: it is neither a folder nor a file",
				 mount->source);
	r = refuse_own(args, grant->fd, mount->source, err);
	grant->read_only = entry->read_only;
	grant->idmap = entry->idmap;
	grant->uid = entry->uid;
	grant->gid = entry->gid;
	return r;
}

static bool all_letters_in(const char *letters, const char *allowed)
{
	return strspn(letters, allowed) == strlen(letters);
}

/*
 * The node's own file belongs to an id that is nobody inside, so the instance gets a node of its
 * own: the same device, with the same permissions, of its root.
 */
static int make_node(const struct grants_args *args, size_t number, const struct stat *st)
{
	AUTO(free) char *path = mem_printf("%s/%zu", args->devices_dir, number);
	int fd;

	if (mknod(path, (st->st_mode & (S_IFMT | 0666)) | 0600, st->st_rdev) < 0)
		return -errno;
	fd = open(path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (fchownat(fd, "", args->root_uid, args->root_uid, AT_EMPTY_PATH) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static int grant_device(const struct grants_args *args, const struct policy *policy, size_t i,
			struct grant *grant, struct error *err)
{
	const struct instance_device *device = &args->run->devices[i];
	const struct policy_device *entry =
		policy_find_device(policy, args->project, device->source);
	AUTO(fd_close) int fd = -1;
	struct stat st;

	if (!entry)
		return error_say(err, -EPERM,
				 "device %s: this node's policy does not allow it (see %s)",
				 device->source, args->policy_path);
	if (!all_letters_in(device->access, entry->access))
		return error_say(err, -EPERM,
				 "device %s: this node's policy allows only \"%s\", not \"%s\"",
				 device->source, entry->access, device->access);
	fd = open_resolved(AT_FDCWD, device->source, 0, RESOLVE_NO_MAGICLINKS);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, fd < 0 ? fd : -errno, "device %s", device->source);
	if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
		return error_say(err, -EINVAL, "device %s: is not a device", device->source);
	grant->fd = make_node(args, i, &st);
	if (grant->fd < 0)
		return error_set(err, grant->fd, "device %s: make a node of it", device->source);
	grant->block = S_ISBLK(st.st_mode);
	grant->major = major(st.st_rdev);
	grant->minor = minor(st.st_rdev);
	return 0;
}

static int make_devices_dir(const char *path, struct error *err)
{
	int r = file_remove_tree(AT_FDCWD, path);

	/* Nobody on the node gets at the nodes by their names. */
	if (r == 0 && mkdir(path, 0700) < 0)
		r = -errno;
	return r < 0 ? error_set(err, r, "make %s", path) : 0;
}

static struct grants *grants_new(const struct run_options *run)
{
	struct grants *grants = mem_new0(struct grants);

	grants->mounts = mem_new0_array(struct grant, run->mount_count + 1);
	grants->mount_count = run->mount_count;
	grants->devices = mem_new0_array(struct grant, run->device_count + 1);
	grants->device_count = run->device_count;
	for (size_t i = 0; i < run->mount_count; i++)
		grants->mounts[i].fd = -1;
	for (size_t i = 0; i < run->device_count; i++)
		grants->devices[i].fd = -1;
	return grants;
}

int grants_open(const struct grants_args *args, struct grants **ret, struct error *err)
{
	const struct run_options *run = args->run;
	AUTO(grants_free) struct grants *grants = grants_new(run);
	AUTO(policy_free) struct policy *policy = NULL;
	int child_fd = GRANTS_FIRST_CHILD_FD;
	int r = policy_load(args->policy_path, &policy, err);

	if (r == 0)
		r = policy_check_capabilities(policy, run, err);
	if (r == 0)
		r = policy_check_seccomp(policy, args->project, run, err);
	for (size_t i = 0; r == 0 && i < run->mount_count; i++) {
		if (run->mounts[i].type != MOUNT_TYPE_BIND)
			continue;
		grants->mounts[i].child_fd = child_fd++;
		r = grant_mount(args, policy, &run->mounts[i], &grants->mounts[i], err);
	}
	if (r == 0 && run->device_count > 0)
		r = make_devices_dir(args->devices_dir, err);
	for (size_t i = 0; r == 0 && i < run->device_count; i++) {
		grants->devices[i].child_fd = child_fd++;
		r = grant_device(args, policy, i, &grants->devices[i], err);
	}
	if (r < 0)
		return r;
	*ret = TAKE_PTR(grants);
	return 0;
}

unsigned int grants_list(const struct grants *grants, int *fds, int *as)
{
	unsigned int count = 0;

	for (size_t i = 0; grants && i < grants->mount_count + grants->device_count; i++) {
		const struct grant *grant = i < grants->mount_count
						    ? &grants->mounts[i]
						    : &grants->devices[i - grants->mount_count];

		if (grant->fd < 0 || count == GRANTS_MAX)
			continue;
		fds[count] = grant->fd;
		as[count++] = grant->child_fd;
	}
	return count;
}

void grants_free(struct grants *grants)
{
	if (!grants)
		return;
	for (size_t i = 0; i < grants->mount_count; i++)
		fd_close(grants->mounts[i].fd);
	for (size_t i = 0; i < grants->device_count; i++)
		fd_close(grants->devices[i].fd);
	free(grants->mounts);
	free(grants->devices);
	free(grants);
}
