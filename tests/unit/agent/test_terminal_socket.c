#include "agent/terminal_socket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/mem.h"
#include "kern/sock.h"

struct taken {
	unsigned int count;
	int fd;
};

static void take(void *data, int terminal_fd)
{
	struct taken *taken = data;

	taken->count++;
	taken->fd = terminal_fd;
}

struct fixture {
	char dir[32];
	char *path;
	sd_event *event;
	struct taken taken;
	struct terminal_socket socket;
};

static int setup(void **state)
{
	struct fixture *f = mem_new0(struct fixture);

	*f = (struct fixture){ .dir = "/tmp/test-terminal-XXXXXX", .taken.fd = -1 };
	assert_non_null(mkdtemp(f->dir));
	f->path = mem_printf("%s/socket", f->dir);
	assert_true(sd_event_new(&f->event) >= 0);
	f->socket = (struct terminal_socket){ .take = take, .data = &f->taken, .fd = -1 };
	assert_int_equal(
		terminal_socket_open(&f->socket, f->event, mem_printf("%s", f->path), NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	terminal_socket_done(&f->socket);
	assert_int_equal(access(f->path, F_OK), -1);
	fd_close(f->taken.fd);
	sd_event_unref(f->event);
	file_remove_tree(AT_FDCWD, f->dir);
	free(f->path);
	free(f);
	return 0;
}

static void send_terminals(int fd, size_t count)
{
	int fds[2] = { STDIN_FILENO, STDIN_FILENO };

	assert_int_equal(sock_send(fd, "tty", 3, fds, count), 0);
}

static void test_by_the_loop(void **state)
{
	struct fixture *f = *state;
	AUTO(fd_close) int peer = sock_connect(f->path, SOCK_STREAM);

	assert_true(peer >= 0);
	assert_true(sd_event_run(f->event, 1000000) > 0);
	assert_int_equal(f->taken.count, 0);
	/* Who sends more than one gets the others closed. */
	send_terminals(peer, 2);
	assert_true(sd_event_run(f->event, 1000000) > 0);
	assert_int_equal(f->taken.count, 1);
	assert_true(f->taken.fd >= 0);
	terminal_socket_look(&f->socket);
	assert_int_equal(f->taken.count, 1);
}

static void test_by_looking(void **state)
{
	struct fixture *f = *state;

	terminal_socket_look(&f->socket);
	assert_int_equal(f->taken.count, 0);
	AUTO(fd_close) int peer = sock_connect(f->path, SOCK_STREAM);
	send_terminals(peer, 1);
	terminal_socket_look(&f->socket);
	assert_int_equal(f->taken.count, 1);
}

static void test_nothing_is_sent(void **state)
{
	struct fixture *f = *state;

	fd_close(sock_connect(f->path, SOCK_STREAM));
	terminal_socket_look(&f->socket);
	assert_int_equal(f->taken.count, 0);
	assert_int_equal(f->socket.fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_by_the_loop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_by_looking, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_sent, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
