#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "vmm/ctl.h"

/* What a machine answers is tested with one: test_vm_hotplug.c. */

static int run(const char *words, FILE *out, struct error *err)
{
	static char copy[256];
	char *argv[8] = { "ctl" }, *save = NULL;
	int argc = 1;

	snprintf(copy, sizeof(copy), "%s", words);
	for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	err->msg[0] = '\0';
	return ctl_run(argc, argv, out, err);
}

static void says_what_is_wrong(void **state)
{
	static const struct {
		const char *words, *message;
		int code;
	} bad[] = {
		{ "", "SOCKET, METHOD", -EINVAL },
		{ "/s", "SOCKET, METHOD", -EINVAL },
		{ "/s a b c", "SOCKET, METHOD", -EINVAL },
		{ "/s info now", "info has no ARGUMENT", -EINVAL },
		{ "/s add_disk", "add_disk needs an ARGUMENT", -EINVAL },
		{ "/s add_disk /nowhere", "add_disk /nowhere", -ENOENT },
		{ "/s add_disk /dev/null,rw", "add_disk: 'rw'", -EINVAL },
		{ "/s add_nic eth0", "add_nic: 'eth0' is neither", -EINVAL },
		{ "/s add_nic fd:0,mac=x", "MAC", -EINVAL },
		{ "/s remove", "remove needs", -EINVAL },
		{ "/s remove timeout=3", "id comes first", -EINVAL },
		{ "/s remove a,timeout=601", "0 to 600", -EINVAL },
		{ "/s remove a,now", "timeout=SECONDS", -EINVAL },
		{ "/s balloon much", "like 512M", -EINVAL },
		{ "/nowhere/s info", "/nowhere/s", -ENOENT },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct error err;

		if (run(bad[i].words, stdout, &err) != bad[i].code ||
		    !strstr(err.msg, bad[i].message))
			fail_msg("%s: %s", bad[i].words, err.msg);
	}
}

static void helps(void **state)
{
	char text[4096] = "";
	struct error err;
	FILE *out = fmemopen(text, sizeof(text), "w");

	(void) state;
	assert_int_equal(run("--help", out, &err), 0);
	fclose(out);
	assert_non_null(strstr(text, "remove ID"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_what_is_wrong),
		cmocka_unit_test(helps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
