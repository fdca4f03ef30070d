#pragma once
/*
 * kern/seccomp_compact.h - makes a system call filter smaller without changing what it decides.
 *
 * libseccomp compares with every system call number of a profile.  Numbers with the same fate lie
 * side by side, so a search over ranges says the same with a fifth of the instructions; loading a
 * filter (checking, translating and, in the kernel, trying it on every number) costs time in
 * proportion.  Checks of arguments are kept as they are.
 *
 * Used by kern/seccomp when a filter is built.  Pure; no state, any thread.
 * The language is classic BPF as seccomp(2) permits it
 * (Documentation/userspace-api/seccomp_filter).
 */
#include <linux/filter.h>
#include <stddef.h>

/*
 * `ret` is a new program, to be freed by the caller.  -ENOTSUP: the program has an instruction that
 * is not understood here, or would not become smaller; the old one is as good as it gets.
 */
int seccomp_compact(const struct sock_filter *program, size_t count, struct sock_filter **ret,
		    size_t *ret_count);
