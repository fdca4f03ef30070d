#include "container/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "container/console.h"
#include "container/launch_ns.h"
#include "container/process.h"
#include "container/self.h"
#include "container/sync.h"
#include "kern/cgroup.h"
#include "kern/ns.h"
#include "kern/pidfd.h"
#include "kern/sock.h"

struct work {
	const struct record *record;
	const struct oci_spec *spec;
	const struct exec_options *options;
	int init_pidfd;
	int init_root;  /* O_PATH */
	uint64_t joins; /* CLONE_NEW* that differ from ours */
	bool joins_user;
	struct cgroup_host *host;
	struct cgroup *cgroup;
	int tasks[CGROUP_HIERARCHIES_MAX];
	int task_count;
	struct seccomp_profile seccomp;
	struct process_plan process;
	int console_fd; /* the child's end */
	int sync[2];    /* ours, the child's */
	pid_t born;     /* the child, or -errno: written by middle() */
	struct error *err;
};

static void work_done(struct work *work)
{
	fd_close(work->init_pidfd);
	fd_close(work->init_root);
	for (int i = 0; i < work->task_count; i++)
		close(work->tasks[i]);
	cgroup_free(work->cgroup);
	cgroup_host_free(work->host);
	process_plan_done(&work->process);
	seccomp_profile_done(&work->seccomp);
	fd_close(work->console_fd);
	fd_close(work->sync[0]);
	fd_close(work->sync[1]);
}

static void work_done_autop(struct work *work)
{
	work_done(work);
}

/* ---- before the fork ---- */

static int open_init(struct work *work, struct error *err)
{
	const struct oci_state *state = work->record->state;
	uint64_t kinds = 0;
	char path[48];
	int r;

	work->init_pidfd = record_open_init(work->record);
	if (work->init_pidfd < 0)
		return error_set(err, work->init_pidfd, "init of container \"%s\"", state->id);
	snprintf(path, sizeof(path), "/proc/%d/root", (int) state->pid);
	work->init_root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (work->init_root < 0)
		return error_set(err, -errno, "%s", path);
	for (size_t i = 0; i < OCI_NS_COUNT; i++)
		kinds |= launch_ns_flag((enum oci_ns) i);
	r = ns_differing(state->pid, kinds, &work->joins);
	if (r < 0)
		return error_set(err, r, "namespaces of container \"%s\"", state->id);
	work->joins_user = work->joins & CLONE_NEWUSER;
	/* Only now the pidfd proves that all this was init's. */
	return pidfd_send(work->init_pidfd, 0) < 0
		       ? error_say(err, -ESRCH, "container \"%s\" has ended", state->id)
		       : 0;
}

static int open_cgroup(struct work *work, struct error *err)
{
	const char *own = work->record->state->cgroup, *below = work->options->cgroup;
	AUTO(free) char *path = NULL;
	int r;

	if (!own)
		return below ? error_say(err, -EINVAL,
					 "--cgroup: the container has no control group")
			     : 0;
	path = below ? mem_printf("%s/%s", own, below) : mem_strdup(own);
	r = cgroup_host_read(&work->host);
	if (r == 0)
		r = cgroup_open(work->host, path, false, &work->cgroup);
	/* Where it is missing the program would stay in our own group, without any limit. */
	if (r == 0 && below && !cgroup_everywhere(work->cgroup))
		r = -ENOENT;
	if (r == 0 && !work->options->ignore_paused && cgroup_frozen(work->cgroup) == 1)
		return error_say(err, -EINVAL, "container \"%s\" is paused, not running",
				 work->record->state->id);
	if (r == 0)
		r = cgroup_open_tasks(work->cgroup, work->tasks);
	if (r < 0)
		return error_set(err, r, "control group %s", path);
	work->task_count = r;
	return 0;
}

static int plan_process(struct work *work, struct error *err)
{
	int r = seccomp_profile_get(work->options->root, work->spec, &work->seccomp, err);

	if (r == 0)
		r = process_plan_make(work->options->process, &work->spec->linux_, &work->seccomp,
				      &work->process, err);
	if (r < 0)
		return r;
	work->process.exec = true;
	work->process.new_keyring = !work->options->no_new_keyring;
	work->process.preserve = work->options->preserve;
	work->process.user_ns = work->joins_user || work->options->entered;
	if (!work->seccomp.listener_path)
		return 0;
	work->process.listener_fd = sock_connect(work->seccomp.listener_path, SOCK_STREAM);
	if (work->process.listener_fd < 0)
		return error_set(err, work->process.listener_fd,
				 "linux.seccomp.listenerPath \"%s\"", work->seccomp.listener_path);
	return 0;
}

static int plan_console(struct work *work, struct exec *exec, struct error *err)
{
	const struct exec_options *options = work->options;
	int pair[2];

	if (!options->process->terminal)
		return options->console_socket
			       ? error_say(err, -EINVAL, "--console-socket: needs --tty")
			       : 0;
	if (options->console_socket) {
		work->console_fd = console_connect(options->console_socket, err);
		return work->console_fd < 0 ? work->console_fd : 0;
	}
	if (options->detach)
		return error_say(err, -EINVAL,
				 "--detach with --tty: --console-socket is needed to hand the "
				 "terminal to somebody");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, -errno, "socket for the terminal");
	exec->console_fd = pair[0];
	work->console_fd = pair[1];
	return 0;
}

/* ---- the child ---- */

/* The one that the kernel lets nobody join who shares memory, as the go-between does. */
static int join_time(struct work *work, struct error *err)
{
	if (!(work->joins & CLONE_NEWTIME) || setns(work->init_pidfd, CLONE_NEWTIME) == 0)
		return 0;
	return error_set(err, -errno, "joining the time namespace");
}

static int set_up(struct work *work, char **ret_program, pid_t *ret_pid, struct error *err)
{
	const struct oci_process *process = work->options->process;
	AUTO(fd_close) int tty = -1;
	int r = join_time(work, err);

	if (r == 0 && setsid() < 0)
		r = error_set(err, -errno, "new session");
	if (r == 0 && process->terminal)
		r = console_make(work->console_fd, process->console_width, process->console_height,
				 process->uid, &tty, err);
	if (r < 0)
		return r;
	fd_close(TAKE_FD(tty));
	process_close_others(&work->process, &work->sync[1], 1);
	r = process_prepare(&work->process, ret_program, err);
	if (r == 0)
		r = sync_send(work->sync[1], SYNC_READY, 0);
	if (r == 0)
		r = sync_expect(work->sync[1], SYNC_START, ret_pid, err);
	return r;
}

static void child(struct work *work)
{
	AUTO(free) char *program = NULL;
	struct error err = {};
	pid_t pid = 0;
	int r = set_up(work, &program, &pid, &err);

	if (r == 0)
		r = process_execute(&work->process, program, work->record->state, pid, &err);
	if (err.code < 0)
		(void) sync_send_error(work->sync[1], &err);
	_exit(process_exit_code(r));
}

/*
 * What the container runs can see the child from its first moment on, because it is born into
 * their pid namespace.  So everything of the host is left behind before: by then the root is the
 * container's, and no descriptor leads out of it.
 */
static int join(struct work *work, struct error *err)
{
	int keep[] = { work->sync[1], work->console_fd, work->init_pidfd };
	int r = process_set_cpus(&work->process.cpus_initial, "process.execCPUAffinity.initial",
				 err);

	if (r < 0)
		return r;
	r = cgroup_enter(work->tasks, work->task_count);
	if (r < 0)
		return error_set(err, r, "entering the control groups");
	r = process_set_cpus(&work->process.cpus_final, "process.execCPUAffinity.final", err);
	if (r < 0)
		return r;
	if (setns(work->init_pidfd, (int) (work->joins & ~(uint64_t) CLONE_NEWTIME)) < 0)
		return error_set(err, -errno, "joining the namespaces");
	if (fchdir(work->init_root) < 0 || chroot(".") < 0)
		return error_set(err, -errno, "entering the root file system");
	if (work->joins_user && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
		return error_set(err, -errno, "root of the user namespace");
	process_close_others(&work->process, keep, ARRAY_COUNT(keep));
	return self_hide(err);
}

/*
 * Between us and the child: leaves the host, and gives birth to the child, which becomes ours.  It
 * shares our memory while we wait, so what it writes to `work` is ours.
 */
static void middle(void *data)
{
	struct work *work = data;
	struct ns_clone clone = { .flags = CLONE_PARENT, .cgroup_fd = -1, .pidfd = -1 };
	pid_t pid = join(work, work->err);

	if (pid == 0) {
		pid = ns_clone(&clone);
		if (pid == 0)
			child(work);
		if (pid < 0)
			error_set(work->err, (int) pid, "clone3");
	}
	work->born = pid;
	_exit(0);
}

/* ---- the parent ---- */

/*
 * A group of version 2 that has given controllers to groups below it takes no processes itself:
 * an init like systemd has moved into one of those, and the new process goes where it is.
 */
static int open_init_group(const struct work *work)
{
	char path[48];
	AUTO(free) char *text = NULL;
	char *line;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int) work->record->state->pid);
	r = file_read(AT_FDCWD, path, 1 << 16, &text, NULL);
	if (r < 0)
		return r;
	line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (!line)
		return -ENOENT;
	line = strchr(line, '/');
	if (!line)
		return -ENOENT;
	line[strcspn(line, "\n")] = '\0';
	return cgroup_open_v2(work->host, line);
}

static pid_t clone_into_group(struct work *work, struct ns_clone *clone)
{
	AUTO(fd_close) int group = -1;
	pid_t pid = ns_vfork(clone, middle, work);

	if (pid != -EBUSY || clone->cgroup_fd < 0 || work->options->cgroup)
		return pid;
	group = open_init_group(work);
	if (group < 0)
		return pid;
	clone->cgroup_fd = group;
	return ns_vfork(clone, middle, work);
}

static int send_pidfd(const struct exec_options *options, int pidfd, struct error *err)
{
	return options->pidfd_socket ? console_send_pidfd(options->pidfd_socket, pidfd, err) : 0;
}

static int fork_child(struct work *work, struct exec *exec, struct error *err)
{
	struct ns_clone clone = {
		.cgroup_fd = work->cgroup ? cgroup_v2_fd(work->cgroup) : -1,
		.pidfd = -1,
	};
	pid_t pid;

	if ((work->joins & ~(uint64_t) CLONE_NEWPID) == 0)
		return error_say(err, -EINVAL, "the container has no namespaces of its own");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, work->sync) < 0)
		return error_set(err, -errno, "socket to the new process");
	work->err = err;
	work->born = -EIO;
	pid = clone_into_group(work, &clone);
	if (pid < 0)
		return error_set(err, (int) pid, "clone3");
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(clone.pidfd);
	if (work->born < 0)
		return (int) work->born;
	exec->pid = work->born;
	exec->pidfd = pidfd_open_pid(exec->pid);
	if (exec->pidfd < 0)
		return error_set(err, exec->pidfd, "the new process");
	close(work->sync[1]);
	work->sync[1] = -1;
	return 0;
}

static int write_pid_file(const struct exec_options *options, pid_t pid, struct error *err)
{
	char text[16];
	int n, r;

	if (!options->pid_file)
		return 0;
	n = snprintf(text, sizeof(text), "%d", (int) pid);
	r = file_write_atomic(AT_FDCWD, options->pid_file, text, (size_t) n, 0644, 0);
	return r < 0 ? error_set(err, r, "--pid-file %s", options->pid_file) : 0;
}

static int attend(struct work *work, const struct exec *exec, struct error *err)
{
	int r = sync_expect(work->sync[0], SYNC_READY, NULL, err);

	if (r == 0)
		r = process_adjust(&work->process, exec->pid, err);
	if (r == 0)
		r = write_pid_file(work->options, exec->pid, err);
	if (r == 0)
		r = send_pidfd(work->options, exec->pidfd, err);
	if (r == 0) {
		r = sync_send(work->sync[0], SYNC_START, exec->pid);
		if (r < 0)
			error_set(err, r, "talking to the new process");
	}
	return r < 0 ? r : sync_expect_end(work->sync[0], err);
}

static void kill_child(struct exec *exec)
{
	if (exec->pidfd < 0)
		return;
	(void) pidfd_send(exec->pidfd, SIGKILL);
	while (waitid(P_PIDFD, (id_t) exec->pidfd, NULL, WEXITED) < 0 && errno == EINTR)
		;
}

int exec_start(const struct record *record, const struct oci_spec *spec,
	       const struct exec_options *options, struct exec *ret, struct error *err)
{
	AUTO(work_done)
	struct work work = {
		.record = record,
		.spec = spec,
		.options = options,
		.init_pidfd = -1,
		.init_root = -1,
		.console_fd = -1,
		.sync = { -1, -1 },
		.process = { .listener_fd = -1 },
	};
	struct exec exec = { .pidfd = -1, .console_fd = -1 };
	int r = open_init(&work, err);

	if (r == 0)
		r = open_cgroup(&work, err);
	if (r == 0)
		r = plan_process(&work, err);
	if (r == 0)
		r = plan_console(&work, &exec, err);
	if (r == 0)
		r = fork_child(&work, &exec, err);
	if (r == 0)
		r = attend(&work, &exec, err);
	if (r < 0) {
		kill_child(&exec);
		exec_done(&exec);
		return r;
	}
	*ret = exec;
	return 0;
}

void exec_done(struct exec *exec)
{
	fd_close(exec->pidfd);
	fd_close(exec->console_fd);
	exec->pidfd = exec->console_fd = -1;
}
