/*
 * brume-measure [--remove|--help|--version] - what the same few things cost here: on the host, in a
 * container, in a virtual machine.
 *
 * `brume bench virt` runs it on both sides and prints the ratios.  One line of JSON: nanoseconds
 * for each; what cannot be measured here (no right to port I/O, one CPU) is not in it. Static,
 * without our libraries: it runs in images that may have no C library at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/io.h>
#endif

enum {
	ROUNDS = 7, /* of each; the median counts */
	CPU_STEPS = 4000000,
	SYSCALLS = 100000,
	FAULT_PAGES = 2048,
	PAGE_BYTES = 4096,
	SWITCHES = 4000,
	COPY_BYTES = 32 << 20,
	SLEEPS = 100,
	SLEEP_NS = 50000,
	EXITS = 2000,
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
}

/* A round of a measurement: nanoseconds for one of what it measures; negative: not possible here.
 */
typedef double (*measure_fn)(void);

static double measure_cpu(void)
{
	uint64_t start = now_ns(), x = start;

	for (int i = 0; i < CPU_STEPS; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		__asm__ volatile("" : "+r"(x));
	}
	return (double) (now_ns() - start) / (CPU_STEPS / 1000);
}

static double measure_syscall(void)
{
	uint64_t start = now_ns();

	for (int i = 0; i < SYSCALLS; i++)
		syscall(SYS_getppid);
	return (double) (now_ns() - start) / SYSCALLS;
}

static double measure_page_fault(void)
{
	size_t size = (size_t) FAULT_PAGES * PAGE_BYTES;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t start;

	if (memory == MAP_FAILED)
		return -1;
	madvise(memory, size, MADV_NOHUGEPAGE);
	start = now_ns();
	for (size_t at = 0; at < size; at += PAGE_BYTES)
		*(volatile char *) (memory + at) = 1;
	start = now_ns() - start;
	munmap(memory, size);
	return (double) start / FAULT_PAGES;
}

static double measure_copy(void)
{
	char *from = malloc(COPY_BYTES), *to = malloc(COPY_BYTES);
	uint64_t start = 0;

	if (from && to) {
		/* Touched first: page faults are measured elsewhere. */
		memset(from, 1, COPY_BYTES);
		memset(to, 2, COPY_BYTES);
		start = now_ns();
		memcpy(to, from, COPY_BYTES);
		__asm__ volatile("" : : "r"(to) : "memory");
		start = now_ns() - start;
	}
	free(from);
	free(to);
	return start == 0 ? -1 : (double) start / (COPY_BYTES >> 20);
}

static void play(int in, int out, int count)
{
	char byte = 0;

	for (int i = 0; i < count; i++)
		if (write(out, &byte, 1) != 1 || read(in, &byte, 1) != 1)
			return;
}

/* Two processes on one CPU hand a byte back and forth: each time around is two switches. */
static double measure_switch(void)
{
	int there[2], back[2];
	cpu_set_t old, one;
	uint64_t start;
	pid_t pid;

	if (pipe(there) < 0 || pipe(back) < 0)
		return -1;
	sched_getaffinity(0, sizeof(old), &old);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	pid = fork();
	if (pid == 0) {
		char byte = 0;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (read(there[0], &byte, 1) == 1)
			play(there[0], back[1], SWITCHES);
		_exit(0);
	}
	start = now_ns();
	if (pid > 0)
		play(back[0], there[1], SWITCHES);
	start = now_ns() - start;
	for (int i = 0; i < 2; i++) {
		close(there[i]);
		close(back[i]);
	}
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	sched_setaffinity(0, sizeof(old), &old);
	return pid < 0 ? -1 : (double) start / (2.0 * SWITCHES);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *) a, y = *(const double *) b;

	return x < y ? -1 : x > y;
}

/* From the moment a timer was due to the moment its sleeper runs: an interrupt and a wake-up. */
static double measure_interrupt(void)
{
	double late[SLEEPS];

	prctl(PR_SET_TIMERSLACK, 1);
	for (int i = 0; i < SLEEPS; i++) {
		uint64_t due = now_ns() + SLEEP_NS;
		struct timespec until = { (time_t) (due / 1000000000), (long) (due % 1000000000) };

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
			;
		late[i] = (double) (now_ns() - due);
	}
	qsort(late, SLEEPS, sizeof(late[0]), compare);
	return late[SLEEPS / 2];
}

#if defined(__x86_64__)

enum { PORT = 0x80 };

#define MMIO_ADDRESS 0xf0000000

/* A port that nothing listens on: on a PC it is what one writes to to pass a microsecond. */
static double measure_port(void)
{
	uint64_t start;

	if (ioperm(PORT, 1, 1) < 0)
		return -1;
	start = now_ns();
	for (int i = 0; i < EXITS; i++)
		outb(0, PORT);
	return (double) (now_ns() - start) / EXITS;
}

static int in_guest(void)
{
	unsigned int a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 31);
}

/*
 * An address of the hole below 4 GiB that no device has in our machines.  Only ever in a guest, and
 * only when the kernel knows of nobody there either (it refuses what a driver has claimed).
 */
static double measure_mmio(void)
{
	int fd = in_guest() ? open("/dev/mem", O_RDONLY | O_SYNC | O_CLOEXEC) : -1;
	volatile uint32_t *memory;
	uint64_t start;

	if (fd < 0)
		return -1;
	memory = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_SHARED, fd, (off_t) MMIO_ADDRESS);
	close(fd);
	if (memory == MAP_FAILED)
		return -1;
	start = now_ns();
	for (int i = 0; i < EXITS; i++)
		(void) *memory;
	start = now_ns() - start;
	munmap((void *) memory, PAGE_BYTES);
	return (double) start / EXITS;
}

#else

static double measure_port(void)
{
	return -1; /* there are no ports */
}

static double measure_mmio(void)
{
	return -1; /* where nobody is depends on the board */
}

#endif

static const struct {
	const char *name;
	measure_fn fn;
} measurements[] = {
	{ "cpu", measure_cpu },
	{ "system_call", measure_syscall },
	{ "page_fault", measure_page_fault },
	{ "context_switch", measure_switch },
	{ "memory_copy", measure_copy },
	{ "timer_interrupt", measure_interrupt },
	{ "port_io", measure_port },
	{ "mmio", measure_mmio },
};

/* The median of some rounds; negative when one was not possible. */
static double median(measure_fn fn)
{
	double values[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		values[i] = fn();
		if (values[i] < 0)
			return -1;
	}
	qsort(values, ROUNDS, sizeof(values[0]), compare);
	return values[ROUNDS / 2];
}

int main(int argc, char **argv)
{
	const char *comma = "";

	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return puts("brume-measure " BRUME_VERSION) < 0;
	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return puts("Usage: brume-measure [--remove]\n\n"
			    "What a few things cost here, in nanoseconds, as one line of JSON: "
			    "1000 "
			    "steps of\narithmetic, a system call, a page fault, a context switch, "
			    "a "
			    "MiB of memory copied, the\nlateness of a timer, a write to an I/O "
			    "port, "
			    "a read of memory-mapped I/O (only in a\nvirtual machine).  What is "
			    "not "
			    "possible here is left out.") < 0;
	if (argc == 2 && strcmp(argv[1], "--remove") == 0) {
		if (unlink(argv[0]) < 0)
			fprintf(stderr, "brume-measure: %s stays: %s\n", argv[0], strerror(errno));
	} else if (argc != 1) {
		fprintf(stderr, "brume-measure: no arguments are known but --remove, --help and "
				"--version\n");
		return 2;
	}
	putchar('{');
	for (size_t i = 0; i < sizeof(measurements) / sizeof(measurements[0]); i++) {
		double value = median(measurements[i].fn);

		if (value < 0)
			continue;
		printf("%s\"%s_ns\":%.1f", comma, measurements[i].name, value);
		comma = ",";
	}
	puts("}");
	return fflush(stdout) == 0 ? 0 : 1;
}
