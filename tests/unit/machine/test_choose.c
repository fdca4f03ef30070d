#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "machine/machine.h"

#if defined(__x86_64__)
#define OWN "amd64"
#define OTHER "arm64"
#else
#define OWN "arm64"
#define OTHER "amd64"
#endif

static void names_of_what_a_node_is_set_to(void **state)
{
	enum machine_preference preference = MACHINE_ANY;

	(void) state;
	assert_int_equal(machine_preference_parse("qemu", &preference), 0);
	assert_int_equal(preference, MACHINE_PREFER_QEMU);
	assert_int_equal(machine_preference_parse("brume-vmm", &preference), 0);
	assert_int_equal(preference, MACHINE_PREFER_BRUME_VMM);
	assert_int_equal(machine_preference_parse("auto", &preference), 0);
	assert_int_equal(preference, MACHINE_ANY);
	assert_int_equal(machine_preference_parse("kvm", &preference), -EINVAL);
	assert_int_equal(machine_preference_parse("", &preference), -EINVAL);
}

/* Beside a unit test lies no brume-vmm, whatever /dev/kvm can do. */
static void what_cannot_be_used_is_not_replaced(void **state)
{
	struct machine_choice choice;
	struct machine_host host;
	struct error err = {};

	(void) state;
	assert_int_equal(machine_choose(OWN, false, MACHINE_PREFER_BRUME_VMM, &choice, &err),
			 -EOPNOTSUPP);
	assert_non_null(strstr(err.msg, "the node is set to brume-vmm (--vm-backend), but "));
	machine_host(MACHINE_PREFER_BRUME_VMM, &host);
	assert_string_equal(host.backend, "");
	assert_non_null(strstr(host.why, "the node is set to brume-vmm"));
}

static void qemu_is_used_when_asked_for(void **state)
{
	struct machine_choice choice;
	struct machine_host host;
	struct error err = {};
	int r = machine_choose(OWN, false, MACHINE_PREFER_QEMU, &choice, &err);

	(void) state;
	machine_host(MACHINE_ANY, &host);
	if (r == -ENOENT)
		skip(); /* QEMU is not installed */
	assert_int_equal(r, 0);
	assert_int_equal(choice.backend, MACHINE_QEMU);
	assert_int_equal(choice.kvm, host.usable);
	assert_non_null(strstr(choice.why, "set by --vm-backend; "));
}

static void another_architecture_has_one_back_end(void **state)
{
	struct machine_choice choice;
	struct error err = {};

	(void) state;
	assert_int_equal(machine_choose(OTHER, false, MACHINE_PREFER_BRUME_VMM, &choice, &err),
			 -ENOEXEC);
	int r = machine_choose(OTHER, true, MACHINE_PREFER_BRUME_VMM, &choice, &err);
	if (r == -ENOENT)
		skip();
	assert_int_equal(r, 0);
	assert_true(choice.backend == MACHINE_QEMU && !choice.kvm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_of_what_a_node_is_set_to),
		cmocka_unit_test(what_cannot_be_used_is_not_replaced),
		cmocka_unit_test(qemu_is_used_when_asked_for),
		cmocka_unit_test(another_architecture_has_one_back_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
