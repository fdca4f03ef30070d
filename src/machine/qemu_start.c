/*
 * How QEMU is started: it gets descriptors for everything, also where it wants a path.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "machine/qemu_internal.h"

enum {
	INHERITED_MAX = 16,
	COPY_BYTES = 1 << 16,
	IMAGE_BYTES_MAX = 1 << 30, /* a kernel or all initial ramdisks */
};

/* What the child keeps open over its exec. */
struct inherited {
	int fds[INHERITED_MAX];
	unsigned int count;
};

static void inherit(struct inherited *inherited, int fd)
{
	inherited->fds[inherited->count++] = fd;
}

static void inherited_done_autop(struct inherited *inherited)
{
	for (unsigned int i = 0; i < inherited->count; i++)
		close(inherited->fds[i]);
}

static int copy_file(int from, int to, off_t *total, struct error *err)
{
	AUTO(free) char *buffer = mem_zalloc(COPY_BYTES);
	off_t offset = 0;

	for (;;) {
		ssize_t n = pread(from, buffer, COPY_BYTES, offset);

		if (n < 0)
			return error_set(err, -errno, "read the kernel or initrd, descriptor %d",
					 from);
		if (n == 0)
			return 0;
		offset += n;
		*total += n;
		if (*total > IMAGE_BYTES_MAX)
			return error_say(err, -EFBIG, "kernel or initrd of more than %d MiB",
					 IMAGE_BYTES_MAX >> 20);
		int r = file_write_all(to, buffer, (size_t) n);
		if (r < 0)
			return error_set(err, r, "copy the kernel or initrd");
	}
}

/*
 * A descriptor that can be opened again by its name in /proc: the file's own when we may read it
 * and it is the only one, else a copy in memory.
 */
static int openable(const int *fds, unsigned int count, struct error *err)
{
	off_t total = 0;

	if (count == 1) {
		AUTO(free) char *path = mem_printf("/proc/self/fd/%d", fds[0]);
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0)
			return fd;
	}
	AUTO(fd_close) int copy = memfd_create("initrd", MFD_CLOEXEC);
	if (copy < 0)
		return error_set(err, -errno, "memory for the initrd");
	for (unsigned int i = 0; i < count; i++) {
		int r = copy_file(fds[i], copy, &total, err);
		if (r < 0)
			return r;
	}
	return TAKE_FD(copy);
}

static int add_image(struct inherited *inherited, char ***argv, const char *option, const int *fds,
		     unsigned int count, struct error *err)
{
	int fd = openable(fds, count, err);

	if (fd < 0)
		return fd;
	inherit(inherited, fd);
	strv_append(argv, option);
	strv_append_take(argv, mem_printf("/proc/self/fd/%d", fd));
	return 0;
}

int qemu_output_fd(int fd, struct error *err)
{
	AUTO(free) char *path = mem_printf("/proc/self/fd/%d", fd);
	int flags = fcntl(fd, F_GETFL);
	int out;

	if (flags >= 0 && (flags & O_ACCMODE) == O_WRONLY)
		out = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	else
		out = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (out < 0 && (errno == ENXIO || errno == EBADF || errno == ENOENT))
		out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	return out < 0 ? error_set(err, -errno, "open descriptor %d for QEMU", fd) : out;
}

static int add_output(struct inherited *inherited, char ***argv, const char *id, int from, int set,
		      struct error *err)
{
	int fd = qemu_output_fd(from, err);

	if (fd < 0)
		return fd;
	inherit(inherited, fd);
	strv_append(argv, "-add-fd");
	strv_append_take(argv, mem_printf("fd=%d,set=%d", fd, set));
	strv_append(argv, "-chardev");
	strv_append_take(argv, mem_printf("file,id=%s,append=on,path=/dev/fdset/%d", id, set));
	return 0;
}

static int add_socket(struct inherited *inherited, char ***argv, const char *id, int *ret_ours,
		      struct error *err)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, -errno, "socket pair for QEMU");
	*ret_ours = pair[0];
	inherit(inherited, pair[1]);
	if (fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0)
		return error_set(err, -errno, "socket pair for QEMU");
	strv_append(argv, "-chardev");
	strv_append_take(argv, mem_printf("socket,id=%s,fd=%d", id, pair[1]));
	return 0;
}

static int add_words(struct qemu_ends *ends, int *ret_theirs, struct error *err)
{
	int pipe_fds[2];

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe for QEMU's messages");
	ends->words = pipe_fds[0];
	*ret_theirs = pipe_fds[1];
	if (fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK) < 0)
		return error_set(err, -errno, "pipe for QEMU's messages");
	return 0;
}

static int add_all(struct qemu *qemu, struct inherited *inherited, char ***argv, struct error *err)
{
	/* Numbers above those of machine_command(). */
	enum { SET_OUT = 100, SET_ERR };
	const struct qemu_run_options *options = qemu->options;
	struct qemu_ends *ends = &qemu->ends;
	int r = 0;

	if (options->kernel_fd >= 0)
		r = add_image(inherited, argv, "-kernel", &options->kernel_fd, 1, err);
	if (r == 0 && options->initrd_count > 0)
		r = add_image(inherited, argv, "-initrd", options->initrd_fds,
			      options->initrd_count, err);
	if (r == 0)
		r = add_output(inherited, argv, "out", STDOUT_FILENO, SET_OUT, err);
	if (r == 0)
		r = add_output(inherited, argv, "err", STDERR_FILENO, SET_ERR, err);
	if (r == 0)
		r = add_socket(inherited, argv, "console", &ends->console, err);
	if (r == 0)
		r = add_socket(inherited, argv, "early", &ends->early, err);
	if (r == 0)
		r = add_socket(inherited, argv, "status", &ends->status, err);
	if (r == 0)
		r = add_socket(inherited, argv, "qmp", &ends->qmp, err);
	strv_append(argv, "-mon");
	strv_append(argv, "chardev=qmp,mode=control");
	if (options->input) {
		/* What a guest writes to brume.in ends in our own log. */
		strv_append(argv, "-chardev");
		strv_append(argv, "stdio,id=in,signal=off");
	}
	return r;
}

/* In the child, between fork and exec: no allocation. */
static void execute(const struct inherited *inherited, int words_fd, bool input, char *const *argv)
{
	static const char cannot[] = "brume-qemu: QEMU's program cannot be executed\n";
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned int i = 0; i < inherited->count; i++)
		fcntl(inherited->fds[i], F_SETFD, 0);
	if (!input) {
		int null_fd = open("/dev/null", O_RDONLY);
		if (null_fd >= 0)
			dup2(null_fd, STDIN_FILENO);
	}
	dup2(words_fd, STDOUT_FILENO);
	dup2(words_fd, STDERR_FILENO);
	execv(argv[0], argv);
	ssize_t n = write(STDERR_FILENO, cannot, sizeof(cannot) - 1);
	(void) n;
	_exit(127);
}

/* QEMU's now: taps and disks must end with it, not with us. */
static void close_handed_on(void)
{
	enum { HANDED_ON_MAX = 100 };

	for (int fd = STDERR_FILENO + 1; fd < HANDED_ON_MAX; fd++) {
		int flags = fcntl(fd, F_GETFD);
		if (flags >= 0 && !(flags & FD_CLOEXEC))
			close(fd);
	}
}

int qemu_start(struct qemu *qemu, struct error *err)
{
	__attribute__((cleanup(inherited_done_autop))) struct inherited inherited = {};
	AUTO(strv_free) char **argv = strv_copy(qemu->options->argv);
	AUTO(fd_close) int words_fd = -1;
	int r = add_words(&qemu->ends, &words_fd, err);

	if (r == 0)
		r = add_all(qemu, &inherited, &argv, err);
	if (r < 0)
		return r;
	pid_t pid = fork();
	if (pid < 0)
		return error_set(err, -errno, "fork");
	if (pid == 0)
		execute(&inherited, words_fd, qemu->options->input, argv);
	qemu->pid = pid;
	close_handed_on();
	return 0;
}
