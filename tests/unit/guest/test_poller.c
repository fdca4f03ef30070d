#include "guest/poller.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/port.h"

struct state {
	struct poller *poller;
	int read_fd, write_fd;
	struct poller_watch *reader, *timer;
	int reads, timers, ends;
};

static int set_up(void **test_state)
{
	static struct state state;
	int fds[2];

	state = (struct state){};
	assert_int_equal(poller_new(&state.poller, NULL), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	state.read_fd = fds[0];
	state.write_fd = fds[1];
	*test_state = &state;
	return 0;
}

static int tear_down(void **test_state)
{
	struct state *state = *test_state;

	poller_free(state->poller);
	fd_close(state->read_fd);
	fd_close(state->write_fd);
	return 0;
}

static void on_read(void *data)
{
	struct state *state = data;
	char c;

	while (read(state->read_fd, &c, 1) == 1)
		state->reads++;
	if (state->reads == 3)
		poller_stop(state->poller);
}

static void on_timer(void *data)
{
	struct state *state = data;

	state->timers++;
	assert_int_equal(write(state->write_fd, "xyz", 3), 3);
	/* Also from within its own callback. */
	poller_unwatch(state->timer);
}

static void test_timer_and_pipe(void **test_state)
{
	struct state *state = *test_state;

	assert_int_equal(
		poller_watch_fd(state->poller, state->read_fd, on_read, state, &state->reader), 0);
	state->timer = poller_watch_timer(state->poller, 1, on_timer, state);
	assert_int_equal(poller_run(state->poller), 0);
	assert_int_equal(state->reads, 3);
	assert_int_equal(state->timers, 1);
}

static void on_pump_end(void *data)
{
	struct state *state = data;

	state->ends++;
	poller_stop(state->poller);
}

/* What goes in comes out, then the end comes out too. */
static void test_pump(void **test_state)
{
	struct state *state = *test_state;
	struct pump *pump;
	char buffer[8];
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	struct pump_options options = { .from = state->read_fd,
					.to = fds[1],
					.ended = on_pump_end,
					.data = state,
					.at_end = "!" };
	state->read_fd = -1;
	assert_int_equal(pump_new(state->poller, &options, &pump, NULL), 0);
	assert_int_equal(write(state->write_fd, "hello", 5), 5);
	close(state->write_fd);
	state->write_fd = -1;
	assert_int_equal(poller_run(state->poller), 0);
	assert_int_equal(state->ends, 1);
	assert_int_equal(read(fds[0], buffer, sizeof(buffer)), 6);
	assert_memory_equal(buffer, "hello!", 6);
	assert_int_equal(read(fds[0], buffer, sizeof(buffer)), 0);
	close(fds[0]);
	pump_free(pump);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_timer_and_pipe, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pump, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
