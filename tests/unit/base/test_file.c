#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

static int folder = -1;
static char folder_path[] = "/tmp/brume-test-file-XXXXXX";

static int make_folder(void **state)
{
	(void) state;
	if (!mkdtemp(folder_path))
		return -1;
	folder = open(folder_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return folder < 0 ? -1 : 0;
}

static int remove_folder(void **state)
{
	(void) state;
	close(folder);
	return file_remove_tree(AT_FDCWD, folder_path);
}

static void reads_within_bounds(void **state)
{
	AUTO(free) char *text = NULL;
	AUTO(free) char *proc = NULL;
	char *untouched = NULL;
	size_t size = 0;

	(void) state;
	assert_int_equal(file_write_atomic(folder, "a", "hello", 5, 0600, 0), 0);
	assert_int_equal(file_read(folder, "a", 5, &text, &size), 0);
	assert_string_equal(text, "hello");
	assert_int_equal(size, 5);
	assert_int_equal(file_read(folder, "a", 4, &untouched, NULL), -EFBIG);
	assert_int_equal(file_read(folder, "none", 4, &untouched, NULL), -ENOENT);
	assert_null(untouched);
	assert_int_equal(file_read(AT_FDCWD, "/proc/self/status", 65536, &proc, NULL), 0);
	assert_non_null(strstr(proc, "Name:"));
}

static void replaces_atomically(void **state)
{
	AUTO(free) char *text = NULL;
	struct stat st;

	(void) state;
	assert_int_equal(file_write_atomic(folder, "b", "old", 3, 0644, 1), 0);
	assert_int_equal(file_write_atomic(folder, "b", "new!", 4, 0600, 1), 0);
	assert_int_equal(file_read(folder, "b", 10, &text, NULL), 0);
	assert_string_equal(text, "new!");
	assert_int_equal(fstatat(folder, "b", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	/* A failure leaves nothing behind. */
	assert_int_equal(file_write_atomic(folder, "no/such/folder", "x", 1, 0600, 0), -ENOENT);
	assert_int_equal(mkdirat(folder, "is-a-folder", 0755), 0);
	assert_int_equal(file_write_atomic(folder, "is-a-folder", "x", 1, 0600, 0), -EISDIR);
	assert_int_equal(unlinkat(folder, "is-a-folder", AT_REMOVEDIR), 0);
	assert_int_equal(unlinkat(folder, "b", 0), 0);
}

static void writes_to_kernel_files(void **state)
{
	(void) state;
	assert_int_equal(file_write_kernel(AT_FDCWD, "/dev/null", "1"), 0);
	assert_int_equal(file_write_kernel(AT_FDCWD, "/proc/self/no-such", "1"), -ENOENT);
}

static void removes_trees_but_not_what_links_point_to(void **state)
{
	(void) state;
	AUTO(free) char *deep = NULL;
	assert_true(asprintf(&deep, "%s/tree/one/two", folder_path) > 0);
	assert_int_equal(file_mkdir_all(deep, 0755), 0);
	assert_int_equal(file_mkdir_all(deep, 0755), 0);
	assert_int_equal(file_write_atomic(folder, "kept", "x", 1, 0600, 0), 0);
	assert_int_equal(symlinkat("../kept", folder, "tree/link"), 0);
	assert_int_equal(symlinkat("/", folder, "tree/one/root"), 0);
	assert_int_equal(file_remove_tree(folder, "tree"), 0);
	assert_int_equal(faccessat(folder, "tree", F_OK, 0), -1);
	assert_int_equal(faccessat(folder, "kept", F_OK, 0), 0);
	assert_int_equal(file_remove_tree(folder, "tree"), 0);
}

static void makes_no_folder_below_a_file(void **state)
{
	AUTO(free) char *path = NULL;

	(void) state;
	assert_int_equal(file_write_atomic(folder, "file", "x", 1, 0600, 0), 0);
	assert_true(asprintf(&path, "%s/file/below", folder_path) > 0);
	assert_int_equal(file_mkdir_all(path, 0755), -ENOTDIR);
}

static void one_holder_of_a_lock(void **state)
{
	AUTO(free) char *path = NULL;
	AUTO(free) char *text = NULL;
	char pid[16];

	(void) state;
	assert_true(asprintf(&path, "%s/x.lock", folder_path) > 0);
	int fd = file_lock_pid(path);
	assert_true(fd >= 0);
	assert_int_equal(file_read(AT_FDCWD, path, 20, &text, NULL), 0);
	snprintf(pid, sizeof(pid), "%d\n", getpid());
	assert_string_equal(text, pid);
	assert_int_equal(file_lock_pid(path), -EWOULDBLOCK);
	close(fd);
	fd = file_lock_pid(path);
	assert_true(fd >= 0);
	close(fd);
}

static void writes_all_through_a_pipe(void **state)
{
	static char data[300000];
	int fds[2];

	(void) state;
	memset(data, 'x', sizeof(data));
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(fds[0]);
		_exit(file_write_all(fds[1], data, sizeof(data)) == 0 ? 0 : 1);
	}
	close(fds[1]);
	AUTO(free) char *got = NULL;
	size_t size = 0;
	assert_int_equal(file_read_fd(fds[0], sizeof(data), &got, &size), 0);
	assert_int_equal(size, sizeof(data));
	close(fds[0]);
	int status = -1;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_within_bounds),
		cmocka_unit_test(replaces_atomically),
		cmocka_unit_test(writes_to_kernel_files),
		cmocka_unit_test(removes_trees_but_not_what_links_point_to),
		cmocka_unit_test(makes_no_folder_below_a_file),
		cmocka_unit_test(one_holder_of_a_lock),
		cmocka_unit_test(writes_all_through_a_pipe),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
