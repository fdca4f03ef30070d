#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/listen.h"
#include "base/mem.h"

static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	if (connect(fd, (struct sockaddr *) &addr, sizeof(addr)) == 0)
		return fd;
	close(fd);
	return -errno;
}

static void a_path_is_taken_over(void **state)
{
	char folder[] = "/tmp/brume-test-listen-XXXXXX";
	AUTO(fd_close) int first = -1;
	AUTO(fd_close) int second = -1;
	AUTO(fd_close) int client = -1;
	struct stat st;

	(void) state;
	assert_non_null(mkdtemp(folder));
	AUTO(free) char *path = mem_printf("%s/sock", folder);
	assert_int_equal(listen_unix(path, 0660, getegid(), &first, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(listen_unix(path, 0600, getegid(), &second, NULL), 0);
	client = connect_to(path);
	assert_true(client >= 0);
	assert_int_equal(accept(first, NULL, NULL), -1);
	assert_true(accept(second, NULL, NULL) >= 0);
	assert_int_equal(file_remove_tree(AT_FDCWD, folder), 0);
}

static void what_cannot_be_is_said(void **state)
{
	static const char *const bad[] = {
		"", "8443", "host:8443", "127.0.0.1:x", "::1:80", "[::1]"
	};
	AUTO(free) char *path = mem_zalloc(300);
	struct error err = {};
	int fd = -1;

	(void) state;
	memset(path, 'x', 299);
	assert_int_equal(listen_unix(path, 0600, 0, &fd, &err), -ENAMETOOLONG);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_int_equal(listen_tcp("--listen", bad[i], &fd, &err), -EINVAL);
		assert_non_null(strstr(err.msg, "--listen"));
	}
	assert_int_equal(fd, -1);
}

static void an_address(void **state)
{
	AUTO(fd_close) int fd = -1;
	struct sockaddr_in addr = {};
	socklen_t size = sizeof(addr);

	(void) state;
	assert_int_equal(listen_tcp("--listen", "127.0.0.1:0", &fd, NULL), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) &addr, &size), 0);
	assert_int_equal(addr.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	assert_int_not_equal(addr.sin_port, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_is_taken_over),
		cmocka_unit_test(what_cannot_be_is_said),
		cmocka_unit_test(an_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
