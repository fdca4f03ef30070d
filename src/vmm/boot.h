#pragma once
/*
 * vmm/boot.h - everything that lies in memory before the first instruction: kernel, initramfs,
 * command line, the memory map, and the first CPU's registers.
 *
 * Used by vm.c, at the start and after each reset.  The guest's memory must be all zero.
 */
#include <linux/kvm.h>
#include <stdint.h>

#include "vmm/layout.h"
#include "vmm/loader.h"

struct error;
struct guest_memory;

enum { BOOT_INITRDS_MAX = 8 };

struct boot_options {
	int kernel_fd;
	int initrd_fds[BOOT_INITRDS_MAX]; /* regular files, loaded one behind the other */
	unsigned int initrd_count;
	const char *command_line;
};

struct boot_entry {
	enum loader_protocol protocol;
	gpa_t entry, argument;
};

int boot_load(const struct guest_memory *memory, const struct boot_options *options,
	      struct boot_entry *ret, struct error *err);

/* Changes a new CPU's registers so that it begins there. */
void boot_registers(const struct boot_entry *entry, struct kvm_regs *regs, struct kvm_sregs *sregs);

/*
 * How Linux tells the next firmware what kind of restart it is: 0x1234 at 0x472 is a warm one. With
 * `reboot=panic_warm` (BOOT_ARGUMENTS) it asks for a warm one only when it panics, so a reset with
 * that mark is a panic.
 */
int boot_was_panic(const struct guest_memory *memory);
#define BOOT_ARGUMENTS "panic=-1 reboot=panic_warm"
