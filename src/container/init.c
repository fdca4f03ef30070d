#include "container/init.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "container/console.h"
#include "container/hooks.h"
#include "container/self.h"
#include "container/sync.h"
#include "kern/procfs.h"

/* The runtime says it once, right after the fork; who does not depend on it need not wait at once.
 */
static int wait_go(struct init_context *init, struct error *err)
{
	pid_t pid = 0;
	int r = init->state->pid ? 0 : sync_expect(init->sync_fd, SYNC_GO, &pid, err);

	if (r == 0 && pid)
		init->state->pid = pid;
	return r;
}

static int join(struct init_context *init, struct error *err)
{
	int r;

	/* The ids must be mapped, and the interfaces be there that a sysctl may be about. */
	if (init->new_user_ns || init->spec->linux_.net_device_count) {
		r = wait_go(init, err);
		if (r < 0)
			return r;
	}
	if (init->new_user_ns) {
		if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
			return error_set(err, -errno,
					 "root of the user namespace (linux.uidMappings must map "
					 "container id 0)");
	}
	r = cgroup_enter(init->tasks, init->task_count);
	if (r < 0)
		return error_set(err, r, "entering the control groups");
	/* After entering: the namespace's root is where its maker stands. */
	if (init->later && unshare((int) init->later) < 0)
		return error_set(err, -errno, "control group namespace");
	if (init->mount_ns_fd >= 0 && setns(init->mount_ns_fd, CLONE_NEWNS) < 0)
		return error_set(err, -errno, "linux.namespaces: mount");
	if (setsid() < 0)
		return error_set(err, -errno, "new session");
	return self_hide(err);
}

static int set_names(const struct oci_spec *spec, struct error *err)
{
	if (spec->hostname && spec->hostname[0] &&
	    sethostname(spec->hostname, strlen(spec->hostname)) < 0)
		return error_set(err, -errno, "hostname \"%s\"", spec->hostname);
	if (spec->domainname && spec->domainname[0] &&
	    setdomainname(spec->domainname, strlen(spec->domainname)) < 0)
		return error_set(err, -errno, "domainname \"%s\"", spec->domainname);
	return 0;
}

/* The kernel shows each process the values of its own namespaces; the old root's /proc will do. */
static int set_sysctls(const struct oci_spec *spec, struct error *err)
{
	AUTO(fd_close) int proc = -1;

	if (spec->linux_.sysctl_count) {
		/* The old root is a container's when its mount namespace is joined. */
		proc = procfs_open();
		if (proc < 0)
			return error_set(err, proc, "linux.sysctl: /proc");
	}
	for (size_t i = 0; i < spec->linux_.sysctl_count; i++) {
		const struct oci_pair *pair = &spec->linux_.sysctl[i];
		AUTO(free) char *path = mem_printf("sys/%s", pair->name);
		bool slashes = strchr(pair->name, '/') != NULL;
		int r;

		/* A name with slashes may have dots in it: an interface's. */
		for (char *p = path + strlen("sys/"); !slashes && *p; p++)
			if (*p == '.')
				*p = '/';
		r = procfs_write(proc, path, pair->value);
		if (r < 0)
			return error_set(err, r, "linux.sysctl: %s = \"%s\"", pair->name,
					 pair->value);
	}
	return 0;
}

/* The moment of hooks: namespaces and mounts are there, the old root is not gone yet. */
static int run_hooks(struct init_context *init, struct error *err)
{
	int r = wait_go(init, err);

	if (r < 0 || !init->create_hooks)
		return r;
	r = sync_send(init->sync_fd, SYNC_HOOKS, 0);
	if (r < 0)
		return error_set(err, r, "asking for hooks");
	r = sync_expect(init->sync_fd, SYNC_GO, NULL, err);
	if (r < 0)
		return r;
	return hooks_run(init->spec, OCI_HOOK_CREATE_CONTAINER, init->state, OCI_STATUS_CREATING,
			 err);
}

static int make_root(struct init_context *init, struct error *err)
{
	AUTO(fd_close) int root = -1;
	int r = rootfs_build(init->rootfs, &root, err);

	if (r == 0)
		r = rootfs_make_devices(init->rootfs, root, err);
	if (r == 0)
		r = set_sysctls(init->spec, err);
	if (r == 0)
		r = run_hooks(init, err);
	if (r == 0)
		r = rootfs_enter(init->rootfs, root, err);
	return r;
}

static int make_terminal(struct init_context *init, struct error *err)
{
	const struct oci_process *process = init->spec->process;
	AUTO(fd_close) int tty = -1;
	int r;

	if (!process->terminal)
		return 0;
	r = console_make(init->console_fd, process->console_width, process->console_height,
			 process->uid, &tty, err);
	return r < 0 ? r : rootfs_bind_console(tty, err);
}

static int set_up(struct init_context *init, char **ret_program, struct error *err)
{
	int r = join(init, err);

	if (r == 0)
		r = set_names(init->spec, err);
	if (r == 0)
		r = make_root(init, err);
	if (r == 0)
		r = make_terminal(init, err);
	if (r < 0)
		return r;
	process_close_others(init->process, (int[]){ init->sync_fd, init->start_fd }, 2);
	r = process_prepare(init->process, ret_program, err);
	return r;
}

/* Waits for `start`; *ret_fd is where it hears how it went. */
static int wait_start(struct init_context *init, int *ret_fd, struct error *err)
{
	int fd, r;

	if (init->start_fd < 0) {
		*ret_fd = init->sync_fd;
		return sync_expect(init->sync_fd, SYNC_START, NULL, err);
	}
	/* From here on, when it has remembered us, the creator may be gone. */
	r = sync_expect(init->sync_fd, SYNC_GO, NULL, err);
	if (r < 0)
		return r;
	close(init->sync_fd);
	init->sync_fd = -1;
	for (;;) {
		fd = accept4(init->start_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
			return error_set(err, -errno, "waiting for start");
		if (fd < 0)
			continue;
		/* A `start` that dies before it has said so is none. */
		if (sync_expect(fd, SYNC_START, NULL, NULL) == 0)
			break;
		close(fd);
	}
	close(init->start_fd);
	*ret_fd = fd;
	return 0;
}

void init_main(struct init_context *init)
{
	AUTO(free) char *program = NULL;
	struct error err = {};
	int fd = init->sync_fd, r = set_up(init, &program, &err);

	if (r == 0)
		r = sync_send(fd, SYNC_READY, 0);
	if (r == 0) {
		r = wait_start(init, &fd, &err);
		if (r == 0)
			r = hooks_run(init->spec, OCI_HOOK_START_CONTAINER, init->state,
				      OCI_STATUS_CREATED, &err);
		if (r == 0)
			r = process_execute(init->process, program, init->state, init->state->pid,
					    &err);
	}
	if (err.code < 0 && fd >= 0)
		(void) sync_send_error(fd, &err);
	_exit(process_exit_code(r));
}
