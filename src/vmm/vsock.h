#pragma once
/*
 * vmm/vsock.h - sockets between host and guest (VIRTIO 1.2, section 5.10), on the host as Unix
 * sockets in the way of Firecracker.
 *
 * A host program connects to PATH and writes "CONNECT 1024\n"; the answer "OK 1073741824\n" says
 * that the guest has accepted, then the stream is the guest's; a stream that ends without an answer
 * was refused.  A guest that connects to port P of the host (cid 2) reaches PATH_P.
 * Memory is bounded: VSOCK_CONNECTIONS_MAX connections, for each at most VSOCK_BUFFER_BYTES that a
 * slow host program has not taken, VSOCK_BUFFERED_MAX for all of them.
 * SIGPIPE need not be ignored.  Used by the main program.
 * Thread: made before the loop runs and freed after it ended; else the loop's.
 */
#include <stdint.h>

struct error;
struct loop;
struct virtio_device;

enum {
	VSOCK_CONNECTIONS_MAX = 4096,
	VSOCK_BUFFER_BYTES = 64 << 10,
	VSOCK_BUFFERED_MAX = 16 << 20,
};

struct vsock_options {
	const char *id;     /* "vsock0" */
	uint64_t guest_cid; /* 3 or more */
	int listen_fd;      /* a listening Unix stream socket (borrowed), or -1 */
	const char *path;   /* for the guest's own connections: PATH_port; NULL: refused */
};

int vsock_new(const struct vsock_options *options, struct loop *loop, struct virtio_device **ret,
	      struct error *err);

/* Makes the socket for listen_fd at `path`, in place of what a dead machine left there. */
int vsock_listen(const char *path, struct error *err);

/* Ends all connections and tells the guest: after a snapshot.  In the loop's thread. */
void vsock_end_connections(struct virtio_device *device);
unsigned int vsock_connections(const struct virtio_device *device);
