/*
 * Small guests on the real /dev/kvm.  Their payload runs in ring 3, which is native speed also on
 * hosts whose KVM emulates ring 0: the test makes page tables, segments and a task state itself and
 * puts the CPU there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "kern/kvm.h"
#include "vmm/bus.h"
#include "vmm/cpuid.h"
#include "vmm/irq_kvm.h"
#include "vmm/memory.h"
#include "vmm/vcpu.h"

enum {
	PML4 = 0x1000,
	PDPT = 0x2000,
	PD_LOW = 0x3000,  /* 0 to 1 GiB */
	PD_HIGH = 0x4000, /* 3 to 4 GiB: devices */
	GDT = 0x5000,
	TSS = 0x6000,
	RING0_STACK = 0x8000,
	IDT = 0x9000,
	CODE = 0x10000,
	STACK = 0x30000,
	DATA = 0x40000,
	VECTOR = 0x40,
	PORT_DATA = 0x100,
	PORT_END = 0x1f0,
	LAPIC_SVR = 0xf0,
};
#define DEVICE 0xd0000000u
#define BELL 0xd0001000u

/* Each payload ends by writing to PORT_END, and then spins. */
#define PAYLOAD(name, text)                                                                        \
	extern const char name##_start[], name##_end[];                                            \
	__asm__(".pushsection .rodata\n" #name "_start:\n" text                                    \
		"\nmov $0x1f0, %dx\nmov $1, %al\nout %al, %dx\n9: pause\njmp 9b\n" #name           \
		"_end:\n.popsection")

PAYLOAD(port_io, "mov $0x100, %dx\n"
		 "mov $10, %ecx\n"
		 "1: in %dx, %eax\n"
		 "add $5, %eax\n"
		 "out %eax, %dx\n"
		 "loop 1b\n");

PAYLOAD(string_io, "mov $0x100, %dx\n"
		   "mov $0x40000, %esi\n"
		   "mov $3, %ecx\n"
		   "rep outsw\n");

PAYLOAD(mmio, "mov $0xd0000010, %esi\n"
	      "movabs $0x1122334455667788, %rax\n"
	      "mov %rax, (%rsi)\n"
	      "movzwl 4(%rsi), %eax\n"
	      "mov %eax, 0x40000\n"
	      /* What nobody owns. */
	      "mov 0x1000(%rsi), %eax\n"
	      "mov %eax, 0x40004\n");

PAYLOAD(bell, "mov $0xd0001000, %esi\n"
	      "mov $1000, %ecx\n"
	      "1: movw $3, (%rsi)\n"
	      "loop 1b\n");

PAYLOAD(wait_interrupt, "mov $0x100, %dx\n"
			"out %eax, %dx\n" /* ready */
			"1: pause\n"
			"cmpl $0, 0x40000\n"
			"je 1b\n");

PAYLOAD(count_for_ever, "1: incl 0x40000\n"
			"jmp 1b\n");

/* Not a whole program: the interrupt's handler, in ring 0. */
PAYLOAD(handler, "push %rax\n"
		 "mov $0xfee000b0, %eax\n"
		 "movl $0, (%rax)\n"
		 "incl 0x40000\n"
		 "pop %rax\n"
		 "iretq\n");

struct machine {
	int kvm_fd, vm_fd;
	struct guest_memory *memory;
	struct bus *io, *mmio;
	struct irq_kvm *irqs;
	struct vcpu *vcpu;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done, ready;
	enum vcpu_end end;
	unsigned int reads, writes;
	uint64_t values[32];
};

static uint64_t data_read(void *data, uint64_t offset, unsigned int size)
{
	struct machine *machine = data;

	(void) offset, (void) size;
	return ++machine->reads;
}

static void data_write(void *data, uint64_t offset, unsigned int size, uint64_t value)
{
	struct machine *machine = data;

	if (machine->writes < 32)
		machine->values[machine->writes++] = value | offset << 60 | (uint64_t) size << 56;
	pthread_mutex_lock(&machine->lock);
	machine->ready = true;
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
}

static void finish(struct machine *machine)
{
	pthread_mutex_lock(&machine->lock);
	machine->done = true;
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
}

static void end_write(void *data, uint64_t offset, unsigned int size, uint64_t value)
{
	(void) offset, (void) size, (void) value;
	vcpu_pause_self();
	finish(data);
}

static void on_end(void *data, enum vcpu_end end, const char *why)
{
	struct machine *machine = data;

	print_message("ended: %s\n", why);
	machine->end = end;
	finish(machine);
}

static const struct bus_ops data_ops = { data_read, data_write };
static const struct bus_ops end_ops = { NULL, end_write };

static uint64_t mem_read(void *data, uint64_t offset, unsigned int size)
{
	struct machine *machine = data;
	uint64_t value = 0;

	memcpy(&value, (char *) machine->values + offset, size);
	return value;
}

static void mem_write(void *data, uint64_t offset, unsigned int size, uint64_t value)
{
	struct machine *machine = data;

	machine->writes++;
	memcpy((char *) machine->values + offset, &value, size);
}

static const struct bus_ops mem_ops = { mem_read, mem_write };

static void put64(struct machine *machine, gpa_t at, uint64_t value)
{
	assert_int_equal(guest_memory_write(machine->memory, at, &value, sizeof(value)), 0);
}

static uint32_t get32(struct machine *machine, gpa_t at)
{
	uint32_t value;

	assert_int_equal(guest_memory_read(machine->memory, at, &value, sizeof(value)), 0);
	return value;
}

static void make_tables(struct machine *machine)
{
	uint64_t entry = CODE + 0x1000;

	put64(machine, PML4, PDPT | 7);
	put64(machine, PDPT, PD_LOW | 7);
	put64(machine, PDPT + 3 * 8, PD_HIGH | 7);
	for (uint64_t i = 0; i < 512; i++) {
		put64(machine, PD_LOW + 8 * i, i << 21 | 0x87);
		put64(machine, PD_HIGH + 8 * i, (3ull << 30) | i << 21 | 0x87);
	}
	put64(machine, GDT + 0x08, 0x00af9b000000ffffull);
	put64(machine, GDT + 0x10, 0x00cf93000000ffffull);
	put64(machine, GDT + 0x18, 0x00affb000000ffffull);
	put64(machine, GDT + 0x20, 0x00cff3000000ffffull);
	put64(machine, GDT + 0x28, 0x00008b0000000067ull | (uint64_t) TSS << 16);
	put64(machine, TSS + 4, RING0_STACK);
	put64(machine, IDT + 16 * VECTOR,
	      (entry & 0xffff) | 0x08ull << 16 | 0x8eull << 40 | (entry >> 16) << 48);
	assert_int_equal(guest_memory_write(machine->memory, entry, handler_start,
					    (size_t) (handler_end - handler_start)),
			 0);
}

static struct kvm_segment flat(unsigned int selector, unsigned int type, bool code)
{
	return (struct kvm_segment){ .selector = (uint16_t) selector,
				     .limit = 0xffffffff,
				     .type = (uint8_t) type,
				     .present = 1,
				     .dpl = 3,
				     .s = 1,
				     .g = 1,
				     .l = code,
				     .db = !code };
}

static void enter_ring3(struct machine *machine)
{
	struct kvm_regs regs = { .rip = CODE, .rsp = STACK, .rflags = 0x3202 /* IOPL 3, IF */ };
	struct kvm_lapic_state lapic;
	struct kvm_sregs sregs;
	int fd = vcpu_fd(machine->vcpu);

	assert_int_equal(kvm_ioctl(fd, KVM_GET_SREGS, &sregs), 0);
	sregs.cs = flat(0x1b, 11, true);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(0x23, 3, false);
	sregs.tr = (struct kvm_segment){
		.base = TSS, .limit = 0x67, .selector = 0x28, .type = 11, .present = 1
	};
	sregs.gdt.base = GDT;
	sregs.gdt.limit = 0x37;
	sregs.idt.base = IDT;
	sregs.idt.limit = 0xfff;
	sregs.cr0 = 0x80000033;
	sregs.cr3 = PML4;
	sregs.cr4 = 0x620;
	sregs.efer = 0x500;
	assert_int_equal(kvm_ioctl(fd, KVM_SET_SREGS, &sregs), 0);
	assert_int_equal(kvm_ioctl(fd, KVM_SET_REGS, &regs), 0);
	assert_int_equal(kvm_ioctl(fd, KVM_GET_LAPIC, &lapic), 0);
	lapic.regs[LAPIC_SVR] = (char) 0xff;
	lapic.regs[LAPIC_SVR + 1] = 1; /* enabled */
	assert_int_equal(kvm_ioctl(fd, KVM_SET_LAPIC, &lapic), 0);
}

static void make(struct machine *machine, const char *code, const char *code_end)
{
	struct guest_memory_options memory = { .size_bytes = 2 << 20, .fd = -1 };
	struct cpuid_options shape = { .cpus = 1, .baseline = "host" };
	AUTO(free) struct kvm_cpuid2 *cpuid = NULL;
	const struct guest_memory_range *ranges;
	unsigned int count;

	pthread_mutex_init(&machine->lock, NULL);
	pthread_cond_init(&machine->changed, NULL);
	machine->kvm_fd = kvm_open(-1);
	assert_true(machine->kvm_fd >= 0);
	machine->vm_fd = kvm_vm_new(machine->kvm_fd);
	assert_true(machine->vm_fd >= 0);
	assert_int_equal(guest_memory_new(&memory, &machine->memory, NULL), 0);
	ranges = guest_memory_ranges(machine->memory, &count);
	assert_int_equal(
		kvm_memory_set(machine->vm_fd, 0, 0, ranges[0].size_bytes, ranges[0].host, 0), 0);
	assert_int_equal(kvm_irqchip_new(machine->vm_fd, LAYOUT_TSS, LAYOUT_IDENTITY_MAP), 0);
	assert_int_equal(irq_kvm_new(machine->vm_fd, &machine->irqs, NULL), 0);
	machine->io = bus_new();
	machine->mmio = bus_new();
	assert_int_equal(bus_add(machine->io, "data", PORT_DATA, 4, &data_ops, machine, NULL), 0);
	assert_int_equal(bus_add(machine->io, "end", PORT_END, 1, &end_ops, machine, NULL), 0);
	assert_int_equal(bus_add(machine->mmio, "mem", DEVICE, 0x100, &mem_ops, machine, NULL), 0);
	assert_int_equal(bus_add(machine->mmio, "bell", BELL, 4, &mem_ops, machine, NULL), 0);
	assert_int_equal(kvm_cpuid_supported(machine->kvm_fd, &cpuid), 0);
	assert_int_equal(cpuid_shape(cpuid, &shape, NULL), 0);
	struct vcpu_options options = {
		.kvm_fd = machine->kvm_fd,
		.vm_fd = machine->vm_fd,
		.io = machine->io,
		.mmio = machine->mmio,
		.cpuid = cpuid,
		.on_end = on_end,
		.data = machine,
	};
	assert_int_equal(vcpu_new(&options, &machine->vcpu, NULL), 0);
	make_tables(machine);
	assert_int_equal(
		guest_memory_write(machine->memory, CODE, code, (size_t) (code_end - code)), 0);
	enter_ring3(machine);
}

static void wait_for(struct machine *machine, const bool *what)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 30;
	pthread_mutex_lock(&machine->lock);
	while (!*what)
		assert_int_equal(pthread_cond_timedwait(&machine->changed, &machine->lock, &until),
				 0);
	pthread_mutex_unlock(&machine->lock);
}

static void unmake(struct machine *machine)
{
	vcpu_stop(machine->vcpu);
	vcpu_free(machine->vcpu);
	irq_kvm_free(machine->irqs);
	bus_free(machine->io);
	bus_free(machine->mmio);
	close(machine->vm_fd);
	close(machine->kvm_fd);
	guest_memory_free(machine->memory);
}

static void need_kvm(void)
{
	AUTO(fd_close) int fd = kvm_open(-1);

	if (fd < 0) {
		print_message("no usable /dev/kvm here\n");
		skip();
	}
}

#define RUN(machine, name)                                                                         \
	make(&(machine), name##_start, name##_end);                                                \
	assert_int_equal(vcpu_start((machine).vcpu, false, NULL), 0);                              \
	wait_for(&(machine), &(machine).done)

static void reaches_ports(void **state)
{
	struct machine machine = {};
	struct vcpu_counters counters;

	(void) state;
	need_kvm();
	RUN(machine, port_io);
	assert_int_equal(machine.reads, 10);
	assert_int_equal(machine.writes, 10);
	for (uint64_t i = 0; i < 10; i++)
		assert_true(machine.values[i] == (i + 1 + 5) + (4ull << 56));
	vcpu_read_counters(machine.vcpu, &counters);
	assert_int_equal(counters.exits[KVM_EXIT_IO], 21);
	assert_string_equal(vcpu_exit_name(KVM_EXIT_IO), "io");
	assert_true(counters.guest_ns > 0);
	unmake(&machine);
}

static void strings_to_ports(void **state)
{
	static const uint16_t text[3] = { 0x1111, 0x2222, 0x3333 };
	struct machine machine = {};

	(void) state;
	need_kvm();
	make(&machine, string_io_start, string_io_end);
	guest_memory_write(machine.memory, DATA, text, sizeof(text));
	assert_int_equal(vcpu_start(machine.vcpu, false, NULL), 0);
	wait_for(&machine, &machine.done);
	assert_int_equal(machine.writes, 3);
	for (int i = 0; i < 3; i++)
		assert_true(machine.values[i] == text[i] + (2ull << 56));
	unmake(&machine);
}

static void reaches_memory_of_devices(void **state)
{
	struct machine machine = {};

	(void) state;
	need_kvm();
	RUN(machine, mmio);
	assert_true(machine.values[2] == 0x1122334455667788ull);
	assert_int_equal(get32(&machine, DATA), 0x3344);
	assert_int_equal(get32(&machine, DATA + 4), 0xffffffff);
	assert_int_equal(bus_lost(machine.mmio), 1);
	unmake(&machine);
}

static void doorbells_cost_no_exit(void **state)
{
	struct machine machine = {};
	struct vcpu_counters counters;
	AUTO(fd_close) int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	uint64_t rung = 0;

	(void) state;
	need_kvm();
	make(&machine, bell_start, bell_end);
	assert_int_equal(kvm_ioeventfd(machine.vm_fd, BELL, 2, fd, 3, false, true), 0);
	assert_int_equal(vcpu_start(machine.vcpu, false, NULL), 0);
	wait_for(&machine, &machine.done);
	assert_int_equal(read(fd, &rung, sizeof(rung)), sizeof(rung));
	assert_int_equal(rung, 1000);
	assert_int_equal(machine.writes, 0);
	vcpu_read_counters(machine.vcpu, &counters);
	assert_int_equal(counters.exits[KVM_EXIT_MMIO], 0);
	unmake(&machine);

	/* Another value, or nobody bound: it comes to the device. */
	struct machine other = {};
	make(&other, bell_start, bell_end);
	assert_int_equal(kvm_ioeventfd(other.vm_fd, BELL, 2, fd, 4, false, true), 0);
	assert_int_equal(kvm_ioeventfd(other.vm_fd, BELL, 2, fd, 4, false, false), 0);
	assert_int_equal(vcpu_start(other.vcpu, false, NULL), 0);
	wait_for(&other, &other.done);
	assert_int_equal(other.writes, 1000);
	unmake(&other);
}

static void interrupts_arrive(void **state)
{
	struct machine machine = {};
	struct irq_chip *chip;
	struct irq *irq, *line;

	(void) state;
	need_kvm();
	make(&machine, wait_interrupt_start, wait_interrupt_end);
	chip = irq_kvm_chip(machine.irqs);
	assert_int_equal(chip->ops->message(chip->data, &irq, NULL), 0);
	assert_int_equal(chip->ops->line(chip->data, LAYOUT_GSI_SERIAL, true, &line, NULL), 0);
	assert_int_equal(chip->ops->line(chip->data, LAYOUT_GSI_COUNT, true, &line, NULL), -EINVAL);
	irq_raise(irq); /* goes nowhere yet */
	assert_int_equal(chip->ops->route(irq, 0xfee00000, VECTOR), 0);
	assert_int_equal(vcpu_start(machine.vcpu, false, NULL), 0);
	wait_for(&machine, &machine.ready);
	assert_int_equal(get32(&machine, DATA), 0);
	irq_set(line, true); /* masked in the IOAPIC */
	irq_raise(irq);
	wait_for(&machine, &machine.done);
	assert_int_equal(get32(&machine, DATA), 1);
	assert_int_equal(irq_kvm_raised(machine.irqs), 3);
	irq_free(irq);
	irq_free(line);
	unmake(&machine);
}

static void pauses_and_goes_on(void **state)
{
	struct machine machine = {};
	struct vcpu_state saved;
	uint32_t before;

	(void) state;
	need_kvm();
	make(&machine, count_for_ever_start, count_for_ever_end);
	assert_int_equal(vcpu_start(machine.vcpu, true, NULL), 0);
	vcpu_wait_paused(machine.vcpu);
	assert_int_equal(get32(&machine, DATA), 0);
	for (int i = 0; i < 20; i++) {
		before = get32(&machine, DATA);
		vcpu_resume(machine.vcpu);
		while (get32(&machine, DATA) == before)
			sched_yield();
		vcpu_pause(machine.vcpu);
		vcpu_wait_paused(machine.vcpu);
		before = get32(&machine, DATA);
		sched_yield();
		assert_int_equal(get32(&machine, DATA), before);
	}
	/* A state goes out and in. */
	assert_int_equal(vcpu_get_state(machine.vcpu, &saved, NULL), 0);
	assert_true(saved.regs.rip >= CODE && saved.regs.rip < CODE + 0x1000);
	assert_true(saved.msr_count > 10);
	assert_int_equal(vcpu_set_state(machine.vcpu, &saved, NULL), 0);
	vcpu_resume(machine.vcpu);
	while (get32(&machine, DATA) == before)
		sched_yield();
	unmake(&machine);
}

static void tells_a_triple_fault(void **state)
{
	struct machine machine = {};

	(void) state;
	need_kvm();
	make(&machine, count_for_ever_start, count_for_ever_end);
	/* No page tables: the first instruction faults, and so does every handler. */
	put64(&machine, PML4, 0);
	assert_int_equal(vcpu_start(machine.vcpu, false, NULL), 0);
	wait_for(&machine, &machine.done);
	assert_int_equal(machine.end, VCPU_TRIPLE_FAULT);
	vcpu_wait_paused(machine.vcpu);
	unmake(&machine);
}

static void many_in_a_row(void **state)
{
	struct timespec begin, end;

	(void) state;
	need_kvm();
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = 0; i < 40; i++) {
		struct machine machine = {};

		RUN(machine, port_io);
		assert_int_equal(machine.writes, 10);
		unmake(&machine);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	print_message("40 machines in %.3f s\n",
		      (double) (end.tv_sec - begin.tv_sec) +
			      (double) (end.tv_nsec - begin.tv_nsec) / 1e9);
}

static void count_stat(void *data, const char *name, uint64_t value)
{
	if (strcmp(name, "exits") == 0)
		*(uint64_t *) data = value;
}

static void kvm_counts_too(void **state)
{
	struct machine machine = {};
	uint64_t exits = 0;

	(void) state;
	need_kvm();
	RUN(machine, port_io);
	AUTO(fd_close) int fd = kvm_stats_open(vcpu_fd(machine.vcpu));
	if (fd >= 0) {
		assert_int_equal(kvm_stats_read(fd, count_stat, &exits), 0);
		assert_true(exits >= 21);
	}
	unmake(&machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reaches_ports),
		cmocka_unit_test(strings_to_ports),
		cmocka_unit_test(reaches_memory_of_devices),
		cmocka_unit_test(doorbells_cost_no_exit),
		cmocka_unit_test(interrupts_arrive),
		cmocka_unit_test(pauses_and_goes_on),
		cmocka_unit_test(tells_a_triple_fault),
		cmocka_unit_test(many_in_a_row),
		cmocka_unit_test(kvm_counts_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
