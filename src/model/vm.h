#pragma once
/*
 * model/vm.h - what an instance of type "vm" has that a container has not, and the other way
 * round.
 *
 * Part of an instance's spec (the members stand in the spec itself) and of its status.  No state,
 * thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct error;
struct instance_spec;
struct json_reader;

enum instance_type { INSTANCE_CONTAINER, INSTANCE_VM };
extern const char *const instance_type_names[];

enum {
	VM_CPUS_MAX = 64,
	VM_KERNEL_MAX = 63,
	VM_USER_DATA_MAX = 64 * 1024,
	VM_SSH_KEYS_MAX = 64,
	VM_SSH_KEY_BYTES_MAX = 16 * 1024,
};
#define VM_MEMORY_DEFAULT_BYTES (UINT64_C(512) << 20)
#define VM_MEMORY_MIN_BYTES (UINT64_C(64) << 20)
#define VM_DISK_DEFAULT_BYTES (UINT64_C(10) << 30)
#define VM_DISK_MIN_BYTES (UINT64_C(64) << 20)
#define VM_DISK_MAX_BYTES (UINT64_C(64) << 40)

struct vm_options {
	char *kernel;        /* of the node; NULL = its default one */
	uint64_t disk_bytes; /* of its writable disk; 0 = the default */
	bool emulate;        /* another architecture than the node's is wanted */
	/* What cloud-init in the image of a disk is told. */
	char *user_data;
	char **ssh_keys; /* lines of authorized_keys */
};

void vm_options_read(struct json_reader *in, const json_t *object, struct vm_options *options);
void vm_options_put(json_t *object, const struct vm_options *options);
void vm_options_copy(struct vm_options *to, const struct vm_options *from);
void vm_options_done(struct vm_options *options);

/* 1..63 of letters, digits, '.', '_' and '-', beginning with one of the first two. */
bool vm_kernel_is_valid(const char *name);

/*
 * What of the whole spec goes with its type: -EINVAL names the member, and what would be right.
 */
int instance_type_check(const struct instance_spec *spec, struct error *err);

/*
 * What of the whole spec goes with its image: one that is a disk (`disk`) boots by itself, and
 * nobody in there knows brume.  -EINVAL as above.
 */
int instance_image_check(const struct instance_spec *spec, bool disk, struct error *err);

/* One line of authorized_keys, printable. */
bool vm_ssh_key_is_valid(const char *line);

/* What the guest sees: the limits, or the defaults. */
uint32_t vm_cpus(const struct instance_spec *spec);
uint64_t vm_memory_bytes(const struct instance_spec *spec);
uint64_t vm_memory_of_limit(uint64_t limit_bytes); /* 0: no limit */
uint64_t vm_disk_bytes(const struct instance_spec *spec);

/* The machine of the present run; `backend` NULL: there is none. */
struct vm_status {
	char *backend; /* "brume-vmm", "qemu" */
	char *why;     /* it is this one */
	char *architecture;
	char *kernel;
	char *firmware; /* "bios", "uefi": boots the disk of the image; NULL: the kernel is ours */
	uint32_t cpus;
	uint64_t memory_bytes;
	uint64_t pids;     /* its limit of processes; 0: none */
	char *pending;     /* what of the limits comes with the next start; NULL: nothing */
	char *guest_error; /* how the guest breaks its protocol; NULL: it does not */
};

/* What of the limits a machine that runs cannot be given, in words, or NULL; the caller frees. */
char *vm_pending(const struct instance_spec *spec, const struct vm_status *machine);

void vm_status_read(struct json_reader *in, const json_t *object, const char *name,
		    struct vm_status *status);
json_t *vm_status_encode(const struct vm_status *status);
void vm_status_copy(struct vm_status *to, const struct vm_status *from);
void vm_status_done(struct vm_status *status);
