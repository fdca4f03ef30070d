#include "model_test.h"

#include "base/json.h"
#include "model/port.h"

static void test_text_form(void **state)
{
	static const struct {
		const char *text, *words;
	} bad[] = {
		{ "", "the network's name" },
		{ "Blue", "the network's name" },
		{ ",ip=10.1.0.5", "the network's name" },
		{ "blue,", "\"\" is not known" },
		{ "blue,ip", "ip \"\" is not an IPv4 address" },
		{ "blue,ip=fd00::5", "ip \"fd00::5\" is not an IPv4 address" },
		{ "blue,ip6=10.1.0.5", "ip6 \"10.1.0.5\" is not an IPv6 address" },
		{ "blue,mac=x", "mac \"x\" is not a unicast address" },
		{ "blue,mac=01:00:00:00:00:01", "is not a unicast address" },
		{ "blue,mac=00:00:00:00:00:00", "is not a unicast address" },
		{ "blue,mac=02-00-00-00-00-01", "is not a unicast address" },
		{ "blue,ip=10.1.0.5,ip=10.1.0.6", "ip is given twice" },
		{ "blue,speed=fast", "\"speed=fast\" is not known" },
		{ "blue,spoofing=no", "\"spoofing=no\" is not known" },
	};
	struct port port;
	struct error err;

	(void) state;
	assert_int_equal(port_parse("blue", &port, NULL), 0);
	assert_string_equal(port.network, "blue");
	assert_string_equal(port.ipv4, "");
	assert_int_equal(
		port_parse("blue,mac=02:AB:00:00:00:01,ip6=FD00:0::5,ip=10.1.0.5", &port, NULL), 0);
	assert_string_equal(port.ipv4, "10.1.0.5");
	assert_string_equal(port.ipv6, "fd00::5");
	assert_string_equal(port.mac, "02:ab:00:00:00:01");
	assert_false(port.spoofing);
	assert_int_equal(port_parse("blue,spoofing,ip=10.1.0.5", &port, NULL), 0);
	assert_true(port.spoofing);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		if (port_parse(bad[i].text, &port, &err) != -EINVAL ||
		    !strstr(err.msg, bad[i].words))
			fail_msg("%s: %s", bad[i].text, err.msg);
}

static int read_list(const char *text, bool user, struct port **ret, size_t *ret_count,
		     struct error *err)
{
	AUTO(json_decref) json_t *doc = parse(text);
	struct json_reader in = { .err = err, .where = "spec" };

	ports_read(&in, doc, "ports", user, ret, ret_count);
	return json_reader_finish(&in, doc);
}

static void test_lists(void **state)
{
	static const struct {
		const char *text, *words;
	} bad[] = {
		{ "{'ports':{}}", "spec.ports: must be" },
		{ "{'ports':[{}]}", "spec.ports[0].network: must name the network" },
		{ "{'ports':[{'network':'a'},{'network':'a'}]}", "network \"a\" is given twice" },
		{ "{'ports':[{'network':'a','uid':'0123456789abcdef0123456789abcdef'}]}",
		  "spec.ports[0].uid: is not known" },
		{ "{'ports':[{'network':'a','leaving':true}]}", "spec.ports[0].leaving" },
		{ "{'ports':[{'network':'a','groups':['A B']}]}", "spec.ports[0].groups" },
		{ "{'ports':[{'network':'../a'}]}", "spec.ports[0].network" },
		{ "{'ports':[{'network':'a'},{'network':'b'},{'network':'c'},{'network':'d'},"
		  "{'network':'e'},{'network':'f'},{'network':'g'},{'network':'h'},"
		  "{'network':'i'}]}",
		  "8 at most" },
	};
	struct port *ports = NULL;
	size_t count = 0;
	struct error err;

	(void) state;
	assert_int_equal(read_list("{}", true, &ports, &count, NULL), 0);
	assert_null(ports);
	/* None is not the same as nothing said. */
	assert_int_equal(read_list("{'ports':[]}", true, &ports, &count, NULL), 0);
	assert_non_null(ports);
	assert_int_equal(count, 0);
	assert_int_equal(read_list("{'ports':[{'network':'a','groups':['web']},{'network':'b',"
				   "'ipv4':'10.1.0.5'}]}",
				   true, &ports, &count, NULL),
			 0);
	assert_int_equal(count, 2);
	assert_ptr_equal(ports_find(ports, count, "b"), &ports[1]);
	assert_null(ports_find(ports, count, "c"));
	struct port *copy = ports_copy(ports, count);
	AUTO(json_decref) json_t *one = ports_encode(ports, count);
	AUTO(json_decref) json_t *two = ports_encode(copy, count);
	assert_json_equal(one, two);
	ports_remove(ports, &count, 0);
	assert_string_equal(ports[0].network, "b");
	ports_free(ports, count);
	ports_free(copy, 2);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		ports = NULL;
		count = 0;
		if (read_list(bad[i].text, true, &ports, &count, &err) != -EINVAL ||
		    !strstr(err.msg, bad[i].words))
			fail_msg("%s: %s", bad[i].text, err.msg);
		assert_null(ports);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_form),
		cmocka_unit_test(test_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
