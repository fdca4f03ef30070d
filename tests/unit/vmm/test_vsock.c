#include "driver.h"

#include <fcntl.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/file.h"
#include "vmm/vsock.h"

enum { RX = 0, TX = 1, EVENTS = 2, CID = 3, BUFFER = 4096, HEADER = 44, RING = 256 };

struct fixture {
	struct driver d;
	char folder[32], path[64];
	int listen_fd;
	gpa_t rx, tx, event;
	uint32_t guest_allocated, guest_forwarded; /* what the guest says of its room */
};

static void offer(struct fixture *f, unsigned int index)
{
	struct buffer buffer = { f->rx + (uint64_t) index * BUFFER, BUFFER, true };

	driver_send(&f->d, RX, &buffer, 1);
}

/* The driver comes up with `buffers` receive buffers. */
static void up(struct fixture *f, unsigned int buffers)
{
	f->d.heap = DRIVER_HEAP;
	driver_start(&f->d, 1ull << VIRTIO_RING_F_EVENT_IDX, RING);
	f->rx = driver_alloc(&f->d, (uint64_t) RING * BUFFER);
	f->tx = driver_alloc(&f->d, 128 << 10);
	f->event = driver_alloc(&f->d, 64);
	for (unsigned int i = 0; i < buffers; i++)
		offer(f, i);
}

static int setup(void **state)
{
	struct fixture *f = mem_new0(struct fixture);
	struct vsock_options options = { .id = "vsock0", .guest_cid = CID };
	struct virtio_device *device = NULL;
	struct error err = {};

	strcpy(f->folder, "/tmp/brume-vsock-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->path, sizeof(f->path), "%s/guest.sock", f->folder);
	f->listen_fd = vsock_listen(f->path, &err);
	assert_true(f->listen_fd >= 0);
	options.listen_fd = f->listen_fd;
	options.path = f->path;
	f->guest_allocated = 256 << 10;
	driver_init(&f->d);
	assert_int_equal(vsock_new(&options, f->d.loop, &device, &err), 0);
	driver_attach(&f->d, device);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	driver_done(&f->d);
	close(f->listen_fd);
	file_remove_tree(AT_FDCWD, f->folder);
	free(f);
	return 0;
}

static void tell(struct fixture *f, struct virtio_vsock_hdr header, const void *data)
{
	struct buffer buffers[] = { { f->tx, HEADER, false },
				    { f->tx + HEADER, header.len, false } };

	header.src_cid = header.src_cid ? header.src_cid : CID;
	header.dst_cid = 2;
	header.type = header.type ? header.type : VIRTIO_VSOCK_TYPE_STREAM;
	header.buf_alloc = f->guest_allocated;
	header.fwd_cnt = f->guest_forwarded;
	memcpy(driver_host(&f->d, f->tx, HEADER), &header, HEADER);
	if (data)
		memcpy(driver_host(&f->d, f->tx + HEADER, header.len), data, header.len);
	driver_send(&f->d, TX, buffers, data ? 2 : 1);
	driver_wait_used(&f->d, TX, NULL);
}

static void guest(struct fixture *f, uint16_t op, uint32_t port, uint32_t host_port)
{
	tell(f, (struct virtio_vsock_hdr){ .op = op, .src_port = port, .dst_port = host_port },
	     NULL);
}

static void guest_shutdown(struct fixture *f, uint32_t port, uint32_t host_port, uint32_t flags)
{
	tell(f,
	     (struct virtio_vsock_hdr){
		     .op = VIRTIO_VSOCK_OP_SHUTDOWN,
		     .src_port = port,
		     .dst_port = host_port,
		     .flags = flags,
	     },
	     NULL);
}

static void guest_data(struct fixture *f, uint32_t port, uint32_t host_port, const void *data,
		       uint32_t size)
{
	tell(f,
	     (struct virtio_vsock_hdr){
		     .op = VIRTIO_VSOCK_OP_RW,
		     .src_port = port,
		     .dst_port = host_port,
		     .len = size,
	     },
	     data);
}

/* The next packet for the guest; its buffer is offered again.  `data` may be NULL. */
static struct virtio_vsock_hdr hear(struct fixture *f, uint16_t op, void *data)
{
	struct virtio_vsock_hdr header;
	struct vring_desc d;
	uint32_t written, id = driver_wait_used(&f->d, RX, &written);

	memcpy(&d, driver_host(&f->d, f->d.rings[RX].descriptors + 16 * id, 16), 16);
	memcpy(&header, driver_host(&f->d, d.addr, HEADER), HEADER);
	assert_int_equal(header.op, op);
	assert_int_equal(header.src_cid, 2);
	assert_int_equal(header.dst_cid, CID);
	assert_int_equal(written, HEADER + header.len);
	if (data)
		memcpy(data, driver_host(&f->d, d.addr + HEADER, header.len), header.len);
	offer(f, (unsigned int) ((d.addr - f->rx) / BUFFER));
	return header;
}

static int dial(struct fixture *f, const char *line)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, f->path);
	assert_int_equal(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
	assert_int_equal(send(fd, line, strlen(line), MSG_NOSIGNAL), strlen(line));
	return fd;
}

static void expect_line(int fd, const char *line)
{
	char got[64] = "";

	assert_int_equal(recv(fd, got, strlen(line), MSG_WAITALL), strlen(line));
	assert_string_equal(got, line);
}

static void expect_end(int fd)
{
	char byte;

	assert_true(recv(fd, &byte, 1, 0) <= 0);
	close(fd);
}

/* A host program's connection to the guest's port 1024, accepted. */
static int open_connection(struct fixture *f, uint32_t *ret_host_port)
{
	int fd = dial(f, "CONNECT 1024\n");
	struct virtio_vsock_hdr header = hear(f, VIRTIO_VSOCK_OP_REQUEST, NULL);
	char line[64];

	assert_int_equal(header.dst_port, 1024);
	assert_true(header.buf_alloc >= 4096);
	guest(f, VIRTIO_VSOCK_OP_RESPONSE, 1024, header.src_port);
	snprintf(line, sizeof(line), "OK %u\n", header.src_port);
	expect_line(fd, line);
	*ret_host_port = header.src_port;
	return fd;
}

static void test_host_connects(void **state)
{
	struct fixture *f = *state;
	char data[BUFFER];
	struct virtio_vsock_hdr header;
	uint64_t cid;
	uint32_t port;
	int fd;

	driver_config(&f->d, 0, &cid, 8);
	assert_int_equal(cid, CID);
	up(f, 64);
	fd = open_connection(f, &port);
	assert_int_equal(send(fd, "hello", 5, 0), 5);
	header = hear(f, VIRTIO_VSOCK_OP_RW, data);
	assert_int_equal(header.len, 5);
	assert_memory_equal(data, "hello", 5);
	guest_data(f, 1024, port, "world", 5);
	assert_int_equal(recv(fd, data, sizeof(data), 0), 5);
	assert_memory_equal(data, "world", 5);
	guest(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 1024, port);
	header = hear(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, NULL);
	assert_int_equal(header.fwd_cnt, 5);
	/* The guest closes. */
	guest_shutdown(f, 1024, port, 3);
	hear(f, VIRTIO_VSOCK_OP_RST, NULL);
	expect_end(fd);
	driver_sync(&f->d);
	assert_int_equal(vsock_connections(f->d.device), 0);
	/* The host closes: the guest is told, and answers. */
	fd = open_connection(f, &port);
	close(fd);
	header = hear(f, VIRTIO_VSOCK_OP_SHUTDOWN, NULL);
	assert_int_equal(header.flags, 3);
	guest(f, VIRTIO_VSOCK_OP_RST, 1024, port);
	driver_sync(&f->d);
	assert_int_equal(vsock_connections(f->d.device), 0);
	/* The guest dies with the connection open. */
	fd = open_connection(f, &port);
	driver_set(&f->d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
	expect_end(fd);
}

static void test_half_closed(void **state)
{
	struct fixture *f = *state;
	char data[BUFFER];
	struct virtio_vsock_hdr header;
	uint32_t port;
	int fd;

	up(f, 64);
	fd = open_connection(f, &port);
	/* The host program has said all, and waits for the answer. */
	assert_int_equal(send(fd, "question", 8, 0), 8);
	shutdown(fd, SHUT_WR);
	hear(f, VIRTIO_VSOCK_OP_RW, data);
	header = hear(f, VIRTIO_VSOCK_OP_SHUTDOWN, NULL);
	assert_int_equal(header.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	guest_data(f, 1024, port, "answer", 6);
	assert_int_equal(recv(fd, data, 6, MSG_WAITALL), 6);
	guest_shutdown(f, 1024, port, 3);
	hear(f, VIRTIO_VSOCK_OP_RST, NULL);
	expect_end(fd);
	/* The other way round. */
	fd = open_connection(f, &port);
	guest_data(f, 1024, port, "bye", 3);
	guest_shutdown(f, 1024, port, VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_int_equal(recv(fd, data, 3, MSG_WAITALL), 3);
	assert_int_equal(recv(fd, data, 1, 0), 0);
	assert_int_equal(send(fd, "still here", 10, 0), 10);
	header = hear(f, VIRTIO_VSOCK_OP_RW, data);
	assert_int_equal(header.len, 10);
	/* Gone while the guest reads no more. */
	guest_shutdown(f, 1024, port, VIRTIO_VSOCK_SHUTDOWN_RCV);
	hear(f, VIRTIO_VSOCK_OP_RST, NULL);
	expect_end(fd);
	fd = open_connection(f, &port);
	shutdown(fd, SHUT_WR);
	hear(f, VIRTIO_VSOCK_OP_SHUTDOWN, NULL);
	close(fd);
	hear(f, VIRTIO_VSOCK_OP_RST, NULL);
}

static void test_refused(void **state)
{
	static const char *const bad[] = { "CONNECT 4294967296\n",
					   "CONNECT \n",
					   "CONNECT -1\n",
					   "HELLO\n",
					   "connect 5\n",
					   "CONNECT 12x\n",
					   "CONNECT 00000000000000000000000000001\n" };
	struct fixture *f = *state;
	struct virtio_vsock_hdr header;
	int fd;

	/* No driver yet. */
	expect_end(dial(f, "CONNECT 1024\n"));
	up(f, 64);
	for (unsigned int i = 0; i < ARRAY_COUNT(bad); i++)
		expect_end(dial(f, bad[i]));
	fd = dial(f, "CONNECT 77\n");
	header = hear(f, VIRTIO_VSOCK_OP_REQUEST, NULL);
	assert_int_equal(header.dst_port, 77);
	guest(f, VIRTIO_VSOCK_OP_RST, 77, header.src_port);
	expect_end(fd);
	/* Gives up before the guest has answered. */
	fd = dial(f, "CONNECT 78\n");
	header = hear(f, VIRTIO_VSOCK_OP_REQUEST, NULL);
	close(fd);
	hear(f, VIRTIO_VSOCK_OP_RST, NULL);
	guest(f, VIRTIO_VSOCK_OP_RESPONSE, 78, header.src_port);
	hear(f, VIRTIO_VSOCK_OP_RST, NULL);
	driver_sync(&f->d);
	assert_int_equal(vsock_connections(f->d.device), 0);
}

static void test_guest_connects(void **state)
{
	struct fixture *f = *state;
	struct error err = {};
	char path[80], data[64];
	int listener, fd;

	up(f, 64);
	guest(f, VIRTIO_VSOCK_OP_REQUEST, 5000, 52);
	hear(f, VIRTIO_VSOCK_OP_RST, NULL);
	snprintf(path, sizeof(path), "%s_52", f->path);
	listener = vsock_listen(path, &err);
	assert_true(listener >= 0);
	guest(f, VIRTIO_VSOCK_OP_REQUEST, 5001, 52);
	hear(f, VIRTIO_VSOCK_OP_RESPONSE, NULL);
	guest_data(f, 5001, 52, "hi", 2);
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	assert_int_equal(recv(fd, data, sizeof(data), 0), 2);
	assert_int_equal(send(fd, "there", 5, 0), 5);
	hear(f, VIRTIO_VSOCK_OP_RW, data);
	assert_memory_equal(data, "there", 5);
	/* The same ports once more: a mistake, and the end of it. */
	guest(f, VIRTIO_VSOCK_OP_REQUEST, 5001, 52);
	hear(f, VIRTIO_VSOCK_OP_RST, NULL);
	expect_end(fd);
	close(listener);
}

/* A guest that reads slowly: never more on the way than it has room for. */
static void test_credit_to_guest(void **state)
{
	struct fixture *f = *state;
	enum { TOTAL = 1 << 20 };
	static uint8_t data[TOTAL];
	uint8_t got[BUFFER];
	uint32_t port, received = 0;
	size_t sent = 0;
	int fd;

	up(f, 64);
	f->guest_allocated = 10000;
	fd = open_connection(f, &port);
	for (unsigned int i = 0; i < TOTAL; i++)
		data[i] = (uint8_t) (i * 3 + i / 509);
	while (received < TOTAL) {
		ssize_t n = send(fd, data + sent, TOTAL - sent, MSG_DONTWAIT);
		struct virtio_vsock_hdr header;

		if (n > 0)
			sent += (size_t) n;
		header = hear(f, VIRTIO_VSOCK_OP_RW, got);
		assert_memory_equal(got, data + received, header.len);
		received += header.len;
		assert_true(received - f->guest_forwarded <= 10000);
		if (received - f->guest_forwarded > 6000) {
			f->guest_forwarded = received;
			guest(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 1024, port);
		}
	}
	/* Nonsense: more taken than was sent.  No credit, no data, no harm. */
	f->guest_forwarded = received + 100000;
	f->guest_allocated = 0;
	guest(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 1024, port);
	assert_int_equal(send(fd, "x", 1, 0), 1);
	driver_sync(&f->d);
	assert_false(ring_used(&f->d.rings[RX], NULL, NULL));
	close(fd);
}

/* A host program that reads slowly: what it has not taken is kept, up to the credit. */
static void test_credit_to_host(void **state)
{
	struct fixture *f = *state;
	static uint8_t data[32 << 10], got[32 << 10];
	struct virtio_vsock_hdr header;
	uint32_t port, forwarded = 0, told = 0;
	uint64_t sent = 0, received = 0;
	int fd;

	up(f, 64);
	fd = open_connection(f, &port);
	for (unsigned int i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t) (i * 7);
	/* Until the device's room is used up: the socket's buffer is full as well. */
	while (told - forwarded + sizeof(data) <= VSOCK_BUFFER_BYTES) {
		guest_data(f, 1024, port, data, sizeof(data));
		told += sizeof(data);
		sent += sizeof(data);
		guest(f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 1024, port);
		do
			header = hear(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, NULL);
		while (ring_get16(&f->d.rings[RX], f->d.rings[RX].used + 2) !=
		       f->d.rings[RX].last_used);
		forwarded = header.fwd_cnt;
	}
	assert_true(told - forwarded > VSOCK_BUFFER_BYTES - sizeof(data));
	while (received < sent) {
		ssize_t n = recv(fd, got, sizeof(got), MSG_WAITALL);

		assert_int_equal(n, sizeof(got));
		assert_memory_equal(got, data, sizeof(got));
		received += (uint64_t) n;
	}
	/* With the buffer drained there is credit again. */
	do
		header = hear(f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, NULL);
	while (header.fwd_cnt != told);
	/* Without credit: the connection ends, the machine does not. */
	for (unsigned int i = 0; i < 100; i++) {
		guest_data(f, 1024, port, data, sizeof(data));
		driver_sync(&f->d);
	}
	do {
		struct vring_desc d;
		uint32_t id = driver_wait_used(&f->d, RX, NULL);

		memcpy(&d, driver_host(&f->d, f->d.rings[RX].descriptors + 16 * id, 16), 16);
		memcpy(&header, driver_host(&f->d, d.addr, HEADER), HEADER);
		offer(f, (unsigned int) ((d.addr - f->rx) / BUFFER));
	} while (header.op != VIRTIO_VSOCK_OP_RST);
	close(fd);
}

static void test_many(void **state)
{
	struct fixture *f = *state;
	enum { COUNT = 1200 };
	static int fds[COUNT];
	static uint32_t ports[COUNT];
	struct rlimit limit;
	char data[BUFFER];

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < 2 * COUNT + 100) {
		print_message("skipped: needs %d descriptors\n", 2 * COUNT + 100);
		skip();
	}
	up(f, 128);
	for (unsigned int i = 0; i < COUNT; i++)
		fds[i] = open_connection(f, &ports[i]);
	driver_sync(&f->d);
	assert_int_equal(vsock_connections(f->d.device), COUNT);
	for (unsigned int i = 0; i < COUNT; i++) {
		uint32_t n = i;

		assert_int_equal(send(fds[i], &n, 4, 0), 4);
	}
	for (unsigned int i = 0; i < COUNT; i++) {
		struct virtio_vsock_hdr header = hear(f, VIRTIO_VSOCK_OP_RW, data);
		uint32_t n;

		memcpy(&n, data, 4);
		assert_int_equal(header.src_port, ports[n]);
		guest_data(f, 1024, ports[n], data, 4);
	}
	for (unsigned int i = 0; i < COUNT; i++) {
		uint32_t n;

		assert_int_equal(recv(fds[i], &n, 4, MSG_WAITALL), 4);
		assert_int_equal(n, i);
		close(fds[i]);
	}
	for (unsigned int i = 0; i < COUNT; i++) {
		struct virtio_vsock_hdr header = hear(f, VIRTIO_VSOCK_OP_SHUTDOWN, NULL);

		guest(f, VIRTIO_VSOCK_OP_RST, 1024, header.src_port);
	}
	driver_sync(&f->d);
	assert_int_equal(vsock_connections(f->d.device), 0);
}

/* The driver has one buffer only: everybody comes in turn. */
static void test_one_buffer(void **state)
{
	struct fixture *f = *state;
	unsigned int got[4] = {};
	uint32_t ports[4];
	int fds[4];
	static char big[20000], data[BUFFER];

	up(f, 1);
	for (unsigned int i = 0; i < 4; i++)
		fds[i] = open_connection(f, &ports[i]);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(send(fds[i], big, sizeof(big), 0), sizeof(big));
	for (unsigned int left = 4 * sizeof(big); left > 0;) {
		struct virtio_vsock_hdr header = hear(f, VIRTIO_VSOCK_OP_RW, data);

		left -= header.len;
		for (unsigned int i = 0; i < 4; i++)
			got[i] += header.src_port == ports[i] ? header.len : 0;
	}
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(got[i], sizeof(big));
		close(fds[i]);
	}
}

static void end_connections(void *data)
{
	vsock_end_connections(data);
}

static void test_end_connections(void **state)
{
	struct fixture *f = *state;
	struct buffer buffer;
	uint32_t port, written, id = 77;
	int fd;

	up(f, 16);
	buffer = (struct buffer){ f->event, 4, true };
	memcpy(driver_host(&f->d, f->event, 4), &id, 4);
	driver_send(&f->d, EVENTS, &buffer, 1);
	fd = open_connection(f, &port);
	loop_call(f->d.loop, end_connections, f->d.device);
	driver_wait_used(&f->d, EVENTS, &written);
	assert_int_equal(written, 4);
	memcpy(&id, driver_host(&f->d, f->event, 4), 4);
	assert_int_equal(id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	expect_end(fd);
}

static void test_hostile(void **state)
{
	struct fixture *f = *state;
	struct buffer buffer;
	uint32_t port;
	int fd;

	up(f, 64);
	/* Not its own cid, another type, an unknown operation, for nobody. */
	tell(f, (struct virtio_vsock_hdr){ .src_cid = 9, .op = VIRTIO_VSOCK_OP_REQUEST }, NULL);
	tell(f, (struct virtio_vsock_hdr){ .type = 2, .op = VIRTIO_VSOCK_OP_REQUEST }, NULL);
	hear(f, VIRTIO_VSOCK_OP_RST, NULL);
	guest(f, 99, 1, 2);
	hear(f, VIRTIO_VSOCK_OP_RST, NULL);
	guest(f, VIRTIO_VSOCK_OP_RST, 1, 2);
	fd = open_connection(f, &port);
	guest(f, 99, 1024, port);
	hear(f, VIRTIO_VSOCK_OP_RST, NULL);
	expect_end(fd);
	/* More data announced than there is. */
	fd = open_connection(f, &port);
	tell(f,
	     (struct virtio_vsock_hdr){
		     .op = VIRTIO_VSOCK_OP_RW,
		     .src_port = 1024,
		     .dst_port = port,
		     .len = 100,
	     },
	     NULL);
	hear(f, VIRTIO_VSOCK_OP_RST, NULL);
	expect_end(fd);
	/* Half a header. */
	buffer = (struct buffer){ f->tx, 20, false };
	driver_send(&f->d, TX, &buffer, 1);
	driver_wait_used(&f->d, TX, NULL);
	/* A thousand strangers while there is no room for the answers. */
	up(f, 0);
	for (unsigned int i = 0; i < 1000; i++)
		guest(f, VIRTIO_VSOCK_OP_RW, i, i);
	for (unsigned int i = 0; i < 64; i++)
		offer(f, i);
	for (unsigned int i = 0; i < 256; i++)
		hear(f, VIRTIO_VSOCK_OP_RST, NULL);
	driver_sync(&f->d);
	assert_false(ring_used(&f->d.rings[RX], NULL, NULL));

	driver_attack_queue(&f->d, 0, TX);
	for (unsigned int attack = 0; attack < ATTACKS; attack++) {
		up(f, 0);
		driver_start(&f->d, 1ull << VIRTIO_RING_F_INDIRECT_DESC, 16);
		f->tx = driver_alloc(&f->d, 4096);
		guest(f, VIRTIO_VSOCK_OP_RW, 1, 2);
		ring_attack(&f->d.rings[RX], attack, driver_alloc(&f->d, 4096));
		driver_kick(&f->d, RX);
		driver_wait_broken(&f->d);
	}
	up(f, 4);
	fd = open_connection(f, &port);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_host_connects, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_closed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guest_connects, setup, teardown),
		cmocka_unit_test_setup_teardown(test_credit_to_guest, setup, teardown),
		cmocka_unit_test_setup_teardown(test_credit_to_host, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_buffer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end_connections, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
