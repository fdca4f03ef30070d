#include "model/port_limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/instance.h"
#include "model/instance_patch.h"
#include "model/port.h"

static int parse(const char *text, struct port *ret, struct error *err)
{
	*ret = (struct port){};
	return port_parse(text, ret, err);
}

static void text_form(void **state)
{
	struct error err = {};
	AUTO(port_done) struct port port = {};

	(void) state;
	assert_int_equal(parse("web,ingress=100M,egress=1.5Gbit,burst=256K", &port, &err), 0);
	assert_int_equal(port.limits.ingress_bps, 100 * 1000 * 1000);
	assert_int_equal(port.limits.egress_bps, 1500 * 1000 * 1000);
	assert_int_equal(port.limits.burst_bytes, 256 * 1024);
	assert_int_equal(parse("web,egress=none,ingress=64kbit", &port, &err), 0);
	assert_int_equal(port.limits.ingress_bps, 64000);
	assert_false(port.limits.egress_bps || port.limits.burst_bytes);
}

static void bad_texts(void **state)
{
	static const char *const bad[][2] = {
		{ "web,ingress=", "is not a rate" },
		{ "web,ingress=-5M", "is not a rate" },
		{ "web,ingress=5X", "is not a rate" },
		{ "web,ingress=5Mi", "is not a rate" },
		{ "web,ingress=7999", "must be from 8K" },
		{ "web,egress=2T", "to 1T" },
		{ "web,burst=64K", "goes with a rate" },
		{ "web,ingress=1M,burst=2047", "must be from 2K" },
		{ "web,ingress=1M,burst=65M", "to 64M" },
		{ "web,ingress=1M,ingress=2M", "given twice" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct error err = {};
		struct port port = {};

		assert_int_not_equal(parse(bad[i][0], &port, &err), 0);
		if (!strstr(err.msg, bad[i][1]))
			fail_msg("%s: %s", bad[i][0], err.msg);
	}
}

/* Reads a patch onto `limits`; the error's text, "" when it is good. */
static const char *patch(const char *text, struct port_limits *limits)
{
	static struct error err;
	AUTO(json_decref) json_t *doc = NULL;
	struct json_reader in = { .err = &err, .where = "ports[0]" };

	err = (struct error){};
	assert_int_equal(json_parse(text, strlen(text), 1000, &doc, NULL), 0);
	port_limits_read(&in, doc, limits);
	(void) json_reader_finish(&in, doc);
	return err.msg;
}

static void merges(void **state)
{
	struct port_limits limits = {};
	AUTO(json_decref) json_t *encoded = json_object();

	(void) state;
	assert_string_equal(
		patch("{\"limits\":{\"ingress_bps\":8000,\"burst_bytes\":4096}}", &limits), "");
	assert_string_equal(patch("{\"limits\":{\"egress_bps\":9000}}", &limits), "");
	assert_int_equal(limits.ingress_bps, 8000);
	assert_int_equal(limits.egress_bps, 9000);
	assert_int_equal(limits.burst_bytes, 4096);
	port_limits_put(encoded, &limits);
	assert_int_equal(json_integer_value(
				 json_object_get(json_object_get(encoded, "limits"), "egress_bps")),
			 9000);
	assert_string_equal(patch("{\"limits\":{\"ingress_bps\":null}}", &limits), "");
	assert_int_equal(limits.ingress_bps, 0);
	/* The last rate takes the burst with it. */
	assert_string_equal(patch("{\"limits\":{\"egress_bps\":0}}", &limits), "");
	assert_false(port_limits_any(&limits) || limits.burst_bytes);
	limits.ingress_bps = 8000;
	assert_string_equal(patch("{\"limits\":null}", &limits), "");
	assert_false(port_limits_any(&limits));
	assert_string_equal(patch("{}", &limits), "");
}

static void refuses(void **state)
{
	static const char *const bad[][2] = {
		{ "{\"limits\":5}", "ports[0].limits" },
		{ "{\"limits\":{\"ingress\":1}}", "ingress" },
		{ "{\"limits\":{\"ingress_bps\":-1}}", "ports[0].limits.ingress_bps" },
		{ "{\"limits\":{\"ingress_bps\":\"1M\"}}", "ports[0].limits.ingress_bps" },
		{ "{\"limits\":{\"ingress_bps\":100}}", "must be from 8K" },
		{ "{\"limits\":{\"egress_bps\":9223372036854775807}}", "to 1T" },
		{ "{\"limits\":{\"burst_bytes\":4096}}", "burst_bytes: goes with a rate" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct port_limits limits = {};
		const char *said = patch(bad[i][0], &limits);

		if (!strstr(said, bad[i][1]))
			fail_msg("%s: %s", bad[i][0], said);
	}
}

/* Of an instance that runs; what its node cannot do is taken back. */
static void changed_and_given_back(void **state)
{
	AUTO(instance_free) struct instance *instance = mem_new0(struct instance);
	AUTO(json_decref)
	json_t *change =
		json_loads("{\"ports\":{\"back\":{\"limits\":{\"egress_bps\":9000}}}}", 0, NULL);
	AUTO(json_decref)
	json_t *absent = json_loads("{\"ports\":{\"front\":{\"limits\":null}}}", 0, NULL);
	AUTO(json_decref) json_t *undo = NULL;
	struct port port = { .network = "back", .limits.ingress_bps = 8000 };
	struct error err = {};

	(void) state;
	instance_spec_init(&instance->spec);
	instance->spec.image = mem_strdup("web");
	ports_append(&instance->spec.ports, &instance->spec.port_count, &port);
	undo = instance_patch_undo(instance, change);
	assert_int_equal(instance_patch(instance, change, &err), 0);
	assert_int_equal(instance->spec.ports[0].limits.egress_bps, 9000);
	assert_int_equal(instance->spec.ports[0].limits.ingress_bps, 8000);
	assert_int_equal(instance_patch(instance, undo, &err), 0);
	assert_int_equal(instance->spec.ports[0].limits.egress_bps, 0);
	assert_int_equal(instance->spec.ports[0].limits.ingress_bps, 8000);
	assert_true(instance_patch(instance, absent, &err) < 0);
	assert_non_null(strstr(err.msg, "not attached to network \"front\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_form),
		cmocka_unit_test(bad_texts),
		cmocka_unit_test(merges),
		cmocka_unit_test(refuses),
		cmocka_unit_test(changed_and_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
