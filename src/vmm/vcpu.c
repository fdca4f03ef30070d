#include "vmm/vcpu.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "base/error.h"
#include "base/mem.h"
#include "kern/kvm.h"
#include "vmm/bus.h"

enum { KICK_SIGNAL = SIGUSR1, STACK_BYTES = 256 * 1024, WHY_MAX = 128 };

struct vcpu {
	struct vcpu_options options;
	int fd;
	int stats_fd; /* asked for before it runs: while it does, KVM keeps others waiting; may be
			 -1 */
	struct kvm_run *run;
	size_t run_size;
	const struct kvm_msr_list *msr_list;
	struct vcpu_counters counters; /* written by its thread, atomic */

	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	bool want_pause, want_stop;
	bool paused;
};

static _Thread_local struct vcpu *self;

/* Interrupts KVM_RUN; when it comes just before, the next KVM_RUN returns at once. */
static void on_kick(int number)
{
	(void) number;
	if (self)
		self->run->immediate_exit = 1;
}

const char *vcpu_exit_name(unsigned int reason)
{
	static const char *const names[] = {
		[KVM_EXIT_UNKNOWN] = "unknown",
		[KVM_EXIT_EXCEPTION] = "exception",
		[KVM_EXIT_IO] = "io",
		[KVM_EXIT_HYPERCALL] = "hypercall",
		[KVM_EXIT_DEBUG] = "debug",
		[KVM_EXIT_HLT] = "hlt",
		[KVM_EXIT_MMIO] = "mmio",
		[KVM_EXIT_IRQ_WINDOW_OPEN] = "irq_window_open",
		[KVM_EXIT_SHUTDOWN] = "shutdown",
		[KVM_EXIT_FAIL_ENTRY] = "fail_entry",
		[KVM_EXIT_INTR] = "intr",
		[KVM_EXIT_INTERNAL_ERROR] = "internal_error",
		[KVM_EXIT_SYSTEM_EVENT] = "system_event",
	};

	return reason < ARRAY_COUNT(names) ? names[reason] : NULL;
}

static void count(uint64_t *counter, uint64_t more)
{
	/* Only this thread writes it. */
	__atomic_store_n(counter, *counter + more, __ATOMIC_RELAXED);
}

static void port_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	unsigned int size = run->io.size;
	uint8_t *data = (uint8_t *) run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		uint64_t value = 0;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, size);
			bus_write(vcpu->options.io, run->io.port, size, value);
		} else {
			value = bus_read(vcpu->options.io, run->io.port, size);
			memcpy(data, &value, size);
		}
	}
}

/* A bus takes 1, 2, 4 or 8 bytes; KVM may cut an access that crosses a page into odd pieces. */
static void mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint64_t address = run->mmio.phys_addr;
	unsigned int left = run->mmio.len < 8 ? run->mmio.len : 8, done = 0;

	while (left > 0) {
		unsigned int size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
		uint64_t value = 0;

		if (run->mmio.is_write) {
			memcpy(&value, run->mmio.data + done, size);
			bus_write(vcpu->options.mmio, address + done, size, value);
		} else {
			value = bus_read(vcpu->options.mmio, address + done, size);
			memcpy(run->mmio.data + done, &value, size);
		}
		done += size;
		left -= size;
	}
}

static void end(struct vcpu *vcpu, enum vcpu_end why_code, const char *why)
{
	pthread_mutex_lock(&vcpu->lock);
	vcpu->want_pause = true;
	pthread_mutex_unlock(&vcpu->lock);
	vcpu->options.on_end(vcpu->options.data, why_code, why);
}

static void fail(struct vcpu *vcpu, const char *what, uint64_t detail)
{
	struct kvm_regs regs = {};
	char why[WHY_MAX];

	kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	snprintf(why, sizeof(why), "CPU %u: %s %#llx at %#llx", vcpu->options.id, what,
		 (unsigned long long) detail, (unsigned long long) regs.rip);
	end(vcpu, VCPU_FAILED, why);
}

static void handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason < VCPU_EXITS)
		count(&vcpu->counters.exits[run->exit_reason], 1);
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		port_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		mmio(vcpu);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	case KVM_EXIT_SHUTDOWN:
		end(vcpu, VCPU_TRIPLE_FAULT, "triple fault");
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		end(vcpu, VCPU_RESET_EVENT, "system event");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		fail(vcpu, "KVM cannot enter the guest, hardware reason",
		     run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		fail(vcpu, "KVM cannot emulate, suberror", run->internal.suberror);
		break;
	default:
		fail(vcpu, "an exit that is not understood, reason", run->exit_reason);
	}
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t) ts.tv_sec * 1000000000u + (uint64_t) ts.tv_nsec;
}

static void enter_guest(struct vcpu *vcpu)
{
	uint64_t began = now_ns();
	int r = ioctl(vcpu->fd, KVM_RUN, 0) < 0 ? -errno : 0;

	count(&vcpu->counters.runs, 1);
	count(&vcpu->counters.guest_ns, now_ns() - began);
	if (r == 0)
		handle_exit(vcpu);
	else if (r == -EINTR || r == -EAGAIN)
		vcpu->run->immediate_exit = 0;
	else
		fail(vcpu, "KVM_RUN failed, error", (uint64_t) -r);
}

/* A device's access that is half done (the guest waits for its answer) is finished first. */
static void complete_access(struct vcpu *vcpu)
{
	vcpu->run->immediate_exit = 1;
	(void) ioctl(vcpu->fd, KVM_RUN, 0);
	vcpu->run->immediate_exit = 0;
}

static void *thread_main(void *data)
{
	struct vcpu *vcpu = data;
	bool stop = false;
	char name[16];

	self = vcpu;
	/* From outside it would take a file, which a jailed process cannot open. */
	snprintf(name, sizeof(name), "cpu%u", vcpu->options.id);
	pthread_setname_np(pthread_self(), name);
	if (vcpu->options.on_begin)
		vcpu->options.on_begin(vcpu->options.data);
	while (!stop) {
		pthread_mutex_lock(&vcpu->lock);
		if (vcpu->want_pause && !vcpu->want_stop) {
			complete_access(vcpu);
			while (vcpu->want_pause && !vcpu->want_stop) {
				vcpu->paused = true;
				pthread_cond_broadcast(&vcpu->changed);
				pthread_cond_wait(&vcpu->changed, &vcpu->lock);
			}
			vcpu->paused = false;
		}
		stop = vcpu->want_stop;
		pthread_mutex_unlock(&vcpu->lock);
		if (!stop)
			enter_guest(vcpu);
	}
	pthread_mutex_lock(&vcpu->lock);
	vcpu->paused = true;
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
	return NULL;
}

int vcpu_new(const struct vcpu_options *options, struct vcpu **ret, struct error *err)
{
	AUTO(vcpu_free) struct vcpu *vcpu = mem_new0(struct vcpu);
	struct kvm_msr_list *list = NULL;
	void *run;
	int r;

	vcpu->options = *options;
	pthread_mutex_init(&vcpu->lock, NULL);
	pthread_cond_init(&vcpu->changed, NULL);
	vcpu->paused = true;
	vcpu->stats_fd = -1;
	vcpu->fd = kvm_vcpu_new(options->vm_fd, options->id);
	if (vcpu->fd < 0)
		return error_set(err, vcpu->fd, "making CPU %u", options->id);
	vcpu->stats_fd = kvm_stats_open(vcpu->fd);
	r = kvm_run_size(options->kvm_fd);
	if (r < (int) sizeof(struct kvm_run))
		return error_set(err, r < 0 ? r : -EPROTO, "CPU %u", options->id);
	run = mmap(NULL, (size_t) r, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED)
		return error_set(err, -errno, "CPU %u", options->id);
	vcpu->run = run;
	vcpu->run_size = (size_t) r;
	r = kvm_msr_indices(options->kvm_fd, &list);
	if (r < 0)
		return error_set(err, r, "the registers of CPU %u", options->id);
	vcpu->msr_list = list;
	if (options->cpuid) {
		r = kvm_cpuid_set(vcpu->fd, options->cpuid);
		if (r < 0)
			return error_set(err, r, "the features of CPU %u", options->id);
	}
	*ret = TAKE_PTR(vcpu);
	return 0;
}

void vcpu_free(struct vcpu *vcpu)
{
	if (!vcpu)
		return;
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	fd_close(vcpu->stats_fd);
	fd_close(vcpu->fd);
	pthread_mutex_destroy(&vcpu->lock);
	pthread_cond_destroy(&vcpu->changed);
	free((void *) vcpu->msr_list);
	free(vcpu);
}

int vcpu_fd(const struct vcpu *vcpu)
{
	return vcpu->fd;
}

int vcpu_stats_fd(const struct vcpu *vcpu)
{
	return vcpu->stats_fd;
}

int vcpu_start(struct vcpu *vcpu, bool paused, struct error *err)
{
	struct sigaction action = { .sa_handler = on_kick };
	pthread_attr_t attr;
	int r;

	sigemptyset(&action.sa_mask);
	sigaction(KICK_SIGNAL, &action, NULL);
	vcpu->want_pause = paused;
	vcpu->paused = false;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	r = pthread_create(&vcpu->thread, &attr, thread_main, vcpu);
	pthread_attr_destroy(&attr);
	if (r != 0)
		return error_set(err, -r, "the thread of CPU %u", vcpu->options.id);
	vcpu->has_thread = true;
	return 0;
}

static void ask(struct vcpu *vcpu, bool *what)
{
	pthread_mutex_lock(&vcpu->lock);
	*what = true;
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
	if (vcpu->has_thread)
		pthread_kill(vcpu->thread, KICK_SIGNAL);
}

void vcpu_pause(struct vcpu *vcpu)
{
	ask(vcpu, &vcpu->want_pause);
}

void vcpu_wait_paused(struct vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	while (!vcpu->paused)
		pthread_cond_wait(&vcpu->changed, &vcpu->lock);
	pthread_mutex_unlock(&vcpu->lock);
}

void vcpu_resume(struct vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	vcpu->want_pause = false;
	/* Not seen as paused any more, also before its thread has woken up. */
	vcpu->paused = false;
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
}

void vcpu_pause_self(void)
{
	if (!self)
		return;
	pthread_mutex_lock(&self->lock);
	self->want_pause = true;
	pthread_mutex_unlock(&self->lock);
}

void vcpu_stop(struct vcpu *vcpu)
{
	if (!vcpu->has_thread)
		return;
	ask(vcpu, &vcpu->want_stop);
	pthread_join(vcpu->thread, NULL);
	vcpu->has_thread = false;
}

static void get_msrs(struct vcpu *vcpu, struct vcpu_state *state)
{
	/* One by one where the kernel stops: it lists registers that it cannot always read. */
	for (uint32_t i = 0; i < vcpu->msr_list->nmsrs && state->msr_count < VCPU_MSRS_MAX; i++) {
		struct kvm_msr_entry entry = { .index = vcpu->msr_list->indices[i] };

		if (kvm_msr_get(vcpu->fd, &entry) == 0)
			state->msrs[state->msr_count++] = entry;
	}
}

struct part {
	const char *what;
	unsigned long get, set;
	size_t offset;
};

/* In the order in which they must be set: the LAPIC's mode is in the special registers. */
static const struct part parts[] = {
	{ "special registers", KVM_GET_SREGS, KVM_SET_SREGS, offsetof(struct vcpu_state, sregs) },
	{ "extended control registers", KVM_GET_XCRS, KVM_SET_XCRS,
	  offsetof(struct vcpu_state, xcrs) },
	{ "floating point state", KVM_GET_XSAVE, KVM_SET_XSAVE,
	  offsetof(struct vcpu_state, xsave) },
	{ "debug registers", KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS,
	  offsetof(struct vcpu_state, debugregs) },
	{ "local APIC", KVM_GET_LAPIC, KVM_SET_LAPIC, offsetof(struct vcpu_state, lapic) },
	{ "registers", KVM_GET_REGS, KVM_SET_REGS, offsetof(struct vcpu_state, regs) },
	{ "events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, offsetof(struct vcpu_state, events) },
	{ "state of multiprocessing", KVM_GET_MP_STATE, KVM_SET_MP_STATE,
	  offsetof(struct vcpu_state, mp_state) },
};

int vcpu_get_state(struct vcpu *vcpu, struct vcpu_state *ret, struct error *err)
{
	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
		int r = kvm_ioctl(vcpu->fd, parts[i].get, (char *) ret + parts[i].offset);

		if (r < 0)
			return error_set(err, r, "reading the %s of CPU %u", parts[i].what,
					 vcpu->options.id);
	}
	get_msrs(vcpu, ret);
	return 0;
}

int vcpu_set_state(struct vcpu *vcpu, const struct vcpu_state *state, struct error *err)
{
	for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
		int r;

		/* Registers of the LAPIC's timer must find its mode, so before the LAPIC. */
		/* Some can be read and not written; what matters can be both. */
		for (uint32_t m = 0; parts[i].set == KVM_SET_LAPIC && m < state->msr_count; m++)
			(void) kvm_msr_set(vcpu->fd, &state->msrs[m]);
		r = kvm_ioctl(vcpu->fd, parts[i].set, (const char *) state + parts[i].offset);
		if (r < 0)
			return error_set(err, r, "writing the %s of CPU %u", parts[i].what,
					 vcpu->options.id);
	}
	return 0;
}

void vcpu_read_counters(const struct vcpu *vcpu, struct vcpu_counters *ret)
{
	for (unsigned int i = 0; i < VCPU_EXITS; i++)
		ret->exits[i] = __atomic_load_n(&vcpu->counters.exits[i], __ATOMIC_RELAXED);
	ret->runs = __atomic_load_n(&vcpu->counters.runs, __ATOMIC_RELAXED);
	ret->guest_ns = __atomic_load_n(&vcpu->counters.guest_ns, __ATOMIC_RELAXED);
}
