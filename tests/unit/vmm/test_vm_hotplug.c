/*
 * Disks and cards of a whole machine on /dev/kvm.  Its CPU stands still, or sleeps: the test itself
 * is the guest, on the machine's buses.
 */
#include "driver.h"

#include <elf.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/virtio_blk.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/file.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "codec/frame.h"
#include "kern/kvm.h"
#include "kern/sock.h"
#include "vmm/ctl.h"
#include "vmm/hotplug.h"
#include "vmm/layout.h"
#include "vmm/vm_control.h"
#include "vmm/vm_internal.h"

enum { LOAD_AT = 0x1000000, DISK_BYTES = 1 << 20, TIMEOUT_MS = 60000 };

/* A kernel that sleeps, with the PVH note. */
static int kernel_new(void)
{
	struct {
		Elf64_Ehdr header;
		Elf64_Phdr segments[2];
		struct {
			Elf64_Nhdr header;
			char name[4];
			uint32_t entry, pad;
		} note;
		uint8_t text[4];
	} elf = {
		.header = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB },
			    .e_type = ET_EXEC,
			    .e_machine = EM_X86_64,
			    .e_phoff = sizeof(Elf64_Ehdr),
			    .e_phentsize = sizeof(Elf64_Phdr),
			    .e_phnum = 2 },
		.note = { .header = { 4, 8, 18 }, .name = "Xen", .entry = LOAD_AT },
		.text = { 0xfa, 0xf4, 0xeb, 0xfd }, /* cli; hlt; jmp to hlt */
	};
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	elf.segments[0] = (Elf64_Phdr){ .p_type = PT_LOAD,
					.p_offset = (uint64_t) ((char *) elf.text - (char *) &elf),
					.p_paddr = LOAD_AT,
					.p_filesz = sizeof(elf.text),
					.p_memsz = 4096 };
	elf.segments[1] = (Elf64_Phdr){ .p_type = PT_NOTE,
					.p_offset = (uint64_t) ((char *) &elf.note - (char *) &elf),
					.p_filesz = sizeof(elf.note) };
	assert_int_equal(file_write_all(fd, &elf, sizeof(elf)), 0);
	return fd;
}

struct test {
	int kernel_fd;
	struct vm_config config;
	struct loop *loop;
	struct vm *vm;
	unsigned int ended, answers;
	char why[VM_WHY_MAX]; /* of the last removal; "" when it is gone */
};

static void on_end(void *data, enum vm_end end, const char *why)
{
	struct test *test = data;

	(void) end, (void) why;
	test->ended++;
	loop_quit(test->loop, 0);
}

static void on_removed(void *data, const char *why)
{
	struct test *test = data;

	snprintf(test->why, sizeof(test->why), "%s", why ? why : "");
	test->answers++;
	loop_quit(test->loop, 0);
}

static int setup(void **state)
{
	AUTO(fd_close) int kvm_fd = kvm_open(-1);
	struct test *test = mem_new0(struct test);
	struct error err = {};

	*state = test;
	if (kvm_fd < 0)
		return 0;
	test->kernel_fd = kernel_new();
	test->config = (struct vm_config){
		.kvm_fd = -1,
		.cpus = 1,
		.baseline = "host",
		.memory = { .size_bytes = 32 << 20, .fd = -1 },
		.has_kernel = true,
		.boot = { .kernel_fd = test->kernel_fd, .command_line = BOOT_ARGUMENTS },
		.serial_in_fd = -1,
		.serial_out_fd = -1,
		.console_in_fd = -1,
		.console_out_fd = -1,
		.console_ring_fd = -1,
		.balloon = true,
	};
	assert_int_equal(loop_new(&test->loop, &err), 0);
	if (vm_new(&test->config, test->loop, on_end, test, &test->vm, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(vm_start(test->vm, true, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	struct test *test = *state;

	vm_free(test->vm);
	loop_free(test->loop);
	if (test->vm)
		close(test->kernel_fd);
	free(test);
	return 0;
}

static struct test *need(void **state)
{
	struct test *test = *state;

	if (!test->vm) {
		print_message("no usable /dev/kvm here\n");
		skip();
	}
	return test;
}

/* ---- the guest ---- */

static uint32_t hotplug_load(struct vm *vm, unsigned int offset)
{
	return (uint32_t) bus_read(vm->mmio, LAYOUT_HOTPLUG + offset, 4);
}

static void eject(struct vm *vm, unsigned int slot)
{
	bus_write(vm->mmio, LAYOUT_HOTPLUG + HOTPLUG_EJECT, 4, 1u << slot);
}

static uint32_t vendor(struct vm *vm, unsigned int slot)
{
	return (uint32_t) bus_read(vm->mmio, LAYOUT_PCI_ECAM + (slot << 15), 4);
}

static void drive(struct driver *d, struct vm *vm, unsigned int slot)
{
	*d = (struct driver){ .memory = vm->memory, .mmio = vm->mmio, .heap = DRIVER_HEAP };
	d->slot = slot;
	d->device = virtio_pci_device(vm->devices[slot].pci);
	driver_probe(d);
	driver_start(d, 0, 0);
}

static void read_sector(struct driver *d, char ret[512])
{
	struct virtio_blk_outhdr header = { .type = VIRTIO_BLK_T_IN };
	gpa_t at = driver_alloc(d, 1024);
	struct buffer buffers[] = { { at, sizeof(header), false },
				    { at + 64, 512, true },
				    { at + 1000, 1, true } };

	memcpy(guest_memory_range(d->memory, at, sizeof(header)), &header, sizeof(header));
	driver_send(d, 0, buffers, 3);
	while (!ring_used(&d->rings[0], NULL, NULL))
		sched_yield();
	memcpy(ret, guest_memory_range(d->memory, at + 64, 512), 512);
}

/* ---- the host ---- */

static int disk_file(const char *text)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	assert_int_equal(pwrite(fd, text, strlen(text), 0), strlen(text));
	return fd;
}

/* Adds a disk, whose slot is returned, or -errno. */
static int add(struct test *test, struct vm_disk disk, struct error *err)
{
	AUTO(json_decref) json_t *result = NULL;
	int r;

	if (disk.fd <= 0)
		disk.fd = disk_file("DISK!");
	r = vm_add_disk(test->vm, &disk, &result, err);
	if (r < 0) {
		close(disk.fd);
		return r;
	}
	return (int) json_integer_value(json_object_get(result, "slot"));
}

static int begin_remove(struct test *test, const char *id, unsigned int timeout_ms,
			struct error *err)
{
	return vm_remove(test->vm, id, timeout_ms, on_removed, test, err);
}

static const char *answer_of(struct test *test)
{
	unsigned int before = test->answers;

	assert_int_equal(loop_run(test->loop), 0);
	assert_int_equal(test->answers, before + 1);
	return test->why;
}

static unsigned int count_fds(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void comes_and_goes(void **state)
{
	struct test *test = need(state);
	unsigned int fds = count_fds();
	struct error err = {};
	struct driver d;
	char sector[512];
	int slot;

	bus_read(test->vm->mmio, LAYOUT_GED, 4);
	slot = add(test, (struct vm_disk){ .serial = "data" }, &err);
	assert_true(slot > 0);
	assert_int_equal(bus_read(test->vm->mmio, LAYOUT_GED, 4), LAYOUT_GED_SLOTS);
	assert_int_equal(hotplug_load(test->vm, HOTPLUG_UP), 1u << slot);
	assert_int_equal(vendor(test->vm, (unsigned int) slot), 0x10421af4);
	drive(&d, test->vm, (unsigned int) slot);
	read_sector(&d, sector);
	assert_memory_equal(sector, "DISK!", 5);

	/* In use, as it is: the guest lets go and all of it is freed. */
	assert_int_equal(begin_remove(test, "disk0", TIMEOUT_MS, &err), 0);
	assert_int_equal(bus_read(test->vm->mmio, LAYOUT_GED, 4), LAYOUT_GED_SLOTS);
	assert_int_equal(hotplug_load(test->vm, HOTPLUG_DOWN), 1u << slot);
	eject(test->vm, (unsigned int) slot);
	assert_int_equal(vendor(test->vm, (unsigned int) slot), UINT32_MAX);
	eject(test->vm, (unsigned int) slot);
	assert_string_equal(answer_of(test), "");
	assert_int_equal(vendor(test->vm, (unsigned int) slot), UINT32_MAX);
	assert_int_equal(bus_read(test->vm->mmio, d.common, 4), UINT32_MAX);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(begin_remove(test, "disk0", TIMEOUT_MS, &err), -ENOENT);
}

/* Packets pass, and at the end its host side hears that nobody is there. */
static void a_card_comes_and_goes(void **state)
{
	struct test *test = need(state);
	static const char packet[64] = "a packet";
	char header[12] = "", data[256];
	AUTO(json_decref) json_t *result = NULL;
	struct vm_nic nic = { .id = "lan", .mac = { 2, 0, 0, 0, 0, 1 } };
	struct iovec iov[] = { { header, sizeof(header) }, { (void *) packet, sizeof(packet) } };
	struct error err = {};
	unsigned int slot;
	struct driver d;
	int pair[2];
	gpa_t at;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	nic.fd = pair[0];
	assert_int_equal(vm_add_nic(test->vm, &nic, &result, &err), 0);
	assert_string_equal(json_string_value(json_object_get(result, "mac")), "02:00:00:00:00:01");
	slot = (unsigned int) json_integer_value(json_object_get(result, "slot"));
	drive(&d, test->vm, slot);
	at = driver_alloc(&d, 4096);
	driver_send(&d, 0, &(struct buffer){ at, 2048, true }, 1);
	assert_int_equal(writev(pair[1], iov, 2), sizeof(header) + sizeof(packet));
	while (!ring_used(&d.rings[0], NULL, NULL))
		sched_yield();
	assert_string_equal(guest_memory_range(d.memory, at + sizeof(header), sizeof(packet)),
			    packet);
	driver_send(&d, 1, &(struct buffer){ at, sizeof(header) + sizeof(packet), false }, 1);
	assert_int_equal(recv(pair[1], data, sizeof(data), 0), sizeof(header) + sizeof(packet));

	/* It waits for packets. */
	driver_send(&d, 0, &(struct buffer){ at, 2048, true }, 1);
	assert_int_equal(begin_remove(test, "lan", TIMEOUT_MS, &err), 0);
	eject(test->vm, slot);
	assert_string_equal(answer_of(test), "");
	assert_int_equal(recv(pair[1], data, sizeof(data), 0), 0);
	close(pair[1]);
}

/* A machine of its own: several queues are for what it begins with, except those of disks. */
static void several_queues(void **state)
{
	struct test *test = need(state);
	struct vm_config config = test->config;
	struct vm_nic *nic = &config.nics[0];
	AUTO(vm_free) struct vm *vm = NULL;
	AUTO(json_decref) json_t *info = NULL, *result = NULL;
	struct error err = {};
	int pairs[3][2];
	json_t *device;
	size_t i;

	for (i = 0; i < 3; i++)
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pairs[i]),
				 0);
	*nic = (struct vm_nic){ .fd = pairs[0][0],
				.more_fds = { pairs[1][0], pairs[2][0] },
				.more_count = 2 };
	config.nic_count = 1;
	config.disks[0] = (struct vm_disk){ .fd = disk_file("DISK!"), .queues = 4 };
	config.disk_count = 1;
	if (vm_new(&config, test->loop, on_end, test, &vm, &err) < 0)
		fail_msg("%s", err.msg);
	info = vm_info(vm);
	json_array_foreach(json_object_get(info, "devices"), i, device)
	{
		const char *id = json_string_value(json_object_get(device, "id"));
		json_int_t queues = json_integer_value(json_object_get(device, "queues"));

		assert_int_equal(queues, strcmp(id, "disk0") == 0  ? 4
					 : strcmp(id, "net0") == 0 ? 3
								   : 0);
	}
	assert_int_equal(vm_add_nic(test->vm, nic, &result, &err), -EINVAL);
	assert_string_equal(err.msg, "a card that is added has one queue");
	vm_free(TAKE_PTR(vm));
	close(config.disks[0].fd);
	for (i = 0; i < 3; i++) {
		close(pairs[i][0]);
		close(pairs[i][1]);
	}
}

static void is_refused_clearly(void **state)
{
	struct test *test = need(state);
	AUTO(fd_close) int read_only = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct vm_nic nic = { .fd = read_only };
	AUTO(json_decref) json_t *result = NULL;
	struct error err = {};

	assert_true(add(test, (struct vm_disk){ .id = "a", .serial = "one" }, &err) > 0);
#define REFUSED(code, words, ...)                                                                  \
	do {                                                                                       \
		assert_int_equal(add(test, (struct vm_disk){ __VA_ARGS__ }, &err), code);          \
		assert_non_null(strstr(err.msg, words));                                           \
	} while (0)
	REFUSED(-EEXIST, "there is a device a already", .id = "a");
	REFUSED(-EEXIST, "there is a device console0 already", .id = "console0");
	REFUSED(-EEXIST, "a has the serial number one already", .serial = "one");
	REFUSED(-EINVAL, "is not an id", .id = "");
	REFUSED(-EINVAL, "is not an id", .id = "a/b");
	REFUSED(-EINVAL, "is not an id", .id = "123456789012345678901");
	REFUSED(-EINVAL, "is not a serial number", .serial = "a b");
	REFUSED(-EACCES, "reading only", .fd = dup(read_only));
	REFUSED(-EBADF, "not an open file", .fd = open("/", O_PATH | O_CLOEXEC));
	REFUSED(-ENOTBLK, "disk", .fd = open("/", O_RDONLY | O_CLOEXEC), .read_only = true);
	assert_int_equal(vm_add_nic(test->vm, &nic, &result, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "neither a tap device nor a socket"));
	assert_int_equal(begin_remove(test, "console0", 0, &err), -EPERM);
	assert_int_equal(begin_remove(test, "nobody", 0, &err), -ENOENT);
	assert_int_equal(begin_remove(test, "a", TIMEOUT_MS, &err), 0);
	assert_int_equal(begin_remove(test, "a", TIMEOUT_MS, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "being removed already"));
}

static void ends_at_its_limits(void **state)
{
	struct test *test = need(state);
	AUTO(json_decref) json_t *info = NULL;
	AUTO(free) char *text = NULL;
	struct error err = {};
	unsigned int count = 0;
	int pair[2], r;

	while ((r = add(test, (struct vm_disk){}, &err)) > 0)
		count++;
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(count, VM_DISKS_MAX);
	assert_string_equal(err.msg, "there can be 24 disks");
	for (count = 0, r = 0; r == 0; count++) {
		AUTO(json_decref) json_t *result = NULL;
		struct vm_nic nic = {};

		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
		nic.fd = pair[0];
		r = vm_add_nic(test->vm, &nic, &result, &err);
		close(pair[1]);
		if (r < 0)
			close(pair[0]);
	}
	/* Console, random numbers and balloon have slots as well. */
	assert_int_equal(count - 1, 31 - 3 - VM_DISKS_MAX);
	assert_non_null(strstr(err.msg, "all 31 PCI slots are taken"));
	info = vm_info(test->vm);
	assert_int_equal(json_array_size(json_object_get(info, "devices")), 31);
	text = json_text(info);
	assert_non_null(strstr(text, "02:62:72:75:6d:03"));
}

static void stays_when_the_guest_holds_it(void **state)
{
	struct test *test = need(state);
	struct error err = {};
	int slot = add(test, (struct vm_disk){}, &err);

	assert_true(slot > 0);
	assert_int_equal(begin_remove(test, "disk0", 0, &err), 0);
	assert_string_equal(answer_of(test),
			    "the guest did not let go of disk0 within 0 ms; it stays");
	/* Too late: nobody asks any more. */
	eject(test->vm, (unsigned int) slot);
	assert_int_equal(hotplug_load(test->vm, HOTPLUG_DOWN), 0);
	assert_int_equal(vendor(test->vm, (unsigned int) slot), 0x10421af4);
	/* Asked again, it goes. */
	assert_int_equal(begin_remove(test, "disk0", TIMEOUT_MS, &err), 0);
	eject(test->vm, (unsigned int) slot);
	assert_string_equal(answer_of(test), "");
}

static void a_restart_keeps_and_drops(void **state)
{
	struct test *test = need(state);
	struct error err = {};
	int kept = add(test, (struct vm_disk){ .id = "kept" }, &err);
	int dropped = add(test, (struct vm_disk){ .id = "dropped" }, &err);

	assert_true(kept > 0 && dropped > 0);
	assert_int_equal(begin_remove(test, "dropped", TIMEOUT_MS, &err), 0);
	assert_int_equal(vm_reset(test->vm, &err), 0);
	assert_string_equal(answer_of(test), "");
	assert_int_equal(test->ended, 0);
	assert_int_equal(vendor(test->vm, (unsigned int) kept), 0x10421af4);
	assert_int_equal(vendor(test->vm, (unsigned int) dropped), UINT32_MAX);
	assert_int_equal(hotplug_load(test->vm, HOTPLUG_UP), 0);
	assert_int_equal(hotplug_load(test->vm, HOTPLUG_DOWN), 0);
}

static void the_end_answers(void **state)
{
	struct test *test = need(state);
	struct error err = {};

	assert_true(add(test, (struct vm_disk){}, &err) > 0);
	assert_true(add(test, (struct vm_disk){}, &err) > 0);
	assert_int_equal(begin_remove(test, "disk0", TIMEOUT_MS, &err), 0);
	vm_quit(test->vm);
	assert_string_equal(answer_of(test), "the machine has ended");
	assert_int_equal(begin_remove(test, "disk1", TIMEOUT_MS, &err), -ESHUTDOWN);
	assert_int_equal(add(test, (struct vm_disk){}, &err), -ESHUTDOWN);
}

/* ---- a guest that does everything at once, in a CPU's thread ---- */

struct hammer {
	struct vm *vm;
	unsigned int stop;
};

static void *hammer(void *data)
{
	struct hammer *hammer = data;
	struct vm *vm = hammer->vm;

	while (!__atomic_load_n(&hammer->stop, __ATOMIC_RELAXED)) {
		uint32_t down = hotplug_load(vm, HOTPLUG_DOWN);

		for (unsigned int slot = 1; slot < 8; slot++) {
			uint64_t config = LAYOUT_PCI_ECAM + (slot << 15);
			uint32_t bar =
				(uint32_t) bus_read(vm->mmio, config + PCI_BASE_ADDRESS_0, 4);

			bus_write(vm->mmio, config + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
			bus_write(vm->mmio, bar + VIRTIO_PCI_COMMON_STATUS, 1, 0xff);
			bus_read(vm->mmio, bar + 0x2000, 4);
			bus_write(vm->mmio, bar + VIRTIO_PCI_COMMON_STATUS, 1, 0);
			bus_write(vm->mmio, config + PCI_COMMAND, 2, 0);
		}
		bus_write(vm->mmio, LAYOUT_HOTPLUG + HOTPLUG_EJECT, 4, down ? UINT32_MAX : 0);
		sched_yield();
	}
	return NULL;
}

static void survives_a_busy_guest(void **state)
{
	struct test *test = need(state);
	struct hammer hammered = { test->vm, 0 };
	unsigned int fds = count_fds();
	struct error err = {};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, hammer, &hammered), 0);
	for (unsigned int i = 0; i < 40; i++) {
		assert_true(add(test, (struct vm_disk){}, &err) > 0);
		assert_int_equal(begin_remove(test, "disk0", TIMEOUT_MS, &err), 0);
		assert_string_equal(answer_of(test), "");
	}
	__atomic_store_n(&hammered.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_int_equal(count_fds(), fds);
}

/* ---- the control socket ---- */

struct client {
	const char *path, *file;
	struct vm *vm;
	char *said[8];
	int results[8];
	struct error errors[8];
};

static void ctl(struct client *client, unsigned int index, const char *method, const char *text)
{
	char *argument = text ? mem_strdup(text) : NULL;
	char *argv[] = { "ctl", (char *) client->path, (char *) method, argument, NULL };
	size_t size;
	FILE *out = open_memstream(&client->said[index], &size);

	client->results[index] = ctl_run(text ? 4 : 3, argv, out, &client->errors[index]);
	fclose(out);
	free(argument);
}

static void *client_main(void *data)
{
	struct client *client = data;
	struct hammer guest = { client->vm, 0 };
	pthread_t thread;
	char word[128];

	snprintf(word, sizeof(word), "%s,id=data,serial=S1,queues=3", client->file);
	ctl(client, 0, "add_disk", word);
	ctl(client, 1, "add_disk", word);
	ctl(client, 2, "info", NULL);
	ctl(client, 3, "remove", "data,timeout=0");
	pthread_create(&thread, NULL, hammer, &guest);
	ctl(client, 4, "remove", "data");
	__atomic_store_n(&guest.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ctl(client, 5, "remove", "data");
	ctl(client, 6, "balloon", "16M");
	ctl(client, 7, "quit", NULL);
	return NULL;
}

static void is_done_over_the_socket(void **state)
{
	struct test *test = need(state);
	AUTO(vm_control_free) struct vm_control *control = NULL;
	char path[64], file[64];
	struct client client = { path, file, test->vm };
	AUTO(fd_close) int fd = disk_file("DISK!");
	pthread_t thread;

	snprintf(path, sizeof(path), "/tmp/brume-test-hotplug-%d", (int) getpid());
	snprintf(file, sizeof(file), "/proc/self/fd/%d", fd);
	assert_int_equal(vm_control_new(path, -1, test->loop, test->vm, &control, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, client_main, &client), 0);
	assert_int_equal(loop_run(test->loop), 0);
	vm_control_free(TAKE_PTR(control));
	pthread_join(thread, NULL);
	unlink(path);
	assert_int_equal(client.results[0], 0);
	assert_non_null(strstr(client.said[0], "\"serial\": \"S1\""));
	assert_int_equal(client.results[1], -EIO);
	assert_string_equal(client.errors[1].msg, "there is a device data already");
	assert_int_equal(client.results[2], 0);
	assert_non_null(strstr(client.said[2], "\"id\": \"data\""));
	assert_non_null(strstr(client.said[2], "\"queues\": 3"));
	assert_int_equal(client.results[3], -EIO);
	assert_non_null(strstr(client.errors[3].msg, "did not let go of data"));
	assert_int_equal(client.results[4], 0);
	assert_string_equal(client.said[4], "");
	assert_string_equal(client.errors[5].msg, "there is no device 'data'");
	assert_int_equal(client.results[6], 0);
	assert_int_equal(client.results[7], 0);
	for (unsigned int i = 0; i < ARRAY_COUNT(client.said); i++)
		free(client.said[i]);
}

/* Descriptors that nobody asked for, too many of them, and none. */
static void *rude_client(void *path)
{
	static const struct {
		const char *method;
		size_t fds;
		bool answered;
	} calls[] = { { "add_disk", 0, true },
		      { "add_disk", 1, true },
		      { "add_disk", 2, false },
		      { "info", 1, false },
		      { "info", SOCK_FDS_MAX, false } };
	int fds[SOCK_FDS_MAX];

	for (size_t i = 0; i < SOCK_FDS_MAX; i++)
		fds[i] = STDIN_FILENO;
	for (size_t i = 0; i < ARRAY_COUNT(calls); i++) {
		AUTO(fd_close) int fd = sock_connect(path, SOCK_STREAM);
		AUTO(json_decref) json_t *call = json_pack("{s:s}", "method", calls[i].method);
		AUTO(strbuf_done) struct strbuf out = {};
		struct pollfd ready = { fd, POLLIN, 0 };
		char answer[4096];
		ssize_t n;

		frame_append_json(&out, FRAME_CALL, i, call);
		assert_int_equal(sock_send(fd, out.data, out.size, fds, calls[i].fds), 0);
		assert_int_equal(poll(&ready, 1, DRIVER_TIMEOUT_MS), 1);
		n = recv(fd, answer, sizeof(answer), 0);
		assert_int_equal(n > 0, calls[i].answered);
		if (n > 0)
			assert_non_null(memmem(answer, (size_t) n, "error", 5));
	}
	struct client last = { .path = path };
	ctl(&last, 0, "quit", NULL);
	free(last.said[0]);
	return NULL;
}

static void strange_descriptors(void **state)
{
	struct test *test = need(state);
	AUTO(vm_control_free) struct vm_control *control = NULL;
	unsigned int fds = count_fds();
	char path[64];
	pthread_t thread;

	snprintf(path, sizeof(path), "/tmp/brume-test-rude-%d", (int) getpid());
	assert_int_equal(vm_control_new(path, -1, test->loop, test->vm, &control, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, rude_client, path), 0);
	assert_int_equal(loop_run(test->loop), 0);
	vm_control_free(TAKE_PTR(control));
	pthread_join(thread, NULL);
	unlink(path);
	assert_int_equal(count_fds(), fds);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(comes_and_goes),
		TEST(a_card_comes_and_goes),
		TEST(several_queues),
		TEST(is_refused_clearly),
		TEST(ends_at_its_limits),
		TEST(stays_when_the_guest_holds_it),
		TEST(a_restart_keeps_and_drops),
		TEST(the_end_answers),
		TEST(survives_a_busy_guest),
		TEST(is_done_over_the_socket),
		TEST(strange_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
