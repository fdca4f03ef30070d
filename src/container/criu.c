#include "container/criu.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "kern/cgroup.h"
#include "kern/ns.h"
#include "kern/pidfd.h"
#include "kern/sock.h"

enum { LOG_MAX = 64 << 20, ERROR_MAX = 200 };

static const char failed[] = "CRIU failed";

/* ---- the program ---- */

static char *search_path(void)
{
	const char *at = getenv("PATH");

	while (at && *at) {
		size_t size = strcspn(at, ":");
		AUTO(free) char *path = mem_printf("%.*s/criu", (int) size, at);
		struct stat st;

		/* What is named relative to some folder is not for who is root. */
		if (at[0] == '/' && stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
		    access(path, X_OK) == 0)
			return TAKE_PTR(path);
		at += size + (at[size] == ':');
	}
	return NULL;
}

/* 0 when it does not answer as criu does. */
static int ask_version(const char *path, struct error *err)
{
	struct criu_start how = { .cgroup_fd = -1 };
	struct criu_reply reply = {};
	struct criu criu;
	int r = criu_spawn(path, &how, &criu, err);

	if (r < 0)
		return r;
	r = criu_call(&criu, CRIU_VERSION, NULL, NULL, NULL, &reply, NULL);
	criu_end(&criu, true);
	return r < 0 ? 0 : reply.version;
}

int criu_find(char **ret, struct error *err)
{
	AUTO(free) char *path = search_path();
	int version;

	if (!path)
		return error_say(err, -ENOENT,
				 "there is no program `criu` on PATH; install the package criu");
	version = ask_version(path, err);
	if (version < 0)
		return version;
	if (!version)
		return error_say(err, -ENOEXEC,
				 "%s does not say its version; install the package criu, %d.%d or "
				 "newer",
				 path, CRIU_VERSION_MIN / 10000, CRIU_VERSION_MIN / 100 % 100);
	if (version < CRIU_VERSION_MIN)
		return error_say(err, -EOPNOTSUPP, "%s is version %d.%d; %d.%d or newer is needed",
				 path, version / 10000, version / 100 % 100,
				 CRIU_VERSION_MIN / 10000, CRIU_VERSION_MIN / 100 % 100);
	*ret = TAKE_PTR(path);
	return 0;
}

/* ---- folders ---- */

static int open_folder(const char *option, const char *path, bool make, struct error *err)
{
	int r = make ? file_mkdir_all(path, 0700) : 0;
	int fd = r < 0 ? r : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return error_set(err, r < 0 ? r : -errno, "%s %s", option, path);
	return fd;
}

int criu_open_folders(const struct criu_options *options, bool make, const char *log_name,
		      struct criu_folders *ret, struct error *err)
{
	AUTO(fd_close) int images = open_folder("--image-path", options->image_path, make, err);
	int work = -1;

	if (images < 0)
		return images;
	if (options->work_path) {
		work = open_folder("--work-path", options->work_path, true, err);
		if (work < 0)
			return work;
	}
	(void) unlinkat(work >= 0 ? work : images, log_name, 0);
	*ret = (struct criu_folders){
		TAKE_FD(images),
		work,
		options->work_path ? options->work_path : options->image_path,
		log_name,
	};
	return 0;
}

void criu_close_folders(struct criu_folders *folders)
{
	fd_close(folders->images);
	fd_close(folders->work);
	folders->images = folders->work = -1;
}

/* ---- the request ---- */

void criu_put_common(struct strbuf *request, const struct criu_options *options,
		     const struct criu_folders *folders)
{
	criu_put_number(request, CRIU_OPT_IMAGES_DIR_FD, (uint64_t) folders->images);
	if (folders->work >= 0)
		criu_put_number(request, CRIU_OPT_WORK_DIR_FD, (uint64_t) folders->work);
	criu_put_number(request, CRIU_OPT_LOG_LEVEL, 4);
	criu_put_text(request, CRIU_OPT_LOG_FILE, folders->log_name);
	criu_put_switch(request, CRIU_OPT_TCP_ESTABLISHED, options->tcp_established);
	criu_put_switch(request, CRIU_OPT_EXT_UNIX_SK, options->ext_unix_sk);
	criu_put_switch(request, CRIU_OPT_SHELL_JOB, options->shell_job);
	criu_put_switch(request, CRIU_OPT_FILE_LOCKS, options->file_locks);
	criu_put_switch(request, CRIU_OPT_AUTO_DEDUP, options->auto_dedup);
	criu_put_switch(request, CRIU_OPT_ORPHAN_PTS_MASTER, true);
	criu_put_switch(request, CRIU_OPT_MANAGE_CGROUPS, true);
	criu_put_number(request, CRIU_OPT_CGROUPS_MODE, options->cgroups);
	/* Its other way needs the programs of the package iptables. */
	criu_put_number(request, CRIU_OPT_NETWORK_LOCK, CRIU_NETWORK_LOCK_NFTABLES);
}

/* ---- running it ---- */

static int set_stdio(int output_fd)
{
	AUTO(fd_close) int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(null_fd, 1) < 0 || dup2(output_fd, 2) < 0)
		return -errno;
	return 0;
}

static int prepare(const struct criu_start *how, int socket_fd, int output_fd, struct error *err)
{
	int r = how->task_count ? cgroup_enter(how->tasks, how->task_count) : 0;
	sigset_t none;

	if (r < 0)
		return error_set(err, r, "entering the control groups");
	if (how->prepare) {
		r = how->prepare(how->data, err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i <= how->fd_count; i++)
		if (fcntl(i < how->fd_count ? how->fds[i] : socket_fd, F_SETFD, 0) < 0)
			return error_set(err, -errno, "descriptors for criu");
	r = set_stdio(output_fd);
	if (r < 0)
		return error_set(err, r, "stdio of criu");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return 0;
}

static void child(const char *path, const struct criu_start *how, int socket_fd, int output_fd,
		  int report_fd)
{
	struct error err = {};
	char number[12];
	char *argv[] = { "criu", "swrk", number, NULL };
	ssize_t n;

	snprintf(number, sizeof(number), "%d", socket_fd);
	if (prepare(how, socket_fd, output_fd, &err) == 0) {
		execv(path, argv);
		error_set(&err, -errno, "%s", path);
	}
	n = write(report_fd, &err, sizeof(err));
	_exit(n == sizeof(err) ? 1 : 2);
}

int criu_spawn(const char *path, const struct criu_start *how, struct criu *ret, struct error *err)
{
	struct ns_clone args = { .cgroup_fd = how->cgroup_fd, .pidfd = -1 };
	AUTO(fd_close) int output = memfd_create("criu", MFD_CLOEXEC);
	AUTO(fd_close) int from = -1;
	AUTO(fd_close) int to = -1;
	AUTO(fd_close) int ours = -1;
	AUTO(fd_close) int theirs = -1;
	struct error why = {};
	int pair[2], report[2];
	pid_t pid;

	if (output < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, -errno, "socket to criu");
	ours = pair[0];
	theirs = pair[1];
	if (pipe2(report, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe to criu");
	from = report[0];
	to = report[1];
	pid = ns_clone(&args);
	if (pid < 0)
		return error_set(err, (int) pid, "clone");
	if (pid == 0)
		child(path, how, theirs, output, to);
	close(TAKE_FD(to));
	*ret = (struct criu){ pid, args.pidfd, TAKE_FD(ours), TAKE_FD(output) };
	if (read(from, &why, sizeof(why)) != sizeof(why))
		return 0;
	criu_end(ret, false);
	if (err)
		*err = why;
	return why.code < 0 ? why.code : -ECHILD;
}

void criu_end(struct criu *criu, bool kill)
{
	fd_close(criu->fd);
	if (kill)
		(void) pidfd_send(criu->pidfd, SIGKILL);
	while (waitid(P_PIDFD, (id_t) criu->pidfd, NULL, WEXITED) < 0 && errno == EINTR)
		;
	fd_close(criu->pidfd);
	fd_close(criu->output_fd);
	criu->fd = criu->pidfd = criu->output_fd = -1;
}

/* ---- talking ---- */

static int answer(struct criu *criu, const struct criu_reply *notice, int fd, criu_notify_fn notify,
		  void *data, struct error *err)
{
	AUTO(strbuf_done) struct strbuf message = {};
	int r = notify ? notify(data, notice->script, notice->pid, fd, err) : 0;
	int sent;

	criu_notify_encode(&message, r >= 0);
	sent = sock_send(criu->fd, message.data, message.size, NULL, 0);
	if (r < 0)
		return r;
	/* Whether it is gone without an answer is seen when that is read. */
	return sent < 0 && sent != -EPIPE ? error_set(err, sent, "talking to criu") : 0;
}

static ssize_t receive(struct criu *criu, uint8_t *bytes, int *ret_fd)
{
	struct pollfd ready = { .fd = criu->fd, .events = POLLIN };
	int fds[SOCK_FDS_MAX];
	size_t fd_count = 0;
	ssize_t n;

	*ret_fd = -1;
	/* An end without having read everything is told before what was said. */
	for (int i = 0; i < 2; i++) {
		while (poll(&ready, 1, -1) < 0 && errno == EINTR)
			;
		n = sock_recv(criu->fd, bytes, CRIU_REPLY_MAX, fds, &fd_count);
		if (n != -ECONNRESET)
			break;
	}
	if (fd_count)
		*ret_fd = fds[0];
	for (size_t i = 1; i < fd_count; i++)
		close(fds[i]);
	return n;
}

static int next(struct criu *criu, struct criu_reply *ret, int *ret_fd, struct error *err)
{
	AUTO(free) uint8_t *bytes = mem_new0_array(uint8_t, CRIU_REPLY_MAX);
	ssize_t n = receive(criu, bytes, ret_fd);

	if (n == 0 || n == -ECONNRESET)
		return error_say(err, -EPIPE, "%s: it ended without an answer", failed);
	if (n < 0)
		return error_set(err, (int) n, "talking to criu");
	n = criu_reply_decode(bytes, (size_t) n, ret);
	return n < 0 ? error_set(err, (int) n, "%s: its answer", failed) : 0;
}

int criu_call(struct criu *criu, enum criu_type type, const struct strbuf *options,
	      criu_notify_fn notify, void *data, struct criu_reply *ret, struct error *err)
{
	AUTO(strbuf_done) struct strbuf request = {};
	struct criu_reply reply;
	int r;

	criu_request_encode(&request, type, options);
	r = sock_send(criu->fd, request.data, request.size, NULL, 0);
	if (r < 0 && r != -EPIPE)
		return error_set(err, r, "talking to criu");
	for (;;) {
		AUTO(fd_close) int fd = -1;

		r = next(criu, &reply, &fd, err);
		if (r < 0)
			return r;
		if (reply.type != CRIU_NOTIFY)
			break;
		r = answer(criu, &reply, fd, notify, data, err);
		if (r < 0)
			return r;
	}
	if (reply.type != type || !reply.success)
		return error_say(err, -EIO, "%s", failed);
	*ret = reply;
	return 0;
}

/* ---- why it failed ---- */

/* "(00.025515)      1: Error (criu/vdso.c:381): vdso: ..." from "Error" on. */
void criu_first_error(const char *log, struct strbuf *ret)
{
	const char *at = strstr(log, "Error (");
	size_t size;

	if (!at)
		return;
	at += strlen("Error ");
	size = strcspn(at, "\n");
	strbuf_put_printable(ret, at, size < ERROR_MAX ? size : ERROR_MAX);
}

static bool read_log(int dir_fd, const char *name, struct strbuf *ret, bool *ret_kernel)
{
	AUTO(fd_close) int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
	AUTO(free) char *text = NULL;

	if (fd < 0 || file_read_fd(fd, LOG_MAX, &text, NULL) < 0)
		return false;
	criu_first_error(text, ret);
	*ret_kernel = strstr(text, "failed when initializing kerndat") != NULL;
	return true;
}

/* What it said before it had a log. */
static void read_output(const struct criu *criu, struct strbuf *ret)
{
	AUTO(free) char *text = NULL;

	if (lseek(criu->output_fd, 0, SEEK_SET) < 0 ||
	    file_read_fd(criu->output_fd, LOG_MAX, &text, NULL) < 0)
		return;
	criu_first_error(text, ret);
	if (!ret->size && text[0]) {
		size_t size = strcspn(text, "\n");

		strbuf_put_printable(ret, text, size < ERROR_MAX ? size : ERROR_MAX);
	}
}

int criu_explain(struct criu *criu, const struct criu_folders *folders, int r, struct error *err)
{
	AUTO(strbuf_done) struct strbuf first = {};
	struct error why = {};
	bool kernel = false, log;

	/* Ours say what was wrong; only what CRIU keeps to itself is looked up. */
	if (err && strncmp(err->msg, failed, strlen(failed)) != 0)
		return r;
	/* What it is about to say. */
	fd_close(TAKE_FD(criu->fd));
	while (waitid(P_PIDFD, (id_t) criu->pidfd, NULL, WEXITED | WNOWAIT) < 0 && errno == EINTR)
		;
	log = read_log(folders->work >= 0 ? folders->work : folders->images, folders->log_name,
		       &first, &kernel);
	if (!first.size)
		read_output(criu, &first);
	error_say(&why, r, "%s%s%s%s", err ? err->msg : failed, first.size ? ": " : "",
		  strbuf_str(&first),
		  kernel ? "; this CRIU does not fit this kernel (`criu check`)" : "");
	if (err)
		*err = why;
	if (log && err)
		error_say(err, r, "%s; its log is %s/%s", why.msg, folders->log_path,
			  folders->log_name);
	return r;
}
