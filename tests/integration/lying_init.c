/*
 * lying-init - the first process of a virtual machine that does not keep to the guest channel's
 * protocol, for tests/integration/test_node_vm_liar.py.
 *
 * Boots as brume-init does: a real kernel, real ports.  Then it says on brume.guest, one after the
 * other, what no brume-init says: while it boots it answers each connection's hello with another
 * lie, then that its command runs.  To `exec` it lies in another way each time and in the end
 * answers honestly; its statistics are no numbers that can be; to a signal it tells an exit code
 * that there is not, and turns off.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { HELLO = 1, ASSIGN = 2, STATUS = 5, OPEN = 6, DATA = 7, CREDIT = 8, CLOSE = 9 };
enum { HEADER = 16, BODY_MAX = 1 << 20, CREDIT_AT_FIRST = 256 << 10, PATH_SIZE = 300 };

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int guest_fd = -1;
static unsigned long long connection; /* the number that the host has given it */

static void a_moment(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 10 * 1000 * 1000 }, NULL);
}

/* ---- the boot ---- */

static void load_modules(void)
{
	FILE *order = fopen("/modules/order", "re");
	char name[200], path[PATH_SIZE];

	while (order && fgets(name, sizeof(name), order)) {
		name[strcspn(name, "\n")] = '\0';
		snprintf(path, sizeof(path), "/modules/%s", name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			syscall(SYS_finit_module, fd, "", 0);
			close(fd);
		}
	}
	if (order)
		fclose(order);
}

static bool has_name(const char *port, const char *name)
{
	char path[PATH_SIZE], text[64] = "";

	snprintf(path, sizeof(path), "/sys/class/virtio-ports/%.200s/name", port);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	return n > 0 && strncmp(text, name, strlen(name)) == 0 && text[strlen(name)] == '\n';
}

/* Ports come a moment after their driver. */
static int open_port(const char *name)
{
	for (;; a_moment()) {
		DIR *dir = opendir("/sys/class/virtio-ports");
		char path[PATH_SIZE] = "";

		for (const struct dirent *entry; dir && (entry = readdir(dir));)
			if (entry->d_name[0] != '.' && has_name(entry->d_name, name))
				snprintf(path, sizeof(path), "/dev/%.200s", entry->d_name);
		if (dir)
			closedir(dir);
		int fd = path[0] ? open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY) : -1;
		if (fd >= 0)
			return fd;
	}
}

/* ---- frames ---- */

static bool host_is_there(void)
{
	struct pollfd ready = { .fd = guest_fd };

	return poll(&ready, 1, 0) >= 0 && !(ready.revents & POLLHUP);
}

/* What the host does not take any more is left. */
static void put(const void *bytes, size_t size)
{
	const char *at = bytes;

	while (size > 0 && host_is_there()) {
		ssize_t n = write(guest_fd, at, size);

		if (n > 0) {
			at += n;
			size -= (size_t) n;
		} else if (n == 0 || errno == EAGAIN || errno == EINTR) {
			a_moment();
		} else {
			return;
		}
	}
}

static void put_header(uint32_t size, uint16_t type, uint64_t id)
{
	char header[HEADER] = {};

	memcpy(header, &size, sizeof(size));
	memcpy(header + 4, &type, sizeof(type));
	memcpy(header + 8, &id, sizeof(id));
	put(header, sizeof(header));
}

static void say(uint16_t type, uint64_t id, const char *text)
{
	put_header((uint32_t) strlen(text), type, id);
	put(text, strlen(text));
}

/* A hello of the connection `number`, which begins as `text` does. */
static void say_hello(unsigned long long number, const char *text)
{
	char body[200];

	snprintf(body, sizeof(body), "%s,\"connection\":%llu}", text, number);
	say(HELLO, number, body);
}

#define RUNNING "{\"protocol\":1,\"state\":\"running\""
#define BOOTING "{\"protocol\":1,\"state\":\"booting\""

static void say_data(uint64_t id, char channel, const char *bytes, size_t size)
{
	put_header((uint32_t) size + 1, DATA, id);
	put(&channel, 1);
	put(bytes, size);
}

/* False: the host has gone. */
static bool take(void *bytes, size_t size)
{
	char *at = bytes;

	while (size > 0) {
		ssize_t n = read(guest_fd, at, size);

		if (n > 0) {
			at += n;
			size -= (size_t) n;
		} else if (!host_is_there()) {
			return false;
		} else {
			a_moment();
		}
	}
	return true;
}

struct frame {
	uint16_t type;
	uint64_t id;
	char body[BODY_MAX + 1];
};

/* False: the host has gone, or says what no host says. */
static bool take_frame(struct frame *frame)
{
	char header[HEADER];
	uint32_t size;

	if (!take(header, sizeof(header)))
		return false;
	memcpy(&size, header, sizeof(size));
	memcpy(&frame->type, header + 4, sizeof(frame->type));
	memcpy(&frame->id, header + 8, sizeof(frame->id));
	if (size > BODY_MAX || !take(frame->body, size))
		return false;
	frame->body[size] = '\0';
	return true;
}

static void take_number(const struct frame *frame)
{
	const char *at = strstr(frame->body, "\"connection\":");

	connection = at ? strtoull(at + strlen("\"connection\":"), NULL, 10) : 0;
}

/* What the host has said in an earlier connection nobody wants to know. */
static void forget(void)
{
	char rest[4096];

	while (read(guest_fd, rest, sizeof(rest)) > 0)
		;
}

/* Until it has said hello. */
static void await_host(void)
{
	static struct frame frame;

	do {
		while (!host_is_there()) {
			forget();
			a_moment();
		}
	} while (!take_frame(&frame) || frame.type != HELLO);
	take_number(&frame);
}

/* It may have gone and come back unseen: nobody waits for that for ever. */
static void await_its_end(void)
{
	enum { MOMENTS_MAX = 3000 };

	for (int i = 0; host_is_there() && i < MOMENTS_MAX; i++) {
		forget();
		a_moment();
	}
}

/* ---- lies while it boots ---- */

static void noise(void)
{
	char bytes[64];

	memset(bytes, 0xff, sizeof(bytes));
	put(bytes, sizeof(bytes));
}

static void no_hello(void)
{
	say(STATUS, 0, "{\"state\":\"running\"}");
}

static void another_protocol(void)
{
	say_hello(connection, "{\"protocol\":7,\"state\":\"running\"");
}

static void another_state(void)
{
	say_hello(connection, "{\"protocol\":1,\"state\":\"dancing\"");
}

static void no_json(void)
{
	say(HELLO, connection, "{\"protocol\":1,\"state\":\"\033[31mrunning");
}

/* That of another connection is none. */
static void hello_twice(void)
{
	say_hello(connection + 1, BOOTING);
	say_hello(connection, BOOTING);
	say_hello(connection, BOOTING);
}

static void anew_and_anew(void)
{
	for (int i = 0; i < 100; i++)
		say_hello(0, BOOTING);
}

static void no_such_stream(void)
{
	say_hello(connection, BOOTING);
	say(CLOSE, 99, "{\"exit_code\":0}");
}

static void an_order(void)
{
	say_hello(connection, BOOTING);
	say(ASSIGN, 1, "{\"kind\":\"instance\"}");
}

/* ---- lies to `exec` ---- */

static void more_than_it_may(uint64_t id)
{
	static char bytes[CREDIT_AT_FIRST + 1];

	/* At once: for what has come credit is given back. */
	say_data(id, 1, bytes, sizeof(bytes));
}

static void credit_for_nothing(uint64_t id)
{
	uint32_t bytes = 1 << 20;

	put_header(sizeof(bytes), CREDIT, id);
	put(&bytes, sizeof(bytes));
}

static void no_such_code(uint64_t id)
{
	say(CLOSE, id, "{\"exit_code\":4242}");
}

static void no_such_channel(uint64_t id)
{
	say_data(id, 0, "input", 5);
}

/* ---- the machine ---- */

static void turn_off(void)
{
	static const char line[] = "exit 4000\n";
	int fd = open_port("brume.status");
	ssize_t n = write(fd, line, sizeof(line) - 1);

	(void) n;
	reboot(RB_POWER_OFF);
}

static void answer(uint64_t id, const char *body)
{
	static void (*const lies[])(uint64_t) = { more_than_it_may, credit_for_nothing,
						  no_such_code, no_such_channel };
	static const char numbers[] = "{\"memory\":{\"total_bytes\":9007199254740993,"
				      "\"available_bytes\":-1}}";
	static size_t next;

	if (strstr(body, "\"signal\"")) {
		turn_off();
	} else if (strstr(body, "\"stats\"")) {
		say_data(id, 1, numbers, sizeof(numbers) - 1);
		say(CLOSE, id, "{\"exit_code\":0}");
	} else if (next < COUNT(lies)) {
		lies[next++](id);
	} else {
		say_data(id, 1, "honest\n", 7);
		say(CLOSE, id, "{\"exit_code\":5}");
	}
}

/* One connection, until the host has had enough. */
static void serve(void)
{
	static struct frame frame;

	say_hello(connection, RUNNING);
	while (take_frame(&frame)) {
		/* The host has come anew. */
		if (frame.type == HELLO) {
			take_number(&frame);
			say_hello(connection, RUNNING);
		}
		if (frame.type == OPEN)
			answer(frame.id, frame.body);
	}
}

int main(void)
{
	static void (*const lies[])(void) = { noise,         no_hello,       another_protocol,
					      another_state, no_json,        hello_twice,
					      anew_and_anew, no_such_stream, an_order };
	static const char *const types[] = { "proc", "sysfs", "devtmpfs" };
	static const char *const targets[] = { "/proc", "/sys", "/dev" };
	int null_fd;

	for (size_t i = 0; i < COUNT(types); i++) {
		mkdir(targets[i], 0755);
		mount(types[i], targets[i], types[i], 0, NULL);
	}
	/* No other descriptor gets a number of the standard ones. */
	while ((null_fd = open("/dev/null", O_RDWR)) >= 0 && null_fd < STDERR_FILENO)
		;
	load_modules();
	guest_fd = open_port("brume.guest");
	for (size_t i = 0; i < COUNT(lies); i++) {
		await_host();
		lies[i]();
		await_its_end();
	}
	for (;;) {
		await_host();
		serve();
		await_its_end();
	}
}
