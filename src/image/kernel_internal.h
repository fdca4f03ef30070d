#pragma once
/*
 * image/kernel_internal.h - the parts of image/kernel.h.
 *
 *	kernel.c		the store: names, the default, opening
 *	kernel_import.c		from a package or files to a folder of the store
 *	kernel_fetch.c		Debian's package, by apt
 *	kernel_initramfs.c	the shared initramfs
 *	kernel_modules.c	which modules, in which order; in the worker
 *	worker_kernel.c		takes packages, kernels and modules apart; in the worker
 */
#include <stdbool.h>
#include <stddef.h>

struct error;
struct kernel_tools;

/* Files are flat: `modules` has NAME.ko, plain, for all names in `order`. */
enum {
	KERNEL_MODULE_MAX = 64 << 20,
	KERNEL_ORDER_MAX = 64 << 10,
	KERNEL_INIT_MAX = 16 << 20,
	KERNEL_VERSION_SIZE = 128,
};

/* The same word, as one that lives for ever; NULL: machines of no such architecture. */
const char *kernel_architecture(const char *name);
/* The node's own. */
const char *kernel_host_architecture(void);

/* The link to an architecture's default. */
char *kernel_default_path(const char *dir, const char *architecture);

/* The brume-init for an architecture, which is there.  -ENOENT says how to have one. */
int kernel_init_path(const struct kernel_tools *tools, const char *architecture, char **ret,
		     struct error *err);

/* NAME.ko, and nothing that leads elsewhere: the names come from a worker. */
bool kernel_module_name_ok(const char *name);

/* A table of the modules of a kernel: where each is. */
struct module_table;
struct module_table *module_table_new(void);
void module_table_free(struct module_table *table);
/*
 * `path` below the folder `dir_fd` (which stays open) ends in .ko, .ko.xz, .ko.gz or .ko.zst;
 * anything else is passed over.
 */
void module_table_add(struct module_table *table, int dir_fd, const char *path);
/* All below a folder. */
int module_table_add_tree(struct module_table *table, int dir_fd, struct error *err);

/* Copies what machines need, and what that needs, to `modules_fd`, with `order`. */
int kernel_modules_copy(struct module_table *table, int modules_fd, struct error *err);

/* Writes `initramfs` in the kernel's folder. */
int kernel_initramfs_write(int kernel_fd, const char *init, struct error *err);

/* SHA-256 of a file as hex digits. */
enum { KERNEL_HEX_SIZE = 65 };
int kernel_file_digest(const char *path, char ret[KERNEL_HEX_SIZE], struct error *err);

/* Downloads Debian's cloud kernel; *ret is the path of the .deb below `folder`. */
int kernel_fetch(const char *folder, const char *architecture, char **ret, struct error *err);
