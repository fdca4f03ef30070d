#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "machine/machine.h"

struct world {
	int read_fd, write_fd;
	struct machine_spec spec;
};

static int setup(void **state)
{
	struct world *world = mem_new0(struct world);

	world->read_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	world->write_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	world->spec = (struct machine_spec){ .backend = MACHINE_QEMU,
					     .architecture = "amd64",
					     .cpus = 2,
					     .memory_bytes = 512 << 20,
					     .kernel_fd = world->read_fd,
					     .run_dir = "/run/machine" };
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	close(world->read_fd);
	close(world->write_fd);
	free(world);
	return 0;
}

/* All words with a line end behind each. */
static char *command_text(const struct machine_spec *spec, struct machine_command *command)
{
	AUTO(strbuf_done) struct strbuf text = {};
	struct error err = {};

	if (machine_command(spec, command, &err) < 0)
		fail_msg("%s", err.msg);
	strbuf_puts(&text, "\n");
	for (char **word = command->argv; *word; word++)
		strbuf_printf(&text, "%s\n", *word);
	return strbuf_take(&text);
}

static void assert_words(const char *text, const char *words)
{
	if (!strstr(text, words))
		fail_msg("'%s' is not in:%s", words, text);
}

static void assert_refused(const struct machine_spec *spec, const char *words)
{
	struct machine_command command = {};
	struct error err = {};

	assert_int_equal(machine_command(spec, &command, &err), -EINVAL);
	if (!strstr(err.msg, words))
		fail_msg("'%s' is not in '%s'", words, err.msg);
	assert_null(command.argv);
}

static void qemu_with_a_kernel(void **state)
{
	struct world *world = *state;
	AUTO(machine_command_done) struct machine_command command = {};

	world->spec.kernel_args = "quiet";
	world->spec.initrd_fds[0] = world->spec.initrd_fds[1] = world->read_fd;
	world->spec.initrd_count = 2;
	world->spec.disks[0] =
		(struct machine_disk){ world->read_fd, MACHINE_DISK_RAW, true, "brume-image" };
	world->spec.disks[1] =
		(struct machine_disk){ world->write_fd, MACHINE_DISK_QCOW2, false, "brume-disk" };
	world->spec.disk_count = 2;
	world->spec.nics[0] = (struct machine_nic){ world->write_fd, { 2, 0, 0, 0, 0, 9 }, 1450 };
	world->spec.nic_count = 1;
	AUTO(free) char *text = command_text(&world->spec, &command);

	assert_words(text, "/brume-qemu\n--run-dir\n/run/machine\n--kernel=fd:3\n"
			   "--initrd=fd:4\n--initrd=fd:5\n--\n/usr/bin/qemu-system-x86_64\n");
	assert_words(text, "\n-accel\ntcg,thread=multi,tb-size=96\n-cpu\nmax\n");
	assert_words(text, "\n-smp\n2,sockets=1,cores=2,threads=1\n-m\n512m\n");
	assert_words(text, "\n-no-reboot\n");
	assert_words(text, " console=hvc0 panic=-1 no_timer_check ");
	assert_words(text, " quiet\n");
	assert_words(text, "\n-sandbox\non,obsolete=deny,elevateprivileges=deny,spawn=deny,"
			   "resourcecontrol=deny\n");
	assert_words(text, "\n-add-fd\nfd=6,set=1\n");
	assert_words(text, "{\"auto-read-only\":false,\"discard\":\"unmap\",\"driver\":\"file\","
			   "\"filename\":\"/dev/fdset/1\",\"node-name\":\"file-disk0\","
			   "\"read-only\":true}\n");
	assert_words(text, "{\"backing\":null,\"discard\":\"unmap\",\"driver\":\"qcow2\",\"file\":"
			   "\"file-disk1\",\"node-name\":\"disk1\",\"read-only\":false}\n");
	assert_words(text, "virtio-blk-pci,drive=disk1,serial=brume-disk,disable-legacy=on");
	assert_words(text, "\npcie-root-port,id=slot7,chassis=8,addr=1c.7,multifunction=on,");
	assert_words(text, "\ntap,id=host-net0,fd=8,vhost=off\n");
	assert_words(text, "mac=02:00:00:00:00:09,host_mtu=1450,id=net0,bus=slot0,romfile=,");
	assert_words(text, "name=brume.status\n");
	assert_null(strstr(text, "brume.in"));
	assert_int_equal(command.fd_count, 6);
	for (unsigned int i = 0; i < command.fd_count; i++)
		assert_int_equal(command.fds_as[i], 3 + i);
	assert_int_equal(command.fds[5], world->write_fd);
}

static void qemu_with_input_and_kvm(void **state)
{
	struct world *world = *state;
	AUTO(machine_command_done) struct machine_command command = {};

	world->spec.input = true;
	world->spec.kvm = true;
	world->spec.run_dir = "/run/a,b";
	AUTO(free) char *text = command_text(&world->spec, &command);
	assert_words(text, "\n--input\n--\n");
	assert_words(text, "\nvirtserialport,id=in,chardev=in,name=brume.in\n");
	assert_words(text, "\n-accel\nkvm\n-cpu\nhost\n");
	/* Letters on the serial line are exits. */
	assert_words(text, "earlyprintk=ttyS0 console=hvc0 panic=-1 quiet\n");
	assert_words(text, "path=/run/a,,b/guest.sock,server=on");
	assert_null(strstr(text, "mitigations"));
	machine_command_done(&command);
	world->spec.no_xsave = true;
	AUTO(free) char *without = command_text(&world->spec, &command);
	assert_words(without, "\n-accel\nkvm\n-cpu\nhost,xsave=off\n");
}

static void qemu_with_firmware(void **state)
{
	struct world *world = *state;
	AUTO(machine_command_done) struct machine_command command = {};

	world->spec.kernel_fd = -1;
	world->spec.disks[0] =
		(struct machine_disk){ world->write_fd, MACHINE_DISK_QCOW2, false, "root" };
	world->spec.disk_count = 1;
	AUTO(free) char *text = command_text(&world->spec, &command);
	assert_words(text, "serial=root,bootindex=1,");
	assert_null(strstr(text, "-no-reboot"));
	assert_null(strstr(text, "-append"));
	assert_null(strstr(text, "--kernel"));
	world->spec.kernel_args = "quiet";
	assert_refused(&world->spec, "kernel arguments mean nothing");
}

static void qemu_with_a_disk_above_another(void **state)
{
	struct world *world = *state;
	AUTO(machine_command_done) struct machine_command command = {};
	struct machine_disk below = { world->read_fd, MACHINE_DISK_QCOW2, true, NULL };

	world->spec.kernel_fd = -1;
	world->spec.disks[0] =
		(struct machine_disk){ world->write_fd, MACHINE_DISK_QCOW2, false, "root", &below };
	world->spec.disk_count = 1;
	AUTO(free) char *text = command_text(&world->spec, &command);
	assert_words(text, "\n-add-fd\nfd=3,set=2\n");
	assert_words(text, "\n-add-fd\nfd=4,set=1\n");
	assert_words(text, "{\"backing\":null,\"discard\":\"unmap\",\"driver\":\"qcow2\",\"file\":"
			   "\"file-below0\",\"node-name\":\"below0\",\"read-only\":true}\n");
	assert_words(text,
		     "{\"backing\":\"below0\",\"discard\":\"unmap\",\"driver\":\"qcow2\","
		     "\"file\":\"file-disk0\",\"node-name\":\"disk0\",\"read-only\":false}\n");
	assert_words(text, "virtio-blk-pci,drive=disk0,serial=root,bootindex=1,");
	below.read_only = false;
	assert_refused(&world->spec, "lies above another disk");
	below.read_only = true;
	world->spec.disks[0].format = MACHINE_DISK_RAW;
	assert_refused(&world->spec, "lies above another disk");
}

static void qemu_of_another_architecture(void **state)
{
	struct world *world = *state;
	AUTO(machine_command_done) struct machine_command command = {};

	world->spec.architecture = "arm64";
	AUTO(free) char *text = command_text(&world->spec, &command);
	assert_words(text, "\n/usr/bin/qemu-system-aarch64\n");
	assert_words(text, "\n-machine\nvirt,");
	assert_words(text, "\n-cpu\nmax,pauth=off\n");
	assert_words(text, "earlycon=pl011");
	assert_words(text, " console=hvc0 panic=-1 mitigations=off ");
	assert_null(strstr(text, "tsc=reliable"));
	world->spec.architecture = "riscv64";
	assert_refused(&world->spec, "riscv64: no such machine");
}

static void refuses_what_makes_no_machine(void **state)
{
	struct world *world = *state;
	struct machine_spec spec = world->spec;

	spec.cpus = 0;
	assert_refused(&spec, "1 to 64 cpus");
	spec = world->spec;
	spec.memory_bytes = (512 << 20) + 1;
	assert_refused(&spec, "multiple of 1 MiB");
	spec = world->spec;
	spec.kernel_fd = -1;
	assert_refused(&spec, "a kernel, or a disk");
	spec = world->spec;
	spec.disk_count = 1;
	spec.disks[0] = (struct machine_disk){ world->read_fd, MACHINE_DISK_RAW, true, "a,b" };
	assert_refused(&spec, "only letters");
	spec.disks[0].serial = "123456789012345678901";
	assert_refused(&spec, "1 to 20 letters");
	spec.disks[0].serial = "ok";
	spec.disks[0].read_only = false;
	assert_refused(&spec, "open for reading and writing");
	spec = world->spec;
	spec.disk_count = MACHINE_DISKS_MAX + 1;
	assert_refused(&spec, "at most 16 disks");
	spec = world->spec;
	spec.run_dir = "relative";
	assert_refused(&spec, "absolute run folder");
}

static void vmm_says_what_it_cannot_do(void **state)
{
	struct world *world = *state;
	struct machine_spec spec = world->spec;

	spec.backend = MACHINE_BRUME_VMM;
	spec.architecture = "arm64";
	assert_refused(&spec, "brume-vmm runs amd64");
	spec.architecture = "amd64";
	spec.kernel_fd = -1;
	spec.disk_count = 1;
	spec.disks[0] = (struct machine_disk){ world->write_fd, MACHINE_DISK_RAW, false, "root" };
	assert_refused(&spec, "it needs a kernel");
}

static void vmm_hides_what_this_kvm_loses(void **state)
{
	struct world *world = *state;
	AUTO(machine_command_done) struct machine_command with = {}, without = {};

	if (access("/dev/kvm", R_OK | W_OK) < 0)
		skip();
	world->spec.backend = MACHINE_BRUME_VMM;
	AUTO(free) char *text = command_text(&world->spec, &with);
	assert_words(text, "\n--memory\n512M,overcommit,thp\n");
	assert_null(strstr(text, "baseline"));
	world->spec.no_xsave = true;
	AUTO(free) char *other = command_text(&world->spec, &without);
	assert_words(other, "\n--cpu-baseline\nx86-64-v2\n");
}

static void needs_more_than_its_memory(void **state)
{
	struct world *world = *state;
	uint64_t tcg = machine_overhead_bytes(&world->spec), kvm, vmm;

	world->spec.kvm = true;
	kvm = machine_overhead_bytes(&world->spec);
	world->spec.backend = MACHINE_BRUME_VMM;
	vmm = machine_overhead_bytes(&world->spec);
	assert_true(tcg > kvm && kvm > vmm && vmm > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(qemu_with_a_kernel, setup, teardown),
		cmocka_unit_test_setup_teardown(qemu_with_input_and_kvm, setup, teardown),
		cmocka_unit_test_setup_teardown(qemu_with_firmware, setup, teardown),
		cmocka_unit_test_setup_teardown(qemu_with_a_disk_above_another, setup, teardown),
		cmocka_unit_test_setup_teardown(qemu_of_another_architecture, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_what_makes_no_machine, setup, teardown),
		cmocka_unit_test_setup_teardown(vmm_says_what_it_cannot_do, setup, teardown),
		cmocka_unit_test_setup_teardown(vmm_hides_what_this_kvm_loses, setup, teardown),
		cmocka_unit_test_setup_teardown(needs_more_than_its_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
