/*
 * self_protect() at the first instruction, before the C library is there (see container/self.h).
 *
 * A program that executes itself again pays its own start twice: relocations, the processor's
 * features, the heap, a page fault for each page of all that.  What is to be done needs nothing of
 * it, so the linker's entry point is here: it looks at the words on the stack and makes six system
 * calls.  Whatever fails is left to self_protect(), which does the same with words for people.
 *
 * Nothing is relocated yet: no library call, no table of pointers, no stack protector.
 */
#include "container/self_early.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <stdint.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

#define EARLY __attribute__((no_stack_protector))

EARLY static bool same(const char *a, const char *b)
{
	for (; *a && *a == *b; a++)
		b++;
	return *a == *b;
}

EARLY bool self_early_wanted(char *const *argv)
{
	/* A container of that name after another verb costs one exec for nothing. */
	for (char *const *word = argv; *word; word++)
		if (same(*word, "exec") || same(*word, "run") || same(*word, "create"))
			return true;
	return false;
}

#if defined(__x86_64__)

EARLY static long call(long number, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return r;
}

EARLY static long on_read_only_mount(long exe, char *const *argv, char *const *envp)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	struct statfs fs;
	long clone, r;

	if (call(SYS_fstatfs, exe, (long) &fs, 0, 0, 0) < 0 || fs.f_flags & ST_RDONLY)
		return 0;
	clone = call(SYS_open_tree, exe, (long) "",
		     AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC, 0, 0);
	if (clone < 0)
		return clone;
	r = call(SYS_mount_setattr, clone, (long) "", AT_EMPTY_PATH, (long) &attr, sizeof(attr));
	if (r == 0)
		r = call(SYS_execveat, clone, (long) "", (long) argv, (long) envp, AT_EMPTY_PATH);
	call(SYS_close, clone, 0, 0, 0, 0);
	return r;
}

/* The stack as the kernel leaves it: argc, argv, NULL, envp, NULL. */
EARLY __attribute__((used)) static void self_early(intptr_t *stack)
{
	char *const *argv = (char *const *) (stack + 1);
	char *const *envp = argv + *stack + 1;
	long exe;

	/* Only root may; an ordinary user becomes root of a user namespace first. */
	if (*stack < 1 || !self_early_wanted(argv + 1) || call(SYS_geteuid, 0, 0, 0, 0, 0) != 0)
		return;
	exe = call(SYS_openat, AT_FDCWD, (long) "/proc/self/exe", O_PATH | O_CLOEXEC, 0, 0);
	if (exe < 0)
		return;
	(void) on_read_only_mount(exe, argv, envp);
	call(SYS_close, exe, 0, 0, 0, 0);
}

/* rdx belongs to _start: what the dynamic linker wants called at exit. */
__asm__(".text\n"
	".globl self_early_entry\n"
	".hidden self_early_entry\n"
	".type self_early_entry, @function\n"
	"self_early_entry:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	push %rdx\n"
	"	push %rdx\n"
	"	call self_early\n"
	"	pop %rdx\n"
	"	pop %rdx\n"
	"	jmp _start\n"
	".size self_early_entry, . - self_early_entry\n");

#endif
