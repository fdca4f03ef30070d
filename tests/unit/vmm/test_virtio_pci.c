#include "driver.h"

/* A device that copies what it reads to where it writes, and has 8 bytes of configuration. */
struct echo {
	struct virtio_device device;
	uint8_t config[8];
	unsigned int activations, resets;
	uint64_t features;
	bool *freed;
};

static void echo_config_read(struct virtio_device *device, uint32_t offset, void *data, size_t size)
{
	struct echo *echo = (struct echo *) device;

	virtio_config_copy(echo->config, sizeof(echo->config), offset, data, size);
}

static void echo_config_write(struct virtio_device *device, uint32_t offset, const void *data,
			      size_t size)
{
	struct echo *echo = (struct echo *) device;

	memcpy(echo->config + offset, data, size);
}

static int echo_activate(struct virtio_device *device, uint64_t features)
{
	struct echo *echo = (struct echo *) device;

	echo->activations++;
	echo->features = features;
	return 0;
}

static void echo_notify(struct virtio_device *device, unsigned int queue)
{
	struct queue_chain chain;
	char data[256];
	size_t n;

	do {
		while (virtio_pop(device, queue, &chain) > 0) {
			n = queue_iov_read(chain.iov, chain.out_count, 0, data, sizeof(data));
			n = queue_iov_write(chain.iov + chain.out_count, chain.in_count, 0, data,
					    n);
			virtio_push(device, queue, chain.head, (uint32_t) n);
		}
	} while (queue_enable_doorbell(&device->queues[queue]));
	virtio_interrupt(device, queue);
}

static void echo_reset(struct virtio_device *device)
{
	((struct echo *) device)->resets++;
}

static void echo_free(struct virtio_device *device)
{
	struct echo *echo = (struct echo *) device;

	*echo->freed = true;
	free(echo);
}

static const struct virtio_ops echo_ops = {
	.name = "echo",
	.type = 42,
	.config_read = echo_config_read,
	.config_write = echo_config_write,
	.activate = echo_activate,
	.notify = echo_notify,
	.reset = echo_reset,
	.free = echo_free,
};

struct fixture {
	struct driver d;
	struct echo *echo;
	bool freed;
};

static int setup(void **state)
{
	struct fixture *f = mem_new0(struct fixture);

	driver_init(&f->d);
	f->echo = mem_new0(struct echo);
	f->echo->freed = &f->freed;
	f->echo->device = (struct virtio_device){
		.ops = &echo_ops,
		.loop = f->d.loop,
		.features = 1ull << 5 | 1ull << 40,
		.queue_count = 2,
		.queue_size = { 64, 16 },
		.config_size = 8,
		.id = "echo0",
	};
	memcpy(f->echo->config, "01234567", 8);
	driver_attach(&f->d, &f->echo->device);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	driver_done(&f->d);
	assert_true(f->freed);
	free(f);
	return 0;
}

static void test_identity(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	assert_int_equal(driver_pci_read(d, PCI_VENDOR_ID, 4), (0x1040u + 42) << 16 | 0x1af4);
	assert_int_equal(driver_pci_read(d, PCI_REVISION_ID, 1), 1);
	assert_int_equal(driver_pci_read(d, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(driver_get(d, VIRTIO_PCI_COMMON_NUMQ, 2), 2);
	driver_set(d, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	assert_int_equal(driver_get(d, VIRTIO_PCI_COMMON_Q_SIZE, 2), 16);
	assert_int_equal(driver_get(d, VIRTIO_PCI_COMMON_Q_NOFF, 2), 1);
	driver_set(d, VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
	assert_int_equal(driver_get(d, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	assert_true(driver_offered(d) ==
		    (1ull << 5 | 1ull << 40 | 1ull << VIRTIO_F_VERSION_1 |
		     1ull << VIRTIO_RING_F_EVENT_IDX | 1ull << VIRTIO_RING_F_INDIRECT_DESC));
}

static void echo_once(struct driver *d, unsigned int queue)
{
	gpa_t at = driver_alloc(d, 64);
	struct buffer buffers[] = { { at, 5, false }, { at + 32, 16, true } };
	uint32_t written;
	uint16_t head;

	memcpy(driver_host(d, at, 5), "hello", 5);
	memset(driver_host(d, at + 32, 16), 0, 16);
	head = driver_send(d, queue, buffers, 2);
	assert_int_equal(driver_wait_used(d, queue, &written), head);
	assert_int_equal(written, 5);
	assert_memory_equal(driver_host(d, at + 32, 5), "hello", 5);
}

static void test_echo(void **state)
{
	struct fixture *f = *state;

	driver_start(&f->d, 1ull << 40, 0);
	assert_int_equal(f->echo->activations, 1);
	assert_true(f->echo->features == (1ull << 40 | 1ull << VIRTIO_F_VERSION_1));
	for (unsigned int i = 0; i < 200; i++)
		echo_once(&f->d, i % 2);
	driver_start(&f->d, 1ull << VIRTIO_RING_F_EVENT_IDX, 8);
	assert_int_equal(f->echo->resets, 1);
	assert_int_equal(f->echo->activations, 2);
	for (unsigned int i = 0; i < 200; i++)
		echo_once(&f->d, i % 2);
	assert_int_equal(f->echo->device.counters.requests, 400);
}

static void test_features(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	/* One that was not offered; and none at all, without VERSION_1. */
	for (unsigned int i = 0; i < 2; i++) {
		driver_set(d, VIRTIO_PCI_COMMON_STATUS, 1, 0);
		driver_add_status(d, VIRTIO_CONFIG_S_DRIVER);
		driver_set(d, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
		driver_set(d, VIRTIO_PCI_COMMON_GF, 4, i == 0 ? 1u << 7 : 1u << 5);
		driver_set(d, VIRTIO_PCI_COMMON_GFSELECT, 4, 2);
		driver_set(d, VIRTIO_PCI_COMMON_GF, 4, UINT32_MAX);
		assert_int_equal(driver_get(d, VIRTIO_PCI_COMMON_GF, 4), 0);
		driver_add_status(d, VIRTIO_CONFIG_S_FEATURES_OK);
		assert_false(driver_status(d) & VIRTIO_CONFIG_S_FEATURES_OK);
		driver_add_status(d, VIRTIO_CONFIG_S_DRIVER_OK);
		assert_false(driver_status(d) & VIRTIO_CONFIG_S_DRIVER_OK);
	}
	assert_int_equal(f->echo->activations, 0);
	/* Agreed features do not change any more, nor does an enabled queue. */
	driver_start(d, 1ull << 5, 8);
	driver_set(d, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	driver_set(d, VIRTIO_PCI_COMMON_GF, 4, 0);
	assert_int_equal(driver_get(d, VIRTIO_PCI_COMMON_GF, 4), 1u << 5);
	driver_set(d, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	driver_set(d, VIRTIO_PCI_COMMON_Q_USEDLO, 4, 0);
	driver_set(d, VIRTIO_PCI_COMMON_Q_SIZE, 2, 2);
	assert_int_equal(driver_get(d, VIRTIO_PCI_COMMON_Q_SIZE, 2), 8);
	echo_once(d, 0);
}

static void test_bad_queue(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	driver_negotiate(d, 0);
	driver_start_queue(d, 0, 8);
	driver_set(d, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	driver_set(d, VIRTIO_PCI_COMMON_Q_USEDHI, 4, 0xffffffff);
	driver_set(d, VIRTIO_PCI_COMMON_Q_SIZE, 2, 17); /* too many: ignored */
	assert_int_equal(driver_get(d, VIRTIO_PCI_COMMON_Q_SIZE, 2), 16);
	driver_set(d, VIRTIO_PCI_COMMON_Q_SIZE, 2, 15); /* no power of two */
	driver_set(d, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	driver_add_status(d, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_true(driver_status(d) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(f->echo->activations, 0);
	driver_start(d, 0, 8);
	echo_once(d, 1);
}

static void test_attacks(void **state)
{
	struct fixture *f = *state;

	driver_attack_queue(&f->d, 0, 0);
	driver_attack_queue(&f->d, 1ull << VIRTIO_RING_F_EVENT_IDX, 1);
	driver_start(&f->d, 0, 8);
	echo_once(&f->d, 0);
}

static void test_config(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;
	uint8_t generation;

	assert_int_equal(bus_read(d->mmio, d->config, 4), 0x33323130);
	bus_write(d->mmio, d->config + 2, 2, 0x4241);
	assert_int_equal(bus_read(d->mmio, d->config, 4), 0x42413130);
	/* Beyond the end: nothing. */
	assert_int_equal(bus_read(d->mmio, d->config + 6, 4), 0);
	bus_write(d->mmio, d->config + 6, 4, UINT32_MAX);
	assert_memory_equal(f->echo->config + 6, "67", 2);
	bus_write(d->mmio, d->config + 0xff0, 8, UINT64_MAX);

	driver_start(d, 0, 8);
	generation = (uint8_t) driver_get(d, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
	loop_call(d->loop, (loop_post_fn) virtio_config_changed, d->device);
	driver_wait_vector(d, 0);
	assert_int_equal((uint8_t) driver_get(d, VIRTIO_PCI_COMMON_CFGGENERATION, 1),
			 (uint8_t) (generation + 1));
}

static unsigned int find_capability(struct driver *d, uint8_t id, uint8_t type)
{
	unsigned int at = driver_pci_read(d, PCI_CAPABILITY_LIST, 1);

	while (at && (driver_pci_read(d, at, 1) != id ||
		      (id == PCI_CAP_ID_VNDR && driver_pci_read(d, at + 3, 1) != type)))
		at = driver_pci_read(d, at + 1, 1);
	assert_true(at);
	return at;
}

/* Registers by way of configuration space (4.1.4.9), as firmware does it. */
static void test_window(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;
	unsigned int at = find_capability(d, PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_PCI_CFG);
	uint32_t config = (uint32_t) (d->config - d->common);

	driver_pci_write(d, at + VIRTIO_PCI_CAP_BAR, 1, 0);
	driver_pci_write(d, at + VIRTIO_PCI_CAP_OFFSET, 4, config);
	driver_pci_write(d, at + VIRTIO_PCI_CAP_LENGTH, 4, 4);
	assert_int_equal(driver_pci_read(d, at + 16, 4), 0x33323130);
	driver_pci_write(d, at + 16, 4, 0x44434241);
	assert_memory_equal(f->echo->config, "ABCD4567", 8);
	driver_pci_write(d, at + VIRTIO_PCI_CAP_LENGTH, 4, 1);
	driver_pci_write(d, at + 16, 4, 0xffffff5a);
	assert_memory_equal(f->echo->config, "ZBCD4567", 8);
	assert_int_equal(driver_pci_read(d, at + 16, 1), 'Z');
	/* Nonsense does nothing. */
	driver_pci_write(d, at + VIRTIO_PCI_CAP_LENGTH, 4, 3);
	driver_pci_write(d, at + 16, 4, 0);
	driver_pci_write(d, at + VIRTIO_PCI_CAP_LENGTH, 4, 4);
	driver_pci_write(d, at + VIRTIO_PCI_CAP_OFFSET, 4, config + 2);
	driver_pci_write(d, at + 16, 4, 0);
	driver_pci_write(d, at + VIRTIO_PCI_CAP_OFFSET, 4, UINT32_MAX - 3);
	driver_pci_write(d, at + 16, 4, 0);
	driver_pci_write(d, at + VIRTIO_PCI_CAP_BAR, 1, 1);
	driver_pci_write(d, at + VIRTIO_PCI_CAP_OFFSET, 4, config);
	driver_pci_write(d, at + 16, 4, 0);
	assert_memory_equal(f->echo->config, "ZBCD4567", 8);
}

static void test_without_msix(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;
	unsigned int at = find_capability(d, PCI_CAP_ID_MSIX, 0);
	gpa_t data = driver_alloc(d, 64);
	struct buffer buffers[] = { { data, 5, false }, { data + 32, 16, true } };
	uint32_t written;

	driver_pci_write(d, at + 2, 2, 0);
	driver_start(d, 0, 8);
	driver_send(d, 0, buffers, 2);
	while (!ring_used(&d->rings[0], NULL, &written))
		driver_sync(d);
	driver_sync(d);
	assert_int_equal(bus_read(d->mmio, d->isr, 1), 1);
	assert_int_equal(bus_read(d->mmio, d->isr, 1), 0);
}

static void test_masked(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;
	unsigned int at = find_capability(d, PCI_CAP_ID_MSIX, 0);
	uint64_t bar = d->common, table = bar + driver_pci_read(d, at + PCI_MSIX_TABLE, 4);
	uint64_t pending = bar + driver_pci_read(d, at + PCI_MSIX_PBA, 4);
	gpa_t data = driver_alloc(d, 64);
	struct buffer buffers[] = { { data, 5, false }, { data + 32, 16, true } };
	eventfd_t n;

	driver_start(d, 0, 8);
	bus_write(d->mmio, table + 16 + 12, 4, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	driver_send(d, 0, buffers, 2);
	while (!ring_used(&d->rings[0], NULL, NULL))
		driver_sync(d);
	driver_sync(d);
	assert_int_equal(eventfd_read(d->irqs[1]->fd, &n), -1);
	assert_int_equal(bus_read(d->mmio, pending, 8), 1u << 1);
	bus_write(d->mmio, table + 16 + 8, 4, 0x1234);
	bus_write(d->mmio, table + 16 + 12, 4, 0);
	driver_wait_vector(d, 1);
	assert_int_equal(d->irqs[1]->value, 0x1234);
	assert_int_equal(bus_read(d->mmio, pending, 8), 0);
	/* The whole function masked. */
	driver_pci_write(d, at + 2, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	driver_send(d, 0, buffers, 2);
	while (!ring_used(&d->rings[0], NULL, NULL))
		driver_sync(d);
	driver_sync(d);
	assert_int_equal(eventfd_read(d->irqs[1]->fd, &n), -1);
	driver_pci_write(d, at + 2, 2, PCI_MSIX_FLAGS_ENABLE);
	driver_wait_vector(d, 1);
	/* A vector that does not exist reads back as none. */
	driver_set(d, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	driver_set(d, VIRTIO_PCI_COMMON_Q_MSIX, 2, 3);
	assert_int_equal(driver_get(d, VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_echo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_features, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attacks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_config, setup, teardown),
		cmocka_unit_test_setup_teardown(test_window, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_msix, setup, teardown),
		cmocka_unit_test_setup_teardown(test_masked, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
