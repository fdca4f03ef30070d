/*
 * brume-vmm's command line (docs/man/brume-vmm.1).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "machine/command_internal.h"

static const char host_architecture[] =
#if defined(__x86_64__)
	"amd64";
#else
	"none";
#endif

static int add_disk(const struct machine_disk *disk, struct machine_command *command,
		    struct error *err)
{
	if (disk->format != MACHINE_DISK_RAW)
		return error_say(err, -EINVAL, "disk %s: brume-vmm knows only raw disks",
				 disk->serial);
	strv_append(&command->argv, "--disk");
	command_add(command, "fd:%d%s,serial=%s", command_add_fd(command, disk->fd),
		    disk->read_only ? ",ro" : "", disk->serial);
	return 0;
}

static void add_nic(const struct machine_nic *nic, unsigned int number,
		    struct machine_command *command)
{
	const uint8_t *mac = nic->mac;
	int fd = command_add_fd(command, nic->fd);
	char id[MACHINE_NIC_ID_SIZE], mtu[16] = "";

	command_nic_id(nic, number, id);
	if (nic->mtu > 0)
		snprintf(mtu, sizeof(mtu), ",mtu=%u", nic->mtu);
	strv_append(&command->argv, "--net");
	command_add(command, "fd:%d,mac=%02x:%02x:%02x:%02x:%02x:%02x%s,id=%s", fd, mac[0], mac[1],
		    mac[2], mac[3], mac[4], mac[5], mtu, id);
}

static int add_kvm(struct machine_command *command, struct error *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return error_set(err, -errno, "open /dev/kvm");
	command->kvm_fd = fd;
	strv_append(&command->argv, "--kvm");
	command_add(command, "fd:%d", command_add_fd(command, fd));
	return 0;
}

static void add_kernel(const struct machine_spec *spec, struct machine_command *command)
{
	strv_append(&command->argv, "--kernel");
	command_add(command, "fd:%d", command_add_fd(command, spec->kernel_fd));
	for (unsigned int i = 0; i < spec->initrd_count; i++) {
		strv_append(&command->argv, "--initrd");
		command_add(command, "fd:%d", command_add_fd(command, spec->initrd_fds[i]));
	}
	strv_append(&command->argv, "--append");
	command_add(command, COMMAND_KERNEL_ARGS "%s%s", spec->kernel_args ? " " : "",
		    spec->kernel_args ? spec->kernel_args : "");
}

static void add_files(const struct machine_spec *spec, struct machine_command *command)
{
	static const char *const ports[] = { "name=" MACHINE_PORT_OUT ",fd=1",
					     "name=" MACHINE_PORT_ERR ",fd=2",
					     "name=" MACHINE_PORT_IN ",fd=0" };

	for (size_t i = 0; i < ARRAY_COUNT(ports) - (spec->input ? 0 : 1); i++) {
		strv_append(&command->argv, "--port");
		strv_append(&command->argv, ports[i]);
	}
	strv_append(&command->argv, "--vsock");
	command_add(command, "cid=%d,path=%s/guest.sock", MACHINE_VSOCK_CID, spec->run_dir);
	strv_append(&command->argv, "--control");
	command_add(command, "%s/control.sock", spec->run_dir);
	strv_append(&command->argv, "--status");
	command_add(command, "%s/status", spec->run_dir);
	strv_append(&command->argv, "--console");
	command_add(command, "%s/console", spec->run_dir);
	strv_append(&command->argv, "--log");
	command_add(command, "%s/log", spec->run_dir);
	strv_append(&command->argv, "--no-reboot");
}

int command_vmm(const struct machine_spec *spec, struct machine_command *ret, struct error *err)
{
	AUTO(free) char *program = NULL;
	int r = command_own_program("brume-vmm", &program, err);

	if (r < 0)
		return r;
	if (strcmp(spec->architecture, host_architecture) != 0)
		return error_say(err, -EINVAL, "brume-vmm runs %s here, not %s", host_architecture,
				 spec->architecture);
	if (spec->kernel_fd < 0)
		return error_say(err, -EINVAL, "brume-vmm has no firmware: it needs a kernel");
	strv_append_take(&ret->argv, TAKE_PTR(program));
	r = add_kvm(ret, err);
	if (r < 0)
		return r;
	add_kernel(spec, ret);
	strv_append(&ret->argv, "--cpus");
	command_add(ret, "%u", spec->cpus);
	if (spec->no_xsave) {
		/* The baseline without it. */
		strv_append(&ret->argv, "--cpu-baseline");
		strv_append(&ret->argv, "x86-64-v2");
	}
	strv_append(&ret->argv, "--memory");
	command_add(ret, "%lluM,overcommit,thp", (unsigned long long) (spec->memory_bytes >> 20));
	for (unsigned int i = 0; r == 0 && i < spec->disk_count; i++)
		r = add_disk(&spec->disks[i], ret, err);
	for (unsigned int i = 0; i < spec->nic_count; i++)
		add_nic(&spec->nics[i], i, ret);
	add_files(spec, ret);
	return r;
}
