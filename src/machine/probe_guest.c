/*
 * The tiny guest of machine/probe.h: `inc rcx` in a loop, in 64-bit mode, in ring 0 and in ring 3;
 * and one XSETBV.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/kvm.h"
#include "machine/probe.h"

enum {
	ROUND_FIRST_US = 1000, /* a timer ends each round; the next one takes twice as long */
	ROUNDS_MAX = 7,        /* 127 ms in all, of which a real processor needs 3 */
	XSETBV_US = 100000,    /* more than enough */
	/* The machine may be busy, or emulated and cold; the guest never takes that long. */
	CHILD_TIMEOUT_MS = 4000,
};

struct result {
	int open_error, run_error;
	double ring0_mips, ring3_mips;
	bool xsetbv_lost;
};

#if defined(__x86_64__)

enum {
	GUEST_SIZE = 64 * 1024,
	GUEST_PML4 = 0x1000,
	GUEST_PDPT = 0x2000,
	GUEST_PD = 0x3000,
	GUEST_CODE = 0x8000,
	PTE_USER_PAGE = 0x7, /* present, writable, user */
	PTE_LARGE_PAGE = 0x80,
	GUEST_XSETBV = 0x9000,
	CR4_PAE = 1 << 5,
	CR4_OSFXSR = 1 << 9,
	CR4_OSXSAVE = 1 << 18,
	XCR0_X87_SSE = 3,
	CPUID_1_ECX_XSAVE = 1 << 26,
	EFER_LME_LMA = 1 << 8 | 1 << 10,
	INSTRUCTIONS_PER_ROUND = 2,
	SEGMENT_CODE = 0xb,
	SEGMENT_DATA = 0x3,
};

#define CR0_PE_ET_PG 0x80000011ull

/* Set in the child only; its handler must reach it. */
static struct kvm_run *interrupted_run;

static void on_alarm(int number)
{
	(void) number;
	if (interrupted_run)
		interrupted_run->immediate_exit = 1;
}

static void fill_guest(char *memory)
{
	/* 1: inc rcx; jmp 1b */
	static const unsigned char code[] = { 0x48, 0xff, 0xc1, 0xeb, 0xfb };
	/* xor ecx,ecx; xor edx,edx; mov eax,3; xsetbv; hlt */
	static const unsigned char xsetbv[] = { 0x31, 0xc9, 0x31, 0xd2, 0xb8, 0x03, 0x00,
						0x00, 0x00, 0x0f, 0x01, 0xd1, 0xf4 };
	const uint64_t tables[][2] = {
		{ GUEST_PML4, GUEST_PDPT | PTE_USER_PAGE },
		{ GUEST_PDPT, GUEST_PD | PTE_USER_PAGE },
		{ GUEST_PD, PTE_LARGE_PAGE | PTE_USER_PAGE },
	};

	for (size_t i = 0; i < ARRAY_COUNT(tables); i++)
		memcpy(memory + tables[i][0], &tables[i][1], sizeof(uint64_t));
	memcpy(memory + GUEST_CODE, code, sizeof(code));
	memcpy(memory + GUEST_XSETBV, xsetbv, sizeof(xsetbv));
}

static struct kvm_segment segment(unsigned int type, unsigned int ring)
{
	return (struct kvm_segment){ .limit = 0xffffffff,
				     .selector = (uint16_t) ((type == SEGMENT_CODE ? 0x8 : 0x10) |
							     ring),
				     .type = (uint8_t) type,
				     .present = 1,
				     .dpl = (uint8_t) ring,
				     .s = 1,
				     .l = type == SEGMENT_CODE,
				     .db = type != SEGMENT_CODE,
				     .g = 1 };
}

static int set_state(int vcpu_fd, unsigned int ring, uint64_t rip, uint64_t cr4)
{
	struct kvm_regs regs = { .rip = rip, .rflags = 2 };
	struct kvm_sregs sregs = {};
	int r = kvm_ioctl(vcpu_fd, KVM_GET_SREGS, &sregs);

	if (r < 0)
		return r;
	sregs.cr3 = GUEST_PML4;
	sregs.cr0 = CR0_PE_ET_PG;
	sregs.cr4 = cr4;
	sregs.efer = EFER_LME_LMA;
	sregs.cs = segment(SEGMENT_CODE, ring);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(SEGMENT_DATA, ring);
	r = kvm_ioctl(vcpu_fd, KVM_SET_SREGS, &sregs);
	return r < 0 ? r : kvm_ioctl(vcpu_fd, KVM_SET_REGS, &regs);
}

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
}

/*
 * The guest has what KVM shows here: some kernels know no long mode before.  *ret_xsave: XSAVE is
 * among it.
 */
static int show_features(int kvm_fd, int vcpu_fd, bool *ret_xsave)
{
	/* Not the heap's: this is the child of a process with threads. */
	static union {
		struct kvm_cpuid2 cpuid;
		char room[sizeof(struct kvm_cpuid2) +
			  KVM_CPUID_MAX * sizeof(struct kvm_cpuid_entry2)];
	} all;
	struct kvm_cpuid2 *cpuid = &all.cpuid;
	int r;

	cpuid->nent = KVM_CPUID_MAX;
	r = kvm_ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
	for (uint32_t i = 0; r == 0 && i < cpuid->nent && i < KVM_CPUID_MAX; i++)
		if (cpuid->entries[i].function == 1)
			*ret_xsave = cpuid->entries[i].ecx & CPUID_1_ECX_XSAVE;
	return r == 0 ? kvm_cpuid_set(vcpu_fd, cpuid) : r;
}

/* Until the alarm, or an exit: 0, or -ENOEXEC for an exit. */
static int run_for(int vcpu_fd, struct kvm_run *run, unsigned int us)
{
	const struct itimerval timer = { .it_value = { .tv_usec = us } };
	int r;

	run->immediate_exit = 0;
	setitimer(ITIMER_REAL, &timer, NULL);
	r = ioctl(vcpu_fd, KVM_RUN, 0) < 0 ? -errno : -ENOEXEC;
	return r == -EINTR || r == -EAGAIN ? 0 : r;
}

/* What counts is processor time, of which a busy host gives little. */
static int measure(int vcpu_fd, struct kvm_run *run, unsigned int ring, double *ret_mips)
{
	struct probe_speed speed = {};
	struct kvm_regs regs = {};
	bool known = false;
	int r = set_state(vcpu_fd, ring, GUEST_CODE, CR4_PAE);

	for (int i = 0; r == 0 && !known && i < ROUNDS_MAX; i++) {
		uint64_t start = cpu_ns(), before = regs.rcx;

		r = run_for(vcpu_fd, run, ROUND_FIRST_US << i);
		uint64_t used = cpu_ns() - start;
		if (r == 0)
			r = kvm_ioctl(vcpu_fd, KVM_GET_REGS, &regs);
		if (r == 0)
			known = probe_speed_add(&speed,
						(regs.rcx - before) * INSTRUCTIONS_PER_ROUND, used);
	}
	*ret_mips = speed.mips;
	return r;
}

/* The register as KVM knows it, after the guest has set it. */
static bool loses_xsetbv(int vcpu_fd, struct kvm_run *run)
{
	struct kvm_xcrs xcrs = {};

	if (set_state(vcpu_fd, 0, GUEST_XSETBV, CR4_PAE | CR4_OSFXSR | CR4_OSXSAVE) < 0 ||
	    run_for(vcpu_fd, run, XSETBV_US) != -ENOEXEC || run->exit_reason != KVM_EXIT_HLT ||
	    kvm_ioctl(vcpu_fd, KVM_GET_XCRS, &xcrs) < 0)
		return false;
	for (uint32_t i = 0; i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++)
		if (xcrs.xcrs[i].xcr == 0)
			return xcrs.xcrs[i].value != XCR0_X87_SSE;
	return false;
}

static int run_guest(int kvm_fd, struct result *result)
{
	AUTO(fd_close) int vm_fd = kvm_vm_new(kvm_fd);
	AUTO(fd_close) int vcpu_fd = vm_fd < 0 ? -1 : kvm_vcpu_new(vm_fd, 0);
	int size = kvm_run_size(kvm_fd);
	bool xsave = false;
	int r;

	if (vcpu_fd < 0)
		return vm_fd < 0 ? vm_fd : vcpu_fd;
	if (size < (int) sizeof(struct kvm_run) || kvm_check(kvm_fd, KVM_CAP_IMMEDIATE_EXIT) == 0)
		return -ENOTSUP;
	char *memory = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	void *run = mmap(NULL, (size_t) size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
	if (memory == MAP_FAILED || run == MAP_FAILED)
		return -ENOMEM;
	fill_guest(memory);
	r = kvm_memory_set(vm_fd, 0, 0, GUEST_SIZE, memory, 0);
	interrupted_run = run;
	if (r == 0)
		r = show_features(kvm_fd, vcpu_fd, &xsave);
	if (r == 0)
		r = measure(vcpu_fd, run, 3, &result->ring3_mips);
	if (r == 0)
		r = measure(vcpu_fd, run, 0, &result->ring0_mips);
	if (r == 0)
		result->xsetbv_lost = xsave && loses_xsetbv(vcpu_fd, run);
	return r;
}

static void run_child(struct result *result)
{
	const struct sigaction action = { .sa_handler = on_alarm }; /* not restarting */
	sigset_t none;

	sigaction(SIGALRM, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	AUTO(fd_close) int kvm_fd = kvm_open(-1);
	if (kvm_fd < 0)
		result->open_error = kvm_fd;
	else
		result->run_error = run_guest(kvm_fd, result);
}

#else

static void run_child(struct result *result)
{
	result->run_error = -ENOTSUP; /* the tiny guest is written for amd64 */
}

#endif

/* The child of a process with threads: system calls, no allocation. */
static void child(int fd)
{
	struct result result = {};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int number = 1; number < NSIG; number++)
		if (number != SIGKILL && number != SIGSTOP)
			signal(number, SIG_DFL);
	run_child(&result);
	ssize_t n = write(fd, &result, sizeof(result));
	_exit(n == sizeof(result) ? 0 : 1);
}

static int receive(int fd, struct result *ret)
{
	struct pollfd poll_fd = { fd, POLLIN, 0 };
	int r;

	do {
		r = poll(&poll_fd, 1, CHILD_TIMEOUT_MS);
	} while (r < 0 && errno == EINTR);
	if (r == 0)
		return -ETIMEDOUT;
	return r > 0 && read(fd, ret, sizeof(*ret)) == sizeof(*ret) ? 0 : -ECHILD;
}

void probe_measure(struct probe_facts *facts)
{
	struct result result = {};
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		facts->run_error = -errno;
		return;
	}
	pid_t pid = fork();
	if (pid == 0)
		child(fds[1]);
	close(fds[1]);
	r = pid < 0 ? -EAGAIN : receive(fds[0], &result);
	close(fds[0]);
	if (pid > 0) {
		kill(pid, SIGKILL);
		/* One that not even that ends is left behind rather than waited for. */
		while (waitpid(pid, NULL, r == -ETIMEDOUT ? WNOHANG : 0) < 0 && errno == EINTR)
			;
	}
	facts->open_error = result.open_error;
	facts->run_error = r < 0 ? r : result.run_error;
	facts->ring0_mips = result.ring0_mips;
	facts->ring3_mips = result.ring3_mips;
	facts->xsetbv_lost = result.xsetbv_lost;
}
