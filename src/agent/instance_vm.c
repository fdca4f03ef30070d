#include "agent/instance_vm.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/bundle_vm.h"
#include "agent/exit_code.h"
#include "agent/instance_cards.h"
#include "agent/instance_machine.h"
#include "agent/limits.h"
#include "agent/oci.h"
#include "agent/settings.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/disk.h"
#include "image/info.h"
#include "image/initramfs.h"
#include "image/kernel.h"
#include "image/rootfs.h"
#include "kern/mount.h"
#include "machine/machine.h"

enum { EXIT_RESET = 3, EXIT_PANIC = 4, CPU_PERIOD_US = 100000 };

/* What PREPARE gathers. */
struct plan_vm {
	struct instance_task *task;
	const struct image_info *image;
	const char *architecture; /* of the image */
	struct machine_choice choice;
	struct machine_record record;
	struct instance_vm_fds *fds;
	struct machine_spec spec;
	struct bundle_nic nics[MACHINE_NICS_MAX];
	struct machine_disk below; /* the image, when it is a disk */
	char *run_dir;
	char *kvm;   /* QEMU's /dev/kvm; NULL: it needs none */
	char *guest; /* guest.json */
};

void instance_vm_fds_free(struct instance_vm_fds *fds)
{
	for (unsigned int i = 0; fds && i < fds->count; i++)
		fd_close(fds->fds[i]);
	free(fds);
}

static void plan_vm_done(struct plan_vm *vm)
{
	machine_record_done(&vm->record);
	instance_vm_fds_free(vm->fds);
	free(vm->run_dir);
	free(vm->kvm);
	free(vm->guest);
}
static inline void plan_vm_done_autop(struct plan_vm *vm)
{
	plan_vm_done(vm);
}

/* Takes `fd` over; the number stays the same until the machine's command is made. */
static int keep(struct plan_vm *vm, int fd)
{
	vm->fds->fds[vm->fds->count++] = fd;
	return fd;
}

/* ---- what it is run by, and on ---- */

static int check_memory(uint64_t wanted_bytes, struct error *err)
{
	uint64_t total_bytes = agent_memory_bytes();

	if (wanted_bytes <= total_bytes)
		return 0;
	return error_say(
		err, -ENOMEM,
		"memory: %llu MiB are more than the node has (%llu MiB); ask for less with "
		"--memory",
		(unsigned long long) wanted_bytes >> 20, (unsigned long long) total_bytes >> 20);
}

static int choose(struct plan_vm *vm)
{
	struct instance_task *task = vm->task;
	const struct instance_spec *spec = &task->instance->spec;
	const char *architecture = vm->architecture;
	bool disk = vm->image->disk != DISK_NONE;
	int r = disk ? machine_choose_firmware(architecture, spec->vm.emulate, &vm->choice,
					       &task->err)
		     : machine_choose(architecture, spec->vm.emulate,
				      task->agent->options->vm_backend, &vm->choice, &task->err);

	if (r == -ENOEXEC)
		return error_say(
			&task->err, r,
			"the image is for %s and this node is not: --emulate runs it, many "
			"times slower",
			architecture);
	if (r == 0)
		r = check_memory(vm_memory_bytes(spec), &task->err);
	if (r < 0)
		return r;
	vm->record.backend = vm->choice.backend;
	vm->record.status = (struct vm_status){
		.backend = mem_strdup(machine_backend_name(vm->choice.backend)),
		.why = mem_strdup(vm->choice.why),
		.architecture = mem_strdup(architecture),
		.firmware = mem_strdup(disk ? machine_firmware_name(architecture) : NULL),
		.cpus = vm_cpus(spec),
		.memory_bytes = vm_memory_bytes(spec),
		.pids = spec->pids
	};
	vm->spec = (struct machine_spec){ .backend = vm->choice.backend,
					  .kvm = vm->choice.kvm,
					  .no_xsave = vm->choice.no_xsave,
					  .architecture = architecture,
					  .cpus = vm_cpus(spec),
					  .memory_bytes = vm_memory_bytes(spec),
					  .kernel_fd = -1,
					  .input = spec->stdio.tty ||
						   spec->stdio.stdin_mode != STDIN_NONE,
					  .run_dir = BUNDLE_VM_RUN_DIR };
	return 0;
}

/* The folder that the monitor makes its sockets in; what an earlier run left is gone. */
static int make_run_dir(struct plan_vm *vm)
{
	struct instance_task *task = vm->task;
	uid_t owner = rootfs_slot_uid(task->record.slot);
	int r = file_remove_tree(AT_FDCWD, vm->run_dir);

	if (r == 0)
		r = file_mkdir_all(vm->run_dir, 0700);
	if (r == 0 && chown(vm->run_dir, owner, owner) < 0)
		r = -errno;
	return r < 0 ? error_set(&task->err, r, "make %s", vm->run_dir) : 0;
}

/* An empty root for the monitor, where only brume-oci makes places to mount at. */
static int make_root(struct plan_vm *vm)
{
	struct instance_task *task = vm->task;
	uint32_t owner = rootfs_slot_uid(task->record.slot);
	AUTO(free) char *uid = mem_printf("uid=%u", owner);
	AUTO(free) char *gid = mem_printf("gid=%u", owner);
	const char *const options[] = { "size=256k", "mode=755", uid, gid, NULL };
	char why[128] = "";
	int fd = mount_make("tmpfs", "machine", options, 0, why, sizeof(why));

	if (fd < 0)
		return error_set(&task->err, fd, "make the machine's root%s%s", why[0] ? ": " : "",
				 why);
	task->rootfs_fd = fd;
	return 0;
}

/*
 * The node's own /dev/kvm belongs to somebody who is nobody in the jail, so a machine that opens it
 * by name gets a node of its own.
 */
static int make_kvm_node(struct plan_vm *vm)
{
	struct instance_task *task = vm->task;
	uid_t owner = rootfs_slot_uid(task->record.slot);
	struct stat st;

	if (!vm->choice.kvm || vm->choice.backend != MACHINE_QEMU)
		return 0;
	vm->kvm = agent_state_path(task->agent, task->uid, "kvm");
	if (stat("/dev/kvm", &st) < 0 || (unlink(vm->kvm) < 0 && errno != ENOENT) ||
	    mknod(vm->kvm, S_IFCHR | 0600, st.st_rdev) < 0 || chown(vm->kvm, owner, owner) < 0)
		return error_set(&task->err, -errno, "give the machine a /dev/kvm");
	return 0;
}

/* ---- its ports ---- */

static int open_port(struct plan_vm *vm, size_t i)
{
	struct instance_task *task = vm->task;
	struct machine_nic *nic = &vm->spec.nics[vm->spec.nic_count];
	int r = instance_card_open(task, i, nic, &vm->nics[vm->spec.nic_count], &task->err);

	if (r < 0)
		return r;
	keep(vm, nic->fd);
	vm->spec.nic_count++;
	return 0;
}

static int open_ports(struct plan_vm *vm)
{
	const struct instance_spec *spec = &vm->task->instance->spec;
	int r = 0;

	_Static_assert((int) PORTS_MAX <= (int) MACHINE_NICS_MAX, "each is an interface");
	for (size_t i = 0; r == 0 && i < spec->port_count; i++)
		if (!spec->ports[i].leaving)
			r = open_port(vm, i);
	return r;
}

/* ---- kernel and disks ---- */

static int open_kernel(struct plan_vm *vm)
{
	struct instance_task *task = vm->task;
	const struct agent_options *options = task->agent->options;
	AUTO(free) char *dir = mem_printf("%s/kernels", options->state);
	AUTO(kernel_files_done) struct kernel_files files = { -1, -1, -1, "" };
	const struct kernel_tools tools = { options->guest_init, options->image_worker };
	int r = kernel_open(dir, task->instance->spec.vm.kernel, vm->architecture, &tools, &files,
			    &task->err);

	if (r < 0)
		return r;
	/* The unwrapped one starts sooner. */
	vm->spec.kernel_fd = keep(vm, files.vmlinux_fd >= 0 ? TAKE_FD(files.vmlinux_fd)
							    : TAKE_FD(files.bzimage_fd));
	vm->spec.initrd_fds[vm->spec.initrd_count++] = keep(vm, TAKE_FD(files.initramfs_fd));
	vm->record.status.kernel = mem_strdup(files.name);
	return 0;
}

/* The instance's disk, which was made now (made is 0), or had been (-EEXIST); or why it was not. */
static int open_own_disk(struct instance_task *task, const char *path, int made)
{
	int fd;

	if (made < 0 && made != -EEXIST)
		return made;
	task->err = (struct error){};
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? error_set(&task->err, -errno, "open %s", path) : fd;
}

static int open_disks(struct plan_vm *vm)
{
	struct instance_task *task = vm->task;
	AUTO(free) char *path = agent_state_path(task->agent, task->uid, "disk");
	AUTO(strv_free) char **layers = image_info_layers(vm->image);
	int fd = -1;
	int r = image_disk_open(task->agent->images, &vm->image->manifest, layers, -1, &fd,
				&task->err);

	if (r < 0)
		return error_wrap(&task->err, r, "the image's disk");
	vm->spec.disks[0] = (struct machine_disk){ .fd = keep(vm, fd),
						   .read_only = true,
						   .serial = BUNDLE_VM_LOWER };
	r = image_disk_make_empty(path, vm_disk_bytes(&task->instance->spec), &task->err);
	fd = open_own_disk(task, path, r);
	if (fd < 0)
		return fd;
	vm->spec.disks[1] = (struct machine_disk){ .fd = keep(vm, fd), .serial = BUNDLE_VM_UPPER };
	vm->spec.disk_count = 2;
	return 0;
}

/* ---- a disk that came with a system of its own ---- */

static int check_disk_size(const struct plan_vm *vm, uint64_t *ret_bytes)
{
	uint64_t wanted = vm_disk_bytes(&vm->task->instance->spec);
	uint64_t least = vm->image->virtual_bytes;

	if (wanted < least && vm->task->instance->spec.vm.disk_bytes > 0)
		return error_say(&vm->task->err, -EINVAL,
				 "disk_bytes: the disk of the image has %llu MiB; ask for as much "
				 "with --disk, or leave it out",
				 (unsigned long long) (least + (1 << 20) - 1) >> 20);
	*ret_bytes = wanted < least ? least : wanted;
	return 0;
}

/* The instance's own disk begins as nothing above the image's, which stays as it is. */
static int open_own_system(struct plan_vm *vm)
{
	struct instance_task *task = vm->task;
	AUTO(free) char *path = agent_state_path(task->agent, task->uid, "disk");
	uint64_t bytes = 0;
	int fd = -1;
	int r = check_disk_size(vm, &bytes);

	if (r == 0)
		r = image_disk_open_blob(task->agent->images, vm->image, &fd, &task->err);
	if (r < 0)
		return r;
	vm->below =
		(struct machine_disk){ .fd = keep(vm, fd),
				       .format = vm->image->disk == DISK_QCOW2 ? MACHINE_DISK_QCOW2
									       : MACHINE_DISK_RAW,
				       .read_only = true };
	r = image_disk_make_overlay(path, bytes, &task->err);
	fd = open_own_disk(task, path, r);
	if (fd < 0)
		return fd;
	vm->spec.disks[0] = (struct machine_disk){ .fd = keep(vm, fd),
						   .format = MACHINE_DISK_QCOW2,
						   .serial = BUNDLE_VM_UPPER,
						   .backing = &vm->below };
	vm->spec.disk_count = 1;
	return 0;
}

static int open_seed(struct plan_vm *vm, const struct bundle *bundle)
{
	struct instance_task *task = vm->task;
	int fd = -1;
	int r = bundle_seed(bundle, vm->nics, vm->spec.nic_count, &fd, &task->err);

	if (r < 0)
		return r;
	vm->spec.disks[vm->spec.disk_count++] = (struct machine_disk){ .fd = keep(vm, fd),
								       .read_only = true,
								       .serial = BUNDLE_VM_SEED };
	return 0;
}

/* ---- what the guest is told ---- */

static int tell_guest(struct plan_vm *vm, const struct bundle *bundle)
{
	struct instance_task *task = vm->task;
	int64_t now_ms = clock_realtime_ms(clock_system());
	AUTO(free) char *guest = NULL;
	int fd = -1;
	int r = bundle_guest(bundle, vm->nics, vm->spec.nic_count, now_ms, &guest, &task->err);

	if (r == 0)
		r = initramfs_of_instance(guest, &fd, &task->err);
	if (r < 0)
		return r;
	vm->spec.initrd_fds[vm->spec.initrd_count++] = keep(vm, fd);
	return 0;
}

/* ---- its jail ---- */

/* The descriptors as the command names them. */
static int take_fds(struct plan_vm *vm, const struct machine_command *command)
{
	AUTO(instance_vm_fds_free) struct instance_vm_fds *ordered = NULL;

	if (command->fd_count > INSTANCE_VM_FDS_MAX)
		return error_say(&vm->task->err, -E2BIG, "the machine needs %u descriptors",
				 command->fd_count);
	ordered = mem_new0(struct instance_vm_fds);
	for (unsigned int i = 0; i < command->fd_count; i++) {
		int fd = fcntl(command->fds[i], F_DUPFD_CLOEXEC, 0);

		if (fd < 0)
			return error_set(&vm->task->err, -errno, "a descriptor of the machine");
		ordered->fds[ordered->count++] = fd;
	}
	vm->task->vm_fds = TAKE_PTR(ordered);
	return 0;
}

static int write_jail(struct plan_vm *vm, const struct bundle *bundle)
{
	struct instance_task *task = vm->task;
	AUTO(machine_command_done) struct machine_command command = {};
	AUTO(strv_free) char **paths = NULL;
	int r = machine_command(&vm->spec, &command, &task->err);

	if (r == 0)
		r = machine_paths(vm->choice.backend, vm->spec.architecture, &paths, &task->err);
	if (r == 0)
		r = take_fds(vm, &command);
	if (r < 0)
		return r;
	struct bundle_vm jail = { .bundle = bundle,
				  .run_dir = vm->run_dir,
				  .argv = command.argv,
				  .paths = paths,
				  .kvm = vm->kvm,
				  .overhead_bytes = machine_overhead_bytes(&vm->spec) };
	return bundle_vm_write(&jail, &task->err);
}

static int write_records(struct plan_vm *vm)
{
	struct instance_task *task = vm->task;
	AUTO(free) char *settings = agent_run_path(task->agent, task->uid, "settings.json");
	struct instance_limits limits = instance_limits_of(&task->instance->spec);
	int r = settings_write(settings, &task->instance->spec, &vm->image->config, &task->err);

	if (r == 0)
		r = limits_write(task->agent, task->uid, &limits, &task->err);
	if (r == 0)
		r = machine_record_write(task->agent, task->uid, &vm->record, &task->err);
	return r;
}

int instance_vm_prepare(struct instance_task *task, const struct image_info *image)
{
	AUTO(free) char *dir = agent_run_path(task->agent, task->uid, NULL);
	AUTO(plan_vm_done) struct plan_vm vm = { .task = task, .image = image };
	struct instance_names names;
	struct bundle bundle = { .dir = dir,
				 .uid = task->uid,
				 .name = task->instance->meta.name,
				 .prefix = task->agent->options->prefix,
				 .spec = &task->instance->spec,
				 .image = &image->config,
				 .root_fd = -1,
				 .slot = task->record.slot,
				 .nameserver4 = names.server4,
				 .nameserver6 = names.server6,
				 .zone = names.zone,
				 .dns_domain = names.domain };
	bool disk = image->disk != DISK_NONE;
	int r;

	instance_networks_names(&task->instance->spec, &task->networks, &names);
	/* One that does not say is taken as everybody takes it. */
	vm.architecture = image->architecture && image->architecture[0]
				  ? image->architecture
				  : machine_host_architecture();
	vm.fds = mem_new0(struct instance_vm_fds);
	vm.run_dir = agent_run_path(task->agent, task->uid, "machine");
	task->owner = rootfs_slot_uid(task->record.slot);
	r = choose(&vm);
	if (r == 0)
		r = make_run_dir(&vm);
	if (r == 0)
		r = disk ? open_own_system(&vm) : open_kernel(&vm);
	if (r == 0 && !disk)
		r = open_disks(&vm);
	if (r == 0)
		r = open_ports(&vm);
	if (r == 0)
		r = disk ? open_seed(&vm, &bundle) : tell_guest(&vm, &bundle);
	if (r == 0)
		r = make_root(&vm);
	if (r == 0)
		r = make_kvm_node(&vm);
	if (r == 0)
		r = write_jail(&vm, &bundle);
	return r < 0 ? r : write_records(&vm);
}

/* ---- while it runs, and afterwards ---- */

/* Of a memory limit what a machine that runs can have: never more than it was started with. */
static uint64_t memory_now(uint64_t limit_bytes, const struct vm_status *machine)
{
	uint64_t bytes = vm_memory_of_limit(limit_bytes);

	return bytes < machine->memory_bytes ? bytes : machine->memory_bytes;
}

static double mib(uint64_t bytes)
{
	return (double) bytes / (1 << 20);
}

/* What its guest uses, kernel and all, is what neither the balloon holds nor anybody could have. */
static int check_use(struct instance_task *task, const char *run_dir, uint64_t bytes)
{
	struct machine_balloon balloon;
	uint64_t free_bytes;
	int r = machine_balloon_fresh(run_dir, &balloon, &task->err);

	if (r < 0 || balloon.total_bytes == 0)
		return r;
	free_bytes = balloon.balloon_bytes + balloon.available_bytes;
	if (free_bytes >= balloon.memory_bytes || balloon.memory_bytes - free_bytes <= bytes)
		return 0;
	return error_say(&task->err, -EBUSY, "it uses %.1f MiB now, more than a limit of %.1f MiB",
			 mib(balloon.memory_bytes - free_bytes), mib(bytes));
}

/* Its guest gives the rest up, if it does not need that now: it would kill its processes for it. */
static int set_memory(struct instance_task *task, const struct vm_status *machine, uint64_t bytes,
		      bool less)
{
	AUTO(free) char *run_dir = agent_run_path(task->agent, task->uid, "machine");
	uint64_t least = machine->memory_bytes / MACHINE_BALLOON_SHARE;
	struct machine_balloon balloon;
	int64_t started_ms;
	bool paused = false;
	int r = 0;

	(void) instance_read_started(task->agent, task->uid, &started_ms, &paused);
	if (paused)
		r = error_say(&task->err, -EBUSY, "the instance is paused; resume it first");
	else if (bytes < least)
		r = error_say(&task->err, -EINVAL,
			      "it was started with %.0f MiB and keeps at least %.0f MiB while it "
			      "runs; stop it first",
			      mib(machine->memory_bytes), mib(least));
	else if (less)
		r = check_use(task, run_dir, bytes);
	if (r == 0)
		r = machine_balloon(run_dir, &bytes, &balloon, &task->err);
	return r < 0 ? error_wrap(&task->err, r, "memory") : 0;
}

static int set_cpus(struct instance_task *task, double cpus)
{
	AUTO(free)
	char *quota = mem_printf("%lld", cpus > 0 ? llround(cpus * CPU_PERIOD_US) : -1LL);
	AUTO(free) char *period = mem_printf("%d", CPU_PERIOD_US);
	char *argv[] = { (char *) "update",
			 (char *) "--cpu-period",
			 period,
			 (char *) "--cpu-quota",
			 quota,
			 task->uid,
			 NULL };

	return oci_run(task->agent->options, argv, NULL, &task->err);
}

int instance_vm_limit(struct instance_task *task)
{
	const struct instance_spec *spec = &task->instance->spec;
	struct instance_limits limits = instance_limits_of(spec), before = limits;
	AUTO(machine_record_done) struct machine_record record = {};
	bool known = limits_read(task->agent, task->uid, &before) == 0;
	uint64_t bytes, bytes_before;
	int r = machine_record_read(task->agent, task->uid, &record, &task->err);

	if (r == 0)
		r = instance_image_check(spec, record.status.firmware, &task->err);
	if (r < 0)
		return r;
	bytes = memory_now(limits.memory_bytes, &record.status);
	bytes_before = memory_now(before.memory_bytes, &record.status);
	r = set_cpus(task, limits.cpus);
	if (r == 0 && (!known || bytes != bytes_before)) {
		r = set_memory(task, &record.status, bytes, !known || bytes < bytes_before);
		/* All of them, or none. */
		if (r < 0 && known) {
			struct error why = task->err;

			(void) set_cpus(task, before.cpus);
			task->err = why;
		}
	}
	return r < 0 ? r : limits_write(task->agent, task->uid, &limits, &task->err);
}

const char *instance_vm_cause(int64_t exit_code)
{
	switch (exit_code) {
	case EXIT_CODE_SIGNAL + SIGKILL:
		return "the machine's monitor was killed";
	case EXIT_RESET:
		return "the guest has reset the machine";
	case EXIT_PANIC:
		return "the guest has crashed";
	case 0:
		return "the guest has turned the machine off without saying how its command ended";
	default:
		return exit_code > EXIT_CODE_SIGNAL ? "the machine's monitor has crashed"
						    : "the machine could not be run";
	}
}

char *instance_vm_epitaph(const struct instance_task *task)
{
	AUTO(machine_record_done) struct machine_record record = {};
	AUTO(free) char *run_dir = agent_run_path(task->agent, task->uid, "machine");
	const char *cause = instance_vm_cause(task->monitor_code);
	struct error said = {};
	int code;

	/* The monitor may know it better. */
	if (machine_exit_code(run_dir, &code, &said) < 0)
		cause = said.msg;
	if (machine_record_read(task->agent, task->uid, &record, NULL) < 0)
		return mem_strdup(cause);
	return machine_console(task->agent, task->uid, record.backend, cause);
}
