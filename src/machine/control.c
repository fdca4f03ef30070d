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
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/frame.h"
#include "kern/sock.h"
#include "machine/machine.h"

enum {
	CALL_TIMEOUT_MS = 10000,
	CALL_BYTES_MAX = 64 * 1024,
	CONNECT_LINE_MAX = 64,
	ASK_AT_ONCE = 64,
	READ_BYTES = 4096,
	FRESH_TRIES = 30,
	FRESH_MS = 100,
	REMOVE_TIMEOUT_MS = 8000,
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
static int connect_in(const char *run_dir, const char *name, int flags, struct error *err)
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
	AUTO(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
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

static uint64_t deadline(unsigned int timeout_ms)
{
	return clock_monotonic_us(clock_system()) + timeout_ms * 1000ull;
}

/* Connects, and says what is wanted.  Steals `arguments`, which may be NULL. */
static int send_call(const char *run_dir, int flags, const char *method, json_t *arguments,
		     const int *given_fd, struct error *err)
{
	AUTO(json_decref)
	json_t *body = json_pack("{s:s, s:o*}", "method", method, "arguments", arguments);
	AUTO(strbuf_done) struct strbuf out = {};
	AUTO(fd_close) int fd = connect_in(run_dir, "control.sock", flags, err);
	int r = fd;

	if (r >= 0)
		r = frame_append_json(&out, FRAME_CALL, 1, body);
	if (r >= 0 && given_fd)
		r = sock_send(fd, out.data, out.size, given_fd, 1);
	else if (r >= 0 && send(fd, out.data, out.size, MSG_NOSIGNAL) != (ssize_t) out.size)
		r = -ECONNRESET;
	if (r < 0 && fd >= 0)
		error_set(err, r, "call the machine");
	return r < 0 ? r : TAKE_FD(fd);
}

/* What has come: 1 and the answer to our only call, 0 when there is more to come. */
static int take_return(int fd, struct strbuf *in, json_t **ret, struct error *err)
{
	struct frame frame;
	size_t used;
	ssize_t n = read(fd, strbuf_reserve(in, READ_BYTES), READ_BYTES);
	int r;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return error_say(err, -ECONNRESET, "the machine has ended");
	strbuf_grown(in, (size_t) n);
	r = frame_decode(in->data, in->size, &frame, &used, err);
	if (r == 0 && in->size > CALL_BYTES_MAX)
		return error_say(err, -EPROTO, "the machine's answer is too large");
	if (r <= 0)
		return r;
	if (frame.type != FRAME_RETURN || frame.id != 1)
		return error_say(err, -EPROTO, "the machine answers something else");
	r = frame_json(&frame, ret, err);
	return r < 0 ? r : 1;
}

/* Steals `answer`; *ret_result may be NULL. */
static int read_answer(json_t *answer, const char *method, json_t **ret_result, struct error *err)
{
	AUTO(json_decref) json_t *owned = answer;
	AUTO(strbuf_done) struct strbuf text = {};
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

/* Steals `arguments`, which may be NULL, as may given_fd and ret_result. */
static int call_with(const char *run_dir, const char *method, json_t *arguments,
		     const int *given_fd, json_t **ret_result, struct error *err)
{
	AUTO(strbuf_done) struct strbuf in = {};
	AUTO(fd_close) int fd = send_call(run_dir, 0, method, arguments, given_fd, err);
	uint64_t until = deadline(CALL_TIMEOUT_MS);
	json_t *answer = NULL;
	int r = fd;

	while (r >= 0 && !answer) {
		r = wait_readable(fd, until, err);
		if (r == 0)
			r = take_return(fd, &in, &answer, err);
	}
	return r < 0 ? error_wrap(err, r, "%s", method)
		     : read_answer(answer, method, ret_result, err);
}

static int call(const char *run_dir, const char *method, json_t *arguments, json_t **ret_result,
		struct error *err)
{
	return call_with(run_dir, method, arguments, NULL, ret_result, err);
}

/* -- many at once -------------------------------------------------------------------------------
 */

struct asked {
	int fd; /* -1: answered, or nobody there */
	struct strbuf in;
	json_t **ret;
};

/* True when there is nothing more to wait for. */
static bool take_answer(struct asked *asked, const char *method)
{
	json_t *answer = NULL;
	int r = take_return(asked->fd, &asked->in, &answer, NULL);

	if (r == 0)
		return false;
	if (r > 0)
		(void) read_answer(answer, method, asked->ret, NULL);
	fd_close(TAKE_FD(asked->fd));
	return true;
}

static void ask_some(struct asked *asked, size_t count, const char *method, uint64_t until_us)
{
	struct pollfd fds[ASK_AT_ONCE];
	size_t open = 0;

	for (size_t i = 0; i < count; i++)
		open += asked[i].fd >= 0;
	while (open > 0) {
		uint64_t now = clock_monotonic_us(clock_system());

		for (size_t i = 0; i < count; i++)
			fds[i] = (struct pollfd){ asked[i].fd, POLLIN, 0 };
		if (now >= until_us ||
		    (poll(fds, (nfds_t) count, (int) ((until_us - now) / 1000) + 1) < 0 &&
		     errno != EINTR))
			return;
		for (size_t i = 0; i < count; i++)
			if (fds[i].revents && take_answer(&asked[i], method))
				open--;
	}
}

void machine_ask_balloons(char *const *run_dirs, size_t count, unsigned int timeout_ms,
			  json_t **ret_answers)
{
	static const char method[] = "balloon";

	for (size_t done = 0; done < count; done += ASK_AT_ONCE) {
		struct asked asked[ASK_AT_ONCE] = {};
		size_t n = count - done < ASK_AT_ONCE ? count - done : ASK_AT_ONCE;

		/* None may hold us up: not even the connection waits. */
		for (size_t i = 0; i < n; i++)
			asked[i] = (struct asked){
				.fd = run_dirs[done + i]
					      ? send_call(run_dirs[done + i], SOCK_NONBLOCK, method,
							  NULL, NULL, NULL)
					      : -1,
				.ret = &ret_answers[done + i],
			};
		ask_some(asked, n, method, deadline(timeout_ms));
		for (size_t i = 0; i < n; i++) {
			fd_close(asked[i].fd);
			strbuf_done(&asked[i].in);
		}
	}
}

/* -- what is asked for --------------------------------------------------------------------------
 */

static uint64_t number(const json_t *object, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(object, name));

	return value > 0 ? (uint64_t) value : 0;
}

int machine_balloon_read(const json_t *answer, struct machine_balloon *ret)
{
	const json_t *given = json_object_get(answer, "given_back_bytes");
	const json_t *guest = json_object_get(answer, "guest");
	struct machine_balloon balloon = { .memory_bytes = number(answer, "memory_bytes"),
					   .balloon_bytes = number(answer, "balloon_bytes"),
					   .counts_given_back = json_is_integer(given),
					   .given_back_bytes = number(answer, "given_back_bytes"),
					   .total_bytes = number(guest, "total_bytes"),
					   .available_bytes = number(guest, "available_bytes"),
					   .updates = number(guest, "updates") };

	if (balloon.memory_bytes == 0 || balloon.balloon_bytes > balloon.memory_bytes)
		return -EPROTO;
	/* A guest says what it likes: numbers that cannot be are none. */
	if (balloon.total_bytes > balloon.memory_bytes ||
	    balloon.available_bytes > balloon.total_bytes ||
	    !json_object_get(guest, "available_bytes"))
		balloon.total_bytes = balloon.available_bytes = 0;
	*ret = balloon;
	return 0;
}

int machine_balloon(const char *run_dir, const uint64_t *target_bytes, struct machine_balloon *ret,
		    struct error *err)
{
	AUTO(json_decref) json_t *answer = NULL;
	json_t *arguments = target_bytes
				    ? json_pack("{s:I}", "target_bytes", (json_int_t) *target_bytes)
				    : NULL;
	int r = call(run_dir, "balloon", arguments, &answer, err);

	if (r == 0 && machine_balloon_read(answer, ret) < 0)
		r = error_say(err, -EPROTO, "balloon: the machine tells sizes that cannot be");
	return r;
}

/* A monitor has no event for it: each call has the guest asked, and the next ones see the answer.
 */
int machine_balloon_fresh(const char *run_dir, struct machine_balloon *ret, struct error *err)
{
	struct machine_balloon first, now;
	int r = machine_balloon(run_dir, NULL, &first, err);

	now = first;
	for (int i = 0; r == 0 && now.updates == first.updates && i < FRESH_TRIES; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = FRESH_MS * 1000 * 1000 }, NULL);
		r = machine_balloon(run_dir, NULL, &now, err);
	}
	if (r == 0)
		*ret = now;
	return r;
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
	int r = call(run_dir, methods[action], NULL, NULL, err);
	/* It may be gone before it could say so. */
	return r == -ECONNRESET && action == MACHINE_QUIT ? 0 : r;
}

int machine_metrics(const char *run_dir, json_t **ret, struct error *err)
{
	return call(run_dir, "metrics", NULL, ret, err);
}

/* -- network cards ------------------------------------------------------------------------------
 */

/* What is no id of ours is not for us. */
static int add_card(struct machine_cards *cards, const char *id)
{
	if (!id || !id[0] || strlen(id) >= MACHINE_NIC_ID_SIZE)
		return 0;
	/* One that was not given an id. */
	if (strncmp(id, "net", 3) == 0)
		return -EOPNOTSUPP;
	if (cards->count == MACHINE_NICS_MAX)
		return -EPROTO;
	snprintf(cards->ids[cards->count++], MACHINE_NIC_ID_SIZE, "%s", id);
	return 0;
}

int machine_cards(const char *run_dir, struct machine_cards *ret, struct error *err)
{
	AUTO(json_decref) json_t *info = NULL;
	struct machine_cards cards = {};
	const json_t *list, *entry;
	size_t i;
	int r = call(run_dir, "info", NULL, &info, err);

	if (r < 0)
		return r;
	/* brume-vmm tells of all of its devices. */
	list = json_object_get(info, "cards");
	json_array_foreach(list, i, entry)
	{
		if (r == 0)
			r = add_card(&cards, json_string_value(entry));
	}
	json_array_foreach(json_object_get(info, "devices"), i, entry)
	{
		const char *type = json_string_value(json_object_get(entry, "type"));

		if (r == 0 && type && strcmp(type, "net") == 0)
			r = add_card(&cards, json_string_value(json_object_get(entry, "id")));
	}
	if (r == -EPROTO)
		return error_say(err, r, "the machine tells of more cards than it can have");
	if (r < 0 || (!list && !json_object_get(info, "devices")))
		return error_say(err, -EOPNOTSUPP,
				 "the machine was started by an earlier brume, and keeps the cards "
				 "that it has; stop and start it first");
	*ret = cards;
	return 0;
}

bool machine_cards_have(const struct machine_cards *cards, const char *id)
{
	for (unsigned int i = 0; i < cards->count; i++)
		if (strcmp(cards->ids[i], id) == 0)
			return true;
	return false;
}

int machine_card_add(const char *run_dir, const struct machine_nic *nic, struct error *err)
{
	const uint8_t *mac = nic->mac;
	char text[24];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	return call_with(
		run_dir, "add_nic",
		json_pack("{s:s, s:s, s:i}", "id", nic->id, "mac", text, "mtu", (int) nic->mtu),
		&nic->fd, NULL, err);
}

int machine_card_remove(const char *run_dir, const char *id, struct error *err)
{
	return call(run_dir, "remove",
		    json_pack("{s:s, s:i}", "id", id, "timeout_ms", REMOVE_TIMEOUT_MS), NULL, err);
}

/* -- the guest ----------------------------------------------------------------------------------
 */

/* brume-vmm's way, as Firecracker's: "CONNECT 1024\n", then "OK N\n" or the end. */
static int vsock_connect(int fd, struct error *err)
{
	char line[CONNECT_LINE_MAX];
	uint64_t until = deadline(CALL_TIMEOUT_MS);
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
	int r = call(run_dir, "info", NULL, &info, err);

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
	AUTO(fd_close) int fd = connect_in(run_dir, "guest.sock", 0, err);
	if (fd < 0)
		return fd;
	if (backend == MACHINE_BRUME_VMM)
		r = vsock_connect(fd, err);
	return r < 0 ? r : TAKE_FD(fd);
}
