#pragma once
/*
 * machine/command_internal.h - the writers of both back ends' command lines.
 */
#include "base/strv.h"
#include "machine/machine.h"

/* QEMU's names: of the root port for a card, with its number, and of what is behind a card. */
#define QEMU_SLOT "slot"
#define QEMU_NETDEV "host-"

enum { COMMAND_FIRST_FD = 3 }; /* --preserve-fds passes on 3, 4, 5, ... */

/* What both kernels need to be told: where the console is, and that a panic ends the machine. */
#define COMMAND_KERNEL_ARGS "console=hvc0 panic=-1"

/* Has the child get `fd`; returns its number there. */
int command_add_fd(struct machine_command *command, int fd);

/* Appends a formatted word. */
void command_add(struct machine_command *command, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The id that a card has: its own, or one of its number. */
void command_nic_id(const struct machine_nic *nic, unsigned int number,
		    char ret[MACHINE_NIC_ID_SIZE]);

/* The absolute path of a program of ours: it lies beside the running one. */
int command_own_program(const char *name, char **ret, struct error *err);

/* QEMU's program for an architecture, NULL: none. */
const char *command_qemu_program(const char *architecture);

int command_qemu(const struct machine_spec *spec, struct machine_command *ret, struct error *err);
int command_vmm(const struct machine_spec *spec, struct machine_command *ret, struct error *err);
