#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/bundle_vm.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/guest_config.h"
#include "codec/oci_spec.h"
#include "net/tap.h"

struct fixture {
	struct instance_spec spec;
	struct oci_image_config image;
	struct bundle bundle;
	struct bundle_nic nics[2];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	instance_spec_init(&f->spec);
	f->spec.type = INSTANCE_VM;
	struct port port = { .network = "default", .ipv4 = "10.90.0.7" };
	ports_append(&f->spec.ports, &f->spec.port_count, &port);
	strv_append(&f->image.cmd, "serve");
	strv_append(&f->image.env, "PATH=/bin");
	strv_append(&f->image.env, "COLOUR=blue");
	f->bundle = (struct bundle){ .dir = "/nowhere",
				     .uid = "00000000000000000000000000000001",
				     .name = "web",
				     .prefix = "brume",
				     .spec = &f->spec,
				     .image = &f->image,
				     .root_fd = -1,
				     .slot = 2,
				     .nameserver4 = "10.90.0.1",
				     .nameserver6 = "",
				     .dns_domain = "brume.internal" };
	f->nics[0] = (struct bundle_nic){
		.tap = { .mac = { 2, 0x62, 10, 90, 0, 7 }, .mtu = 1400, .ipv4 = "10.90.0.7/24" },
		.name = "eth0",
		.gateway4 = "10.90.0.1",
		.gateway6 = "fd00::1"
	};
	f->nics[1] = (struct bundle_nic){
		.tap = { .mac = { 2, 0x62, 10, 1, 0, 7 }, .mtu = 9000, .ipv4 = "10.1.0.7/24" },
		.name = "eth1"
	};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	instance_spec_done(&f->spec);
	oci_image_config_done(&f->image);
	free(f);
	return 0;
}

static struct guest_config told(struct fixture *f, size_t nic_count)
{
	struct guest_config config = {};
	AUTO(free) char *text = NULL;
	struct error err = {};

	if (bundle_guest(&f->bundle, f->nics, nic_count, 1234, &text, &err) < 0 ||
	    guest_config_decode(text, strlen(text), &config, &err) < 0)
		fail_msg("%s", err.msg);
	return config;
}

static void tells_the_guest_what_a_container_has(void **state)
{
	struct fixture *f = *state;

	f->spec.user = mem_strdup("www:staff");
	f->spec.workdir = mem_strdup("/srv");
	strv_append(&f->spec.env, "COLOUR=red");
	f->spec.pids = 50;
	f->spec.run.read_only = true;
	f->spec.run.init = true;
	f->spec.stop_signal = mem_strdup("INT");
	strv_append(&f->spec.run.sysctls, "net.core.somaxconn=7");
	AUTO(guest_config_done) struct guest_config config = told(f, 2);

	assert_string_equal(config.hostname, "web");
	assert_string_equal(config.user, "www:staff");
	assert_string_equal(config.process->args[0], "serve");
	assert_string_equal(config.process->cwd, "/srv");
	assert_string_equal(config.process->env[0], "PATH=/bin");
	assert_string_equal(config.process->env[1], "COLOUR=red");
	assert_string_equal(config.process->env[2], "HOSTNAME=web");
	assert_null(config.process->env[3]); /* HOME is found where the users are */
	assert_string_equal(config.stop_signal, "INT");
	assert_true(config.read_only);
	assert_true(config.reap);
	assert_false(config.input);
	assert_int_equal(config.pids_max, 50);
	assert_int_equal(config.time_ms, 1234);
	assert_int_equal(config.sysctl_count, 2);
	assert_string_equal(config.lower, BUNDLE_VM_LOWER);
	assert_string_equal(config.upper, BUNDLE_VM_UPPER);
}

static void tells_the_guest_its_network(void **state)
{
	struct fixture *f = *state;
	AUTO(guest_config_done) struct guest_config config = told(f, 2);

	assert_int_equal(config.nic_count, 2);
	assert_memory_equal(config.nics[0].mac, f->nics[0].tap.mac, 6);
	assert_int_equal(config.nics[0].mtu, 1400);
	assert_int_equal(config.nics[0].address_count, 1);
	assert_string_equal(config.nics[0].addresses[0], "10.90.0.7/24");
	/* Without an IPv6 address there is no way to its gateway. */
	assert_int_equal(config.nics[0].gateway_count, 1);
	assert_string_equal(config.nics[0].gateways[0], "10.90.0.1");
	/* Only one of them leads out. */
	assert_string_equal(config.nics[1].addresses[0], "10.1.0.7/24");
	assert_int_equal(config.nics[1].mtu, 9000);
	assert_int_equal(config.nics[1].gateway_count, 0);
	assert_int_equal(config.nameserver_count, 1);
	assert_string_equal(config.nameservers[0], "10.90.0.1");
	assert_string_equal(config.search[0], "brume.internal");
	assert_non_null(strstr(config.hosts, "10.90.0.7\tweb\n"));
}

static void names_of_ones_own_and_no_network(void **state)
{
	struct fixture *f = *state;

	strv_append(&f->spec.run.dns, "192.0.2.53");
	f->spec.hostname = mem_strdup("other");
	f->spec.stdio.tty = true;
	/* What an image says that nobody understands does not keep it from being stopped. */
	f->image.stop_signal = mem_strdup("SIGWHAT");
	AUTO(guest_config_done) struct guest_config config = told(f, 0);
	assert_int_equal(config.nic_count, 0);
	assert_int_equal(config.nameserver_count, 1);
	assert_string_equal(config.nameservers[0], "192.0.2.53");
	assert_string_equal(config.hostname, "other");
	assert_true(config.input);
	assert_true(config.process->terminal);
	assert_null(config.stop_signal);
}

static void has_folders_in_memory(void **state)
{
	struct fixture *f = *state;

	f->spec.run.mounts = mem_new0_array(struct instance_mount, 1);
	f->spec.run.mount_count = 1;
	f->spec.run.mounts[0] = (struct instance_mount){ .type = MOUNT_TYPE_TMPFS,
							 .target = mem_strdup("/cache"),
							 .size_bytes = 1 << 20,
							 .mode = 0700,
							 .no_exec = true };
	AUTO(guest_config_done) struct guest_config config = told(f, 0);
	assert_int_equal(config.tmpfs_count, 2);
	assert_string_equal(config.tmpfs[0].target, "/cache");
	assert_int_equal(config.tmpfs[0].size_bytes, 1 << 20);
	assert_int_equal(config.tmpfs[0].mode, 0700);
	assert_string_equal(config.tmpfs[0].options, "nosuid,nodev,noexec");
	assert_string_equal(config.tmpfs[1].target, "/dev/shm");
}

static void refuses_what_cannot_be_said(void **state)
{
	struct fixture *f = *state;
	AUTO(free) char *text = NULL;
	struct error err = {};

	strv_append(&f->spec.command, "\xff");
	assert_int_equal(bundle_guest(&f->bundle, NULL, 0, 0, &text, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "UTF-8"));
	strv_free(f->spec.command);
	f->spec.command = NULL;
	strv_free(f->image.cmd);
	f->image.cmd = NULL;
	assert_int_equal(bundle_guest(&f->bundle, NULL, 0, 0, &text, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "nothing to run"));
}

static struct oci_spec *jail_of(struct fixture *f)
{
	char *argv[] = { (char *) "/usr/bin/monitor", (char *) "--run-dir",
			 (char *) BUNDLE_VM_RUN_DIR, NULL };
	char *paths[] = { (char *) "/usr", (char *) "/lib64", NULL };
	struct bundle_vm vm = { .bundle = &f->bundle,
				.run_dir = "/run/brume/instances/x/machine",
				.argv = argv,
				.paths = paths,
				.overhead_bytes = 100 << 20 };
	AUTO(json_decref) json_t *config = bundle_vm_config(&vm);
	AUTO(free) char *text = json_text(config);
	struct oci_spec *spec = NULL;
	struct error err = {};

	if (oci_spec_decode(text, strlen(text), &spec, &err) < 0)
		fail_msg("%s", err.msg);
	return spec;
}

/* Does the document allow more than it should?  Looked at as brume-oci reads it. */
static void the_monitor_is_jailed(void **state)
{
	struct fixture *f = *state;

	f->spec.cpus = 1.5;
	f->spec.memory_bytes = 256 << 20;
	AUTO(oci_spec_free) struct oci_spec *spec = jail_of(f);
	static const enum oci_ns kinds[] = { OCI_NS_USER, OCI_NS_PID,   OCI_NS_NETWORK, OCI_NS_IPC,
					     OCI_NS_UTS,  OCI_NS_MOUNT, OCI_NS_CGROUP };

	for (size_t i = 0; i < ARRAY_COUNT(kinds); i++)
		assert_true(spec->linux_.ns[kinds[i]].wanted && !spec->linux_.ns[kinds[i]].path);
	assert_true(spec->process->no_new_privileges);
	assert_false(spec->process->terminal);
	assert_true(spec->root_readonly);
	assert_string_equal(spec->process->args[0], "/usr/bin/monitor");
	assert_int_equal(spec->linux_.uid_maps.list[0].host_id, 0x40000000 + 2 * 65536);
	for (size_t i = 0; i < spec->mount_count; i++) {
		bool shared = strcmp(spec->mounts[i].destination, BUNDLE_VM_RUN_DIR) == 0 ||
			      strcmp(spec->mounts[i].destination, "/proc") == 0;
		bool ro = false;

		for (size_t o = 0; spec->mounts[i].options && spec->mounts[i].options[o]; o++)
			ro = ro || strcmp(spec->mounts[i].options[o], "ro") == 0;
		assert_true(ro || shared);
	}
}

static void gives_kvm_to_who_opens_it_by_name(void **state)
{
	struct fixture *f = *state;
	struct bundle_vm vm = { .bundle = &f->bundle, .run_dir = "/r" };
	AUTO(json_decref) json_t *without = bundle_vm_config(&vm);
	AUTO(free) char *none = json_text(without);

	assert_null(strstr(none, "kvm"));
	assert_null(strstr(none, "\"allow\":true"));
	vm.kvm = "/state/instances/x/kvm";
	AUTO(json_decref) json_t *with = bundle_vm_config(&vm);
	AUTO(free) char *text = json_text(with);
	assert_non_null(strstr(text, "\"destination\":\"/dev/kvm\""));
	assert_non_null(strstr(text, "\"source\":\"/state/instances/x/kvm\""));
	assert_non_null(strstr(text, "{\"access\":\"rw\",\"allow\":true,\"major\":10,"
				     "\"minor\":232,\"type\":\"c\"}"));
}

/* What cloud-init is told of its port, by MAC and in both families. */
static void makes_a_seed_disk(void **state)
{
	struct fixture *f = *state;
	char buffer[1 << 17] = "";
	AUTO(fd_close) int fd = -1;
	struct error err = {};

	f->spec.vm.user_data = mem_strdup("#!/bin/sh\necho told\n");
	strv_append(&f->spec.vm.ssh_keys, "ssh-ed25519 AAAA me");
	assert_int_equal(bundle_seed(&f->bundle, f->nics, 2, &fd, &err), 0);
	ssize_t size = pread(fd, buffer, sizeof(buffer), 0);
	assert_true(size > 0);
	static const char *const words[] = {
		"echo told",
		"\"local-hostname\":\"web\"",
		"\"public-keys\":[\"ssh-ed25519 AAAA me\"]",
		"\"addresses\":[\"10.90.0.7/24\"]",
		"\"macaddress\":\"02:62:0a:5a:00:07\"",
		"\"mtu\":1400",
		"\"eth1\":{\"addresses\":[\"10.1.0.7/24\"]",
		"\"routes\":[],\"set-name\":\"eth1\"",
		"\"nameservers\":{\"addresses\":[\"10.90.0.1\"],\"search\":[\"brume.internal\"]}",
		"\"routes\":[{\"to\":\"0.0.0.0/0\",\"via\":\"10.90.0.1\"}]",
	};
	for (size_t i = 0; i < ARRAY_COUNT(words); i++)
		if (!memmem(buffer, (size_t) size, words[i], strlen(words[i])))
			fail_msg("the seed does not say %s", words[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(tells_the_guest_what_a_container_has, setup,
						teardown),
		cmocka_unit_test_setup_teardown(tells_the_guest_its_network, setup, teardown),
		cmocka_unit_test_setup_teardown(names_of_ones_own_and_no_network, setup, teardown),
		cmocka_unit_test_setup_teardown(has_folders_in_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_what_cannot_be_said, setup, teardown),
		cmocka_unit_test_setup_teardown(the_monitor_is_jailed, setup, teardown),
		cmocka_unit_test_setup_teardown(gives_kvm_to_who_opens_it_by_name, setup, teardown),
		cmocka_unit_test_setup_teardown(makes_a_seed_disk, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
