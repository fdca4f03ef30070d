/*
 * QEMU's command line.
 *
 * Measured under TCG with Debian's kernel 6.1, to the first line of init: q35 3.2 s of CPU time
 * with the unwrapped kernel and 3.6 s with the bzImage; the older "pc" 4.1 and 4.3 s.  microvm
 * has nothing to calibrate the processor's clock with unless KVM's is there, so it stands still.
 * arm64, likewise: 15.6 s with the pointer authentication of "max" as it is, 3.3 to 3.9 s with
 * QEMU's own in its place, 2.8 s without any, as with a cortex-a72, which has less of the rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "machine/command_internal.h"

#define SANDBOX "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
#define PCI_MODERN "disable-legacy=on,disable-modern=off"

/*
 * A letter on the serial line is two exits, and most of Debian's boot comes before hvc0: 43,000 of
 * 64,000 port exits, the rest is PCI's configuration.  So until then only what has gone wrong is
 * told, and a panic; brume-init lets hvc0 have all of it.
 */
#define KVM_KERNEL_ARGS "quiet"

/* An emulated processor has nothing that could leak through speculation, and no exits. */
#define TCG_KERNEL_ARGS "mitigations=off random.trust_cpu=on"

struct qemu_platform {
	const char *architecture, *program, *machine, *tcg_cpu, *tcg_kernel_args, *early_console,
		*firmware, *firmware_name;
};

static const struct qemu_platform platforms[] = {
	{ "amd64", "/usr/bin/qemu-system-x86_64",
	  "q35,usb=off,sata=off,smm=off,vmport=off,dump-guest-core=off,mem-merge=off", "max",
	  "no_timer_check tsc=reliable " TCG_KERNEL_ARGS, "earlyprintk=ttyS0", NULL, "bios" },
	{ "arm64", "/usr/bin/qemu-system-aarch64",
	  "virt,gic-version=max,dump-guest-core=off,mem-merge=off", "max,pauth=off",
	  TCG_KERNEL_ARGS, "earlycon=pl011,0x9000000", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
	  "uefi" },
};

static const struct qemu_platform *platform_of(const char *architecture)
{
	for (size_t i = 0; i < ARRAY_COUNT(platforms); i++)
		if (strcmp(platforms[i].architecture, architecture) == 0)
			return &platforms[i];
	return NULL;
}

const char *command_qemu_program(const char *architecture)
{
	const struct qemu_platform *platform = platform_of(architecture);

	return platform ? platform->program : NULL;
}

const char *machine_firmware_name(const char *architecture)
{
	const struct qemu_platform *platform = platform_of(architecture);

	return platform ? platform->firmware_name : NULL;
}

/* A value among QEMU's options: its commas are doubled. */
static char *option_text(const char *text)
{
	AUTO(strbuf_done) struct strbuf out = {};

	for (; *text; text++) {
		if (*text == ',')
			strbuf_puts(&out, ",");
		strbuf_append(&out, text, 1);
	}
	return strbuf_take(&out);
}

static void add_parent(const struct machine_spec *spec, struct machine_command *command)
{
	strv_append(&command->argv, "--run-dir");
	strv_append(&command->argv, spec->run_dir);
	if (spec->kernel_fd >= 0)
		command_add(command, "--kernel=fd:%d", command_add_fd(command, spec->kernel_fd));
	for (unsigned int i = 0; i < spec->initrd_count; i++)
		command_add(command, "--initrd=fd:%d",
			    command_add_fd(command, spec->initrd_fds[i]));
	if (spec->input)
		strv_append(&command->argv, "--input");
	strv_append(&command->argv, "--");
}

static void add_words(struct machine_command *command, const char *const *words)
{
	for (; *words; words++)
		strv_append(&command->argv, *words);
}

static void add_board(const struct machine_spec *spec, const struct qemu_platform *platform,
		      struct machine_command *command)
{
	add_words(command,
		  (const char *const[]){ platform->program, "-nodefaults", "-no-user-config",
					 "-display", "none", "-sandbox", SANDBOX, "-machine",
					 platform->machine, "-accel", NULL });
	/* TCG's cache of translations is bounded: it counts as the instance's memory. */
	strv_append(&command->argv, spec->kvm ? "kvm" : "tcg,thread=multi,tb-size=96");
	add_words(command, (const char *const[]){ "-cpu",
						  !spec->kvm       ? platform->tcg_cpu
						  : spec->no_xsave ? "host,xsave=off"
								   : "host",
						  NULL });
	strv_append(&command->argv, "-smp");
	command_add(command, "%u,sockets=1,cores=%u,threads=1", spec->cpus, spec->cpus);
	strv_append(&command->argv, "-m");
	command_add(command, "%llum", (unsigned long long) (spec->memory_bytes >> 20));
	add_words(command, (const char *const[]){ "-rtc", "base=utc,clock=host", "-boot",
						  "strict=on", NULL });
	if (spec->kernel_fd >= 0) {
		strv_append(&command->argv, "-no-reboot");
	} else if (platform->firmware) {
		strv_append(&command->argv, "-bios");
		strv_append(&command->argv, platform->firmware);
	}
}

/*
 * The console is hvc0, and before its driver is there the serial line.  Firmware and what it boots
 * know only that one.
 */
static void add_console(const struct machine_spec *spec, const struct qemu_platform *platform,
			struct machine_command *command)
{
	strv_append(&command->argv, "-serial");
	strv_append(&command->argv, "chardev:early");
	if (spec->kernel_fd < 0)
		return;
	strv_append(&command->argv, "-append");
	command_add(command, "%s " COMMAND_KERNEL_ARGS " %s%s%s", platform->early_console,
		    spec->kvm ? KVM_KERNEL_ARGS : platform->tcg_kernel_args,
		    spec->kernel_args ? " " : "", spec->kernel_args ? spec->kernel_args : "");
}

static void add_port(struct machine_command *command, const char *chardev, const char *name)
{
	strv_append(&command->argv, "-device");
	command_add(command, "virtserialport,id=%s,chardev=%s,name=%s", chardev, chardev, name);
}

/* The chardevs out, err, in, status, console and early are brume-qemu's. */
static void add_ports(const struct machine_spec *spec, struct machine_command *command)
{
	AUTO(free) char *run_dir = option_text(spec->run_dir);

	add_words(command, (const char *const[]){ "-device", "virtio-serial-pci," PCI_MODERN,
						  "-device", "virtconsole,chardev=console", NULL });
	add_port(command, "out", MACHINE_PORT_OUT);
	add_port(command, "err", MACHINE_PORT_ERR);
	if (spec->input)
		add_port(command, "in", MACHINE_PORT_IN);
	add_port(command, "status", MACHINE_PORT_STATUS);
	strv_append(&command->argv, "-chardev");
	command_add(command, "socket,id=guest,path=%s/guest.sock,server=on,wait=off", run_dir);
	add_port(command, "guest", MACHINE_PORT_GUEST);
	add_words(command,
		  (const char *const[]){
			  "-device", "virtio-rng-pci," PCI_MODERN, "-device",
			  "virtio-balloon-pci,id=balloon0,free-page-reporting=on," PCI_MODERN,
			  NULL });
}

static void add_json(struct machine_command *command, const char *option, json_t *value)
{
	AUTO(json_decref) json_t *owned = value;

	strv_append(&command->argv, option);
	strv_append_take(&command->argv, json_text(owned));
}

/* A file behind a descriptor: nodes "file" and `name`, the latter to be named by who is above. */
static int add_node(const struct machine_disk *disk, const char *name, const char *backing,
		    unsigned int set, struct machine_command *command, struct error *err)
{
	int mode = fcntl(disk->fd, F_GETFL) & O_ACCMODE;
	int fd = command_add_fd(command, disk->fd);
	char file[32], path[32];

	/* QEMU takes a descriptor from a set only when it is open in just the way it wants. */
	if (mode != (disk->read_only ? O_RDONLY : O_RDWR))
		return error_say(err, -EINVAL, "disk %s: its descriptor must be open for %s",
				 disk->serial ? disk->serial : name,
				 disk->read_only ? "reading only" : "reading and writing");
	snprintf(file, sizeof(file), "file-%s", name);
	snprintf(path, sizeof(path), "/dev/fdset/%u", set);
	strv_append(&command->argv, "-add-fd");
	command_add(command, "fd=%d,set=%u", fd, set);
	add_json(command, "-blockdev",
		 json_pack("{s:s, s:s, s:s, s:b, s:b, s:s}", "driver", "file", "node-name", file,
			   "filename", path, "read-only", disk->read_only, "auto-read-only", 0,
			   "discard", "unmap"));
	json_t *format =
		json_pack("{s:s, s:s, s:s, s:b, s:s}", "driver",
			  disk->format == MACHINE_DISK_QCOW2 ? "qcow2" : "raw", "node-name", name,
			  "file", file, "read-only", disk->read_only, "discard", "unmap");
	/* Whatever its header says: there is what we give, or nothing. */
	if (disk->format == MACHINE_DISK_QCOW2)
		json_object_set_new(format, "backing",
				    backing ? json_string(backing) : json_null());
	add_json(command, "-blockdev", format);
	return 0;
}

static int add_disk(const struct machine_spec *spec, unsigned int number,
		    struct machine_command *command, struct error *err)
{
	const struct machine_disk *disk = &spec->disks[number];
	char name[32], below[32];
	int r = 0;

	snprintf(name, sizeof(name), "disk%u", number);
	snprintf(below, sizeof(below), "below%u", number);
	if (disk->backing)
		r = add_node(disk->backing, below, NULL, 2 * number + 2, command, err);
	if (r == 0)
		r = add_node(disk, name, disk->backing ? below : NULL, 2 * number + 1, command,
			     err);
	if (r < 0)
		return r;
	strv_append(&command->argv, "-device");
	command_add(command, "virtio-blk-pci,drive=%s,serial=%s%s," PCI_MODERN, name, disk->serial,
		    spec->kernel_fd < 0 && number == 0 ? ",bootindex=1" : "");
	return 0;
}

/* Only what is behind a root port of its own can come and go: one for each card that may be. */
static void add_slots(struct machine_command *command)
{
	for (unsigned int i = 0; i < MACHINE_NICS_MAX; i++) {
		strv_append(&command->argv, "-device");
		command_add(command,
			    "pcie-root-port,id=" QEMU_SLOT "%u,chassis=%u,addr=1c.%u,"
			    "multifunction=on,io-reserve=0",
			    i, i + 1, i);
	}
}

static void add_nic(const struct machine_nic *nic, unsigned int number,
		    struct machine_command *command)
{
	const uint8_t *mac = nic->mac;
	char mtu[24] = "", id[MACHINE_NIC_ID_SIZE];

	command_nic_id(nic, number, id);
	strv_append(&command->argv, "-netdev");
	command_add(command, "tap,id=" QEMU_NETDEV "%s,fd=%d,vhost=off", id,
		    command_add_fd(command, nic->fd));
	strv_append(&command->argv, "-device");
	if (nic->mtu > 0)
		snprintf(mtu, sizeof(mtu), ",host_mtu=%u", nic->mtu);
	command_add(command,
		    "virtio-net-pci,netdev=" QEMU_NETDEV
		    "%s,mac=%02x:%02x:%02x:%02x:%02x:%02x%s,id=%s,bus=" QEMU_SLOT "%u,romfile="
		    "," PCI_MODERN,
		    id, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], mtu, id, number);
}

int command_qemu(const struct machine_spec *spec, struct machine_command *ret, struct error *err)
{
	const struct qemu_platform *platform = platform_of(spec->architecture);
	AUTO(free) char *parent = NULL;
	int r = command_own_program("brume-qemu", &parent, err);

	if (r < 0)
		return r;
	if (!platform)
		return error_say(err, -EINVAL, "%s: no such machine; there are amd64 and arm64",
				 spec->architecture);
	strv_append_take(&ret->argv, TAKE_PTR(parent));
	add_parent(spec, ret);
	add_board(spec, platform, ret);
	add_console(spec, platform, ret);
	add_ports(spec, ret);
	for (unsigned int i = 0; r == 0 && i < spec->disk_count; i++)
		r = add_disk(spec, i, ret, err);
	add_slots(ret);
	for (unsigned int i = 0; r == 0 && i < spec->nic_count; i++)
		add_nic(&spec->nics[i], i, ret);
	return r;
}
