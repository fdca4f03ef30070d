#include "container/process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/limitname.h"
#include "base/mem.h"
#include "base/strv.h"
#include "container/lsm.h"
#include "container/self.h"
#include "kern/sock.h"

enum { PASSWD_LINE_MAX = 1024, PASSWD_LINES_MAX = 65536, UID_MAP_MAX = 65536 };

/* Its filter needs a capability that the program may not have: kept until the filter is loaded. */
static bool keeps_admin(const struct process_plan *plan)
{
	return plan->seccomp->filter && !plan->spec->no_new_privileges;
}

static int raise_hard_limit(const struct process_limit *limit, pid_t pid, struct error *err)
{
	const char *name = limitname(limit->resource);
	struct rlimit old;
	int r;

	/* Until its last step it has our own; its own could be hidden, as it is another user
	 * already. */
	if (getrlimit((enum __rlimit_resource) limit->resource, &old) < 0)
		return error_set(err, -errno, "%s", name);
	if (limit->limit.rlim_max <= old.rlim_max)
		return 0;
	old.rlim_max = limit->limit.rlim_max;
	if (prlimit(pid, (enum __rlimit_resource) limit->resource, &old, NULL) == 0)
		return 0;
	r = -errno;
	(void) getrlimit((enum __rlimit_resource) limit->resource, &old);
	return error_set(
		err, r, "process.rlimits: %s: %llu is above this runtime's hard limit %llu", name,
		(unsigned long long) limit->limit.rlim_max, (unsigned long long) old.rlim_max);
}

/* What `uid` of the process's user namespace is in ours; -1 when it is nobody. */
static int64_t outside_uid(pid_t pid, uint32_t uid)
{
	AUTO(free) char *text = NULL;
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/uid_map", (int) pid);
	if (file_read(AT_FDCWD, path, UID_MAP_MAX, &text, NULL) < 0)
		return -1;
	for (char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		unsigned long inside, outside, count;

		if (sscanf(line, "%lu %lu %lu", &inside, &outside, &count) == 3 && uid >= inside &&
		    uid - inside < count)
			return (int64_t) (outside + (uid - inside));
	}
	return -1;
}

/*
 * The pipes and terminals that the program inherits from us become its own, so that it can open
 * /dev/stdout again; only we may do that when it lives in a user namespace.  What is not ours alone
 * (files, /dev/null, somebody else's terminal) stays as it is.
 */
static int give_stdio(const struct process_plan *plan, pid_t pid, struct error *err)
{
	int64_t uid = -1;
	struct stat st;

	for (int fd = 0; fd < 3 && !plan->spec->terminal; fd++) {
		if (fstat(fd, &st) < 0 || st.st_uid != geteuid())
			continue;
		if (!S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode) &&
		    !(S_ISCHR(st.st_mode) && isatty(fd)))
			continue;
		if (uid < 0)
			uid = outside_uid(pid, plan->spec->uid);
		if (uid < 0 || (uid_t) uid == st.st_uid)
			return 0;
		if (fchown(fd, (uid_t) uid, (gid_t) -1) < 0 && errno != EINVAL && errno != EPERM &&
		    errno != EROFS)
			return error_set(err, -errno, "owner of stdio %d", fd);
	}
	return 0;
}

int process_adjust(const struct process_plan *plan, pid_t pid, struct error *err)
{
	char path[48], text[16];
	int r = give_stdio(plan, pid, err);

	if (r < 0)
		return r;

	for (size_t i = 0; i < plan->limit_count; i++) {
		r = raise_hard_limit(&plan->limits[i], pid, err);
		if (r < 0)
			return r;
	}
	if (!plan->spec->oom_score_adj.set)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int) pid);
	snprintf(text, sizeof(text), "%d", (int) plan->spec->oom_score_adj.value);
	r = file_write_kernel(AT_FDCWD, path, text);
	return r < 0 ? error_set(err, r, "process.oomScoreAdj %s", text) : 0;
}

/* ---- inside the container ---- */

int process_set_cpus(const struct number_set *cpus, const char *property, struct error *err)
{
	static const struct number_set none;

	if (memcmp(cpus, &none, sizeof(none)) == 0)
		return 0;
	if (syscall(SYS_sched_setaffinity, 0, sizeof(cpus->words), cpus->words) < 0)
		return error_set(err, -errno, "%s", property);
	return 0;
}

/*
 * One without a name: a name can be taken, and shared, by somebody who expected us.  Where the
 * call is forbidden to us it is forbidden to the program as well.
 */
static int join_keyring(const struct process_plan *plan, struct error *err)
{
	if (!plan->new_keyring)
		return 0;
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) >= 0 || errno == ENOSYS ||
	    errno == EPERM)
		return 0;
	return error_set(err, -errno,
			 "session keyring (--no-new-keyring leaves the caller's to the program)");
}

static int set_scheduling(const struct process_plan *plan, struct error *err)
{
	const struct oci_scheduler *wanted = &plan->spec->scheduler;
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {
		.size = sizeof(attr),
		.policy = (uint32_t) plan->scheduler,
		.flags = plan->scheduler_flags,
		.nice = (int32_t) wanted->nice,
		.priority = (uint32_t) wanted->priority,
		.runtime = wanted->runtime,
		.deadline = wanted->deadline,
		.period = wanted->period,
	};

	if (plan->scheduler >= 0 && syscall(SYS_sched_setattr, 0, &attr, 0) < 0)
		return error_set(err, -errno, "process.scheduler");
	/* 1: IOPRIO_WHO_PROCESS */
	if (plan->io_priority >= 0 && syscall(SYS_ioprio_set, 1, 0, plan->io_priority) < 0)
		return error_set(err, -errno, "process.ioPriority");
	if (plan->memory_mode >= 0 && syscall(SYS_set_mempolicy, plan->memory_mode,
					      plan->memory_nodes.words, NUMBER_LIST_MAX) < 0)
		return error_set(err, -errno, "linux.memoryPolicy");
	if (plan->personality &&
	    personality(strcmp(plan->personality, "LINUX32") == 0 ? PER_LINUX32 : PER_LINUX) < 0)
		return error_set(err, -errno, "linux.personality");
	return 0;
}

static int set_groups(const struct process_plan *plan, struct error *err)
{
	const struct oci_process *process = plan->spec;

	if (setgroups(process->group_count, process->groups) == 0)
		return 0;
	/* A user namespace made without privileges has setgroups denied: nobody can have more. */
	if (errno == EPERM && process->group_count == 0 && plan->user_ns)
		return 0;
	return error_set(err, -errno, "process.user.additionalGids");
}

static int become_user(const struct process_plan *plan, struct error *err)
{
	const struct oci_process *process = plan->spec;
	uint64_t extra = keeps_admin(plan) ? 1ULL << 21 /* CAP_SYS_ADMIN */ : 0;
	const struct caps *caps = &plan->caps;
	struct caps now = {};
	int r;

	if (plan->drop_caps) {
		r = caps_drop_bounding(caps->bounding);
		if (r < 0)
			return error_set(err, r, "process.capabilities.bounding");
	}
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return error_set(err, -errno, "keeping capabilities");
	r = set_groups(plan, err);
	if (r < 0)
		return r;
	if (setresgid(process->gid, process->gid, process->gid) < 0)
		return error_set(err, -errno, "process.user.gid %u", process->gid);
	if (setresuid(process->uid, process->uid, process->uid) < 0)
		return error_set(err, -errno, "process.user.uid %u", process->uid);
	r = self_hide(err);
	if (r < 0)
		return r;
	r = caps_get_basic(&now);
	if (r < 0)
		return error_set(err, r, "capabilities");
	if (!plan->drop_caps && process->uid == 0)
		return 0;
	extra &= now.permitted;
	r = caps_set((caps->effective & now.permitted) | extra,
		     (caps->permitted & now.permitted) | extra, caps->inheritable);
	if (r < 0)
		return error_set(err, r,
				 "process.capabilities: more than this runtime has to give");
	r = caps_set_ambient(caps->ambient);
	return r < 0 ? error_set(err, r, "process.capabilities.ambient") : 0;
}

/* Changing the folder, and making sure that it is below the container's root. */
static int enter_cwd(const struct process_plan *plan, struct error *err)
{
	char path[4096];
	long n;

	if (chdir(plan->spec->cwd) < 0)
		return error_set(err, -errno, "process.cwd \"%s\"", plan->spec->cwd);
	/* The system call: the library's would try to be clever. */
	n = syscall(SYS_getcwd, path, sizeof(path));
	if (n < 0 || path[0] != '/')
		return error_say(err, -EPERM, "process.cwd \"%s\" is outside of the container",
				 plan->spec->cwd);
	return 0;
}

/* The home folder of the user in the container's passwd; NULL when it does not say. */
static char *find_home(uid_t uid)
{
	/* What is there is the image's: opening a pipe must not wait, and a device is not read. */
	AUTO(fd_close) int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	AUTO(file_close) FILE *f = NULL;
	char line[PASSWD_LINE_MAX];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	f = fdopen(fd, "r");
	if (f)
		(void) TAKE_FD(fd);
	for (int n = 0; f && n < PASSWD_LINES_MAX && fgets(line, sizeof(line), f); n++) {
		char *field = line, *part[6];
		int i;

		for (i = 0; i < 6 && (part[i] = strsep(&field, ":\n")); i++)
			;
		if (i == 6 && part[2][0] && strspn(part[2], "0123456789") == strlen(part[2]) &&
		    strtoul(part[2], NULL, 10) == uid && part[5][0] == '/')
			return mem_strdup(part[5]);
	}
	return NULL;
}

static void make_environment(const struct process_plan *plan)
{
	AUTO(free) char *home = NULL;
	oci_strings env = plan->spec->env;

	clearenv();
	for (; env && *env; env++) {
		const char *equals = strchr(*env, '=');
		AUTO(free) char *name = NULL;

		if (!equals || equals == *env)
			continue;
		name = mem_strndup(*env, (size_t) (equals - *env));
		setenv(name, equals + 1, 1);
	}
	if (plan->listen) {
		char number[16];

		snprintf(number, sizeof(number), "%u", plan->listen);
		setenv("LISTEN_FDS", number, 1);
		snprintf(number, sizeof(number), "%d", (int) getpid());
		setenv("LISTEN_PID", number, 1);
	}
	if (getenv("HOME"))
		return;
	home = find_home(plan->spec->uid);
	setenv("HOME", home ? home : "/", 1);
}

int process_exit_code(int r)
{
	return r == PROCESS_MISSING ? 127 : r == PROCESS_UNUSABLE ? 126 : 1;
}

/* To be said when err->msg is set already. */
static int no_program(int r, struct error *err)
{
	int code = r == -ENOENT || r == -ENOTDIR ? PROCESS_MISSING : PROCESS_UNUSABLE;

	if (err)
		err->code = code;
	return code;
}

static int check_program(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
		return -errno;
	return 0;
}

static int find_program(const char *name, char **ret, struct error *err)
{
	const char *search = getenv("PATH");
	int worst = -ENOENT, r;

	if (strchr(name, '/')) {
		r = check_program(name);
		if (r < 0)
			return no_program(
				error_set(err, r, "executable file \"%s\" cannot be run", name),
				err);
		*ret = mem_strdup(name);
		return 0;
	}
	if (!search)
		search = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	for (;;) {
		size_t n = strcspn(search, ":");
		AUTO(free)
		char *path =
			n ? mem_printf("%.*s/%s", (int) n, search, name) : mem_printf("./%s", name);

		r = check_program(path);
		if (r == 0) {
			*ret = TAKE_PTR(path);
			return 0;
		}
		if (r == -EACCES)
			worst = r;
		if (!search[n])
			break;
		search += n + 1;
	}
	error_set(err, worst, "executable file \"%s\" not found in $PATH", name);
	return no_program(worst, err);
}

int process_prepare(const struct process_plan *plan, char **ret_path, struct error *err)
{
	const struct oci_process *process = plan->spec;
	struct error first = {};
	int early, r = join_keyring(plan, err);

	if (r == 0)
		r = set_scheduling(plan, err);
	if (r < 0)
		return r;
	/* Root may enter what the user may not, and the other way round: either will do. */
	early = enter_cwd(plan, &first);
	r = become_user(plan, err);
	if (r < 0)
		return r;
	if (early < 0) {
		r = enter_cwd(plan, err);
		if (r < 0)
			return r;
	}
	umask(process->umask.set ? (mode_t) process->umask.value : 0022);
	make_environment(plan);
	return find_program(process->args[0], ret_path, err);
}

static int compare_fds(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}

void process_close_others(const struct process_plan *plan, const int *keep, size_t count)
{
	int fds[PROCESS_KEEP_MAX + 1];
	unsigned int next = 3 + plan->preserve;

	assert(count <= PROCESS_KEEP_MAX);
	memcpy(fds, keep, count * sizeof(int));
	fds[count++] = plan->listener_fd;
	qsort(fds, count, sizeof(int), compare_fds);
	for (size_t i = 0; i < count; i++) {
		if (fds[i] < 0 || (unsigned int) fds[i] < next)
			continue;
		if ((unsigned int) fds[i] > next)
			close_range(next, (unsigned int) fds[i] - 1, 0);
		next = (unsigned int) fds[i] + 1;
	}
	close_range(next, ~0U, 0);
}

/* ---- the last step ---- */

/*
 * The specification's message for whoever answers for the filter.  Made before the filter is there:
 * a system call that waits for an answer would wait for ever as long as nobody has the descriptor.
 */
static char *listener_message(const struct process_plan *plan, const struct oci_state *state,
			      pid_t pid)
{
	AUTO(json_decref) json_t *message = NULL;

	if (plan->listener_fd < 0)
		return NULL;
	message = json_object();
	json_object_set_new(message, "ociVersion", json_string(OCI_SPEC_VERSION));
	json_object_set_new(message, "fds", json_pack("[s]", "seccompFd"));
	json_object_set_new(message, "pid", json_integer(pid));
	json_put_string(message, "metadata", plan->seccomp->listener_metadata);
	json_object_set_new(
		message, "state",
		oci_state_public(state, plan->exec ? OCI_STATUS_RUNNING : OCI_STATUS_CREATING));
	return json_text(message);
}

static int load_filter(const struct process_plan *plan, const char *message, struct error *err)
{
	AUTO(fd_close) int notify_fd = -1;
	int r;

	if (!plan->seccomp->filter)
		return 0;
	r = seccomp_filter_load(plan->seccomp->filter);
	if (r < 0)
		return error_set(err, r, "loading the seccomp filter");
	if (!plan->seccomp->filter->notify)
		return 0;
	notify_fd = r;
	r = sock_send(plan->listener_fd, message, strlen(message), &notify_fd, 1);
	/* Its end tells the listener that this was all; it may wait for that before it answers. */
	close(plan->listener_fd);
	return r < 0 ? error_set(err, r, "%s", plan->seccomp->listener_path) : 0;
}

static int set_limits(const struct process_plan *plan, struct error *err)
{
	for (size_t i = 0; i < plan->limit_count; i++)
		if (setrlimit((enum __rlimit_resource) plan->limits[i].resource,
			      &plan->limits[i].limit) < 0)
			return error_set(err, -errno, "process.rlimits: %s",
					 limitname(plan->limits[i].resource));
	return 0;
}

int process_execute(const struct process_plan *plan, const char *path,
		    const struct oci_state *state, pid_t pid, struct error *err)
{
	const struct oci_process *process = plan->spec;
	AUTO(free) char *message = listener_message(plan, state, pid);
	sigset_t none;
	int r = lsm_set_apparmor(process->apparmor_profile, err);

	if (r == 0)
		r = lsm_set_selinux(process->selinux_label, err);
	if (r == 0)
		r = set_limits(plan, err);
	if (r < 0)
		return r;
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (process->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(err, -errno, "process.noNewPrivileges");
	/* From here on the filter decides what works: as little as possible comes after it. */
	r = load_filter(plan, message, err);
	if (r < 0)
		return r;
	if (keeps_admin(plan) && (plan->drop_caps || process->uid != 0)) {
		r = caps_set(plan->caps.effective, plan->caps.permitted, plan->caps.inheritable);
		if (r < 0)
			return error_set(err, r, "process.capabilities");
	}
	execve(path, (char *const *) process->args, environ);
	r = -errno;
	return no_program(error_set(err, r, "exec \"%s\"", path), err);
}
