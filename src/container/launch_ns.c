#include "container/launch_ns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "kern/ns.h"
#include "kern/pidfd.h"

static const uint64_t flags[OCI_NS_COUNT] = {
	[OCI_NS_USER] = CLONE_NEWUSER,   [OCI_NS_PID] = CLONE_NEWPID,
	[OCI_NS_NETWORK] = CLONE_NEWNET, [OCI_NS_IPC] = CLONE_NEWIPC,
	[OCI_NS_UTS] = CLONE_NEWUTS,     [OCI_NS_CGROUP] = CLONE_NEWCGROUP,
	[OCI_NS_TIME] = CLONE_NEWTIME,   [OCI_NS_MOUNT] = CLONE_NEWNS,
};

uint64_t launch_ns_flag(enum oci_ns ns)
{
	return flags[ns];
}

void launch_ns_init(struct launch_ns *ns)
{
	*ns = (struct launch_ns){ .mount_fd = -1, .user_fd = -1 };
	memset(ns->path_fds, -1, sizeof(ns->path_fds));
	memset(ns->own_fds, -1, sizeof(ns->own_fds));
}

void launch_ns_done(struct launch_ns *ns)
{
	for (size_t i = 0; i < OCI_NS_COUNT; i++) {
		fd_close(ns->path_fds[i]);
		fd_close(ns->own_fds[i]);
	}
	fd_close(ns->mount_fd);
	fd_close(ns->user_fd);
	launch_ns_init(ns);
}

static int plan_path(struct launch_ns *ns, enum oci_ns kind, const char *path, struct error *err)
{
	int fd = ns_open(path, flags[kind]);

	if (fd == -EINVAL)
		return error_say(err, fd, "linux.namespaces: \"%s\" is not a %s namespace", path,
				 oci_ns_name(kind));
	if (fd < 0)
		return error_set(err, fd, "linux.namespaces: %s: \"%s\"", oci_ns_name(kind), path);
	if (kind == OCI_NS_MOUNT) {
		ns->mount_fd = fd;
	} else if (kind == OCI_NS_USER) {
		ns->user_fd = fd;
	} else {
		ns->path_fds[kind] = fd;
		ns->own_fds[kind] = ns_open_own(flags[kind]);
		if (ns->own_fds[kind] < 0)
			return error_set(err, ns->own_fds[kind], "our own %s namespace",
					 oci_ns_name(kind));
	}
	return 0;
}

int launch_ns_plan(const struct oci_spec *spec, bool entered, struct launch_ns *ret,
		   struct error *err)
{
	const struct oci_linux *linux_ = &spec->linux_;

	ret->spec = spec;
	for (size_t i = 0; i < OCI_NS_COUNT; i++) {
		const struct oci_namespace *one = &linux_->ns[i];

		if (!one->wanted || (entered && i == OCI_NS_USER))
			continue;
		if (one->path) {
			int r = plan_path(ret, (enum oci_ns) i, one->path, err);

			if (r < 0)
				return r;
		} else if (i == OCI_NS_CGROUP) {
			ret->later |= flags[i];
		} else if (i == OCI_NS_TIME && (linux_->monotonic.set || linux_->boottime.set)) {
			ret->new_time_ns = true;
			ret->own_fds[i] = ns_open_own(flags[i]);
			if (ret->own_fds[i] < 0)
				return error_set(err, ret->own_fds[i], "our own time namespace");
		} else {
			ret->flags |= flags[i];
		}
	}
	ret->new_user_ns = (ret->flags & CLONE_NEWUSER) != 0;
	return 0;
}

static int make_time_ns(const struct oci_linux *linux_, struct error *err)
{
	const struct oci_time_offset *monotonic = &linux_->monotonic, *boottime = &linux_->boottime;
	int r = 0;

	if (unshare(CLONE_NEWTIME) < 0)
		return error_set(err, -errno, "new time namespace");
	if (monotonic->set)
		r = ns_write_time_offset("monotonic", monotonic->secs, monotonic->nanosecs);
	if (r == 0 && boottime->set)
		r = ns_write_time_offset("boottime", boottime->secs, boottime->nanosecs);
	return r < 0 ? error_set(err, r, "linux.timeOffsets") : 0;
}

/*
 * Who stands in a control group namespace may not put a process into a group outside of it
 * (nsdelegate, the way systemd mounts version 2), so the helper is born in the group before it
 * joins.
 */
static bool helper_needed(const struct launch_ns *ns)
{
	return ns->user_fd >= 0 || ns->path_fds[OCI_NS_CGROUP] >= 0;
}

/* The helper must not be born in the pid namespace itself: it tells us pids as we see them. */
static bool left_to_helper(const struct launch_ns *ns, size_t kind)
{
	return (kind == OCI_NS_PID || kind == OCI_NS_CGROUP) && helper_needed(ns);
}

static int enter(struct launch_ns *ns, struct error *err)
{
	for (size_t i = 0; i < OCI_NS_COUNT; i++)
		if (ns->path_fds[i] >= 0 && !left_to_helper(ns, i) &&
		    setns(ns->path_fds[i], (int) flags[i]) < 0)
			return error_set(err, -errno, "joining the %s namespace \"%s\"",
					 oci_ns_name((enum oci_ns) i), ns->spec->linux_.ns[i].path);
	return ns->new_time_ns ? make_time_ns(&ns->spec->linux_, err) : 0;
}

static int leave(struct launch_ns *ns, struct error *err)
{
	for (size_t i = 0; i < OCI_NS_COUNT; i++)
		if (ns->own_fds[i] >= 0 && !left_to_helper(ns, i) &&
		    setns(ns->own_fds[i], (int) flags[i]) < 0)
			return error_set(err, -errno, "going back to our own %s namespace",
					 oci_ns_name((enum oci_ns) i));
	return 0;
}

/* Enters what is left to it and forks init as a child of the runtime.  Exits unless it is init. */
static void helper(struct launch_ns *ns, int report_fd)
{
	struct ns_clone child = { .flags = ns->flags | CLONE_PARENT, .cgroup_fd = -1, .pidfd = -1 };
	pid_t pid;

	if (ns->path_fds[OCI_NS_PID] >= 0 && setns(ns->path_fds[OCI_NS_PID], CLONE_NEWPID) < 0)
		pid = -errno;
	else if (ns->path_fds[OCI_NS_CGROUP] >= 0 &&
		 setns(ns->path_fds[OCI_NS_CGROUP], CLONE_NEWCGROUP) < 0)
		pid = -errno;
	else if (ns->user_fd >= 0 && (setns(ns->user_fd, CLONE_NEWUSER) < 0 ||
				      setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
		pid = -errno;
	else
		pid = ns_clone(&child);
	if (pid == 0)
		return;
	_exit(write(report_fd, &pid, sizeof(pid)) != sizeof(pid));
}

static pid_t fork_by_helper(struct launch_ns *ns, int cgroup_fd, int *ret_pidfd, struct error *err)
{
	struct ns_clone middle = { .cgroup_fd = cgroup_fd, .pidfd = -1 };
	AUTO(fd_close) int from = -1;
	AUTO(fd_close) int to = -1;
	pid_t pid, init = -EIO;
	struct pidfd_stat stat;
	int pipe_fds[2];

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	from = pipe_fds[0];
	to = pipe_fds[1];
	pid = ns_clone(&middle);
	if (pid < 0)
		return error_set(err, (int) pid, "clone");
	if (pid == 0) {
		helper(ns, to);
		return 0;
	}
	close(TAKE_FD(to));
	if (read(from, &init, sizeof(init)) != sizeof(init))
		init = -EIO;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(middle.pidfd);
	if (init < 0)
		return error_set(err, (int) init, "joining the namespaces and making new ones");
	*ret_pidfd = pidfd_open_pid(init);
	if (*ret_pidfd < 0)
		return error_set(err, *ret_pidfd, "init");
	/* Nothing but our own child may ever be signalled. */
	if (pidfd_read_stat(init, &stat) < 0 || stat.parent != getpid()) {
		close(*ret_pidfd);
		*ret_pidfd = -1;
		return error_say(err, -ECHILD, "process %d is not our child", (int) init);
	}
	return init;
}

pid_t launch_ns_fork(struct launch_ns *ns, int cgroup_fd, int *ret_pidfd, struct error *err)
{
	struct ns_clone child = { .flags = ns->flags, .cgroup_fd = cgroup_fd, .pidfd = -1 };
	int r = enter(ns, err);
	struct error back = {};
	pid_t pid;

	if (r < 0) {
		(void) leave(ns, NULL);
		return r;
	}
	if (helper_needed(ns)) {
		pid = fork_by_helper(ns, cgroup_fd, ret_pidfd, err);
	} else {
		pid = ns_clone(&child);
		if (pid < 0)
			error_set(err, (int) pid, "clone3 with the new namespaces");
		else if (pid > 0)
			*ret_pidfd = child.pidfd;
	}
	if (pid == 0)
		return 0;
	r = leave(ns, &back);
	if (r < 0 && pid > 0) {
		/* Its end comes with the caller's undo. */
		if (err)
			*err = back;
		return r;
	}
	return pid;
}

static struct ns_id_map *kernel_maps(const struct oci_id_maps *maps)
{
	struct ns_id_map *list = mem_new0_array(struct ns_id_map, maps->count + 1);

	for (size_t i = 0; i < maps->count; i++)
		list[i] = (struct ns_id_map){ maps->list[i].container_id, maps->list[i].host_id,
					      maps->list[i].size };
	return list;
}

int launch_ns_map(const struct launch_ns *ns, pid_t pid, struct error *err)
{
	const struct oci_linux *linux_ = &ns->spec->linux_;
	AUTO(free) struct ns_id_map *uids = NULL;
	AUTO(free) struct ns_id_map *gids = NULL;
	int r;

	if (!ns->new_user_ns)
		return 0;
	uids = kernel_maps(&linux_->uid_maps);
	gids = kernel_maps(&linux_->gid_maps);
	r = ns_write_id_maps(pid, uids, (unsigned int) linux_->uid_maps.count, gids,
			     (unsigned int) linux_->gid_maps.count);
	return r < 0 ? error_set(err, r, "linux.uidMappings, linux.gidMappings") : 0;
}
