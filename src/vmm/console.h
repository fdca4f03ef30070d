#pragma once
/*
 * vmm/console.h - virtio-console with several ports (VIRTIO 1.2, section 5.3).
 *
 * Port 0 is the kernel's console (hvc0).  What it writes is kept in a ring of 64 KiB, the
 * machine's last words, and copied to a descriptor when there is one; it never waits for that
 * descriptor, because a kernel that prints spins until the device has taken the text.
 * The other ports have a name (/dev/virtio-ports/NAME), a descriptor to write what the guest sends
 * and one to read what it gets; slow readers hold up the writer, on both sides.  When the input
 * ends, and the port has no output, the guest is told (its read() gives 0).  When nobody reads the
 * output any more (EPIPE), the rest is swallowed, so that the guest ends in peace.
 *
 * Descriptors that are not regular files become non-blocking, and blocking again at the end.
 * SIGPIPE must be ignored.  Used by the main program.
 * Thread: made before the loop runs and freed after it ended; else the loop's.
 */
#include <stddef.h>
#include <stdint.h>

struct error;
struct loop;
struct virtio_device;

enum {
	CONSOLE_PORTS_MAX = 8, /* with port 0 */
	CONSOLE_RING_BYTES = 64 << 10,
	CONSOLE_NAME_MAX = 32,
};

struct console_port_options {
	const char *name; /* ignored for port 0 */
	int in_fd;        /* to the guest; -1: nothing comes.  Borrowed, as out_fd */
	int out_fd;       /* from the guest; -1: swallowed */
	/* Nothing more is written when it would be over that, for files; 0: no limit. */
	uint64_t out_max_bytes;
};

struct console_options {
	const char *id; /* "console0" */
	struct console_port_options ports[CONSOLE_PORTS_MAX];
	unsigned int port_count; /* at least 1 */
	/*
	 * A file for the ring, so that it outlives every kind of end: 8 bytes "brumerng", u64 how
	 * much was ever written, 64 KiB.  0 (a zeroed struct) or less: none.
	 */
	int ring_fd;
};

int console_new(const struct console_options *options, struct loop *loop,
		struct virtio_device **ret, struct error *err);

/* The last bytes that the kernel's console wrote, at most `size`; returns how many. */
size_t console_last_words(const struct virtio_device *device, char *data, size_t size);
