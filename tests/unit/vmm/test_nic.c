#include "driver.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "own_netns.h"
#include "vmm/nic.h"

enum {
	HEADER = 12,
	RX = 0,
	TX = 1,
	CONTROL = 2,
	BASIC = 1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_STATUS,
	MERGE = 1 << VIRTIO_NET_F_MRG_RXBUF,
	CONTROLLED = 1 << VIRTIO_NET_F_CTRL_VQ,
};

struct fixture {
	struct driver d;
	int wire[2]; /* one end is the device's, the other the test's */
	int second[2];
	gpa_t rx, tx;
};

static void start(struct fixture *f, const struct nic_options *options)
{
	struct nic_options o = *options;
	struct virtio_device *device = NULL;
	struct error err = {};
	int size = 4 << 20;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, f->wire), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, f->second), 0);
	for (unsigned int i = 0; i < 2; i++)
		setsockopt(f->wire[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	driver_init(&f->d);
	o.id = "net0";
	o.fds[0] = f->wire[0];
	o.fds[1] = f->second[0];
	o.pairs = o.pairs ? o.pairs : 1;
	memcpy(o.mac, "\x02\x11\x22\x33\x44\x55", 6);
	assert_int_equal(nic_new(&o, f->d.loop, &device, &err), 0);
	driver_attach(&f->d, device);
	f->rx = driver_alloc(&f->d, 4 << 20);
	f->tx = driver_alloc(&f->d, 1 << 20);
}

static void stop(struct fixture *f)
{
	driver_done(&f->d);
	for (unsigned int i = 0; i < 2; i++) {
		fd_close(f->wire[i]);
		fd_close(f->second[i]);
	}
}

/* A packet from the wire: a header of zeroes and `size` bytes that follow from `seed`. */
static void wire_send(int fd, unsigned int seed, size_t size)
{
	static uint8_t packet[HEADER + 65536];

	memset(packet, 0, HEADER);
	for (size_t i = 0; i < size; i++)
		packet[HEADER + i] = (uint8_t) (seed + i);
	assert_int_equal(send(fd, packet, HEADER + size, 0), HEADER + size);
}

static void offer(struct fixture *f, unsigned int queue, unsigned int count, uint32_t size)
{
	for (unsigned int i = 0; i < count; i++) {
		struct buffer buffer = { f->rx + (uint64_t) i * size, size, true };

		driver_send(&f->d, queue, &buffer, 1);
	}
}

/* Takes one packet out of the receive queue and compares it. */
static void expect(struct fixture *f, unsigned int queue, unsigned int seed, size_t size)
{
	static uint8_t packet[2 * 65536];
	struct virtio_net_hdr_v1 header = {};
	uint32_t id, written;
	size_t done = 0;
	unsigned int buffers = 1;

	for (unsigned int i = 0; i < buffers; i++) {
		struct vring_desc d;

		id = driver_wait_used(&f->d, queue, &written);
		memcpy(&d, driver_host(&f->d, f->d.rings[queue].descriptors + 16 * id, 16), 16);
		assert_true(written <= d.len);
		memcpy(packet + done, driver_host(&f->d, d.addr, written), written);
		if (i == 0) {
			memcpy(&header, packet, sizeof(header));
			buffers = header.num_buffers;
			assert_in_range(buffers, 1, 64);
		}
		done += written;
	}
	assert_int_equal(done, HEADER + size);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(packet[HEADER + i], (uint8_t) (seed + i));
}

static void transmit(struct fixture *f, unsigned int queue, unsigned int seed, uint32_t size)
{
	uint8_t *host = driver_host(&f->d, f->tx, HEADER + size);
	/* Header and data in pieces that have nothing to do with each other. */
	struct buffer buffers[] = {
		{ f->tx, 5, false },
		{ f->tx + 5, 7 + size / 2, false },
		{ f->tx + 12 + size / 2, size - size / 2, false },
	};

	memset(host, 0, HEADER);
	for (uint32_t i = 0; i < size; i++)
		host[HEADER + i] = (uint8_t) (seed + i);
	driver_send(&f->d, queue, buffers, 3);
}

static void wire_expect(int fd, unsigned int seed, size_t size)
{
	static uint8_t packet[HEADER + 65536];
	struct pollfd p = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, DRIVER_TIMEOUT_MS), 1);
	assert_int_equal(recv(fd, packet, sizeof(packet), 0), HEADER + size);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(packet[HEADER + i], (uint8_t) (seed + i));
}

static void wire_expect_zeroes(int fd, size_t size)
{
	static uint8_t packet[HEADER + 65536];
	struct pollfd p = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, DRIVER_TIMEOUT_MS), 1);
	assert_int_equal(recv(fd, packet, sizeof(packet), 0), HEADER + size);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(packet[HEADER + i], 0);
}

static void test_small(void **state)
{
	struct nic_options options = { .mtu = 1420 };
	struct fixture f;
	struct virtio_net_config config;

	(void) state;
	start(&f, &options);
	driver_start(&f.d, BASIC | 1ull << VIRTIO_RING_F_EVENT_IDX | 1ull << VIRTIO_NET_F_MTU, 64);
	driver_config(&f.d, 0, &config, 12);
	assert_memory_equal(config.mac, "\x02\x11\x22\x33\x44\x55", 6);
	assert_int_equal(config.status, VIRTIO_NET_S_LINK_UP);
	assert_int_equal(config.mtu, 1420);
	for (unsigned int i = 0; i < 500; i++) {
		offer(&f, RX, 1, 2048);
		wire_send(f.wire[1], i, 60 + i);
		expect(&f, RX, i, 60 + i);
		transmit(&f, TX, i, 60 + i);
		wire_expect(f.wire[1], i, 60 + i);
		driver_wait_used(&f.d, TX, NULL);
	}
	/* Packets that come before there is room wait on the wire. */
	for (unsigned int i = 0; i < 50; i++)
		wire_send(f.wire[1], i, 1000);
	driver_sync(&f.d);
	offer(&f, RX, 50, 2048);
	for (unsigned int i = 0; i < 50; i++)
		expect(&f, RX, i, 1000);
	stop(&f);
}

static void test_mergeable(void **state)
{
	struct nic_options options = {};
	struct fixture f;
	uint64_t features = BASIC | MERGE | 1ull << VIRTIO_NET_F_GUEST_CSUM |
			    1ull << VIRTIO_NET_F_GUEST_TSO4 | 1ull << VIRTIO_RING_F_EVENT_IDX;

	(void) state;
	start(&f, &options);
	driver_start(&f.d, features, 256);
	offer(&f, RX, 256, 1536);
	for (unsigned int i = 0; i < 100; i++) {
		size_t size = i % 3 == 0 ? 65000 : 64 + 13 * i;
		unsigned int buffers = (unsigned int) ((HEADER + size + 1535) / 1536);

		wire_send(f.wire[1], i, size);
		expect(&f, RX, i, size);
		offer(&f, RX, buffers, 1536);
	}
	/* One byte less than a buffer, exactly one, one more. */
	for (unsigned int i = 0; i < 3; i++) {
		wire_send(f.wire[1], i, 1536 - HEADER - 1 + i);
		expect(&f, RX, i, 1536 - HEADER - 1 + i);
	}
	stop(&f);
}

/* A ring too small for the largest packet still gets the small ones. */
static void test_small_ring(void **state)
{
	struct nic_options options = {};
	struct fixture f;

	(void) state;
	start(&f, &options);
	driver_start(&f.d,
		     BASIC | MERGE | 1ull << VIRTIO_NET_F_GUEST_CSUM |
			     1ull << VIRTIO_NET_F_GUEST_TSO4,
		     8);
	for (unsigned int i = 0; i < 40; i++) {
		offer(&f, RX, i == 0 ? 8 : 1, 1536);
		wire_send(f.wire[1], i, 200);
		expect(&f, RX, i, 200);
	}
	stop(&f);
}

static uint8_t control(struct fixture *f, unsigned int queue, const void *message, uint32_t size)
{
	struct buffer buffers[] = { { f->tx, size, false }, { f->tx + 64, 1, true } };

	memcpy(driver_host(&f->d, f->tx, size), message, size);
	*(uint8_t *) driver_host(&f->d, f->tx + 64, 1) = 0xee;
	driver_send(&f->d, queue, buffers, 2);
	driver_wait_used(&f->d, queue, NULL);
	return *(uint8_t *) driver_host(&f->d, f->tx + 64, 1);
}

static void test_pairs(void **state)
{
	struct nic_options options = { .pairs = 2 };
	struct fixture f;

	(void) state;
	start(&f, &options);
	/* Without MQ the control queue is the third. */
	driver_start(&f.d, BASIC | CONTROLLED, 64);
	assert_int_equal(control(&f, 2, "\x04\x00\x02\x00", 4), VIRTIO_NET_ERR);
	driver_start(&f.d, BASIC | CONTROLLED | 1ull << VIRTIO_NET_F_MQ, 64);
	offer(&f, 0, 1, 2048);
	wire_send(f.wire[1], 1, 100);
	expect(&f, 0, 1, 100);
	/* The second pair is quiet until it is asked for. */
	offer(&f, 2, 1, 2048);
	wire_send(f.second[1], 2, 100);
	driver_sync(&f.d);
	assert_false(ring_used(&f.d.rings[2], NULL, NULL));
	assert_int_equal(control(&f, 4, "\x04\x00\x00\x00", 4), VIRTIO_NET_ERR);
	assert_int_equal(control(&f, 4, "\x04\x00\x03\x00", 4), VIRTIO_NET_ERR);
	assert_int_equal(control(&f, 4, "\x04\x00\x02", 3), VIRTIO_NET_ERR);
	assert_int_equal(control(&f, 4, "\x04", 1), VIRTIO_NET_ERR);
	assert_int_equal(control(&f, 4, "\x04\x00\x02\x00", 4), VIRTIO_NET_OK);
	expect(&f, 2, 2, 100);
	transmit(&f, 3, 7, 500);
	wire_expect(f.second[1], 7, 500);
	stop(&f);
}

static void announce(void *data)
{
	nic_announce(data);
}

static void link_down(void *data)
{
	nic_set_link(data, false);
}

static uint16_t status(struct fixture *f)
{
	uint16_t value;

	driver_config(&f->d, 6, &value, 2);
	return value;
}

static void test_control(void **state)
{
	struct nic_options options = {};
	struct fixture f;

	(void) state;
	start(&f, &options);
	driver_start(&f.d,
		     BASIC | CONTROLLED | 1ull << VIRTIO_NET_F_GUEST_ANNOUNCE |
			     1ull << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS |
			     1ull << VIRTIO_NET_F_GUEST_CSUM,
		     64);
	loop_call(f.d.loop, announce, f.d.device);
	driver_wait_vector(&f.d, 0);
	assert_int_equal(status(&f), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	assert_int_equal(control(&f, CONTROL, "\x03\x00", 2), VIRTIO_NET_OK);
	assert_int_equal(status(&f), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(control(&f, CONTROL, "\x05\x00\x02\0\0\0\0\0\0\0", 10), VIRTIO_NET_OK);
	/* An offload that was not agreed upon; an unknown class. */
	assert_int_equal(control(&f, CONTROL, "\x05\x00\x82\0\0\0\0\0\0\0", 10), VIRTIO_NET_ERR);
	assert_int_equal(control(&f, CONTROL, "\x63\x00", 2), VIRTIO_NET_ERR);
	loop_call(f.d.loop, link_down, f.d.device);
	driver_wait_vector(&f.d, 0);
	assert_int_equal(status(&f), 0);
	stop(&f);
}

static void test_wire_cut(void **state)
{
	struct nic_options options = {};
	struct fixture f;

	(void) state;
	start(&f, &options);
	signal(SIGPIPE, SIG_IGN);
	driver_start(&f.d, BASIC, 64);
	offer(&f, RX, 4, 2048);
	close(f.wire[1]);
	f.wire[1] = -1;
	driver_wait_vector(&f.d, 0);
	assert_int_equal(status(&f), 0);
	transmit(&f, TX, 1, 100);
	driver_wait_used(&f.d, TX, NULL);
	stop(&f);
}

/* Nobody takes what the guest sends: it waits, and nothing is lost. */
static void test_full_wire(void **state)
{
	struct nic_options options = {};
	struct fixture f;
	int size = 4096;

	(void) state;
	start(&f, &options);
	setsockopt(f.wire[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	driver_start(&f.d, BASIC, 256);
	for (unsigned int i = 0; i < 60; i++)
		transmit(&f, TX, 9, 1000);
	for (unsigned int i = 0; i < 60; i++)
		wire_expect(f.wire[1], 9, 1000);
	for (unsigned int i = 0; i < 60; i++)
		driver_wait_used(&f.d, TX, NULL);
	stop(&f);
}

static void test_limited(void **state)
{
	struct nic_options options = {
		.send = { .ops_per_second = 400, .ops_burst = 1 },
		.receive = { .bytes_per_second = 100000, .bytes_burst = 1000 },
	};
	struct fixture f;
	uint64_t begin;

	(void) state;
	start(&f, &options);
	driver_start(&f.d, BASIC, 64);
	begin = ratelimit_now_ns();
	for (unsigned int i = 0; i < 20; i++)
		transmit(&f, TX, 3, 100);
	for (unsigned int i = 0; i < 20; i++)
		wire_expect(f.wire[1], 3, 100);
	assert_true(ratelimit_now_ns() - begin >= 18 * 2500000ull);
	begin = ratelimit_now_ns();
	offer(&f, RX, 10, 2048);
	for (unsigned int i = 0; i < 10; i++)
		wire_send(f.wire[1], i, 1000);
	for (unsigned int i = 0; i < 10; i++)
		expect(&f, RX, i, 1000);
	assert_true(ratelimit_now_ns() - begin >= 8 * 10000000ull);
	stop(&f);
}

/* ---- several things at one moment: what is done in the loop's thread, it finds together ---- */

static void offer_packets(struct fixture *f, unsigned int count, uint32_t size)
{
	for (unsigned int i = 0; i < count; i++)
		ring_add(&f->d.rings[TX], &(struct buffer){ f->tx, HEADER + size, false }, 1);
	driver_kick(&f->d, TX);
}

static void send_much_receive_few(void *data)
{
	struct fixture *f = data;

	offer_packets(f, 150, 100);
	/* The bucket may have brought one by now. */
	for (unsigned int i = 0; i < 3; i++)
		wire_send(f->wire[1], i, 100);
}

/* One way waits for its limit; the other way has none and does not. */
static void test_limit_of_one_way(void **state)
{
	struct nic_options options = {
		.receive = { .ops_per_second = 1, .ops_burst = 30 },
	};
	struct fixture f;
	uint64_t begin;

	(void) state;
	start(&f, &options);
	driver_start(&f.d, BASIC, 256);
	memset(driver_host(&f.d, f.tx, 512), 0, 512);
	offer(&f, RX, 40, 2048);
	for (unsigned int i = 0; i < 30; i++)
		wire_send(f.wire[1], i, 100);
	for (unsigned int i = 0; i < 30; i++)
		expect(&f, RX, i, 100);
	begin = ratelimit_now_ns();
	loop_call(f.d.loop, send_much_receive_few, &f);
	for (unsigned int i = 0; i < 150; i++)
		wire_expect_zeroes(f.wire[1], 100);
	assert_true(ratelimit_now_ns() - begin < 500000000ull);
	assert_true(f.d.device->counters.throttled > 0);
	stop(&f);
}

static void test_attacks(void **state)
{
	struct nic_options options = {};
	struct fixture f;
	struct buffer buffer;

	(void) state;
	start(&f, &options);
	driver_attack_queue(&f.d, BASIC, TX);
	driver_attack_queue(&f.d, BASIC | CONTROLLED, CONTROL);
	driver_attack_queue(&f.d, BASIC, RX);
	driver_attack_queue(&f.d, BASIC | MERGE, RX);
	/* No room for the header; a readable part; no room for the answer. */
	buffer = (struct buffer){ f.rx, 11, true };
	driver_start(&f.d, BASIC, 16);
	driver_send(&f.d, RX, &buffer, 1);
	driver_wait_broken(&f.d);
	buffer = (struct buffer){ f.rx, 2048, false };
	driver_start(&f.d, BASIC, 16);
	driver_send(&f.d, RX, &buffer, 1);
	driver_wait_broken(&f.d);
	driver_start(&f.d, BASIC | CONTROLLED, 16);
	driver_send(&f.d, CONTROL, &buffer, 1);
	driver_wait_broken(&f.d);
	/* Packets that are none: swallowed. */
	driver_start(&f.d, BASIC, 16);
	for (uint32_t size = 1; size <= 12; size++) {
		buffer = (struct buffer){ f.tx, size, false };
		driver_send(&f.d, TX, &buffer, 1);
		driver_wait_used(&f.d, TX, NULL);
	}
	buffer = (struct buffer){ f.tx, 1 << 20, false };
	driver_send(&f.d, TX, &buffer, 1);
	driver_wait_used(&f.d, TX, NULL);
	assert_int_equal(recv(f.wire[1], &buffer, sizeof(buffer), MSG_DONTWAIT), -1);
	stop(&f);
}

static void test_bad_options(void **state)
{
	struct nic_options good = { .id = "net0", .pairs = 1, .fds = { 0 } }, bad[5];
	struct virtio_device *device = NULL;
	struct loop *loop = NULL;
	struct error err = {};

	(void) state;
	assert_int_equal(loop_new(&loop, &err), 0);
	for (unsigned int i = 0; i < ARRAY_COUNT(bad); i++)
		bad[i] = good;
	bad[0].pairs = 0;
	bad[1].pairs = NIC_PAIRS_MAX + 1;
	bad[2].fds[0] = -1;
	bad[3].mac[0] = 1;
	bad[4].queue_size = 3;
	for (unsigned int i = 0; i < ARRAY_COUNT(bad); i++)
		assert_true(nic_new(&bad[i], loop, &device, &err) < 0);
	loop_free(loop);
}

/* ---- with a real tap device ---- */

enum { OUR_TYPE = 0x88b5 };

static int tap_open(const char *name, short flags)
{
	struct ifreq request = { .ifr_flags = (short) (IFF_TAP | IFF_NO_PI | flags) };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A socket that sees and sends what the host's side of the tap does. */
static int packet_socket(const char *name)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(OUR_TYPE));
	struct ifreq request = { .ifr_flags = IFF_UP };
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(OUR_TYPE) };

	assert_true(fd >= 0);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
	assert_int_equal(ioctl(fd, SIOCGIFINDEX, &request), 0);
	address.sll_ifindex = request.ifr_ifindex;
	assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
	return fd;
}

static void make_frame(uint8_t *frame, unsigned int seed, size_t size)
{
	static const uint8_t ethernet[14] = {
		2, 0x11, 0x22, 0x33, 0x44, 0x55, 2, 0, 0, 0, 0, 1, OUR_TYPE >> 8, OUR_TYPE & 0xff
	};

	for (size_t i = 0; i < size; i++)
		frame[i] = (uint8_t) (seed + i);
	memcpy(frame, ethernet, sizeof(ethernet));
}

/* Waits for one of our frames; the kernel has some of its own on every link. */
static void expect_frame(struct fixture *f, unsigned int seed, size_t size)
{
	uint8_t frame[2048], *got;
	uint32_t id, written;
	struct vring_desc d;

	make_frame(frame, seed, size);
	for (;;) {
		id = driver_wait_used(&f->d, RX, &written);
		memcpy(&d, driver_host(&f->d, f->d.rings[RX].descriptors + 16 * id, 16), 16);
		got = driver_host(&f->d, d.addr, written);
		driver_send(&f->d, RX, &(struct buffer){ d.addr, d.len, true }, 1);
		if (written > HEADER + 14 && got[HEADER + 12] == OUR_TYPE >> 8 &&
		    got[HEADER + 13] == (OUR_TYPE & 0xff))
			break;
	}
	assert_int_equal(written, HEADER + size);
	assert_memory_equal(got + HEADER, frame, size);
}

static void test_tap(void **state)
{
	struct nic_options options = { .id = "net0", .pairs = 2 };
	struct virtio_device *device = NULL;
	struct fixture f = {};
	struct error err = {};
	uint8_t frame[2048], expected[2048];
	int wire;

	(void) state;
	NEED_OWN_NETNS();
	options.fds[0] = tap_open("tap0", IFF_VNET_HDR | IFF_MULTI_QUEUE);
	options.fds[1] = tap_open("tap0", IFF_VNET_HDR | IFF_MULTI_QUEUE);
	if (options.fds[0] < 0 || options.fds[1] < 0) {
		print_message("skipped: no tap device can be made\n");
		skip();
	}
	wire = packet_socket("tap0");
	driver_init(&f.d);
	assert_int_equal(nic_new(&options, f.d.loop, &device, &err), 0);
	driver_attach(&f.d, device);
	driver_start(&f.d,
		     MERGE | CONTROLLED | 1ull << VIRTIO_NET_F_MQ |
			     1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_TSO4 |
			     1ull << VIRTIO_NET_F_GUEST_TSO6,
		     128);
	f.rx = driver_alloc(&f.d, 1 << 20);
	f.tx = driver_alloc(&f.d, 4096);
	offer(&f, RX, 64, 2048);
	for (unsigned int i = 0; i < 50; i++) {
		struct buffer buffer = { f.tx, HEADER + 100 + i, false };

		make_frame(frame, i, 1000 + i);
		assert_int_equal(send(wire, frame, 1000 + i, 0), 1000 + i);
		expect_frame(&f, i, 1000 + i);
		memset(driver_host(&f.d, f.tx, HEADER), 0, HEADER);
		make_frame(driver_host(&f.d, f.tx + HEADER, 200), i, 100 + i);
		driver_send(&f.d, TX, &buffer, 1);
		driver_wait_used(&f.d, TX, NULL);
		make_frame(expected, i, 100 + i);
		assert_int_equal(recv(wire, frame, sizeof(frame), 0), 100 + i);
		assert_memory_equal(frame, expected, 100 + i);
	}
	assert_int_equal(control(&f, 4, "\x04\x00\x02\x00", 4), VIRTIO_NET_OK);
	assert_int_equal(control(&f, 4, "\x04\x00\x01\x00", 4), VIRTIO_NET_OK);
	driver_done(&f.d);
	close(wire);
	close(options.fds[0]);
	close(options.fds[1]);
}

static void test_wrong_tap(void **state)
{
	struct nic_options options = { .id = "net0", .pairs = 1 };
	struct virtio_device *device = NULL;
	struct loop *loop = NULL;
	struct error err = {};

	(void) state;
	NEED_OWN_NETNS();
	options.fds[0] = tap_open("tap1", 0);
	if (options.fds[0] < 0) {
		print_message("skipped: no tap device can be made\n");
		skip();
	}
	assert_int_equal(loop_new(&loop, &err), 0);
	assert_int_equal(nic_new(&options, loop, &device, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "IFF_VNET_HDR"));
	loop_free(loop);
	close(options.fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small),
		cmocka_unit_test(test_mergeable),
		cmocka_unit_test(test_small_ring),
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_wire_cut),
		cmocka_unit_test(test_full_wire),
		cmocka_unit_test(test_limited),

		cmocka_unit_test(test_limit_of_one_way),
		cmocka_unit_test(test_attacks),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_tap),
		cmocka_unit_test(test_wrong_tap),
	};

	return cmocka_run_group_tests(tests, enter_own_netns, NULL);
}
