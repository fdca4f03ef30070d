#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/mem.h"
#include "kern/sock.h"

static int make_folder(void **state)
{
	*state = mem_strdup("/tmp/brume-test-sock-XXXXXX");
	return mkdtemp(*state) ? 0 : -1;
}

static int remove_folder(void **state)
{
	int r = file_remove_tree(AT_FDCWD, *state);

	free(*state);
	return r;
}

static void pass_message_and_fd(const char *path)
{
	AUTO(fd_close) int listener = sock_listen(path, SOCK_SEQPACKET, 0600);
	assert_true(listener >= 0);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);

	AUTO(fd_close) int client = sock_connect(path, SOCK_SEQPACKET);
	assert_true(client >= 0);
	AUTO(fd_close) int server = sock_accept(listener);
	assert_true(server >= 0);
	uid_t uid;
	pid_t pid;
	assert_int_equal(sock_peer(server, &uid, &pid), 0);
	assert_int_equal(uid, geteuid());
	assert_int_equal(pid, getpid());

	int pipe_fds[2], fds[SOCK_FDS_MAX];
	size_t count = 0;
	char buffer[16];
	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(sock_send(client, "hello", 5, pipe_fds, 2), 0);
	assert_int_equal(sock_recv(server, buffer, sizeof(buffer), fds, &count), 5);
	assert_memory_equal(buffer, "hello", 5);
	assert_int_equal(count, 2);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(read(pipe_fds[0], buffer, 1), 1);
	for (int i = 0; i < 2; i++) {
		close(fds[i]);
		close(pipe_fds[i]);
	}
	assert_int_equal(sock_recv(server, buffer, sizeof(buffer), fds, &count), -EAGAIN);
	assert_int_equal(sock_send(client, "far too long a message", 22, NULL, 0), 0);
	assert_int_equal(sock_recv(server, buffer, sizeof(buffer), fds, &count), -EMSGSIZE);
}

static void passes_messages_and_descriptors(void **state)
{
	AUTO(free) char *path = mem_printf("%s/a.sock", (char *) *state);

	pass_message_and_fd(path);
	/* Again: the file of a listener that died is replaced. */
	pass_message_and_fd(path);
}

static void reaches_long_paths(void **state)
{
	AUTO(free) char *folder = mem_printf("%s/%0100d", (char *) *state, 0);
	AUTO(free) char *path = mem_printf("%s/a.sock", folder);

	assert_int_equal(mkdir(folder, 0700), 0);
	pass_message_and_fd(path);
}

static void tells_when_nobody_listens(void **state)
{
	AUTO(free) char *path = mem_printf("%s/none.sock", (char *) *state);

	assert_int_equal(sock_connect(path, SOCK_SEQPACKET), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passes_messages_and_descriptors),
		cmocka_unit_test(reaches_long_paths),
		cmocka_unit_test(tells_when_nobody_listens),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
