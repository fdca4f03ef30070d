#pragma once
/*
 * vmm_devices.h - one of each virtio device, with host sides that are always there, for the fuzz
 * targets of vmm/.  Everything runs in one thread, without KVM: fuzz_step() turns the loop once.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "vmm/balloon.h"
#include "vmm/blk.h"
#include "vmm/console.h"
#include "vmm/loop.h"
#include "vmm/memory.h"
#include "vmm/nic.h"
#include "vmm/rng.h"
#include "vmm/virtio.h"
#include "vmm/vsock.h"

enum { FUZZ_RNG, FUZZ_CONSOLE, FUZZ_BLK, FUZZ_NET, FUZZ_VSOCK, FUZZ_BALLOON, FUZZ_KINDS };
enum { FUZZ_MEMORY = 1 << 20, FUZZ_PORT = 52 };

/* The host's side of everything; made once, because it costs more than an input. */
struct fuzz_host {
	int disk, wire[4], console[2], vsock, guest_port;
	char *path, *guest_path;
	struct sockaddr_un address;
	socklen_t address_size;
};

static struct fuzz_host fuzz_host;

#define FUZZ_MUST(x)                                                                               \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			perror(#x);                                                                \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static inline void fuzz_remove_socket(void)
{
	unlink(fuzz_host.guest_path);
}

static inline void fuzz_host_init(void)
{
	struct fuzz_host *h = &fuzz_host;
	struct error err = {};
	int kind = SOCK_NONBLOCK | SOCK_CLOEXEC;

	if (h->address_size)
		return;
	log_set_levels("error");
	signal(SIGPIPE, SIG_IGN);
	h->disk = memfd_create("disk", MFD_CLOEXEC);
	FUZZ_MUST(ftruncate(h->disk, 1 << 20) == 0);
	FUZZ_MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | kind, 0, h->wire) == 0);
	FUZZ_MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | kind, 0, h->wire + 2) == 0);
	FUZZ_MUST(socketpair(AF_UNIX, SOCK_STREAM | kind, 0, h->console) == 0);
	/* Host programs connect to an abstract socket, the guest to one of the file system. */
	h->vsock = socket(AF_UNIX, SOCK_STREAM | kind, 0);
	h->address.sun_family = AF_UNIX;
	FUZZ_MUST(bind(h->vsock, (struct sockaddr *) &h->address, sizeof(sa_family_t)) == 0);
	FUZZ_MUST(listen(h->vsock, 64) == 0);
	h->address_size = sizeof(h->address);
	FUZZ_MUST(getsockname(h->vsock, (struct sockaddr *) &h->address, &h->address_size) == 0);
	h->path = mem_printf("/tmp/brume-fuzz-%d", (int) getpid());
	h->guest_path = mem_printf("%s_%d", h->path, FUZZ_PORT);
	h->guest_port = vsock_listen(h->guest_path, &err);
	FUZZ_MUST(h->guest_port >= 0);
	atexit(fuzz_remove_socket);
}

static inline void fuzz_empty(int fd)
{
	char data[4096];

	while (recv(fd, data, sizeof(data), MSG_DONTWAIT) > 0)
		;
}

/* So that nothing of one input is left for the next. */
static inline void fuzz_host_clear(void)
{
	struct fuzz_host *h = &fuzz_host;
	int fd;

	for (unsigned int i = 0; i < 4; i++)
		fuzz_empty(h->wire[i]);
	for (unsigned int i = 0; i < 2; i++)
		fuzz_empty(h->console[i]);
	while ((fd = accept4(h->vsock, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
	while ((fd = accept4(h->guest_port, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
}

/* What comes from outside while the guest works: packets, lines, connections. */
static inline void fuzz_host_speak(unsigned int kind, const uint8_t *data, size_t size)
{
	struct fuzz_host *h = &fuzz_host;
	static int caller = -1;
	ssize_t n = 0;

	if (kind == FUZZ_NET)
		n = send(h->wire[1], data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (kind == FUZZ_CONSOLE)
		n = send(h->console[1], data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (kind == FUZZ_VSOCK) {
		fd_close(caller);
		caller = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (connect(caller, (struct sockaddr *) &h->address, h->address_size) == 0)
			n = send(caller, "CONNECT 5\nhello", 15, MSG_NOSIGNAL);
	}
	(void) n;
}

static inline struct virtio_device *
fuzz_device_new(unsigned int kind, const struct guest_memory *memory, struct loop *loop)
{
	struct fuzz_host *h = &fuzz_host;
	struct virtio_device *device = NULL;
	struct error err = {};
	struct rng_options rng = { .id = "rng" };
	struct console_options console = { .id = "console", .port_count = 3 };
	struct blk_options blk = {
		.id = "blk", .fd = h->disk, .queues = 2, .engine = DISK_IO_SYNC
	};
	struct nic_options net = { .id = "net", .pairs = 2 };
	struct vsock_options vsock = {
		.id = "vsock", .guest_cid = 3, .listen_fd = h->vsock, .path = h->path
	};
	struct balloon_options balloon = { .id = "balloon", .reporting = true };

	console.ports[0] = (struct console_port_options){ NULL, -1, -1 };
	console.ports[1] = (struct console_port_options){ "both", h->console[0], h->console[0] };
	console.ports[2] = (struct console_port_options){ "none", -1, -1 };
	net.fds[0] = h->wire[0];
	net.fds[1] = h->wire[2];
	switch (kind) {
	case FUZZ_RNG:
		FUZZ_MUST(rng_new(&rng, loop, &device, &err) == 0);
		break;
	case FUZZ_CONSOLE:
		FUZZ_MUST(console_new(&console, loop, &device, &err) == 0);
		break;
	case FUZZ_BLK:
		FUZZ_MUST(blk_new(&blk, loop, &device, &err) == 0);
		break;
	case FUZZ_NET:
		FUZZ_MUST(nic_new(&net, loop, &device, &err) == 0);
		break;
	case FUZZ_VSOCK:
		FUZZ_MUST(vsock_new(&vsock, loop, &device, &err) == 0);
		break;
	default:
		FUZZ_MUST(balloon_new(&balloon, memory, loop, &device, &err) == 0);
		break;
	}
	return device;
}

static inline void fuzz_quit(struct loop_source *source, void *data)
{
	(void) source;
	loop_quit(data, 0);
}

/* What is due now, and no more. */
static inline void fuzz_step(struct loop *loop)
{
	struct loop_source *timer = NULL;

	FUZZ_MUST(loop_add_timer(loop, 1, fuzz_quit, loop, &timer) == 0);
	loop_run(loop);
	loop_source_free(timer);
}

/* The input, byte by byte; zeroes at the end of it. */
struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

static inline uint64_t fuzz_take(struct fuzz_input *in, unsigned int bytes)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < bytes && in->size > 0; i++, in->data++, in->size--)
		value |= (uint64_t) *in->data << (8 * i);
	return value;
}
