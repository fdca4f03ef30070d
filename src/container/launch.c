#include "container/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "container/console.h"
#include "container/delegate.h"
#include "container/hooks.h"
#include "container/launch_internal.h"
#include "container/lifecycle.h"
#include "container/net_devices.h"
#include "container/rdt.h"
#include "container/resources.h"
#include "container/rootless.h"
#include "container/sync.h"
#include "container/validate.h"
#include "kern/pidfd.h"
#include "kern/sock.h"

static void work_done(struct launch_work *work)
{
	for (int i = 0; i < work->init.task_count; i++)
		close(work->init.tasks[i]);
	fd_close(work->init.start_fd);
	fd_close(work->init.console_fd);
	fd_close(work->init.sync_fd);
	launch_ns_done(&work->ns);
	if (work->rootfs.spec)
		rootfs_plan_done(&work->rootfs);
	process_plan_done(&work->process);
	seccomp_profile_done(&work->seccomp);
	cgroup_free(work->cgroup);
	cgroup_host_free(work->host);
	systemd_scope_done(&work->scope);
	free(work->restore.program);
	criu_close_folders(&work->restore.folders);
	oci_checkpoint_done(&work->restore.checkpoint);
}

static void work_done_autop(struct launch_work *work)
{
	work_done(work);
}

/* ---- before anything is made ---- */

/* From here on relative paths of the spec mean the bundle. */
static int read_bundle(struct launch_work *work, char **ret_text, size_t *ret_size,
		       struct error *err)
{
	const char *bundle = work->options->bundle;
	int r;

	if (chdir(bundle) < 0)
		return error_set(err, -errno, "bundle \"%s\"", bundle);
	r = file_read(AT_FDCWD, "config.json", OCI_CONFIG_MAX, ret_text, ret_size);
	if (r < 0)
		return error_set(err, r, "%s/config.json", bundle);
	r = oci_spec_decode(*ret_text, *ret_size, &work->launch->spec, err);
	if (r == 0)
		r = validate_spec(work->launch->spec, err);
	return r < 0 ? error_wrap(err, r, "config.json") : 0;
}

static int plan_process(struct launch_work *work, struct error *err)
{
	const struct oci_spec *spec = work->launch->spec;
	int r = rdt_check(RDT_ROOT, &spec->linux_.rdt, err);

	if (r == 0)
		r = seccomp_profile_get(work->options->root, spec, &work->seccomp, err);
	if (r == 0)
		r = process_plan_make(spec->process, &spec->linux_, &work->seccomp, &work->process,
				      err);
	if (r < 0)
		return r;
	work->process.new_keyring = !work->options->no_new_keyring;
	work->process.preserve = work->options->preserve;
	work->process.listen = work->options->listen;
	work->process.user_ns = spec->linux_.ns[OCI_NS_USER].wanted;
	if (work->seccomp.listener_path) {
		work->process.listener_fd = sock_connect(work->seccomp.listener_path, SOCK_STREAM);
		if (work->process.listener_fd < 0)
			return error_set(err, work->process.listener_fd,
					 "linux.seccomp.listenerPath \"%s\"",
					 work->seccomp.listener_path);
	}
	return 0;
}

static int plan_console(struct launch_work *work, struct error *err)
{
	const struct launch_options *options = work->options;
	bool terminal = work->launch->spec->process->terminal;
	int pair[2];

	if ((options->console_socket || options->console_fd >= 0) && !terminal)
		return error_say(err, -EINVAL,
				 "--console-socket, --console-fd: process.terminal is not true in "
				 "config.json");
	if (!terminal)
		return 0;
	if (options->console_fd >= 0) {
		work->init.console_fd = fcntl(options->console_fd, F_DUPFD_CLOEXEC, 0);
		return work->init.console_fd < 0
			       ? error_set(err, -errno, "--console-fd %d", options->console_fd)
			       : 0;
	}
	if (options->console_socket) {
		work->init.console_fd = console_connect(options->console_socket, err);
		return work->init.console_fd < 0 ? work->init.console_fd : 0;
	}
	if (!options->foreground)
		return error_say(err, -EINVAL,
				 "process.terminal is true: --console-socket is needed to hand the "
				 "terminal to somebody");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, -errno, "socket for the terminal");
	work->launch->console_fd = pair[0];
	work->init.console_fd = pair[1];
	return 0;
}

/* ---- making ---- */

static bool is_rootless(const struct launch_work *work)
{
	if (work->options->rootless != RUNTIME_ROOTLESS_AUTO)
		return work->options->rootless == RUNTIME_ROOTLESS_YES;
	return work->options->entered || rootless_is();
}

static char *cgroup_path(const struct launch_work *work)
{
	const char *path = work->launch->spec->linux_.cgroups_path, *id = work->options->id;
	AUTO(free) char *own = NULL;

	/* Who is not root has at most what was delegated to him, and that is where he is. */
	if ((!path || !path[0]) && work->host->mode == CGROUP_V2 && is_rootless(work) &&
	    cgroup_own_v2(&own) == 0)
		return mem_printf("%s/brume-oci-%s", own, id);
	/* One level: every folder is one more in each hierarchy. */
	if (!path || !path[0])
		return mem_printf("/brume-oci-%s", id);
	return path[0] == '/' ? mem_strdup(path) : mem_printf("/%s", path);
}

/* A group with processes is somebody else's: ours would be killed with them, or they with ours. */
static int check_cgroup(const struct launch_work *work, const char *path, struct error *err)
{
	AUTO(cgroup_free) struct cgroup *cgroup = NULL;
	AUTO(free) pid_t *pids = NULL;
	size_t count = 0;
	int r;

	if (!cgroup_path_good(path))
		return error_say(err, -EINVAL, "linux.cgroupsPath: \"%.128s\" is not a good path",
				 path);
	if (cgroup_open(work->host, path, false, &cgroup) < 0)
		return 0;
	r = cgroup_pids(cgroup, &pids, &count);
	if (r < 0)
		return error_set(err, r, "linux.cgroupsPath: %s", path);
	if (count > 0)
		return error_say(err, -EBUSY,
				 "linux.cgroupsPath: %s is in use by %zu processes; give each "
				 "container its own",
				 path, count);
	return 0;
}

/* Pipes that come from outside, for a checkpoint. */
static void remember_stdio(struct oci_state *state)
{
	for (int fd = 0; fd < 3; fd++) {
		char path[24], target[40] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, target, sizeof(target) - 1) < 0 ||
		    strncmp(target, "pipe:[", strlen("pipe:[")) != 0)
			target[0] = '\0';
		strv_append(&state->stdio, target);
	}
}

static int make_record(struct launch_work *work, const char *text, size_t size, struct error *err)
{
	const struct launch_options *options = work->options;
	struct launch *launch = work->launch;
	AUTO(free) char *cgroup = cgroup_path(work);
	AUTO(json_decref) json_t *name = NULL;
	char bundle[PATH_MAX];
	struct oci_state *state;
	AUTO(fd_close) int fd = -1;
	int r;

	if (!getcwd(bundle, sizeof(bundle)))
		return error_set(err, -errno, "bundle \"%s\"", options->bundle);
	name = json_string(bundle);
	if (!name)
		return error_say(err, -EILSEQ, "bundle \"%s\": the path must be UTF-8", bundle);
	r = record_create(options->root, options->id, &launch->record, err);
	if (r == 0 && !options->no_cgroup && !options->systemd)
		r = check_cgroup(work, cgroup, err);
	if (r < 0)
		return r;
	state = launch->record->state;
	state->version = mem_strdup(OCI_SPEC_VERSION);
	state->bundle = mem_strdup(bundle);
	if (work->host->count && !options->no_cgroup && !options->systemd)
		state->cgroup = TAKE_PTR(cgroup);
	state->own_pid_ns = launch->spec->linux_.ns[OCI_NS_PID].wanted &&
			    !launch->spec->linux_.ns[OCI_NS_PID].path;
	state->created_ms = clock_realtime_ms(clock_system());
	state->annotations = json_incref((json_t *) launch->spec->annotations);
	if (!launch->spec->process->terminal)
		remember_stdio(state);
	fd = openat(launch->record->fd, "config.json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
		    0600);
	r = fd < 0 ? -errno : file_write_all(fd, text, size);
	if (r < 0)
		return error_set(err, r, "%s/config.json", launch->record->path);
	return record_save(launch->record, err);
}

/* Device programs are root's; and without root there are no nodes to be made for them. */
static int apply_resources(struct launch_work *work, struct error *err)
{
	const struct oci_linux *linux_ = &work->launch->spec->linux_;
	int r;

	/* CRIU could not use the machine's devices; restore sets the rules before anything runs. */
	if (work->options->restore)
		return resources_apply_limits(&linux_->resources, work->cgroup, err);
	r = work->options->entered ? -EPERM
				   : resources_apply(&linux_->resources, linux_->devices,
						     linux_->device_count, work->cgroup, err);

	return r == -EPERM && is_rootless(work)
		       ? resources_apply_limits(&linux_->resources, work->cgroup, err)
		       : r;
}

/* Limits that were asked for are never dropped; only the group that has none is. */
static int do_without_cgroup(struct launch_work *work, struct error *err)
{
	struct oci_state *state = work->launch->record->state;

	if (resources_any(&work->launch->spec->linux_.resources))
		return error_say(
			err, -EACCES,
			"linux.resources: limits need a control group that is delegated to "
			"you, and %s cannot be made",
			state->cgroup);
	mem_replace(&state->cgroup, NULL);
	return 0;
}

/* The placeholder keeps the scope until init is inside; it ends with our work. */
static int make_scope(struct launch_work *work, struct error *err)
{
	const struct oci_linux *linux_ = &work->launch->spec->linux_;
	struct oci_state *state = work->launch->record->state;
	AUTO(free) char *slice = NULL;
	AUTO(free) char *unit = NULL;
	int r = systemd_parse_path(linux_->cgroups_path, state->id, &slice, &unit, err);

	if (r == 0)
		r = systemd_scope_start(slice, unit, &linux_->resources, is_rootless(work),
					&work->scope, err);
	if (r < 0)
		return r;
	state->unit = TAKE_PTR(unit);
	mem_replace(&state->cgroup, work->scope.group);
	return 0;
}

static int make_cgroup(struct launch_work *work, struct error *err)
{
	const struct oci_spec *spec = work->launch->spec;
	const char *path;
	int r = work->options->systemd ? make_scope(work, err) : 0;

	if (r < 0)
		return r;
	path = work->launch->record->state->cgroup;
	if (!path)
		return work->options->no_cgroup && resources_any(&spec->linux_.resources)
			       ? error_say(err, -EINVAL,
					   "linux.resources: there are limits, and control groups "
					   "are disabled (--cgroup-manager)")
			       : 0;
	/* In a tree of version 2 systemd has made all there is, and nobody else is to. */
	r = cgroup_open(work->host, path, !work->options->systemd || work->host->mode != CGROUP_V2,
			&work->cgroup);
	if ((r == -EACCES || r == -EPERM || r == -EROFS) && is_rootless(work))
		return do_without_cgroup(work, err);
	if (r < 0)
		return error_set(err, r, "making the control group %s", path);
	r = apply_resources(work, err);
	if (r == 0)
		r = delegate_cgroup(spec, work->host, work->cgroup, err);
	if (r < 0)
		return r;
	r = cgroup_open_tasks(work->cgroup, work->init.tasks);
	if (r < 0)
		return error_set(err, r, "opening the control group %s", path);
	work->init.task_count = r;
	return 0;
}

/* The socket on which init will wait for `start`. */
static int make_start_socket(struct launch_work *work, struct error *err)
{
	char path[64];
	int flags;

	if (work->options->direct)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/start.sock", work->launch->record->fd);
	work->init.start_fd = sock_listen(path, SOCK_SEQPACKET, 0600);
	if (work->init.start_fd < 0)
		return error_set(err, work->init.start_fd, "%s/start.sock",
				 work->launch->record->path);
	flags = fcntl(work->init.start_fd, F_GETFL);
	if (flags < 0 || fcntl(work->init.start_fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return error_set(err, -errno, "start.sock");
	return 0;
}

static bool has_create_hooks(const struct oci_spec *spec)
{
	return spec->hooks[OCI_HOOK_PRESTART].count || spec->hooks[OCI_HOOK_CREATE_RUNTIME].count ||
	       spec->hooks[OCI_HOOK_CREATE_CONTAINER].count;
}

static int fork_init(struct launch_work *work, struct error *err)
{
	struct launch *launch = work->launch;
	struct oci_state *state = launch->record->state;
	struct pidfd_stat stat;
	pid_t pid;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, -errno, "socket to init");
	launch->sync_fd = pair[0];
	work->init.sync_fd = pair[1];
	work->init.spec = launch->spec;
	work->init.rootfs = &work->rootfs;
	work->init.process = &work->process;
	work->init.state = state;
	work->init.mount_ns_fd = work->ns.mount_fd;
	work->init.later = work->ns.later;
	work->init.new_user_ns = work->ns.new_user_ns;
	work->init.create_hooks = has_create_hooks(launch->spec);
	pid = launch_ns_fork(&work->ns, work->cgroup ? cgroup_v2_fd(work->cgroup) : -1,
			     &launch->pidfd, err);
	if (pid < 0)
		return (int) pid;
	if (pid == 0) {
		close(pair[0]);
		fd_close(launch->record->fd);
		fd_close(launch->console_fd);
		init_main(&work->init);
	}
	close(work->init.sync_fd);
	work->init.sync_fd = -1;
	state->pid = pid;
	r = pidfd_read_stat(pid, &stat);
	if (r < 0)
		return error_set(err, r, "process %d", (int) pid);
	state->start_time = stat.start_time;
	return 0;
}

/* ---- talking to init until it is ready ---- */

int launch_run_hooks(struct launch_work *work, struct error *err)
{
	struct launch *launch = work->launch;
	int r;

	/* From here on the poststop hooks run, whatever happens. */
	work->hooks_began = true;
	r = record_save(launch->record, err);
	if (r == 0)
		r = hooks_run(launch->spec, OCI_HOOK_PRESTART, launch->record->state,
			      OCI_STATUS_CREATING, err);
	if (r == 0)
		r = hooks_run(launch->spec, OCI_HOOK_CREATE_RUNTIME, launch->record->state,
			      OCI_STATUS_CREATING, err);
	return r;
}

static int attend_hooks(struct launch_work *work, struct error *err)
{
	int r = launch_run_hooks(work, err);

	if (r < 0)
		return r;
	r = sync_send(work->launch->sync_fd, SYNC_GO, work->launch->record->state->pid);
	return r < 0 ? error_set(err, r, "talking to init") : 0;
}

static int attend(struct launch_work *work, struct error *err)
{
	struct launch *launch = work->launch;
	pid_t pid = launch->record->state->pid;
	int r = launch_ns_map(&work->ns, pid, err);

	if (r == 0)
		r = net_devices_move(launch->spec, pid, err);
	if (r == 0)
		r = rdt_join(RDT_ROOT, &launch->spec->linux_.rdt, work->options->id, pid, err);
	if (r < 0)
		return r;
	r = sync_send(launch->sync_fd, SYNC_GO, pid);
	if (r < 0 && r != -EPIPE)
		return error_set(err, r, "talking to init");
	for (;;) {
		enum sync_type type;

		r = sync_next(launch->sync_fd, &type, NULL, err);
		if (r == 0 && type == SYNC_HOOKS)
			r = attend_hooks(work, err);
		else if (r == 0 && type == SYNC_READY)
			return 0;
		if (r < 0)
			return r;
	}
}

static int write_pid_file(const struct launch_work *work, struct error *err)
{
	const char *path = work->options->pid_file;
	char text[16];
	int n, r;

	if (!path)
		return 0;
	n = snprintf(text, sizeof(text), "%d", (int) work->launch->record->state->pid);
	r = file_write_atomic(AT_FDCWD, path, text, (size_t) n, 0644, 0);
	return r < 0 ? error_set(err, r, "--pid-file %s", path) : 0;
}

static int make_init(struct launch_work *work, struct error *err)
{
	struct launch *launch = work->launch;
	int r = make_start_socket(work, err);

	work->rootfs.no_pivot = work->options->no_pivot;
	if (r == 0)
		r = launch_ns_plan(launch->spec, work->options->entered, &work->ns, err);
	if (r == 0)
		r = fork_init(work, err);
	if (r == 0)
		r = attend(work, err);
	if (r == 0)
		r = process_adjust(&work->process, launch->record->state->pid, err);
	return r;
}

static int make(struct launch_work *work, struct error *err)
{
	struct launch *launch = work->launch;
	int r = make_cgroup(work, err);

	if (r == 0)
		r = rootfs_plan_make(launch->spec, work->cgroup, work->options->rootfs_fd,
				     &work->rootfs, err);
	if (r == 0)
		r = work->options->restore ? launch_restore_make(work, err) : make_init(work, err);
	if (r == 0)
		r = record_save(launch->record, err);
	if (r == 0)
		r = write_pid_file(work, err);
	if (r == 0 && work->options->pidfd_socket)
		r = console_send_pidfd(work->options->pidfd_socket, launch->pidfd, err);
	if (r == 0 && !work->options->direct) {
		r = sync_send(launch->sync_fd, SYNC_GO, launch->record->state->pid);
		if (r < 0)
			error_set(err, r, "talking to init");
	}
	return r;
}

/* Takes back whatever make() has made. */
static void undo(struct launch_work *work)
{
	struct launch *launch = work->launch;

	if (launch->pidfd >= 0) {
		(void) pidfd_send(launch->pidfd, SIGKILL);
		while (waitid(P_PIDFD, (id_t) launch->pidfd, NULL, WEXITED) < 0 && errno == EINTR)
			;
	}
	/* What is open in the groups would keep them. */
	cgroup_free(TAKE_PTR(work->cgroup));
	rdt_remove(RDT_ROOT, &launch->spec->linux_.rdt, work->options->id);
	(void) lifecycle_destroy(launch->record, work->hooks_began ? launch->spec : NULL, NULL);
}

int launch_create(const struct launch_options *options, struct launch **ret, struct error *err)
{
	AUTO(launch_free) struct launch *launch = mem_new0(struct launch);
	AUTO(work_done) struct launch_work work = { .options = options, .launch = launch };
	AUTO(free) char *text = NULL;
	size_t size = 0;
	int r;

	launch->pidfd = launch->sync_fd = launch->console_fd = -1;
	work.init.sync_fd = work.init.start_fd = work.init.console_fd = -1;
	work.process.listener_fd = work.ns.mount_fd = -1;
	work.scope.placeholder_pidfd = -1;
	work.restore.folders = (struct criu_folders){ .images = -1, .work = -1 };
	launch_ns_init(&work.ns);
	r = read_bundle(&work, &text, &size, err);
	if (r == 0)
		r = options->restore ? launch_restore_plan(&work, err) : plan_process(&work, err);
	if (r == 0)
		r = plan_console(&work, err);
	if (r == 0) {
		r = cgroup_host_read(&work.host);
		if (r < 0)
			error_set(err, r, "control groups");
	}
	if (r == 0)
		r = make_record(&work, text, size, err);
	if (r < 0) {
		if (launch->record)
			(void) record_remove(launch->record, NULL);
		return r;
	}
	r = make(&work, err);
	if (r < 0) {
		undo(&work);
		return r;
	}
	*ret = TAKE_PTR(launch);
	return 0;
}

int launch_start(struct launch *launch, struct error *err)
{
	int r = sync_send(launch->sync_fd, SYNC_START, 0);

	if (r < 0)
		return error_set(err, r, "talking to init");
	r = sync_expect_end(launch->sync_fd, err);
	return r < 0 ? r
		     : hooks_run(launch->spec, OCI_HOOK_POSTSTART, launch->record->state,
				 OCI_STATUS_RUNNING, err);
}

void launch_free(struct launch *launch)
{
	if (!launch)
		return;
	record_free(launch->record);
	oci_spec_free(launch->spec);
	fd_close(launch->pidfd);
	fd_close(launch->sync_fd);
	fd_close(launch->console_fd);
	free(launch);
}
