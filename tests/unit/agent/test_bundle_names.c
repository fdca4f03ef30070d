#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/bundle.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

static char folder[] = "/tmp/test-names-XXXXXX";

static int setup(void **state)
{
	(void) state;
	strcpy(folder, "/tmp/test-names-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	(void) state;
	return file_remove_tree(AT_FDCWD, folder);
}

/* `second` is when it was changed last. */
static void put(const char *name, const char *text, int second)
{
	AUTO(free) char *path = mem_printf("%s/%s", folder, name);
	const struct timespec times[] = { { 1000, 0 }, { second, 5 } };

	assert_int_equal(file_write_atomic(AT_FDCWD, path, text, strlen(text), 0644, false), 0);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void expect(const char *name, const char *text)
{
	AUTO(free) char *path = mem_printf("%s/%s", folder, name);
	AUTO(free) char *found = NULL;

	assert_int_equal(file_read(AT_FDCWD, path, 4096, &found, NULL), 0);
	assert_string_equal(found, text);
}

#define LOCAL "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

static void names_follow_the_ports(void **state)
{
	struct instance_spec spec;
	struct port port = { .ipv4 = "10.1.0.5", .ipv6 = "fd00::5" };
	struct port gone = { .ipv4 = "10.2.0.5", .leaving = true };
	struct bundle bundle = { .dir = folder,
				 .name = "new-name",
				 .spec = &spec,
				 .nameserver4 = "10.1.0.1",
				 .nameserver6 = "",
				 .dns_domain = "brume.internal" };
	struct error err = {};

	(void) state;
	instance_spec_init(&spec);
	put("config.json", "{}", 50);
	put("hostname", "old-name\n", 50);
	put("hosts", "what we wrote\n", 50);
	put("resolv.conf", "what we wrote, and it was longer than what comes\n", 49);
	ports_append(&spec.ports, &spec.port_count, &port);
	ports_append(&spec.ports, &spec.port_count, &gone);
	if (bundle_refresh_names(&bundle, &err) < 0)
		fail_msg("%s", err.msg);
	expect("hosts", LOCAL "10.1.0.5\told-name\nfd00::5\told-name\n");
	expect("resolv.conf", "search brume.internal\nnameserver 10.1.0.1\n");
	/* What we have written is no change of theirs. */
	bundle.nameserver4 = "10.1.0.9";
	bundle.zone = "web.default.internal";
	assert_int_equal(bundle_refresh_names(&bundle, &err), 0);
	expect("resolv.conf", "search web.default.internal brume.internal\nnameserver 10.1.0.9\n");
	/* Theirs stays; a host name that is none is written nowhere. */
	put("resolv.conf", "nameserver 192.0.2.53\n", 51);
	put("hostname", "evil\tname\n", 51);
	spec.ports[0].ipv4[0] = '\0';
	assert_int_equal(bundle_refresh_names(&bundle, &err), 0);
	expect("resolv.conf", "nameserver 192.0.2.53\n");
	expect("hosts", LOCAL "10.1.0.5\told-name\nfd00::5\told-name\n");
	instance_spec_done(&spec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names_follow_the_ports, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
