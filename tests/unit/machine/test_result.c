#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "machine/machine.h"
#include "machine/ring.h"

static int setup(void **state)
{
	char *dir = mem_strdup("/tmp/brume-result-XXXXXX");

	assert_non_null(mkdtemp(dir));
	*state = dir;
	return 0;
}

static int teardown(void **state)
{
	file_remove_tree(AT_FDCWD, *state);
	free(*state);
	return 0;
}

static void put(const char *dir, const char *name, const void *data, size_t size)
{
	AUTO(free) char *path = mem_printf("%s/%s", dir, name);

	assert_int_equal(file_write_atomic(AT_FDCWD, path, data, size, 0600, 0), 0);
}

static int exit_code(const char *dir, const char *status, int *ret, struct error *err)
{
	put(dir, "status", status, strlen(status));
	return machine_exit_code(dir, ret, err);
}

static void tells_how_the_command_ended(void **state)
{
	struct error err = {};
	int code = -1;

	assert_int_equal(machine_exit_code(*state, &code, &err), 0);
	assert_int_equal(exit_code(*state, "exit 0\n", &code, &err), 1);
	assert_int_equal(code, 0);
	assert_int_equal(exit_code(*state, "exit 137\nexit 1\n", &code, &err), 1);
	assert_int_equal(code, 137);
	assert_int_equal(exit_code(*state, "error no \x1b[31msuch file\n", &code, &err), -EIO);
	assert_string_equal(err.msg, "the guest could not start: no \\x1b[31msuch file");
	assert_int_equal(exit_code(*state, "monitor QEMU was ended by signal 9\n", &code, &err),
			 -EIO);
	assert_string_equal(err.msg, "the machine could not run: QEMU was ended by signal 9");
	assert_int_equal(exit_code(*state, "refused 127 /no: No such file\n", &code, &err),
			 -ENOENT);
	assert_string_equal(err.msg, "/no: No such file");
	assert_int_equal(exit_code(*state, "refused 126 /etc: Is a folder\n", &code, &err),
			 -ENOEXEC);
	assert_int_equal(code, 137);
	/* As brume-vmm leaves it when it was killed. */
	assert_int_equal(exit_code(*state, "", &code, &err), 0);
}

static void believes_no_nonsense(void **state)
{
	static const char *const wrong[] = { "exit 256\n",    "exit -1\n", "exit \n", "exit 1x\n",
					     "refused 0 x\n", "\n",        "hello\n" };
	AUTO(free) char *huge = mem_zalloc(1 << 20);
	struct error err = {};
	int code = -1;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(exit_code(*state, wrong[i], &code, &err), -EPROTO);
	memset(huge, '1', (1 << 20) - 1);
	assert_int_equal(exit_code(*state, huge, &code, &err), -EPROTO);
	assert_int_equal(code, -1);
}

/* The folder is the jail's: what lies there may be anything. */
static void follows_nothing(void **state)
{
	AUTO(free) char *status = mem_printf("%s/status", (char *) *state);
	AUTO(free) char *console = mem_printf("%s/console", (char *) *state);
	AUTO(free) char *control = mem_printf("%s/control.sock", (char *) *state);
	AUTO(free) char *words = NULL;
	struct error err = {};
	int code = -1;

	assert_int_equal(symlink("/etc/passwd", status), 0);
	assert_true(machine_exit_code(*state, &code, &err) < 0);
	assert_int_equal(mkfifo(console, 0600), 0);
	assert_int_equal(machine_last_words(MACHINE_QEMU, *state, 100, &words, &err), -EPROTO);
	assert_int_equal(symlink("/run/elsewhere.sock", control), 0);
	assert_int_equal(machine_do(MACHINE_QEMU, *state, MACHINE_PAUSE, &err), -EPROTO);
	assert_int_equal(unlink(control), 0);
	assert_int_equal(machine_do(MACHINE_QEMU, *state, MACHINE_PAUSE, &err), -ECONNREFUSED);
	assert_int_equal(machine_connect_guest(MACHINE_BRUME_VMM, *state, &err), -ECONNREFUSED);
}

static char *words_of(const char *dir, size_t max)
{
	struct error err = {};
	char *words = NULL;

	if (machine_last_words(MACHINE_QEMU, dir, max, &words, &err) < 0)
		fail_msg("%s", err.msg);
	return words;
}

static void last_words_are_clean(void **state)
{
	static const char text[] = "\x1b[2J\x1b[1;1Hone\r\n\ttwo\a\x01\n\x1b]x\x1bMthree\n\n";
	AUTO(free) char *none = words_of(*state, 100);

	assert_string_equal(none, "");
	put(*state, "console", text, sizeof(text) - 1);
	AUTO(free) char *words = words_of(*state, 100);
	assert_string_equal(words, "one\n\ttwo\nxthree");
	AUTO(free) char *few = words_of(*state, 10);
	assert_string_equal(few, "xthree");
	AUTO(free) char *fewer = words_of(*state, 3);
	assert_string_equal(fewer, "ree");
	put(*state, "console", "\x1b", 1);
	AUTO(free) char *cut = words_of(*state, 3);
	assert_string_equal(cut, "");
}

static void last_words_of_a_ring(void **state)
{
	AUTO(fd_close) int dir_fd = open(*state, O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO(ring_free) struct ring *ring = NULL;

	assert_int_equal(ring_new(dir_fd, "console", &ring, NULL), 0);
	for (int i = 0; i < RING_SIZE; i++)
		ring_put(ring, "x\n", 2);
	ring_put(ring, "the end\n", 8);
	AUTO(free) char *words = words_of(*state, 11);
	assert_string_equal(words, "x\nthe end");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(tells_how_the_command_ended, setup, teardown),
		cmocka_unit_test_setup_teardown(believes_no_nonsense, setup, teardown),
		cmocka_unit_test_setup_teardown(follows_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(last_words_are_clean, setup, teardown),
		cmocka_unit_test_setup_teardown(last_words_of_a_ring, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
