#include "model_test.h"

#include "base/strv.h"
#include "model/capability.h"
#include "model/run_options.h"

static int read_options(const char *text, struct run_options *ret, struct error *err)
{
	AUTO(json_decref) json_t *doc = parse(text);
	struct json_reader in = { .err = err, .where = "spec" };

	run_options_read(&in, doc, ret);
	return json_reader_finish(&in, doc);
}

static void test_everything_survives(void **state)
{
	static const char text[] =
		"{'init':true,'read_only':true,'privileged':true,'seccomp':'unconfined',"
		"'cap_add':['CAP_NET_ADMIN'],'cap_drop':['ALL'],'sysctls':{'net.core.somaxconn':'7'"
		"},"
		"'dns':['192.0.2.1','2001:db8::1'],'shm_size_bytes':8192,"
		"'ulimits':[{'name':'nofile','soft':3,'hard':4},{'name':'core','soft':0,'hard':-1}]"
		","
		"'devices':[{'source':'/dev/a','target':'/dev/b','access':'rw'}],"
		"'mounts':[{'type':'bind','source':'/a','target':'/b','read_only':true,"
		"'no_exec':true},{'type':'tmpfs','target':'/t','size_bytes':4096,'mode':448}]}";
	struct run_options options = {}, copy = {};

	(void) state;
	assert_int_equal(read_options(text, &options, NULL), 0);
	run_options_copy(&copy, &options);
	run_options_done(&options);
	AUTO(json_decref) json_t *written = json_object();
	run_options_put(written, &copy);
	run_options_done(&copy);
	AUTO(json_decref) json_t *doc = parse(text);
	assert_json_equal(doc, written);
}

static void test_spellings_become_one(void **state)
{
	struct run_options options = {};

	(void) state;
	assert_int_equal(read_options("{'cap_add':['net_admin','CAP_NET_ADMIN','Chown'],"
				      "'devices':[{'source':'/dev/a'}],"
				      "'ulimits':[{'name':'core','soft':5}]}",
				      &options, NULL),
			 0);
	assert_int_equal(strv_count(options.cap_add), 2);
	assert_string_equal(options.cap_add[0], "CAP_NET_ADMIN");
	assert_string_equal(options.devices[0].target, "/dev/a");
	assert_string_equal(options.devices[0].access, "rwm");
	assert_int_equal(options.ulimits[0].hard, 5);
	run_options_done(&options);
}

static void test_refusals_name_the_place(void **state)
{
	static const char *const bad[][2] = {
		{ "{'cap_add':['NET_ADMN']}",
		  "spec.cap_add: \"NET_ADMN\" is not a capability; near" },
		{ "{'cap_add':['CHOWN'],'cap_drop':['chown']}", "CAP_CHOWN" },
		{ "{'seccomp':'off'}", "spec.seccomp" },
		{ "{'dns':['x']}", "spec.dns" },
		{ "{'dns':['::1','::2','::3','::4']}", "at most 3" },
		{ "{'sysctls':{'kernel.hostname':'x'}}", "whole node" },
		{ "{'sysctls':{'net/../kernel/x':'1'}}", "sysctls" },
		{ "{'sysctls':{'net.a':'1\\n2'}}", "value" },
		{ "{'shm_size_bytes':4}", "shm_size_bytes" },
		{ "{'ulimits':[{'name':'x','soft':1}]}", "spec.ulimits[0].name" },
		{ "{'ulimits':[{'name':'core'}]}", "spec.ulimits[0]" },
		{ "{'ulimits':[{'name':'core','soft':1},{'name':'core','soft':1}]}", "twice" },
		{ "{'ulimits':[{'name':'core','soft':-1,'hard':1}]}", "above" },
		{ "{'devices':[{'source':'/etc/x'}]}", "spec.devices[0]" },
		{ "{'devices':[{'source':'/dev/pts/1'}]}", "spec.devices[0]" },
		{ "{'devices':[{'source':'/dev/x','access':'rr'}]}", "rwm" },
		{ "{'devices':[{'source':'/dev/x'},{'source':'/dev/x'}]}", "twice" },
		{ "{'mounts':[{'target':'/x'}]}", "spec.mounts[0].type" },
		{ "{'mounts':[{'type':'bind','target':'/x'}]}", "spec.mounts[0].source" },
		{ "{'mounts':[{'type':'bind','source':'x','target':'/x'}]}", "absolute" },
		{ "{'mounts':[{'type':'bind','source':'/a/./b','target':'/x'}]}", "source" },
		{ "{'mounts':[{'type':'bind','source':'/a','target':'/x/'}]}", "target" },
		{ "{'mounts':[{'type':'tmpfs','source':'/a','target':'/x'}]}", "source" },
		{ "{'mounts':[{'type':'bind','source':'/a','target':'/x','mode':1}]}", "tmpfs" },
		{ "{'mounts':[{'type':'tmpfs','target':'/sys/x'}]}", "/sys" },
		{ "{'mounts':[{'type':'tmpfs','target':'/dev'}]}", "brume itself" },
		{ "{'mounts':[{'type':'tmpfs','target':'/a\\u0001'}]}", "control" },
		{ "{'mounts':[{'type':'tmpfs','target':'/dev/x'}],'devices':[{'source':'/dev/x'}]}",
		  "a mount and a device" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct run_options options = {};
		struct error err = {};

		if (read_options(bad[i][0], &options, &err) >= 0 || !strstr(err.msg, bad[i][1]))
			fail_msg("%s: %s", bad[i][0], err.msg);
		run_options_done(&options);
	}
}

static void test_what_the_node_gives_is_counted(void **state)
{
	AUTO(json_decref) json_t *doc = json_object();
	json_t *mounts = json_array();
	struct run_options options = {};
	struct error err = {};
	struct json_reader in = { .err = &err, .where = "" };

	(void) state;
	json_object_set_new(doc, "mounts", mounts);
	for (int i = 0; i < RUN_OPTIONS_GRANTS_MAX + 1; i++) {
		AUTO(free) char *target = mem_printf("/m%d", i);

		json_array_append_new(mounts, json_pack("{s:s, s:s, s:s}", "type", "bind", "source",
							"/a", "target", target));
	}
	run_options_read(&in, doc, &options);
	assert_int_equal(in.result, -EINVAL);
	assert_non_null(strstr(err.msg, "at most 14"));
	run_options_done(&options);
}

static void test_mount_texts(void **state)
{
	struct instance_mount mount = {};

	(void) state;
	assert_int_equal(instance_mount_parse("type=bind,src=/a,dst=/b,readonly", &mount, NULL), 0);
	assert_string_equal(mount.source, "/a");
	assert_true(mount.read_only);
	instance_mount_done(&mount);
	assert_int_equal(
		instance_mount_parse("type=tmpfs,target=/t,size=1M,mode=0750,noexec", &mount, NULL),
		0);
	assert_int_equal(mount.size_bytes, 1 << 20);
	assert_int_equal(mount.mode, 0750);
	assert_true(mount.no_exec);
	instance_mount_done(&mount);
	assert_int_equal(instance_mount_parse_volume("/a:/b:ro,noexec", &mount, NULL), 0);
	assert_true(mount.read_only && mount.no_exec);
	instance_mount_done(&mount);
	assert_int_equal(instance_mount_parse_tmpfs("/t", &mount, NULL), 0);
	assert_int_equal(mount.type, MOUNT_TYPE_TMPFS);
	instance_mount_done(&mount);
	assert_int_equal(
		instance_mount_parse_tmpfs("/t:rw,noexec,nosuid,nodev,size=64k", &mount, NULL), 0);
	assert_true(mount.no_exec && !mount.read_only && mount.size_bytes == 65536);
	instance_mount_done(&mount);
	assert_int_equal(instance_mount_parse_tmpfs("/t:suid", &mount, NULL), -EINVAL);
	assert_int_equal(instance_mount_parse_tmpfs("/t:nosuid=false", &mount, NULL), -EINVAL);
	assert_int_equal(instance_mount_parse_tmpfs("/t:mode=9", &mount, NULL), -EINVAL);
	assert_int_equal(instance_mount_parse_tmpfs("/t:size=", &mount, NULL), -EINVAL);
	assert_int_equal(instance_mount_parse("type=bind", &mount, NULL), -EINVAL);
	assert_int_equal(instance_mount_parse("", &mount, NULL), -EINVAL);
	assert_int_equal(instance_mount_parse_volume("/a", &mount, NULL), -EINVAL);
	assert_int_equal(instance_mount_parse_volume("/a:/b:size=3", &mount, NULL), -EINVAL);
	assert_null(mount.source);
}

static void test_ulimit_texts(void **state)
{
	struct ulimit limit = {};

	(void) state;
	assert_int_equal(ulimit_parse("nofile=5", &limit, NULL), 0);
	assert_int_equal(limit.hard, 5);
	assert_int_equal(ulimit_parse("stack=5:unlimited", &limit, NULL), 0);
	assert_true(limit.soft == 5 && limit.hard == ULIMIT_UNLIMITED);
	assert_int_equal(ulimit_parse("core=-1", &limit, NULL), 0);
	assert_true(limit.soft == ULIMIT_UNLIMITED);
	assert_int_equal(ulimit_parse("core", &limit, NULL), -EINVAL);
	assert_int_equal(ulimit_parse("core=1:", &limit, NULL), -EINVAL);
	assert_int_equal(ulimit_parse("core=9999999999999999999", &limit, NULL), -EINVAL);
	assert_int_equal(ulimit_parse("=1", &limit, NULL), -EINVAL);
}

static void test_capability_names(void **state)
{
	const char *name = NULL;
	struct error err = {};

	(void) state;
	assert_int_equal(capability_parse("all", &name, NULL), 0);
	assert_string_equal(name, "ALL");
	assert_int_equal(capability_parse("cap_Bpf", &name, NULL), 0);
	assert_string_equal(name, "CAP_BPF");
	assert_int_equal(capability_parse("SYS_PTRCE", &name, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "SYS_PTRACE"));
	assert_int_equal(capability_parse("SYS_PTRAXE", &name, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "SYS_PTRACE"));
	assert_int_equal(capability_parse("SYS_PTRACEE", &name, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "SYS_PTRACE"));
	assert_int_equal(capability_parse("", &name, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "example"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_survives),
		cmocka_unit_test(test_spellings_become_one),
		cmocka_unit_test(test_refusals_name_the_place),
		cmocka_unit_test(test_what_the_node_gives_is_counted),
		cmocka_unit_test(test_mount_texts),
		cmocka_unit_test(test_ulimit_texts),
		cmocka_unit_test(test_capability_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
