#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "codec/frame.h"

static void writes_what_it_reads(void **state)
{
	AUTO(strbuf_done) struct strbuf buf = {};
	AUTO(json_decref) json_t *body = json_pack("{s:i}", "a", 1);
	AUTO(json_decref) json_t *read = NULL;
	struct frame frame;
	size_t used = 0;

	(void) state;
	assert_int_equal(frame_append_json(&buf, FRAME_STATUS, 0x1122334455667788, body), 0);
	assert_memory_equal(buf.data,
			    "\x07\0\0\0\x05\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11{\"a\":1}", 23);
	assert_int_equal(frame_decode(buf.data, buf.size, &frame, &used, NULL), 1);
	assert_int_equal(used, 23);
	assert_int_equal(frame.type, FRAME_STATUS);
	assert_true(frame.id == 0x1122334455667788);
	assert_int_equal(frame_json(&frame, &read, NULL), 0);
	assert_true(json_equal(read, body));
	for (size_t size = 0; size < 23; size++)
		assert_int_equal(frame_decode(buf.data, size, &frame, &used, NULL), 0);
}

static void is_found_among_other_bytes(void **state)
{
	AUTO(strbuf_done) struct strbuf buf = {};

	(void) state;
	assert_true(frame_find(NULL, 0, FRAME_HELLO, 7) == SIZE_MAX);
	strbuf_puts(&buf, "abcde");
	frame_append(&buf, FRAME_HELLO, 8, "{}", 2);
	frame_append(&buf, FRAME_HELLO, 7, "{}", 2);
	assert_true(frame_find(buf.data, buf.size, FRAME_HELLO, 7) == 5 + 18);
	assert_true(frame_find(buf.data, buf.size, FRAME_HELLO, 8) == 5);
	assert_true(frame_find(buf.data, buf.size, FRAME_STATUS, 7) == SIZE_MAX);
	/* The header is enough, but all of it. */
	assert_true(frame_find(buf.data, buf.size - 2, FRAME_HELLO, 7) == 5 + 18);
	assert_true(frame_find(buf.data, buf.size - 3, FRAME_HELLO, 7) == SIZE_MAX);
	assert_true(frame_find(buf.data + 5 + 18, 18, FRAME_HELLO, 7) == 0);
}

static void refuses_foreign_bytes(void **state)
{
	struct error err = {};
	struct frame frame;
	size_t used;

	(void) state;
	assert_int_equal(frame_decode("GET / HTTP/1.1\r\n\r\n", 18, &frame, &used, &err), -EPROTO);
	assert_int_equal(frame_decode("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, &frame, &used, &err),
			 -EPROTO);
	assert_int_equal(
		frame_decode("\0\0\0\0\x0d\0\0\0\0\0\0\0\0\0\0\0", 16, &frame, &used, &err),
		-EPROTO);
	assert_int_equal(
		frame_decode("\0\0\0\0\x01\0\x01\0\0\0\0\0\0\0\0\0", 16, &frame, &used, &err),
		-EPROTO);
	/* One byte over the limit is refused from the header alone. */
	assert_int_equal(
		frame_decode("\x01\0\x10\0\x07\0\0\0\0\0\0\0\0\0\0\0", 16, &frame, &used, &err),
		-EPROTO);
	assert_string_equal(err.msg,
			    "agent link: stream_data frame of 1048577 bytes, at most 1048576 are "
			    "allowed");
	assert_int_equal(
		frame_decode("\0\0\x10\0\x07\0\0\0\0\0\0\0\0\0\0\0", 16, &frame, &used, &err), 0);
}

static void stream_frames(void **state)
{
	AUTO(strbuf_done) struct strbuf buf = {};
	enum frame_channel channel;
	struct frame frame;
	const char *data;
	uint32_t bytes;
	size_t used, size;

	(void) state;
	frame_append_data(&buf, 5, FRAME_CHANNEL_ERR, "xyz", 3);
	assert_int_equal(frame_decode(buf.data, buf.size, &frame, &used, NULL), 1);
	assert_int_equal(frame_data(&frame, &channel, &data, &size, NULL), 0);
	assert_int_equal(channel, FRAME_CHANNEL_ERR);
	assert_int_equal(size, 3);
	assert_memory_equal(data, "xyz", 3);
	assert_int_equal(frame_credit(&frame, &bytes, NULL), 0);

	frame.size = 0;
	assert_int_equal(frame_data(&frame, &channel, &data, &size, NULL), -EPROTO);
	frame.size = 1;
	frame.body = "\x04";
	assert_int_equal(frame_data(&frame, &channel, &data, &size, NULL), -EPROTO);
	assert_int_equal(frame_credit(&frame, &bytes, NULL), -EPROTO);

	strbuf_done(&buf);
	frame_append_credit(&buf, 5, 65536);
	assert_int_equal(frame_decode(buf.data, buf.size, &frame, &used, NULL), 1);
	assert_int_equal(frame_credit(&frame, &bytes, NULL), 0);
	assert_int_equal(bytes, 65536);
}

static void bodies_must_be_objects(void **state)
{
	struct frame frame = { .type = FRAME_HELLO, .body = "[1]", .size = 3 };
	struct error err = {};
	json_t *value = NULL;

	(void) state;
	assert_int_equal(frame_json(&frame, &value, &err), -EPROTO);
	assert_string_equal(err.msg, "agent link: hello: the body must be an object");
	frame.body = "{]}";
	assert_int_equal(frame_json(&frame, &value, &err), -EPROTO);
	assert_null(value);
}

static void too_large_is_not_written(void **state)
{
	AUTO(strbuf_done) struct strbuf buf = {};
	AUTO(free) char *text = malloc(FRAME_BODY_MAX + 1);

	(void) state;
	memset(text, 'x', FRAME_BODY_MAX);
	text[FRAME_BODY_MAX] = '\0';
	AUTO(json_decref) json_t *body = json_pack("{s:s}", "a", text);
	assert_int_equal(frame_append_json(&buf, FRAME_ASSIGN, 0, body), -EMSGSIZE);
	assert_int_equal(buf.size, 0);
}

struct seen {
	uint64_t ids[8];
	unsigned int count;
	unsigned int stop_at;
};

static int on_frame(const struct frame *frame, void *data, struct error *err)
{
	struct seen *seen = data;

	seen->ids[seen->count++] = frame->id;
	return seen->count == seen->stop_at ? error_say(err, -EPROTO, "enough") : 0;
}

static void reads_all_complete_frames(void **state)
{
	AUTO(strbuf_done) struct strbuf buf = {};
	struct seen seen = {};

	(void) state;
	for (uint64_t id = 1; id <= 3; id++)
		frame_append(&buf, FRAME_GOODBYE, id, "{}", 2);
	buf.size -= 1;
	assert_int_equal(frame_read_all(&buf, on_frame, &seen, NULL), 0);
	assert_int_equal(seen.count, 2);
	assert_int_equal(buf.size, FRAME_HEADER_SIZE + 1);
	strbuf_puts(&buf, "}");
	assert_int_equal(frame_read_all(&buf, on_frame, &seen, NULL), 0);
	assert_int_equal(seen.count, 3);
	assert_true(seen.ids[2] == 3);
	assert_int_equal(buf.size, 0);
	assert_int_equal(frame_read_all(&buf, on_frame, &seen, NULL), 0);

	seen = (struct seen){ .stop_at = 1 };
	frame_append(&buf, FRAME_GOODBYE, 8, "{}", 2);
	frame_append(&buf, FRAME_GOODBYE, 9, "{}", 2);
	assert_int_equal(frame_read_all(&buf, on_frame, &seen, NULL), -EPROTO);
	assert_int_equal(seen.count, 1);
}

static void types_have_names(void **state)
{
	(void) state;
	assert_string_equal(frame_type_name(FRAME_HELLO), "hello");
	assert_string_equal(frame_type_name(FRAME_GOODBYE), "goodbye");
	assert_string_equal(frame_type_name(FRAME_CALL), "call");
	assert_string_equal(frame_type_name(FRAME_RETURN), "return");
	assert_string_equal(frame_type_name((enum frame_type) 99), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_what_it_reads),
		cmocka_unit_test(is_found_among_other_bytes),
		cmocka_unit_test(refuses_foreign_bytes),
		cmocka_unit_test(stream_frames),
		cmocka_unit_test(bodies_must_be_objects),
		cmocka_unit_test(too_large_is_not_written),
		cmocka_unit_test(reads_all_complete_frames),
		cmocka_unit_test(types_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
