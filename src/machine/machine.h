#pragma once
/*
 * machine/machine.h - how the agent runs a virtual machine: what to start, and how to talk to it.
 *
 * Two back ends behind one interface: brume-vmm on a usable /dev/kvm, QEMU for guests that need
 * firmware, another architecture, or a host without usable KVM.  A machine is a process that the
 * keeper starts inside a container made by brume-oci (the jail: user ids, namespaces, cgroup, empty
 * root); it gets descriptors, never paths of the host.  See docs/design/0007-virtual-machines.md.
 * Used by agent/.  machine_command() is pure; the rest blocks for at most its time-out and is for
 * worker threads, except where it says otherwise.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct error;

enum machine_backend { MACHINE_BRUME_VMM, MACHINE_QEMU };
const char *machine_backend_name(enum machine_backend backend); /* "brume-vmm", "qemu" */

/* What a node is set to; where there is only one back end that can do it, that one is taken. */
enum machine_preference { MACHINE_ANY, MACHINE_PREFER_BRUME_VMM, MACHINE_PREFER_QEMU };

/* "auto", "brume-vmm", "qemu"; -EINVAL. */
int machine_preference_parse(const char *name, enum machine_preference *ret);

/* How a machine can be run on this host. */
struct machine_choice {
	enum machine_backend backend;
	bool kvm;
	bool no_xsave; /* guests must not see XSAVE here (machine/probe.h) */
	char why[160]; /* one line: "ring 0 runs at 0.6 million instructions a second here" */
};

/* OCI's word for what this host is, "none" when no machine runs here. */
const char *machine_host_architecture(void);

/*
 * The back end for images of `architecture` (OCI's).  Probes KVM the first time, milliseconds.
 * -ENOEXEC: the host has another architecture and `emulate` was not asked for; -ENOENT: the back
 * end's program is not installed: the message names the package; -EOPNOTSUPP: the one that the node
 * is set to cannot be used here.
 */
int machine_choose(const char *architecture, bool emulate, enum machine_preference preference,
		   struct machine_choice *ret, struct error *err);

/* The same for a machine whose firmware boots its first disk: that is QEMU's business. */
int machine_choose_firmware(const char *architecture, bool emulate, struct machine_choice *ret,
			    struct error *err);

/* What boots the first disk, in words; NULL: the architecture has no machine. */
const char *machine_firmware_name(const char *architecture);

/* What this host can do for machines of its own architecture, for the node's status. */
struct machine_host {
	bool usable; /* brume-vmm can be used */
	bool nested_paging, apicv, iommu;
	double ring0_mips, ring3_mips; /* million instructions a second in a guest; 0: not known */
	const char *backend;           /* "" when there is none */
	char why[160];
};

/* Measures the first time, 10 milliseconds (at most 4 s); then the same answer. */
void machine_host(enum machine_preference preference, struct machine_host *ret);

/*
 * What the back end's program has to see of the node, each at the same path and read-only:
 * itself, its libraries, its firmware.  A strv of absolute paths of files and folders.
 */
int machine_paths(enum machine_backend backend, const char *architecture, char ***ret,
		  struct error *err);

enum machine_disk_format { MACHINE_DISK_RAW, MACHINE_DISK_QCOW2 };

enum { MACHINE_DISKS_MAX = 16, MACHINE_NICS_MAX = 8, MACHINE_INITRDS_MAX = 4 };

/* What the guest's virtio-serial ports are called; `brume.in` is there when it has an input. */
#define MACHINE_PORT_OUT "brume.out"
#define MACHINE_PORT_ERR "brume.err"
#define MACHINE_PORT_IN "brume.in"
#define MACHINE_PORT_STATUS "brume.status"
#define MACHINE_PORT_GUEST "brume.guest"

/* vsock: the port on which brume-init listens, and the guest's context id. */
enum { MACHINE_VSOCK_PORT = 1024, MACHINE_VSOCK_CID = 3 };

struct machine_disk {
	int fd;
	enum machine_disk_format format;
	bool read_only;
	const char *serial; /* at most 20 characters: /sys/block/X/serial in the guest */
	/*
	 * QEMU only, a qcow2's: what is not written in it is read from there.  Read-only, and what
	 * its own header says lies below it is not opened.
	 */
	const struct machine_disk *backing;
};

enum { MACHINE_NIC_ID_SIZE = 21 };

struct machine_nic {
	int fd; /* of a tap device with IFF_VNET_HDR */
	uint8_t mac[6];
	uint16_t mtu;
	char id[MACHINE_NIC_ID_SIZE]; /* a letter, then letters and digits; "": it has a number */
};

struct machine_spec {
	enum machine_backend backend;
	bool kvm;                 /* QEMU: -accel kvm, otherwise tcg */
	bool no_xsave;            /* on KVM: as machine_choose() says */
	const char *architecture; /* OCI's: "amd64", "arm64" */
	uint32_t cpus;
	uint64_t memory_bytes;
	int kernel_fd;           /* -1: firmware boots the first disk */
	const char *kernel_args; /* added to what the back end needs (console, panic); may be NULL
				  */
	int initrd_fds[MACHINE_INITRDS_MAX]; /* concatenated; seekable */
	unsigned int initrd_count;
	struct machine_disk disks[MACHINE_DISKS_MAX];
	unsigned int disk_count;
	struct machine_nic nics[MACHINE_NICS_MAX];
	unsigned int nic_count;
	bool input; /* the guest's command reads from our stdin */
	/*
	 * A folder of the machine's own, as the machine sees it in its jail (and where the agent
	 * sees it: the last argument of the calls below).  In it:
	 *	control.sock	the control socket: calls and returns
	 *	guest.sock	the guest channel
	 *	status		what the guest's brume.status port says: "exit N\n"
	 *	console		the last 64 KiB of the guest's console (machine/ring.h)
	 */
	const char *run_dir;
};

/*
 * What the keeper executes: descriptor fds[i] becomes number fds_as[i].  /dev/kvm among them is the
 * command's own and is closed with it.
 */
struct machine_command {
	char **argv;
	int *fds, *fds_as;
	unsigned int fd_count;
	int kvm_fd; /* 0: none */
};
void machine_command_done(struct machine_command *command);
static inline void machine_command_done_autop(struct machine_command *command)
{
	machine_command_done(command);
}

/*
 * The descriptors stay the caller's; in the child they are 3, 4, 5, ...  -EINVAL says what the back
 * end cannot do.  argv[0] is an absolute path.
 */
int machine_command(const struct machine_spec *spec, struct machine_command *ret,
		    struct error *err);

/* What the process needs beyond the guest's memory, as a limit for its control group. */
uint64_t machine_overhead_bytes(const struct machine_spec *spec);

/* -- a running machine; `run_dir` as the caller sees it ------------------------------------------
 */

enum machine_action {
	MACHINE_PAUSE,
	MACHINE_RESUME,
	MACHINE_POWER_BUTTON,
	MACHINE_RESET,
	MACHINE_QUIT,
};

int machine_do(enum machine_backend backend, const char *run_dir, enum machine_action action,
	       struct error *err);

/*
 * How the guest's command ended: 1 and its code; 0 when the guest has not told (it crashed).
 * Otherwise the message is the reason: -ENOENT when there is no such program, -ENOEXEC when it
 * cannot be executed, -EIO when the guest could not get that far or the machine not be run.
 */
int machine_exit_code(const char *run_dir, int *ret_code, struct error *err);

/* What the back end counts; a new reference. */
int machine_metrics(const char *run_dir, json_t **ret, struct error *err);

/* A machine's memory, and what its guest has given up of it. */
struct machine_balloon {
	uint64_t memory_bytes;  /* it was started with */
	uint64_t balloon_bytes; /* the balloon holds */
	bool counts_given_back;
	uint64_t given_back_bytes; /* to the node since the start, unasked, too; QEMU does not count
				      it */
	/* What the guest says: what it has, and of that what it could use; total 0: nothing. */
	uint64_t total_bytes, available_bytes;
	uint64_t updates; /* another number: it has said it anew */
};

/*
 * What the guest shall have, when target_bytes is not NULL: at least this share of what the machine
 * was started with.  The guest follows when it can, so *ret is how it is, not how it will be.
 */
enum { MACHINE_BALLOON_SHARE = 16 };
int machine_balloon(const char *run_dir, const uint64_t *target_bytes, struct machine_balloon *ret,
		    struct error *err);

/* The same, but what the guest says is of now: 0.1 s, under QEMU 2 s; 3 s when it says nothing. */
int machine_balloon_fresh(const char *run_dir, struct machine_balloon *ret, struct error *err);

/*
 * Asks many at the same time (64 in `timeout_ms`): ret_answers[i], NULL before, becomes a new
 * reference to what the machine in run_dirs[i] (NULL: none) has answered, for
 * machine_balloon_read().
 */
void machine_ask_balloons(char *const *run_dirs, size_t count, unsigned int timeout_ms,
			  json_t **ret_answers);

/* -EPROTO: the sizes cannot be. */
int machine_balloon_read(const json_t *answer, struct machine_balloon *ret);

/* Which network cards a machine has now, by their ids, as its monitor says. */
struct machine_cards {
	char ids[MACHINE_NICS_MAX][MACHINE_NIC_ID_SIZE];
	unsigned int count;
};

/* -EOPNOTSUPP: it was started by a brume whose machines keep their cards. */
int machine_cards(const char *run_dir, struct machine_cards *ret, struct error *err);
bool machine_cards_have(const struct machine_cards *cards, const char *id);

/* The descriptor stays the caller's. */
int machine_card_add(const char *run_dir, const struct machine_nic *nic, struct error *err);

/* When the guest has let go of it, which it gets 8 s for. */
int machine_card_remove(const char *run_dir, const char *id, struct error *err);

/* The console's last lines, at most `max_bytes`, cleaned of control characters. */
int machine_last_words(enum machine_backend backend, const char *run_dir, size_t max_bytes,
		       char **ret, struct error *err);

/*
 * A stream socket to brume-init: behind it come frames (codec/frame.h).  -ECONNREFUSED while no
 * guest listens there.
 */
int machine_connect_guest(enum machine_backend backend, const char *run_dir, struct error *err);
