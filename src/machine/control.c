/*
 * How the agent talks to a running machine.  Its run folder is the jail's: sockets and files there
 * are opened without following links, and what comes out of them is bounded and decoded like any
 * stranger's bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/frame.h"
#include "machine/machine.h"

enum {
	CALL_TIMEOUT_MS = 10000,
	CALL_BYTES_MAX = 64 * 1024,
	CONNECT_LINE_MAX = 64,
};

static int open_dir(const char *run_dir, struct error *err)
{
	int fd = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? error_set(err, -errno, "%s", run_dir) : fd;
}

/*
 * Connects to the socket that lies there itself: a link of the guest's making leads nowhere.
 * -ECONNREFUSED also when nothing lies there yet.
 */
static int connect_in(const char *run_dir, const char *name, struct error *err)
{
	AUTO(fd_close) int dir_fd = open_dir(run_dir, err);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = CALL_TIMEOUT_MS / 1000 };
	struct stat st;

	if (dir_fd < 0)
		return dir_fd;
	AUTO(fd_close) int path_fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (path_fd < 0)
		return error_say(err, errno == ENOENT ? -ECONNREFUSED : -errno,
				 "the machine has no %s", name);
	if (fstat(path_fd, &st) < 0 || !S_ISSOCK(st.st_mode))
		return error_say(err, -EPROTO, "the machine's %s is no socket", name);
	AUTO(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set(err, -errno, "socket");
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", path_fd);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		return error_set(err, errno == EAGAIN ? -ETIMEDOUT : -errno,
				 "connect to the machine's %s", name);
	return TAKE_FD(fd);
}

/* Waits until there is something to read; the time that is left is counted down. */
static int wait_readable(int fd, uint64_t deadline_us, struct error *err)
{
	struct pollfd poll_fd = { fd, POLLIN, 0 };

	for (;;) {
		uint64_t now = clock_monotonic_us(clock_system());
		int left = now < deadline_us ? (int) ((deadline_us - now) / 1000) + 1 : 0;
		int r = poll(&poll_fd, 1, left);

		if (r > 0)
			return 0;
		if (r == 0)
			return error_say(err, -ETIMEDOUT, "the machine does not answer");
		if (errno != EINTR)
			return error_set(err, -errno, "wait for the machine");
	}
}

static uint64_t deadline(void)
{
	return clock_monotonic_us(clock_system()) + CALL_TIMEOUT_MS * 1000ull;
}

/* One frame, the answer to our only call. */
static int receive_return(int fd, json_t **ret, struct error *err)
{
	AUTO(strbuf_done) struct strbuf in = {};
	uint64_t until = deadline();
	struct frame frame;
	size_t used;
	int r;

	while ((r = frame_decode(in.data, in.size, &frame, &used, err)) == 0) {
		if (in.size > CALL_BYTES_MAX)
			return error_say(err, -EPROTO, "the machine's answer is too large");
		r = wait_readable(fd, until, err);
		if (r < 0)
			return r;
		ssize_t n = read(fd, strbuf_reserve(&in, 4096), 4096);
		if (n <= 0)
			return error_say(err, -ECONNRESET, "the machine has ended");
		strbuf_grown(&in, (size_t) n);
	}
	if (r < 0)
		return r;
	if (frame.type != FRAME_RETURN || frame.id != 1)
		return error_say(err, -EPROTO, "the machine answers something else");
	return frame_json(&frame, ret, err);
}

/* *ret_result may be NULL. */
static int call(const char *run_dir, const char *method, json_t **ret_result, struct error *err)
{
	AUTO(json_decref) json_t *body = json_pack("{s:s}", "method", method);
	AUTO(json_decref) json_t *answer = NULL;
	AUTO(strbuf_done) struct strbuf out = {}, text = {};
	AUTO(fd_close) int fd = connect_in(run_dir, "control.sock", err);
	int r = fd;

	if (r >= 0)
		r = frame_append_json(&out, FRAME_CALL, 1, body);
	if (r >= 0 && send(fd, out.data, out.size, MSG_NOSIGNAL) != (ssize_t) out.size)
		r = error_set(err, -ECONNRESET, "call the machine");
	if (r >= 0)
		r = receive_return(fd, &answer, err);
	if (r < 0)
		return error_wrap(err, r, "%s", method);
	const char *error = json_string_value(json_object_get(answer, "error"));
	json_t *result = json_object_get(answer, "result");
	if (error) {
		strbuf_put_printable(&text, error, strlen(error));
		return error_say(err, -EIO, "%s: %.200s", method, strbuf_str(&text));
	}
	if (!json_is_object(result))
		return error_say(err, -EPROTO, "%s: the machine's answer has no result", method);
	if (ret_result)
		*ret_result = json_incref(result);
	return 0;
}

int machine_do(enum machine_backend backend, const char *run_dir, enum machine_action action,
	       struct error *err)
{
	static const char *const methods[] = { [MACHINE_PAUSE] = "pause",
					       [MACHINE_RESUME] = "resume",
					       [MACHINE_POWER_BUTTON] = "power_button",
					       [MACHINE_RESET] = "reset",
					       [MACHINE_QUIT] = "quit" };

	(void) backend;
	int r = call(run_dir, methods[action], NULL, err);
	/* It may be gone before it could say so. */
	return r == -ECONNRESET && action == MACHINE_QUIT ? 0 : r;
}

int machine_metrics(const char *run_dir, json_t **ret, struct error *err)
{
	return call(run_dir, "metrics", ret, err);
}

/* -- the guest ----------------------------------------------------------------------------------
 */

/* brume-vmm's way, as Firecracker's: "CONNECT 1024\n", then "OK N\n" or the end. */
static int vsock_connect(int fd, struct error *err)
{
	char line[CONNECT_LINE_MAX];
	uint64_t until = deadline();
	int n = snprintf(line, sizeof(line), "CONNECT %d\n", MACHINE_VSOCK_PORT);

	if (send(fd, line, (size_t) n, MSG_NOSIGNAL) != n)
		return error_say(err, -ECONNREFUSED, "no guest listens");
	for (size_t size = 0; size < sizeof(line); size++) {
		int r = wait_readable(fd, until, err);

		/* Byte by byte: what follows the line is the guest's. */
		if (r < 0 || read(fd, line + size, 1) != 1)
			return r < 0 ? r : error_say(err, -ECONNREFUSED, "no guest listens");
		if (line[size] == '\n')
			return strncmp(line, "OK ", 3) == 0
				       ? 0
				       : error_say(err, -EPROTO, "guest.sock: not the answer OK");
	}
	return error_say(err, -EPROTO, "guest.sock: a line without an end");
}

/* QEMU accepts at once, whether somebody in the guest listens or not. */
static int port_open(const char *run_dir, struct error *err)
{
	AUTO(json_decref) json_t *info = NULL;
	int r = call(run_dir, "info", &info, err);

	if (r < 0)
		return r;
	if (!json_is_true(json_object_get(info, "guest_open")))
		return error_say(err, -ECONNREFUSED, "no guest listens");
	return 0;
}

int machine_connect_guest(enum machine_backend backend, const char *run_dir, struct error *err)
{
	int r = backend == MACHINE_QEMU ? port_open(run_dir, err) : 0;

	if (r < 0)
		return r;
	AUTO(fd_close) int fd = connect_in(run_dir, "guest.sock", err);
	if (fd < 0)
		return fd;
	if (backend == MACHINE_BRUME_VMM)
		r = vsock_connect(fd, err);
	return r < 0 ? r : TAKE_FD(fd);
}
