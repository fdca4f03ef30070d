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

enum { VM_CPUS_MAX = 64, VM_KERNEL_MAX = 63 };
#define VM_MEMORY_DEFAULT_BYTES (UINT64_C(512) << 20)
#define VM_MEMORY_MIN_BYTES (UINT64_C(64) << 20)
#define VM_DISK_DEFAULT_BYTES (UINT64_C(10) << 30)
#define VM_DISK_MIN_BYTES (UINT64_C(64) << 20)
#define VM_DISK_MAX_BYTES (UINT64_C(64) << 40)

struct vm_options {
	char *kernel;        /* of the node; NULL = its default one */
	uint64_t disk_bytes; /* of its writable disk; 0 = the default */
	bool emulate;        /* another architecture than the node's is wanted */
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

/* What the guest sees: the limits, or the defaults. */
uint32_t vm_cpus(const struct instance_spec *spec);
uint64_t vm_memory_bytes(const struct instance_spec *spec);
uint64_t vm_disk_bytes(const struct instance_spec *spec);

/* The machine of the present run; `backend` NULL: there is none. */
struct vm_status {
	char *backend; /* "brume-vmm", "qemu" */
	char *why;     /* it is this one */
	char *kernel;
	uint32_t cpus;
	uint64_t memory_bytes;
};

void vm_status_read(struct json_reader *in, const json_t *object, const char *name,
		    struct vm_status *status);
json_t *vm_status_encode(const struct vm_status *status);
void vm_status_copy(struct vm_status *to, const struct vm_status *from);
void vm_status_done(struct vm_status *status);
