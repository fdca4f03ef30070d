#pragma once
/*
 * image/initramfs.h - the files that a virtual machine's kernel finds in memory: cpio archives.
 *
 * The shared part of a kernel (brume-init and its modules) and the small part of an instance
 * (guest.json) are archives of their own; the kernel unpacks one behind the other.  Used by
 * kernel.c and by the agent.  No state, thread-safe.
 */
#include <stddef.h>
#include <stdint.h>

struct error;
struct strbuf;

/* Appends a folder, or a file of root's (`data` may be NULL when `size` is 0). */
void initramfs_add_folder(struct strbuf *out, const char *name);
void initramfs_add_file(struct strbuf *out, const char *name, uint32_t mode, const void *data,
			size_t size);
/* The end mark; what is appended behind it is the next archive. */
void initramfs_end(struct strbuf *out);

/*
 * The part of one instance: a descriptor in memory (sealed, seekable) with guest.json's text in it.
 */
int initramfs_of_instance(const char *guest_json, int *ret_fd, struct error *err);
