#pragma once
/*
 * vmm/jail.h - a monitor's second wall, inside of its container: what a guest that has taken a
 * thread over can still ask the kernel for.
 *
 * The process: no new privileges, and no file can be opened any more (Landlock, where the kernel
 * has it).  Each kind of thread: a list of system calls (seccomp), anything else ends the process.
 * Used by brume-vmm.  One way.
 */

struct error;

enum jail_thread {
	JAIL_MAIN,
	JAIL_IO,  /* devices */
	JAIL_CPU, /* guest code and the buses; of ioctls only KVM's */
};

/* Everything is open, the other threads have not begun. */
int jail_process(struct error *err);

/* The calling thread, from now on. */
int jail_thread(enum jail_thread kind, struct error *err);

/* How many system calls that kind may make. */
unsigned int jail_call_count(enum jail_thread kind);
