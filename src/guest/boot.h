#pragma once
/*
 * guest/boot.h - from the initramfs to the image's root file system.
 *
 * The steps of brume-init before anything of the image runs, in this order.  Each blocks; each is
 * called once.  When one fails the machine ends with that error.
 */
#include <stdint.h>

struct error;
struct guest_config;

enum { BOOT_DISK_WAIT_MS = 10000 };

/* proc, sysfs and devtmpfs of the initramfs; standard output becomes the kernel's console. */
int boot_mounts(struct error *err);

/* Loads what /modules/order names; hardware that is not there is fine. */
int boot_modules(struct error *err);

/* Reads GUEST_CONFIG_PATH. */
int boot_config(struct guest_config *ret, struct error *err);

/*
 * Mounts the image's disk (EROFS, else ext4) and over it what the instance changes (ext4, or
 * memory).  *ret_root_fd is the new root, *ret_upper_fd the file system of the changes.
 */
int boot_root(const struct guest_config *config, int *ret_root_fd, int *ret_upper_fd,
	      struct error *err);

/* Puts it in the place of the initramfs, whose files are removed. */
int boot_switch(int root_fd, struct error *err);
