#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

/* What the lines written by fn look like on a pipe. */
static void capture(void (*fn)(void), char *ret, size_t size)
{
	int fds[2];
	int saved = dup(STDERR_FILENO);

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	dup2(fds[1], STDERR_FILENO);
	fn();
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[1]);
	ssize_t n = read(fds[0], ret, size - 1);
	ret[n > 0 ? n : 0] = '\0';
	close(fds[0]);
}

static void write_lines(void)
{
	log_set_program("test");
	errno = ENOENT;
	log_write(LOG_LEVEL_INFO, "../src/net/port.c", "port %d\nup", 7);
	log_write(LOG_LEVEL_DEBUG, "src/net/port.c", "net detail");
	log_write(LOG_LEVEL_DEBUG, "src/api/link.c", "api detail");
	log_write(LOG_LEVEL_WARNING, "src/agent/plan.c", "agent warning");
	assert_int_equal(errno, ENOENT);
}

static void levels_per_folder(void **state)
{
	char text[1024];

	(void) state;
	assert_int_equal(log_set_levels("info,net=debug,agent=error"), 0);
	capture(write_lines, text, sizeof(text));
	assert_string_equal(text, "<6>test: port 7 up\n<7>test: net detail\n");
	assert_int_equal(log_set_levels("debug"), 0);
	capture(write_lines, text, sizeof(text));
	assert_non_null(strstr(text, "api detail"));
	assert_non_null(strstr(text, "<4>test: agent warning\n"));
}

static void write_long(void)
{
	char words[4000];

	log_set_program("test");
	memset(words, 'x', sizeof(words));
	words[sizeof(words) - 1] = '\0';
	log_write(LOG_LEVEL_ERROR, "src/a/b.c", "%s", words);
}

static void long_lines_are_cut(void **state)
{
	char text[5000];

	(void) state;
	capture(write_long, text, sizeof(text));
	assert_true(strlen(text) <= 1024);
	assert_int_equal(text[strlen(text) - 1], '\n');
}

static void bad_levels_change_nothing(void **state)
{
	static const char *const bad[] = { "loud", "info,net=loud",
					   "net=", "a-folder-with-a-long-name=info" };
	char text[1024];

	(void) state;
	assert_int_equal(log_set_levels("warning"), 0);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_int_equal(log_set_levels(bad[i]), -EINVAL);
	assert_int_equal(log_set_levels("warning"), 0);
	capture(write_lines, text, sizeof(text));
	assert_string_equal(text, "<4>test: agent warning\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(levels_per_folder),
		cmocka_unit_test(long_lines_are_cut),
		cmocka_unit_test(bad_levels_change_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
