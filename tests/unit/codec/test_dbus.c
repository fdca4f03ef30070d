#include "codec/dbus.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void encode(struct strbuf *out, const char *member, const struct strbuf *body,
		   const char *signature)
{
	struct dbus_call call = { .serial = 7,
				  .destination = "a.b",
				  .path = "/a",
				  .interface = "a.b.C",
				  .member = member,
				  .signature = signature };

	dbus_call_encode(out, &call, body);
}

static void test_there_and_back(void **state)
{
	AUTO(strbuf_done) struct strbuf body = {};
	AUTO(strbuf_done) struct strbuf out = {};
	struct dbus_message message;
	const char *text;
	uint32_t number;
	size_t at = 0;

	(void) state;
	dbus_put_u32(&body, 42);
	dbus_put_text(&body, "unit");
	dbus_put_text(&body, "");
	encode(&out, "Member", &body, "uss");
	assert_int_equal(dbus_message_size(out.data, out.size), (int64_t) out.size);
	assert_int_equal(dbus_message_size(out.data, 15), 0);
	assert_int_equal(dbus_message_decode(out.data, out.size, &message), 0);
	assert_int_equal(message.type, DBUS_CALL);
	assert_int_equal(message.serial, 7);
	assert_string_equal(message.member, "Member");
	assert_string_equal(message.signature, "uss");
	assert_int_equal(dbus_read_u32(&message, &at, &number), 0);
	assert_int_equal(number, 42);
	assert_int_equal(dbus_read_text(&message, &at, &text), 0);
	assert_string_equal(text, "unit");
	assert_int_equal(dbus_read_text(&message, &at, &text), 0);
	assert_string_equal(text, "");
	assert_int_equal(dbus_read_u32(&message, &at, &number), -EBADMSG);
}

/* The bytes of a property list, as the specification lays them out. */
static void test_layout(void **state)
{
	static const unsigned char expected[] = {
		20, 0, 0, 0, 0,   0, 0, 0, /* length, without the padding behind it */
		1,  0, 0, 0, 'P', 0, 2, 'a', 'u', 0, 0, 0, 4, 0, 0, 0, 9, 0, 0, 0, /* au */
	};
	AUTO(strbuf_done) struct strbuf body = {};
	size_t array;

	(void) state;
	array = dbus_array_begin(&body, 8);
	dbus_put_property_pid(&body, "P", 9);
	dbus_array_end(&body, array);
	assert_int_equal(body.size, sizeof(expected));
	assert_memory_equal(body.data, expected, sizeof(expected));
}

static void test_broken(void **state)
{
	AUTO(strbuf_done) struct strbuf body = {};
	AUTO(strbuf_done) struct strbuf out = {};
	struct dbus_message message;

	(void) state;
	dbus_put_text(&body, "x");
	encode(&out, "M", &body, "s");
	/* Cut or changed anywhere, it is refused or means something else, but nothing is read
	 * beyond. */
	for (size_t size = 0; size < out.size; size++)
		assert_true(dbus_message_decode(out.data, size, &message) < 0);
	for (size_t i = 0; i < out.size; i++) {
		char old = out.data[i];

		out.data[i] = (char) 0xff;
		(void) dbus_message_decode(out.data, out.size, &message);
		out.data[i] = old;
	}
	memset(out.data + 12, 0xff, 4);
	assert_int_equal(dbus_message_size(out.data, out.size), -EMSGSIZE);
	out.data[0] = 'x';
	assert_int_equal(dbus_message_size(out.data, out.size), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
