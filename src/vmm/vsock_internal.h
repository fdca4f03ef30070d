#pragma once
/*
 * vmm/vsock_internal.h - what vsock.c (the guest's side: packets, credit) and vsock_host.c (the
 * host's side: Unix sockets) share.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "vmm/virtio.h"
#include "vmm/vsock.h"

struct vsock_key {
	uint32_t host_port, guest_port;
};

enum vsock_state {
	VSOCK_ASKING,    /* the host program has not said which port it wants */
	VSOCK_REQUESTED, /* the guest has not answered */
	VSOCK_OPEN,
	VSOCK_ENDING, /* the host program is gone, the guest was told */
	VSOCK_DEAD,   /* only the reset is still to be sent */
};

/* Packets that wait for a buffer of the driver. */
enum {
	VSOCK_SAY_REQUEST = 1 << 0,
	VSOCK_SAY_RESPONSE = 1 << 1,
	VSOCK_SAY_RESET = 1 << 2,
	VSOCK_SAY_CREDIT = 1 << 3,
	VSOCK_SAY_SHUTDOWN = 1 << 4,
};

enum { VSOCK_LINE_MAX = 24 };

struct vsock_connection {
	struct vsock *vsock;
	struct vsock_key key;
	UT_hash_handle hh; /* in vsock->by_key, from VSOCK_REQUESTED on */
	TAILQ_ENTRY(vsock_connection) all, pending;
	enum vsock_state state;
	bool is_pending;
	uint8_t say, shutdown_said, guest_shutdown;
	int fd;
	struct loop_source *source;
	uint32_t events;               /* what `source` waits for */
	bool readable, hung_up, ended; /* the host program: has data, is gone, sends no more */
	/* Credit, as VIRTIO 1.2, 5.10.6.3 has it: counters wrap. */
	uint32_t peer_allocated, peer_forwarded, sent, forwarded, told;
	char *buffer; /* from the guest, not yet taken by the host program */
	uint32_t buffer_at, buffer_size, buffer_capacity;
	uint64_t due_ns; /* 0: waits for nobody */
	char line[VSOCK_LINE_MAX];
	unsigned int line_size;
};

TAILQ_HEAD(vsock_list, vsock_connection);

enum { VSOCK_RESETS_MAX = 256 };

struct vsock {
	struct virtio_device device;
	uint64_t guest_cid;
	int listen_fd;
	struct loop_source *listen_source;
	char path[108];
	bool active, tx_more;
	struct loop_source *work_timer, *due_timer;
	uint64_t next_due_ns;
	uint32_t next_port;
	struct vsock_connection *by_key;
	struct vsock_list all, pending;
	unsigned int count;
	uint64_t buffered; /* the sum of all capacities */
	/* Resets for connections that do not exist; when there are too many, some get none. */
	struct vsock_key resets[VSOCK_RESETS_MAX];
	unsigned int reset_count;
};

/* vsock.c */
struct vsock_connection *vsock_connection_new(struct vsock *vsock, int fd);
void vsock_connection_free(struct vsock_connection *c);
struct vsock_connection *vsock_find(struct vsock *vsock, struct vsock_key key);
void vsock_set_key(struct vsock_connection *c, struct vsock_key key);
void vsock_say(struct vsock_connection *c, uint8_t what);
void vsock_drop_buffer(struct vsock_connection *c);
/* Closes the host's side; the guest gets a reset. */
void vsock_kill(struct vsock_connection *c);
void vsock_set_due(struct vsock_connection *c, uint64_t after_ns);
uint32_t vsock_credit(const struct vsock_connection *c);
void vsock_serve(struct vsock *vsock);

/* vsock_host.c */
void vsock_accept(struct loop_source *source, int fd, uint32_t events, void *data);
/* The guest asks for a port of the host: 0, or -errno and there is nobody. */
int vsock_connect(struct vsock *vsock, struct vsock_key key);
/* The guest has accepted: says so to the host program. */
void vsock_accepted(struct vsock_connection *c);
/* Takes data from the guest. */
void vsock_deliver(struct vsock_connection *c, const struct iovec *iov, unsigned int count,
		   uint32_t size);
/* The guest has shut down a part of it, or what it had sent was taken. */
void vsock_drained(struct vsock_connection *c);
/* Waits for what there is to wait for. */
void vsock_watch(struct vsock_connection *c);
