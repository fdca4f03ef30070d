#pragma once
/*
 * container/self_early.h - protecting the program before its C library starts.
 *
 * brume-oci's entry point is self_early_entry (meson.build), which does what self_protect() in
 * container/self.h would do soon, when the words ask for a verb that enters a container; then it
 * goes on to the C library's _start.  A static program on x86-64 only; elsewhere, and whenever
 * something fails, self_protect() does it later.  One thread, no state; a crash leaves nothing.
 */
#include <stdbool.h>

/* Whether one of the words (ended by NULL) is a verb that enters a container. */
bool self_early_wanted(char *const *argv);
