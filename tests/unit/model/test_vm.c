#include "model_test.h"

#include "model/instance.h"
#include "model/instance_patch.h"

static struct instance_spec spec_of(const char *text, int expected, const char *words)
{
	AUTO(json_decref) json_t *doc = parse(text);
	struct instance_spec spec;
	struct error err = {};
	struct json_reader in = { .err = &err, .where = "" };
	int r;

	instance_spec_init(&spec);
	r = instance_spec_read_user(&in, doc, &spec);
	if (r == 0)
		r = json_reader_finish(&in, doc);
	assert_int_equal(r, expected);
	if (words && !strstr(err.msg, words))
		fail_msg("'%s' does not say '%s'", err.msg, words);
	return spec;
}

static void refuses(const char *text, const char *words)
{
	struct instance_spec spec = spec_of(text, -EINVAL, words);

	instance_spec_done(&spec);
}

static void everything_survives(void **state)
{
	struct instance_spec spec = spec_of("{'type':'vm','image':'x','kernel':'6.1-cloud',"
					    "'disk_bytes':1073741824,'emulate':true,"
					    "'user_data':'#!/bin/sh\\n','ssh_keys':['t AAAA me'],"
					    "'limits':{'cpus':1.5,'memory_bytes':268435456,"
					    "'pids':50}}",
					    0, NULL);
	struct instance from = { .spec = spec };
	struct instance *copy = instance_copy(&from);
	AUTO(json_decref) json_t *written = json_object();

	(void) state;
	instance_spec_put_user(written, &copy->spec);
	assert_string_equal(json_string_value(json_object_get(written, "type")), "vm");
	assert_string_equal(json_string_value(json_object_get(written, "kernel")), "6.1-cloud");
	assert_int_equal(json_integer_value(json_object_get(written, "disk_bytes")), 1 << 30);
	assert_true(json_is_true(json_object_get(written, "emulate")));
	assert_string_equal(json_string_value(json_object_get(written, "user_data")),
			    "#!/bin/sh\n");
	assert_string_equal(
		json_string_value(json_array_get(json_object_get(written, "ssh_keys"), 0)),
		"t AAAA me");
	assert_int_equal(vm_cpus(&spec), 2);
	assert_int_equal(vm_memory_bytes(&spec), 256 << 20);
	instance_free(copy);
	instance_spec_done(&spec);
}

static void has_defaults(void **state)
{
	struct instance_spec vm = spec_of("{'type':'vm','image':'x'}", 0, NULL);
	struct instance_spec container = spec_of("{'image':'x'}", 0, NULL);

	(void) state;
	assert_int_equal(vm_cpus(&vm), 1);
	assert_int_equal(vm_memory_bytes(&vm), VM_MEMORY_DEFAULT_BYTES);
	assert_int_equal(vm_disk_bytes(&vm), VM_DISK_DEFAULT_BYTES);
	assert_int_equal(container.type, INSTANCE_CONTAINER);
	vm.cpus = 0.2;
	assert_int_equal(vm_cpus(&vm), 1);
	vm.cpus = 3;
	assert_int_equal(vm_cpus(&vm), 3);
	vm.memory_bytes = VM_MEMORY_MIN_BYTES + 5;
	assert_int_equal(vm_memory_bytes(&vm), VM_MEMORY_MIN_BYTES);
	instance_spec_done(&vm);
	instance_spec_done(&container);
}

static void says_what_does_not_go(void **state)
{
	(void) state;
	refuses("{'type':'machine','image':'x'}", "type");
	refuses("{'image':'x','kernel':'a'}", "kernel: only goes with type \"vm\"");
	refuses("{'image':'x','disk_bytes':1073741824}", "disk_bytes: only");
	refuses("{'image':'x','emulate':true}", "emulate: only");
	refuses("{'image':'x','user_data':'y'}", "user_data: only");
	refuses("{'image':'x','ssh_keys':['t AAAA me']}", "ssh_keys: only");
	refuses("{'type':'vm','image':'x','ssh_keys':['nothing']}", "ssh_keys: must be lines");
	refuses("{'type':'vm','image':'x','ssh_keys':['t AAAA\\nt AAAA']}", "ssh_keys: must be");
	refuses("{'type':'vm','image':'x','kernel':'../a'}", "kernel: \"../a\"");
	refuses("{'type':'vm','image':'x','kernel':'.a'}", "kernel");
	refuses("{'type':'vm','image':'x','disk_bytes':1}", "disk_bytes: must be from");
	refuses("{'type':'vm','image':'x','disk_bytes':0}", "disk_bytes: must be from");
	refuses("{'type':'vm','image':'x','privileged':true}", "privileged: only goes with");
	refuses("{'type':'vm','image':'x','seccomp':'unconfined'}", "seccomp: only goes with");
	refuses("{'type':'vm','image':'x','devices':[{'source':'/dev/a','target':'/dev/a'}]}",
		"devices: only goes with");
	refuses("{'type':'vm','image':'x','mounts':[{'type':'bind','source':'/a','target':'/b'}]}",
		"brume cp");
	refuses("{'type':'vm','image':'x','limits':{'memory_bytes':1048576}}", "64 MiB");
	refuses("{'type':'vm','image':'x','limits':{'cpus':65}}", "64 processors");
}

static void names_of_kernels(void **state)
{
	char text[VM_KERNEL_MAX + 2];

	(void) state;
	assert_true(vm_kernel_is_valid("6.1.0-40-cloud-amd64"));
	assert_true(vm_kernel_is_valid("6.12.117+deb12-cloud-amd64"));
	assert_true(vm_kernel_is_valid("a"));
	assert_false(vm_kernel_is_valid(""));
	assert_false(vm_kernel_is_valid("-a"));
	assert_false(vm_kernel_is_valid("a/b"));
	assert_false(vm_kernel_is_valid("a b"));
	memset(text, 'a', sizeof(text));
	text[VM_KERNEL_MAX + 1] = '\0';
	assert_false(vm_kernel_is_valid(text));
	text[VM_KERNEL_MAX] = '\0';
	assert_true(vm_kernel_is_valid(text));
}

static void its_limits_can_change(void **state)
{
	AUTO(instance_free) struct instance *vm = mem_new0(struct instance);
	AUTO(json_decref)
	json_t *patch = parse("{'limits':{'memory_bytes':1073741824,'pids':5,'cpus':0.5}}");
	AUTO(json_decref) json_t *little = parse("{'limits':{'memory_bytes':10485760}}");
	struct error err = {};

	(void) state;
	instance_spec_init(&vm->spec);
	vm->spec.type = INSTANCE_VM;
	assert_int_equal(instance_patch(vm, patch, NULL), 0);
	assert_int_equal(instance_patch(vm, little, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "limits.memory_bytes: a virtual machine needs"));
}

static void pending_is(const char *limits, const struct vm_status *machine, const char *expected)
{
	AUTO(free) char *text = mem_printf("{'type':'vm','image':'x'%s}", limits);
	struct instance_spec spec = spec_of(text, 0, NULL);
	AUTO(free) char *pending = vm_pending(&spec, machine);

	if (expected)
		assert_string_equal(pending, expected);
	else
		assert_null(pending);
	instance_spec_done(&spec);
}

static void more_comes_with_the_next_start(void **state)
{
	const struct vm_status machine = { .cpus = 2, .memory_bytes = 512 << 20, .pids = 9 };
	const struct vm_status free_one = { .cpus = 2, .memory_bytes = 256 << 20 };

	(void) state;
	pending_is(",'limits':{'cpus':1.5,'memory_bytes':536870912,'pids':9}", &machine, NULL);
	pending_is(",'limits':{'cpus':0.1,'memory_bytes':99999999,'pids':9}", &machine, NULL);
	pending_is(",'limits':{'cpus':2.5,'memory_bytes':1073741825,'pids':10}", &machine,
		   "1024 MiB of memory (512 now), 3 processors (2 now), 10 processes (9 now)");
	pending_is("", &machine, "no limit of processes (9 now)");
	pending_is(",'limits':{'pids':10}", &free_one,
		   "512 MiB of memory (256 now), 10 processes (no limit now)");
}

static void tells_about_the_machine(void **state)
{
	struct instance_status status, again;

	(void) state;
	instance_status_init(&status);
	instance_status_init(&again);
	status.machine = (struct vm_status){ .backend = mem_strdup("qemu"),
					     .why = mem_strdup("slow"),
					     .kernel = mem_strdup("6.1"),
					     .cpus = 2,
					     .memory_bytes = 1 << 28,
					     .pids = 7,
					     .pending = mem_strdup("more"),
					     .guest_error = mem_strdup("it lies") };
	AUTO(json_decref) json_t *text = instance_status_encode(&status);
	AUTO(json_decref)
	json_t *expected = parse("{'backend':'qemu','why':'slow','kernel':'6.1','cpus':2,"
				 "'memory_bytes':268435456,'pids':7,'pending':'more',"
				 "'guest_error':'it lies'}");
	assert_json_equal(json_object_get(text, "machine"), expected);
	assert_int_equal(instance_status_decode(text, &again, NULL), 0);
	assert_string_equal(again.machine.why, "slow");
	assert_string_equal(again.machine.guest_error, "it lies");
	instance_status_done(&status);
	instance_status_done(&again);
}

static void goes(const char *text, bool disk, const char *words)
{
	struct instance_spec spec = spec_of(text, 0, NULL);
	struct error err = {};
	int r = instance_image_check(&spec, disk, &err);

	assert_int_equal(r, words ? -EINVAL : 0);
	if (words && !strstr(err.msg, words))
		fail_msg("'%s' does not say '%s'", err.msg, words);
	instance_spec_done(&spec);
}

static void goes_with_its_image(void **state)
{
	(void) state;
	goes("{'image':'x'}", false, NULL);
	goes("{'type':'vm','image':'x','command':['a']}", false, NULL);
	goes("{'type':'vm','image':'x','user_data':'a'}", false, "user_data: only goes with");
	goes("{'image':'x'}", true,
	     "image x is a disk, which only a virtual machine boots: add "
	     "--vm");
	goes("{'type':'vm','image':'x','user_data':'a','ssh_keys':['t AAAA'],'disk_bytes':99999999,"
	     "'hostname':'h','health':{'type':'tcp','port':22},'env':{},'cap_drop':[]}",
	     true, NULL);
	goes("{'type':'vm','image':'x','command':['a']}", true, "command: image x is a disk");
	goes("{'type':'vm','image':'x','env':{'A':'b'}}", true, "env: image x is a disk");
	goes("{'type':'vm','image':'x','kernel':'k'}", true, "kernel: image x is a disk");
	goes("{'type':'vm','image':'x','limits':{'pids':9}}", true, "limits.pids: image x");
	goes("{'type':'vm','image':'x','health':{'type':'exec','command':['a']}}", true,
	     "health: image x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_with_its_image),
		cmocka_unit_test(everything_survives),
		cmocka_unit_test(has_defaults),
		cmocka_unit_test(says_what_does_not_go),
		cmocka_unit_test(names_of_kernels),
		cmocka_unit_test(its_limits_can_change),
		cmocka_unit_test(more_comes_with_the_next_start),
		cmocka_unit_test(tells_about_the_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
