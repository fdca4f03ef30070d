/*
 * What a machine is started with: the part that both back ends have in common.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "machine/command_internal.h"

enum { SERIAL_MAX = 20, CPUS_MAX = 64, PATH_BYTES_MAX = 4096 };
enum { MIB = 1 << 20 };

const char *machine_backend_name(enum machine_backend backend)
{
	return backend == MACHINE_BRUME_VMM ? "brume-vmm" : "qemu";
}

int command_add_fd(struct machine_command *command, int fd)
{
	unsigned int n = command->fd_count;
	int number = COMMAND_FIRST_FD + (int) n;

	command->fds = mem_realloc(command->fds, n + 1, sizeof(int));
	command->fds_as = mem_realloc(command->fds_as, n + 1, sizeof(int));
	command->fds[n] = fd;
	command->fds_as[n] = number;
	command->fd_count++;
	return number;
}

void command_add(struct machine_command *command, const char *fmt, ...)
{
	char *word = NULL;
	va_list args;

	va_start(args, fmt);
	int n = vasprintf(&word, fmt, args);
	va_end(args);
	if (n < 0)
		abort();
	strv_append_take(&command->argv, word);
}

void command_nic_id(const struct machine_nic *nic, unsigned int number,
		    char ret[MACHINE_NIC_ID_SIZE])
{
	if (nic->id[0])
		memcpy(ret, nic->id, MACHINE_NIC_ID_SIZE);
	else
		snprintf(ret, MACHINE_NIC_ID_SIZE, "net%u", number);
}

int command_own_program(const char *name, char **ret, struct error *err)
{
	char self[PATH_BYTES_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return error_set(err, -errno, "where our own program lies");
	self[n] = '\0';
	char *slash = strrchr(self, '/');
	*ret = mem_printf("%.*s/%s", slash ? (int) (slash - self) : 0, self, name);
	return 0;
}

static int check_disk(const struct machine_disk *disk, struct error *err)
{
	if (disk->fd < 0 || (disk->backing && disk->backing->fd < 0))
		return error_say(err, -EINVAL, "a disk without a descriptor");
	if (disk->backing && (disk->format != MACHINE_DISK_QCOW2 || !disk->backing->read_only ||
			      disk->backing->backing))
		return error_say(err, -EINVAL,
				 "disk %s: only a qcow2 lies above another disk, which is "
				 "read-only and the lowest",
				 disk->serial);
	if (!disk->serial || disk->serial[0] == '\0' || strlen(disk->serial) > SERIAL_MAX)
		return error_say(err, -EINVAL, "serial number of a disk: must have 1 to %d letters",
				 SERIAL_MAX);
	for (const char *p = disk->serial; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.",
			    *p))
			return error_say(err, -EINVAL,
					 "serial number of a disk: only letters, digits, - _ .");
	return 0;
}

static int check(const struct machine_spec *spec, struct error *err)
{
	int r = 0;

	if (spec->cpus == 0 || spec->cpus > CPUS_MAX)
		return error_say(err, -EINVAL, "a machine has 1 to %d cpus, not %u", CPUS_MAX,
				 spec->cpus);
	if (spec->memory_bytes < 16 * MIB || spec->memory_bytes % MIB != 0)
		return error_say(err, -EINVAL,
				 "memory of a machine: at least 16 MiB, and a multiple of 1 MiB");
	if (spec->disk_count > MACHINE_DISKS_MAX || spec->nic_count > MACHINE_NICS_MAX ||
	    spec->initrd_count > MACHINE_INITRDS_MAX)
		return error_say(err, -EINVAL, "a machine has at most %d disks and %d ports",
				 MACHINE_DISKS_MAX, MACHINE_NICS_MAX);
	if (spec->kernel_fd < 0 && (spec->initrd_count > 0 || spec->kernel_args))
		return error_say(err, -EINVAL,
				 "firmware boots the first disk: kernel arguments mean nothing");
	if (spec->kernel_fd < 0 && spec->disk_count == 0)
		return error_say(err, -EINVAL, "a machine needs a kernel, or a disk to boot");
	if (!spec->architecture || !spec->run_dir || spec->run_dir[0] != '/')
		return error_say(err, -EINVAL,
				 "a machine has an architecture and an absolute run folder");
	for (unsigned int i = 0; r == 0 && i < spec->disk_count; i++)
		r = check_disk(&spec->disks[i], err);
	return r;
}

int machine_command(const struct machine_spec *spec, struct machine_command *ret, struct error *err)
{
	struct machine_command command = {};
	int r = check(spec, err);

	if (r == 0)
		r = spec->backend == MACHINE_QEMU ? command_qemu(spec, &command, err)
						  : command_vmm(spec, &command, err);
	if (r < 0) {
		machine_command_done(&command);
		return r;
	}
	*ret = command;
	return 0;
}

void machine_command_done(struct machine_command *command)
{
	if (command->kvm_fd > 0)
		close(command->kvm_fd);
	strv_free(command->argv);
	free(command->fds);
	free(command->fds_as);
	*command = (struct machine_command){};
}

uint64_t machine_overhead_bytes(const struct machine_spec *spec)
{
	/* Kernel pages (tables, pipes, sockets) of every process count, too. */
	const uint64_t base = 24 * MIB + (uint64_t) spec->cpus * MIB + spec->memory_bytes / 256;

	if (spec->backend == MACHINE_BRUME_VMM)
		return base;
	/* QEMU itself, and the kernel's image that it keeps for a reset. */
	if (spec->kvm)
		return base + 128ull * MIB;
	return base + 192ull * MIB;
}
