#pragma once
/*
 * image/kernel.h - the kernels of a node for its virtual machines.
 *
 *	STATE/kernels/NAME/	a kernel:
 *		vmlinux		what a machine is started with: the ELF; of arm64 the plain Image
 *		bzImage		as it came, where it came as one
 *		modules/	those that machines need, and `order`
 *		initramfs	the part that all machines share
 *		meta.json
 *	STATE/kernels/default	a link: that of the node's architecture
 *	STATE/kernels/default-ARCHITECTURE	likewise of those that are emulated
 *
 * A kernel appears by rename(); a crash leaves a folder with a leading dot, which the next import
 * removes.  Which kernels there are is the administrator's choice, but their bytes are read by a
 * sandboxed worker only (worker_kernel.c).  Used by the agent.  Thread-safe; the calls block.
 */
#include <jansson.h>
#include <stdbool.h>

struct error;

enum { KERNEL_NAME_MAX = 63 };

/* [A-Za-z0-9][A-Za-z0-9._+-]*, not "default" or "default-...": versions of kernels are names. */
int kernel_name_check(const char *name, struct error *err);

/* Paths of our own programs. */
struct kernel_tools {
	const char *init;   /* brume-init; beside it brume-init-ARCHITECTURE for others */
	const char *worker; /* brume-image-worker */
};

struct kernel_import {
	const char *name;    /* NULL or "": its version */
	const char *source;  /* a linux-image .deb, a vmlinuz, an ELF vmlinux, or arm64's Image */
	const char *modules; /* with a vmlinuz: its folder of modules; NULL: /lib/modules/VERSION */
	const struct kernel_tools *tools;
};

/* *ret is meta.json's object.  The first one of its architecture becomes its default. */
int kernel_import(const char *dir, const struct kernel_import *import, json_t **ret,
		  struct error *err);

/* [{meta.json, "default": bool}, ...], sorted by name. */
int kernel_list(const char *dir, json_t **ret, struct error *err);

/* Of its architecture. */
int kernel_set_default(const char *dir, const char *name, struct error *err);

/*
 * Machines that run keep what they have open.  A default goes only when it is the last one of its
 * architecture.
 */
int kernel_delete(const char *dir, const char *name, struct error *err);

/* Open for reading; -1 when it has none. */
struct kernel_files {
	int vmlinux_fd, bzimage_fd, initramfs_fd;
	char name[KERNEL_NAME_MAX + 1];
};

/*
 * For machines of `architecture` (OCI's).  `name` NULL or "": the default; when there is none, the
 * newest cloud kernel below /boot (of the node's architecture) or, where there is apt, from
 * Debian's package, is imported.  An initramfs with another brume-init in it is made anew.
 */
int kernel_open(const char *dir, const char *name, const char *architecture,
		const struct kernel_tools *tools, struct kernel_files *ret, struct error *err);
void kernel_files_done(struct kernel_files *files);
static inline void kernel_files_done_autop(struct kernel_files *files)
{
	kernel_files_done(files);
}
