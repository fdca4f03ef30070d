#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "client/endpoint.h"

static void test_good(void **state)
{
	static const struct {
		const char *text, *socket_path, *host;
		int port;
	} cases[] = {
		{ "/run/brume/brumed.sock", "/run/brume/brumed.sock", NULL, 0 },
		{ "unix:///tmp/x.sock", "/tmp/x.sock", NULL, 0 },
		{ "https://cloud.example.org", NULL, "cloud.example.org", ENDPOINT_DEFAULT_PORT },
		{ "https://cloud.example.org/", NULL, "cloud.example.org", ENDPOINT_DEFAULT_PORT },
		{ "https://10.0.0.1:443", NULL, "10.0.0.1", 443 },
		{ "https://[fd00::1]", NULL, "fd00::1", ENDPOINT_DEFAULT_PORT },
		{ "https://[fd00::1]:65535/", NULL, "fd00::1", 65535 },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		AUTO(endpoint_done) struct endpoint endpoint = {};
		struct error err = {};

		assert_int_equal(endpoint_parse(cases[i].text, &endpoint, &err), 0);
		if (cases[i].socket_path)
			assert_string_equal(endpoint.socket_path, cases[i].socket_path);
		else
			assert_null(endpoint.socket_path);
		if (cases[i].host)
			assert_string_equal(endpoint.host, cases[i].host);
		else
			assert_null(endpoint.host);
		assert_int_equal(endpoint.port, cases[i].port);
	}
}

static void test_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"cloud.example.org",
		"http://cloud.example.org",
		"unix://relative",
		"https://",
		"https://:443",
		"https://host:0",
		"https://host:65536",
		"https://host:8x",
		"https://host:",
		"https://host/path",
		"https://user@host",
		"https://[fd00::1",
		"https://[fd00::1]x",
		"/this/is/a/path/that/is/much/longer/than/the/hundred/and/eight/characters/that/"
		"the/kernel/"
		"has/for/the/name/of/a/unix/socket",
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		AUTO(endpoint_done) struct endpoint endpoint = {};
		struct error err = {};

		if (endpoint_parse(texts[i], &endpoint, &err) != -EINVAL)
			fail_msg("accepted: %s", texts[i]);
		assert_true(err.msg[0] != '\0');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
