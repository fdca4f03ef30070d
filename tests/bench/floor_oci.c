/*
 * The bare floor of `brume-oci run`: the system calls of a docker-like container, and nothing else.
 *
 *	floor-oci ROOTFS FILTER NAME
 *
 * ROOTFS is the root file system, FILTER a kept seccomp filter of brume-oci, NAME the new control
 * group in every hierarchy.  No JSON, no options, no records, no second thoughts: what fails ends
 *it.
 */
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HIERARCHIES_MAX = 24, FILTER_MAX = 1 << 16, HEAD_SIZE = 24, CAPS = 0xa80425fb };

struct hierarchy {
	char *name;
	int fd; /* of the new folder */
	int tasks;
	int clone;
};

static struct hierarchy list[HIERARCHIES_MAX];
static int count, unified = -1;
static const char *group;

static int must(long r, const char *what)
{
	if (r < 0)
		err(1, "%s", what);
	return (int) r;
}

static void put(int dir, const char *file, const char *text)
{
	int fd = must(openat(dir, file, O_WRONLY | O_CLOEXEC), file);

	must(write(fd, text, strlen(text)), file);
	close(fd);
}

static void copy(int from, int to, const char *file)
{
	char text[256];
	int fd = must(openat(from, file, O_RDONLY | O_CLOEXEC), file);
	int n = must(read(fd, text, sizeof(text) - 1), file);

	close(fd);
	text[n] = '\0';
	put(to, file, text);
}

static void limit_devices(int dir)
{
	static const char *const allowed[] = { "c *:* m",   "b *:* m",   "c 1:3 rwm",  "c 1:5 rwm",
					       "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm",  "c 5:0 rwm",
					       "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm" };

	put(dir, "devices.deny", "a");
	for (size_t i = 0; i < sizeof(allowed) / sizeof(*allowed); i++)
		put(dir, "devices.allow", allowed[i]);
}

static void make_group(const char *name)
{
	struct hierarchy *one = &list[count];
	int top;
	char path[300];

	snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", name);
	top = must(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), path);
	if (faccessat(top, "cgroup.procs", F_OK, 0) < 0) {
		close(top);
		return;
	}
	must(mkdirat(top, group, 0755), path);
	one->fd = must(openat(top, group, O_RDONLY | O_DIRECTORY | O_CLOEXEC), path);
	one->tasks = openat(one->fd, "tasks", O_WRONLY | O_CLOEXEC);
	if (one->tasks < 0)
		unified = one->fd;
	if (strcmp(name, "cpuset") == 0) {
		copy(top, one->fd, "cpuset.cpus");
		copy(top, one->fd, "cpuset.mems");
	}
	if (strcmp(name, "devices") == 0)
		limit_devices(one->fd);
	close(top);
	one->clone = must(open_tree(one->fd, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), "clone");
	one->name = strdup(name);
	count++;
}

static void make_groups(void)
{
	DIR *dir = opendir("/sys/fs/cgroup");
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) && count < HIERARCHIES_MAX)
		if (entry->d_name[0] != '.' && entry->d_type == DT_DIR)
			make_group(entry->d_name);
	if (dir)
		closedir(dir);
}

static int attach(int mount, int root, const char *where)
{
	mkdirat(root, where, 0755);
	must(move_mount(mount, "", root, where, MOVE_MOUNT_F_EMPTY_PATH), where);
	return mount;
}

static int new_mount(int root, const char *where, const char *type, unsigned int attributes,
		     const char *const *options)
{
	int fs = must(fsopen(type, FSOPEN_CLOEXEC), type);

	for (; options && *options; options += 2)
		must(fsconfig(fs, FSCONFIG_SET_STRING, options[0], options[1], 0), options[0]);
	must(fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), type);
	return attach(must(fsmount(fs, FSMOUNT_CLOEXEC, attributes), type), root, where);
}

static void change(int fd, const char *path, unsigned int flags, uint64_t set, uint64_t propagation)
{
	struct mount_attr attr = { .attr_set = set, .propagation = propagation };

	must(mount_setattr(fd, path, flags, &attr, sizeof(attr)), "mount_setattr");
}

static void make_mounts(int root)
{
	static const char *const dev[] = { "mode", "755", "size", "65536k", NULL };
	static const char *const pts[] = { "ptmxmode", "0666", "mode", "0620", "gid", "5", NULL };
	static const char *const shm[] = { "mode", "1777", "size", "65536k", NULL };
	const unsigned int safe = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	int top;

	new_mount(root, "proc", "proc", safe, NULL);
	new_mount(root, "dev", "tmpfs", MOUNT_ATTR_NOSUID, dev);
	new_mount(root, "dev/pts", "devpts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, pts);
	new_mount(root, "sys", "sysfs", safe | MOUNT_ATTR_RDONLY, NULL);
	top = new_mount(root, "sys/fs/cgroup", "tmpfs", safe, dev);
	for (int i = 0; i < count; i++) {
		attach(list[i].clone, top, list[i].name);
		change(list[i].clone, "", AT_EMPTY_PATH, safe | MOUNT_ATTR_RDONLY, 0);
	}
	change(top, "", AT_EMPTY_PATH, safe | MOUNT_ATTR_RDONLY, 0);
	new_mount(root, "dev/mqueue", "mqueue", safe, NULL);
	new_mount(root, "dev/shm", "tmpfs", safe, shm);
}

static void make_devices(int root)
{
	static const struct {
		const char *name;
		unsigned int major, minor;
	} nodes[] = { { "dev/null", 1, 3 },   { "dev/zero", 1, 5 },    { "dev/full", 1, 7 },
		      { "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 } };
	static const char *const links[][2] = { { "/proc/self/fd", "dev/fd" },
						{ "/proc/self/fd/0", "dev/stdin" },
						{ "/proc/self/fd/1", "dev/stdout" },
						{ "/proc/self/fd/2", "dev/stderr" },
						{ "pts/ptmx", "dev/ptmx" } };

	umask(0);
	for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++)
		must(mknodat(root, nodes[i].name, S_IFCHR | 0666,
			     makedev(nodes[i].major, nodes[i].minor)),
		     nodes[i].name);
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
		must(symlinkat(links[i][0], root, links[i][1]), links[i][1]);
	umask(022);
}

static void hide(int root)
{
	static const char *const masked[] = { "proc/acpi",          "proc/asound",
					      "proc/kcore",         "proc/keys",
					      "proc/latency_stats", "proc/timer_list",
					      "proc/timer_stats",   "proc/sched_debug",
					      "proc/scsi",          "sys/firmware" };
	static const char *const protected_[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys",
						  "proc/sysrq-trigger" };
	struct stat st;

	for (size_t i = 0; i < sizeof(protected_) / sizeof(*protected_); i++) {
		int fd = open_tree(root, protected_[i],
				   OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

		if (fd < 0)
			continue;
		change(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0);
		attach(fd, root, protected_[i]);
	}
	for (size_t i = 0; i < sizeof(masked) / sizeof(*masked); i++) {
		if (fstatat(root, masked[i], &st, 0) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			new_mount(root, masked[i], "tmpfs", MOUNT_ATTR_RDONLY, NULL);
		else
			attach(must(open_tree(AT_FDCWD, "/dev/null",
					      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC),
				    "/dev/null"),
			       root, masked[i]);
	}
}

static void drop(const struct sock_fprog *filter)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { CAPS, CAPS, 0 } };

	for (int i = 0; i <= 40; i++)
		if (i > 31 || !(CAPS & 1U << i))
			prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
	must(syscall(SYS_capset, &header, data), "capset");
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, filter), "seccomp");
}

static void child(int rootfs, const struct sock_fprog *filter)
{
	int root;

	for (int i = 0; i < count; i++)
		if (list[i].tasks >= 0)
			must(write(list[i].tasks, "0", 1), "tasks");
	must(unshare(CLONE_NEWCGROUP), "cgroup namespace");
	must(setsid(), "setsid");
	must(sethostname("box", 3), "sethostname");
	change(AT_FDCWD, "/", AT_RECURSIVE, 0, MS_SLAVE);
	attach(rootfs, AT_FDCWD, "/");
	root = must(openat(rootfs, ".", O_PATH | O_DIRECTORY | O_CLOEXEC), "root");
	make_mounts(root);
	make_devices(root);
	hide(root);
	must(fchdir(root), "root");
	must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	must(umount2(".", MNT_DETACH), "old root");
	must(chdir("/"), "/");
	drop(filter);
	execl("/bin/true", "true", (char *) NULL);
	err(1, "/bin/true");
}

static void read_filter(const char *path, struct sock_fprog *ret)
{
	static char file[FILTER_MAX];
	int fd = must(open(path, O_RDONLY | O_CLOEXEC), path);
	int n = must(read(fd, file, sizeof(file)), path);

	close(fd);
	ret->len = (unsigned short) ((size_t) (n - HEAD_SIZE) / sizeof(struct sock_filter));
	ret->filter = (struct sock_filter *) (file + HEAD_SIZE);
}

static void remove_groups(void)
{
	char path[4096];

	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/%s", list[i].name, group);
		must(rmdir(path), path);
	}
}

int main(int argc, char **argv)
{
	struct clone_args args = { .flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
					    CLONE_NEWPID | CLONE_NEWNET,
				   .exit_signal = SIGCHLD };
	struct sock_fprog filter;
	int rootfs, status;
	long pid;

	if (argc != 4)
		errx(2, "usage: floor-oci ROOTFS FILTER NAME");
	group = argv[3];
	read_filter(argv[2], &filter);
	make_groups();
	rootfs = must(
		open_tree(AT_FDCWD, argv[1], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE),
		argv[1]);
	change(rootfs, "", AT_EMPTY_PATH | AT_RECURSIVE, 0, MS_SLAVE);
	if (unified >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t) unified;
	}
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		child(rootfs, &filter);
	must(pid, "clone3");
	must(waitpid((pid_t) pid, &status, 0), "waitpid");
	remove_groups();
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
