#include "driver.h"

#include <fcntl.h>
#include <linux/virtio_console.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "vmm/console.h"

enum {
	CONTROL_IN = 2,
	CONTROL_OUT = 3,
	BUFFER = 4096,
	FEATURES = 1 << VIRTIO_CONSOLE_F_MULTIPORT,
};

struct fixture {
	struct driver d;
	int out[2], in[2], both[2], file; /* ports 1, 2, 3 and 4 */
	int ring;
	gpa_t control_in, scratch;
};

static void say(struct fixture *f, uint32_t id, uint16_t event, uint16_t value)
{
	struct virtio_console_control message = { .id = id, .event = event, .value = value };
	struct buffer buffer = { f->scratch, sizeof(message), false };

	memcpy(driver_host(&f->d, f->scratch, sizeof(message)), &message, sizeof(message));
	driver_send(&f->d, CONTROL_OUT, &buffer, 1);
	driver_wait_used(&f->d, CONTROL_OUT, NULL);
}

static void offer_control(struct fixture *f, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct buffer buffer = { f->control_in, 64, true };

		driver_send(&f->d, CONTROL_IN, &buffer, 1);
	}
}

/* One buffer at a time, so that the device has to keep the rest. */
static void hear(struct fixture *f, uint32_t id, uint16_t event, uint16_t value, const char *text)
{
	struct virtio_console_control message;
	uint32_t written;

	offer_control(f, 1);
	driver_wait_used(&f->d, CONTROL_IN, &written);
	memcpy(&message, driver_host(&f->d, f->control_in, sizeof(message)), sizeof(message));
	assert_int_equal(message.id, id);
	assert_int_equal(message.event, event);
	assert_int_equal(message.value, value);
	assert_int_equal(written, sizeof(message) + strlen(text));
	assert_memory_equal(driver_host(&f->d, f->control_in + sizeof(message), 1), text,
			    strlen(text));
}

static int setup(void **state)
{
	struct fixture *f = mem_new0(struct fixture);
	struct console_options options = { .id = "console0", .port_count = 5 };
	struct virtio_device *device = NULL;
	struct error err = {};

	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe2(f->out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(f->in, O_CLOEXEC), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->both), 0);
	f->file = memfd_create("status", MFD_CLOEXEC);
	options.ports[0] = (struct console_port_options){ NULL, -1, -1 };
	options.ports[1] = (struct console_port_options){ "brume.out", -1, f->out[1] };
	options.ports[2] = (struct console_port_options){ "brume.in", f->in[0], -1 };
	options.ports[3] = (struct console_port_options){ "both", f->both[0], f->both[0] };
	options.ports[4] = (struct console_port_options){ "brume.status", -1, f->file, 64 };
	options.ring_fd = f->ring = memfd_create("ring", MFD_CLOEXEC);
	driver_init(&f->d);
	assert_int_equal(console_new(&options, f->d.loop, &device, &err), 0);
	driver_attach(&f->d, device);
	f->control_in = driver_alloc(&f->d, 64);
	f->scratch = driver_alloc(&f->d, BUFFER);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	driver_done(&f->d);
	/* The descriptors are as they were. */
	if (f->in[0] >= 0)
		assert_false(fcntl(f->in[0], F_GETFL) & O_NONBLOCK);
	for (unsigned int i = 0; i < 2; i++) {
		fd_close(f->out[i]);
		fd_close(f->in[i]);
		fd_close(f->both[i]);
	}
	close(f->file);
	close(f->ring);
	free(f);
	return 0;
}

static void handshake(struct fixture *f)
{
	static const char *const names[] = { "", "brume.out", "brume.in", "both", "brume.status" };

	say(f, VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
	for (uint32_t i = 0; i < 5; i++)
		hear(f, i, VIRTIO_CONSOLE_PORT_ADD, 1, "");
	for (uint32_t i = 0; i < 5; i++) {
		say(f, i, VIRTIO_CONSOLE_PORT_READY, 1);
		if (i == 0)
			hear(f, i, VIRTIO_CONSOLE_CONSOLE_PORT, 1, "");
		else
			hear(f, i, VIRTIO_CONSOLE_PORT_NAME, 1, names[i]);
		hear(f, i, VIRTIO_CONSOLE_PORT_OPEN, 1, "");
		say(f, i, VIRTIO_CONSOLE_PORT_OPEN, 1);
	}
}

static unsigned int in_queue(unsigned int port)
{
	return port == 0 ? 0 : 2 + 2 * port;
}

static void print(struct fixture *f, unsigned int port, const char *text)
{
	struct buffer buffer = { f->scratch, (uint32_t) strlen(text), false };

	memcpy(driver_host(&f->d, f->scratch, BUFFER), text, strlen(text));
	driver_send(&f->d, in_queue(port) + 1, &buffer, 1);
	driver_wait_used(&f->d, in_queue(port) + 1, NULL);
}

static void test_ports(void **state)
{
	struct fixture *f = *state;
	char data[256];
	uint32_t ports;

	driver_config(&f->d, 4, &ports, 4);
	assert_int_equal(ports, 5);
	driver_start(&f->d, FEATURES, 16);
	handshake(f);
	print(f, 1, "to stdout\n");
	assert_int_equal(read(f->out[0], data, sizeof(data)), 10);
	assert_memory_equal(data, "to stdout\n", 10);
	print(f, 3, "ping");
	assert_int_equal(read(f->both[1], data, sizeof(data)), 4);
	print(f, 4, "exit 0\n");
	assert_int_equal(pread(f->file, data, sizeof(data), 0), 7);
	/* A second round, after a reset: everything is said again. */
	driver_start(&f->d, FEATURES | 1ull << VIRTIO_RING_F_EVENT_IDX, 16);
	handshake(f);
	print(f, 1, "again\n");
	assert_int_equal(read(f->out[0], data, sizeof(data)), 6);
	/* Control messages that mean nothing. */
	say(f, 77, VIRTIO_CONSOLE_PORT_READY, 1);
	say(f, 1, 999, 1);
	print(f, 1, "alive\n");
	assert_int_equal(read(f->out[0], data, sizeof(data)), 6);
}

static void test_last_words(void **state)
{
	struct fixture *f = *state;
	static char big[CONSOLE_RING_BYTES + 100], last[2 * CONSOLE_RING_BYTES];
	gpa_t at = driver_alloc(&f->d, sizeof(big));
	struct buffer buffer = { at, sizeof(big), false };

	/* Without MULTIPORT there is only the console. */
	driver_start(&f->d, 0, 16);
	bus_write(f->d.mmio, f->d.config + 8, 4, '!');
	print(f, 0, "hello ");
	print(f, 0, "world\n");
	assert_int_equal(console_last_words(f->d.device, last, sizeof(last)), 13);
	assert_memory_equal(last, "!hello world\n", 13);
	assert_int_equal(console_last_words(f->d.device, last, 6), 6);
	assert_memory_equal(last, "world\n", 6);
	/* In the file as well, at once. */
	assert_int_equal(pread(f->ring, last, 16 + 13, 0), 16 + 13);
	assert_memory_equal(last, "brumerng\x0d\0\0\0\0\0\0\0!hello world\n", 16 + 13);
	for (unsigned int i = 0; i < sizeof(big); i++)
		big[i] = (char) ('a' + i % 23);
	memcpy(driver_host(&f->d, at, sizeof(big)), big, sizeof(big));
	driver_send(&f->d, 1, &buffer, 1);
	driver_wait_used(&f->d, 1, NULL);
	print(f, 0, "xyz");
	assert_int_equal(console_last_words(f->d.device, last, sizeof(last)), CONSOLE_RING_BYTES);
	assert_memory_equal(last, big + 103, CONSOLE_RING_BYTES - 3);
	assert_memory_equal(last + CONSOLE_RING_BYTES - 3, "xyz", 3);
}

/* Nobody reads: the guest's buffers stay with the device; then everything comes, in order. */
static void test_slow_reader(void **state)
{
	struct fixture *f = *state;
	enum { COUNT = 32, SIZE = 3001 };
	gpa_t at = driver_alloc(&f->d, COUNT * SIZE);
	uint8_t *host = driver_host(&f->d, at, COUNT * SIZE);
	static uint8_t got[COUNT * SIZE];
	unsigned int given_back = 0;
	size_t size = 0;
	ssize_t n;

	driver_start(&f->d, FEATURES, 64);
	handshake(f);
	for (unsigned int i = 0; i < COUNT * SIZE; i++)
		host[i] = (uint8_t) (i * 7 + i / 251);
	for (unsigned int i = 0; i < COUNT; i++) {
		struct buffer buffers[] = { { at + i * SIZE, 1000, false },
					    { at + i * SIZE + 1000, SIZE - 1000, false } };

		driver_send(&f->d, in_queue(1) + 1, buffers, 2);
	}
	driver_sync(&f->d);
	while (ring_used(&f->d.rings[in_queue(1) + 1], NULL, NULL))
		given_back++;
	assert_in_range(given_back, 1, COUNT - 1);
	while (size < COUNT * SIZE) {
		n = read(f->out[0], got + size, sizeof(got) - size);
		assert_true(n > 0);
		size += (size_t) n;
	}
	assert_int_equal(size, COUNT * SIZE);
	assert_memory_equal(got, host, size);
	for (; given_back < COUNT; given_back++)
		driver_wait_used(&f->d, in_queue(1) + 1, NULL);
}

/* What a guest says into a file does not fill the host's memory, also not over resets. */
static void test_bounded(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	for (unsigned int round = 0; round < 2; round++) {
		driver_start(&f->d, FEATURES, 16);
		handshake(f);
		for (unsigned int i = 0; i < 40; i++)
			print(f, 4, "exit 0\n");
	}
	assert_int_equal(fstat(f->file, &st), 0);
	assert_int_equal(st.st_size, 63);
}

static void test_reader_gone(void **state)
{
	struct fixture *f = *state;

	driver_start(&f->d, FEATURES, 16);
	handshake(f);
	close(f->out[0]);
	f->out[0] = -1;
	for (unsigned int i = 0; i < 40; i++)
		print(f, 1, "to nobody\n");
}

static void test_input(void **state)
{
	struct fixture *f = *state;
	unsigned int queue = in_queue(2);
	gpa_t at = driver_alloc(&f->d, 4096);
	struct buffer buffer = { at, 8, true };
	uint32_t written;

	assert_int_equal(write(f->in[1], "0123456789", 10), 10);
	driver_start(&f->d, FEATURES, 16);
	driver_send(&f->d, queue, &buffer, 1);
	driver_sync(&f->d);
	/* Not before somebody in the guest has opened the port. */
	assert_false(ring_used(&f->d.rings[queue], NULL, NULL));
	handshake(f);
	driver_wait_used(&f->d, queue, &written);
	assert_int_equal(written, 8);
	assert_memory_equal(driver_host(&f->d, at, 8), "01234567", 8);
	driver_send(&f->d, queue, &buffer, 1);
	driver_wait_used(&f->d, queue, &written);
	assert_int_equal(written, 2);
	driver_send(&f->d, queue, &buffer, 1);
	assert_int_equal(write(f->in[1], "abc", 3), 3);
	driver_wait_used(&f->d, queue, &written);
	assert_int_equal(written, 3);
	/* The end of the input is an event, and stays said after a reset. */
	driver_send(&f->d, queue, &buffer, 1);
	close(f->in[1]);
	f->in[1] = -1;
	hear(f, 2, VIRTIO_CONSOLE_PORT_OPEN, 0, "");
	driver_start(&f->d, FEATURES, 16);
	say(f, 2, VIRTIO_CONSOLE_PORT_READY, 1);
	hear(f, 2, VIRTIO_CONSOLE_PORT_NAME, 1, "brume.in");
	hear(f, 2, VIRTIO_CONSOLE_PORT_OPEN, 0, "");
}

static void test_both_ways(void **state)
{
	struct fixture *f = *state;
	gpa_t at = driver_alloc(&f->d, 4096);
	struct buffer buffer = { at, 64, true };
	char data[64];
	uint32_t written;

	driver_start(&f->d, FEATURES, 16);
	handshake(f);
	for (unsigned int i = 0; i < 100; i++) {
		driver_send(&f->d, in_queue(3), &buffer, 1);
		assert_int_equal(write(f->both[1], "question", 8), 8);
		driver_wait_used(&f->d, in_queue(3), &written);
		assert_int_equal(written, 8);
		print(f, 3, "answer");
		assert_int_equal(read(f->both[1], data, sizeof(data)), 6);
	}
}

static void test_attacks(void **state)
{
	struct fixture *f = *state;

	/* What the device writes to is looked at when it has something to say. */
	driver_attack_queue(&f->d, FEATURES, CONTROL_OUT);
	for (unsigned int port = 0; port < 5; port++)
		driver_attack_queue(&f->d, FEATURES, in_queue(port) + 1);
	for (unsigned int attack = 0; attack < ATTACKS; attack++) {
		driver_start(&f->d, FEATURES | 1ull << VIRTIO_RING_F_INDIRECT_DESC, 16);
		ring_attack(&f->d.rings[CONTROL_IN], attack, f->control_in);
		say(f, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
		driver_wait_broken(&f->d);
	}
	assert_int_equal(write(f->in[1], "x", 1), 1);
	for (unsigned int attack = 0; attack < ATTACKS; attack++) {
		driver_start(&f->d, FEATURES | 1ull << VIRTIO_RING_F_INDIRECT_DESC, 16);
		handshake(f);
		ring_attack(&f->d.rings[in_queue(2)], attack, f->control_in);
		driver_kick(&f->d, in_queue(2));
		driver_wait_broken(&f->d);
	}
	driver_start(&f->d, FEATURES, 16);
	handshake(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ports, setup, teardown),
		cmocka_unit_test_setup_teardown(test_last_words, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reader_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_input, setup, teardown),
		cmocka_unit_test_setup_teardown(test_both_ways, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attacks, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
