#pragma once
/*
 * codec/kmod.h - what a kernel module (.ko, an ELF) says about itself.
 *
 * Used by image/ to find which modules another one needs, where nobody has run depmod: Debian's
 * packages come without modules.dep.  Pure functions over bytes; thread-safe.
 */
#include <stddef.h>

struct error;

/*
 * The modules that it needs (by name, '-' written as '_'), as a new strv; NULL when it needs none.
 * -EBADMSG: no module.
 */
int kmod_depends(const void *data, size_t size, char ***ret, struct error *err);
