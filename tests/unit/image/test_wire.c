#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "image/wire_internal.h"

struct pair {
	int ours, theirs;
	struct wire wire;
};

static void open_pair(struct pair *pair)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	*pair = (struct pair){ fds[0], fds[1], { .fd = fds[0] } };
}

static void close_pair(struct pair *pair)
{
	wire_done(&pair->wire);
	close(pair->ours);
	fd_close(pair->theirs);
}

static void carries_objects(void **state)
{
	struct pair pair;

	(void) state;
	open_pair(&pair);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wire_send(pair.theirs, json_pack("{s:i}", "n", i)), 0);
	for (int i = 0; i < 3; i++) {
		AUTO(json_decref) json_t *object = NULL;

		assert_int_equal(wire_receive(&pair.wire, &object, NULL), 0);
		assert_int_equal(json_integer_value(json_object_get(object, "n")), i);
	}
	close(pair.theirs);
	pair.theirs = -1;

	json_t *none = NULL;
	struct error err = {};
	assert_int_equal(wire_receive(&pair.wire, &none, &err), -EPIPE);
	close_pair(&pair);
}

static void refuses_what_is_no_object(void **state)
{
	static const char *const lines[] = { "[]\n", "1\n", "\n", "{\n", "{\"a\":1}x\n", "\xff\n" };

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
		struct pair pair;
		json_t *object = NULL;

		open_pair(&pair);
		assert_int_equal(file_write_all(pair.theirs, lines[i], strlen(lines[i])), 0);
		assert_int_equal(wire_receive(&pair.wire, &object, NULL), -EINVAL);
		assert_null(object);
		close_pair(&pair);
	}
}

static void refuses_endless_lines(void **state)
{
	AUTO(free) char *line = mem_zalloc(65536);
	struct pair pair;
	json_t *object = NULL;
	int r = 0;

	(void) state;
	memset(line, ' ', 65536);
	open_pair(&pair);
	while (r == 0 && pair.wire.in.size < 2 * (size_t) WIRE_LINE_MAX) {
		assert_int_equal(file_write_all(pair.theirs, line, 65536), 0);
		for (size_t before = pair.wire.in.size; pair.wire.in.size < before + 65536;)
			assert_true(wire_fill(&pair.wire) > 0);
		r = wire_next(&pair.wire, &object, NULL);
	}
	assert_int_equal(r, -EFBIG);
	close_pair(&pair);
}

static void writes_names_of_any_bytes(void **state)
{
	static const char *const names[] = { "plain/name", "", "50% \xff\x01\n\"\\ \xc3\xa4" };
	static const char *const bad[] = { "%", "%0", "%zz", "%00", "a%1" };
	char *path = NULL;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		AUTO(free) char *text = wire_path_encode(names[i]);
		AUTO(free) char *back = NULL;

		for (const char *p = text; *p; p++)
			assert_true(*p >= ' ' && *p < 0x7f);
		assert_int_equal(wire_path_decode(text, &back), 0);
		assert_string_equal(back, names[i]);
	}
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_int_equal(wire_path_decode(bad[i], &path), -EINVAL);
	assert_null(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(carries_objects),
		cmocka_unit_test(refuses_what_is_no_object),
		cmocka_unit_test(refuses_endless_lines),
		cmocka_unit_test(writes_names_of_any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
