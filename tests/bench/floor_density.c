/*
 * floor_density.c - what starting and removing N idle containers costs at least.
 *
 * The same system calls that an instance needs and nothing else: seven namespaces, an overlay root,
 * proc, a cgroup in every controller, a veth on a bridge.  Prints "start_ms A" and "remove_ms B".
 * Runs in a network and mount namespace of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kern/link.h"
#include "kern/netlink.h"

#define MAX_COUNT 2000
#define NAMESPACES                                                                                 \
	(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

static const char *const controllers[] = { "cpu",     "cpuacct", "cpuset", "memory", "devices",
					   "freezer", "blkio",   "pids",   NULL };
static int own_id;
static char folder[] = "/var/tmp/brume-floor-XXXXXX";

static void must(int result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec * 1e3 + (double) t.tv_nsec / 1e6;
}

static int write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), r = -1;

	if (fd >= 0) {
		r = (int) write(fd, text, strlen(text));
		close(fd);
	}
	return r;
}

/* The cgroup of container n, or of all when n < 0; NULL when the host lacks that controller. */
static const char *cgroup_path(const char *controller, int n, const char *file)
{
	static char path[256];
	char inner[32] = "";

	snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/tasks", controller);
	if (access(path, F_OK) < 0)
		return NULL;
	if (n >= 0)
		snprintf(inner, sizeof(inner), "/%d", n);
	snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/brumefloor%d%s%s", controller, own_id,
		 inner, file);
	return path;
}

static void make_cgroups(int n)
{
	for (int i = 0; controllers[i]; i++) {
		const char *path = cgroup_path(controllers[i], n, "");

		if (!path)
			continue;
		must(mkdir(path, 0755), path);
		if (strcmp(controllers[i], "cpuset") == 0) {
			must(write_to(cgroup_path("cpuset", n, "/cpuset.cpus"), "0"), "cpus");
			must(write_to(cgroup_path("cpuset", n, "/cpuset.mems"), "0"), "mems");
		}
	}
}

static void remove_cgroups(int n)
{
	for (int i = 0; controllers[i]; i++) {
		const char *path = cgroup_path(controllers[i], n, "");

		/* The last task leaves its cgroup a moment after its parent has reaped it. */
		while (path && rmdir(path) < 0 && errno == EBUSY)
			sched_yield();
	}
}

static void container(int n, int ready)
{
	char options[512], root[128];

	for (int i = 0; controllers[i]; i++) {
		const char *path = cgroup_path(controllers[i], n, "/tasks");

		if (path)
			must(write_to(path, "0"), path);
	}
	must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
	snprintf(options, sizeof(options),
		 "lowerdir=%s/lower,upperdir=%s/%d/upper,workdir=%s/%d/work", folder, folder, n,
		 folder, n);
	snprintf(root, sizeof(root), "%s/%d/root", folder, n);
	must(mount("overlay", root, "overlay", 0, options), "overlay");
	must(chdir(root), "chdir");
	must(mount("proc", "proc", "proc", 0, NULL), "proc");
	must((int) syscall(SYS_pivot_root, ".", "."), "pivot_root");
	must(umount2(".", MNT_DETACH), "detach");
	must((int) write(ready, "r", 1), "ready");
	for (;;)
		pause();
}

static pid_t start(struct netlink *nl, int bridge, int n)
{
	const uint8_t mac[LINK_MAC_SIZE] = { 2, 1, 0, 0, (uint8_t) (n >> 8), (uint8_t) n };
	char path[128], name[16], byte;
	struct link_veth veth = {
		.name = name, .master = bridge, .mtu = 1500, .peer_name = "eth0", .peer_mac = mac
	};
	uint64_t args[8] = { NAMESPACES, [4] = SIGCHLD };
	struct link link;
	int pipe_fds[2];
	pid_t pid;

	for (int i = 0; i < 4; i++) {
		static const char *const inner[] = { "", "/upper", "/work", "/root" };

		snprintf(path, sizeof(path), "%s/%d%s", folder, n, inner[i]);
		must(mkdir(path, 0755), path);
	}
	make_cgroups(n);
	must(pipe2(pipe_fds, O_CLOEXEC), "pipe");
	pid = (pid_t) syscall(SYS_clone3, args, sizeof(args));
	must(pid, "clone3");
	if (pid == 0)
		container(n, pipe_fds[1]);
	close(pipe_fds[1]);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	snprintf(name, sizeof(name), "floor%d", n);
	veth.peer_netns_fd = open(path, O_RDONLY | O_CLOEXEC);
	must(veth.peer_netns_fd, path);
	must(link_add_veth(nl, &veth), "veth");
	close(veth.peer_netns_fd);
	must(link_find(nl, name, &link), "find veth");
	must(link_set(nl, link.index, &(struct link_change){ .up = true }), "veth up");
	if (read(pipe_fds[0], &byte, 1) != 1) {
		fprintf(stderr, "floor: container %d did not start\n", n);
		exit(1);
	}
	close(pipe_fds[0]);
	return pid;
}

static int count_one(const struct link *link, void *data)
{
	(void) link;
	++*(int *) data;
	return 0;
}

static void remove_all(struct netlink *nl, const pid_t *pids, int count)
{
	int left = 1;

	for (int n = 0; n < count; n++)
		kill(pids[n], SIGKILL);
	for (int n = 0; n < count; n++) {
		char path[160];

		waitpid(pids[n], NULL, 0);
		remove_cgroups(n);
		for (int i = 0; i < 5; i++) {
			static const char *const inner[] = { "/work/work", "/work", "/upper",
							     "/root", "" };

			snprintf(path, sizeof(path), "%s/%d%s", folder, n, inner[i]);
			rmdir(path);
		}
	}
	while (left) {
		left = 0;
		if (link_list(nl, "veth", count_one, &left) == -EINTR)
			left = 1;
		sched_yield();
	}
}

int main(int argc, char **argv)
{
	static const uint8_t mac[LINK_MAC_SIZE] = { 2, 0, 0, 0, 0, 1 };
	static pid_t pids[MAX_COUNT];
	int count = argc > 1 ? atoi(argv[1]) : 200;
	struct netlink *nl = NULL;
	struct link bridge;
	char path[128];
	double begin;

	if (count < 1 || count > MAX_COUNT) {
		fprintf(stderr, "usage: floor-density COUNT\n");
		return 2;
	}
	own_id = (int) getpid();
	must(unshare(CLONE_NEWNET | CLONE_NEWNS), "unshare");
	must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
	must(mkdtemp(folder) ? 0 : -1, folder);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/lower%s", folder, i ? "/proc" : "");
		must(mkdir(path, 0755), path);
	}
	make_cgroups(-1);
	must(netlink_open(NETLINK_ROUTE, &nl), "netlink");
	must(link_add_bridge(nl, "floor", mac), "bridge");
	must(link_find(nl, "floor", &bridge), "find bridge");
	must(link_set(nl, bridge.index, &(struct link_change){ .up = true }), "bridge up");
	begin = now_ms();
	for (int n = 0; n < count; n++)
		pids[n] = start(nl, bridge.index, n);
	printf("start_ms %.1f\n", now_ms() - begin);
	begin = now_ms();
	remove_all(nl, pids, count);
	printf("remove_ms %.1f\n", now_ms() - begin);
	remove_cgroups(-1);
	snprintf(path, sizeof(path), "%s/lower/proc", folder);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/lower", folder);
	rmdir(path);
	rmdir(folder);
	netlink_free(nl);
	return 0;
}
