/*
 * What runs inside of the virtual machines that tests/lab and tests/bench boot: a static program
 * that is process 1 there, or an ordinary one (also on the host, as the other end of a wire).
 *
 * Its arguments are steps, done in order:
 *   ready                  one '!' on the serial port, by a single port write: user space runs
 *   modules                loads what lies in /modules, in the order of the names
 *   net=ADDRESS            eth0 comes up with that address, /24
 *   read=JOBS,SECONDS      random 4 KiB reads of /dev/vda past the page cache: "read N/s"
 *   verify=SEED,ROUNDS     four jobs write, discard, zero, flush and read /dev/vda: "verified CRC"
 *   sink=PORT              takes one TCP connection and counts what comes
 *   send=ADDRESS,PORT,SECONDS  sends to such a sink: "sent N MB/s"
 *   vsock=PORT,COUNT       an echo for so many connections: "echoed COUNT"
 *   wait, off              sleeps for ever, switches the machine off
 *
 * What is said goes to the serial port in process 1, to standard output otherwise.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	PORT_SERIAL = 0x3f8,
	JOBS_MAX = 64,
	BLOCK = 4096,
	CHUNK = 1 << 20,
	VERIFY_JOBS = 4,
	RUN_MAX = 64, /* blocks of one write */
};

static bool is_init;

static void write_port(const char *text, size_t size)
{
	static bool allowed;

	if (!allowed && ioperm(PORT_SERIAL, 1, 1) < 0)
		return;
	allowed = true;
	for (size_t i = 0; i < size; i++)
		outb((unsigned char) text[i], PORT_SERIAL);
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	char line[256];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (is_init)
		write_port(line, (size_t) n);
	else
		(void) !write(STDOUT_FILENO, line, (size_t) n);
}

/* Whoever waits outside sees why. */
static void die(const char *what)
{
	say("FAILED %s: %s\n", what, strerror(errno));
	if (is_init)
		reboot(RB_POWER_OFF);
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

static uint64_t next_random(uint64_t *state)
{
	/* splitmix64 */
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static int open_disk(uint64_t *ret_bytes)
{
	int fd = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, ret_bytes) < 0)
		die("/dev/vda");
	return fd;
}

static void *aligned(size_t size)
{
	void *data = aligned_alloc(BLOCK, size);

	if (!data)
		die("memory");
	memset(data, 0, size);
	return data;
}

/* ---- random reads ---- */

struct reader {
	pthread_t thread;
	int fd;
	uint64_t seed, blocks, count;
	double until;
};

static void *read_blocks(void *data)
{
	struct reader *reader = data;
	char *block = aligned(BLOCK);

	while (now() < reader->until) {
		off_t at = (off_t) (next_random(&reader->seed) % reader->blocks * BLOCK);

		if (pread(reader->fd, block, BLOCK, at) != BLOCK)
			die("reading");
		reader->count++;
	}
	return NULL;
}

static void do_read(const char *arguments)
{
	struct reader readers[JOBS_MAX];
	unsigned int jobs, seconds;
	uint64_t bytes, count = 0;
	double begin;
	int fd = open_disk(&bytes);

	if (sscanf(arguments, "%u,%u", &jobs, &seconds) != 2 || jobs < 1 || jobs > JOBS_MAX)
		die("read=JOBS,SECONDS");
	begin = now();
	for (unsigned int i = 0; i < jobs; i++) {
		readers[i] = (struct reader){
			.fd = fd, .seed = i, .blocks = bytes / BLOCK, .until = begin + seconds
		};
		pthread_create(&readers[i].thread, NULL, read_blocks, &readers[i]);
	}
	for (unsigned int i = 0; i < jobs; i++) {
		pthread_join(readers[i].thread, NULL);
		count += readers[i].count;
	}
	say("read %.0f/s\n", (double) count / (now() - begin));
	close(fd);
}

/* ---- integrity ---- */

/* What each block must hold: its number and how often it was written; 0: zeroes. */
struct verifier {
	pthread_t thread;
	int fd;
	uint64_t seed, first, blocks;
	unsigned int rounds;
	uint64_t *generations;
};

static void fill(char *data, uint64_t block, uint64_t generation)
{
	uint64_t state = block << 32 ^ generation;

	if (generation == 0) {
		memset(data, 0, BLOCK);
		return;
	}
	for (size_t i = 0; i < BLOCK; i += sizeof(uint64_t)) {
		uint64_t value = next_random(&state);

		memcpy(data + i, &value, sizeof(value));
	}
}

static void check(struct verifier *job, char *data, uint64_t block, uint64_t count)
{
	char want[BLOCK];

	if (pread(job->fd, data, count * BLOCK, (off_t) (block * BLOCK)) !=
	    (ssize_t) (count * BLOCK))
		die("reading back");
	for (uint64_t i = 0; i < count; i++) {
		fill(want, block + i, job->generations[block + i - job->first]);
		if (memcmp(want, data + i * BLOCK, BLOCK) != 0) {
			say("block %llu is wrong\n", (unsigned long long) (block + i));
			errno = EIO;
			die("verifying");
		}
	}
}

static void *verify_part(void *argument)
{
	struct verifier *job = argument;
	char *data = aligned((size_t) RUN_MAX * BLOCK);
	uint64_t all[2] = { job->first * BLOCK, job->blocks * BLOCK }, generation = 0;

	if (ioctl(job->fd, BLKZEROOUT, all) < 0)
		die("zeroing all");
	for (unsigned int round = 0; round < job->rounds; round++) {
		uint64_t kind = next_random(&job->seed) % 16;
		uint64_t count = 1 + next_random(&job->seed) % RUN_MAX;
		uint64_t at = next_random(&job->seed) % (job->blocks - count);
		uint64_t range[2] = { (job->first + at) * BLOCK, count * BLOCK };

		if (kind < 8) {
			generation++;
			for (uint64_t i = 0; i < count; i++) {
				job->generations[at + i] = generation;
				fill(data + i * BLOCK, job->first + at + i, generation);
			}
			if (pwrite(job->fd, data, count * BLOCK, (off_t) range[0]) !=
			    (ssize_t) range[1])
				die("writing");
		} else if (kind < 10) {
			memset(job->generations + at, 0, count * sizeof(uint64_t));
			if (ioctl(job->fd, BLKZEROOUT, range) < 0)
				die("zeroing");
		} else if (kind < 11) {
			/* What is discarded may be anything; then it is written. */
			if (ioctl(job->fd, BLKDISCARD, range) < 0)
				die("discarding");
			memset(job->generations + at, 0, count * sizeof(uint64_t));
			memset(data, 0, count * BLOCK);
			if (pwrite(job->fd, data, count * BLOCK, (off_t) range[0]) !=
			    (ssize_t) range[1])
				die("writing");
		} else if (kind < 12) {
			if (fdatasync(job->fd) < 0)
				die("flushing");
		} else {
			check(job, data, job->first + at, count);
		}
	}
	for (uint64_t at = 0; at < job->blocks; at += RUN_MAX)
		check(job, data, job->first + at,
		      job->blocks - at < RUN_MAX ? job->blocks - at : RUN_MAX);
	free(data);
	return NULL;
}

/* As zlib's: the host computes it over the disk's file. */
static uint32_t crc32_more(uint32_t crc, const unsigned char *data, size_t size)
{
	static uint32_t table[256];

	for (uint32_t i = 0; table[255] == 0 && i < 256; i++) {
		table[i] = i;
		for (int bit = 0; bit < 8; bit++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
	}
	crc = ~crc;
	for (size_t i = 0; i < size; i++)
		crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
	return ~crc;
}

static void do_verify(const char *arguments)
{
	struct verifier jobs[VERIFY_JOBS];
	unsigned int seed, rounds;
	unsigned char *data = aligned(CHUNK);
	uint32_t crc = 0;
	uint64_t bytes, share;
	int fd = open_disk(&bytes);

	if (sscanf(arguments, "%u,%u", &seed, &rounds) != 2)
		die("verify=SEED,ROUNDS");
	share = bytes / BLOCK / VERIFY_JOBS;
	for (unsigned int i = 0; i < VERIFY_JOBS; i++) {
		jobs[i] = (struct verifier){ .fd = fd,
					     .seed = seed + i,
					     .first = i * share,
					     .blocks = share,
					     .rounds = rounds };
		jobs[i].generations = calloc(share, sizeof(uint64_t));
		if (!jobs[i].generations)
			die("memory");
		pthread_create(&jobs[i].thread, NULL, verify_part, &jobs[i]);
	}
	for (unsigned int i = 0; i < VERIFY_JOBS; i++)
		pthread_join(jobs[i].thread, NULL);
	if (fdatasync(fd) < 0)
		die("flushing");
	/* What four jobs have seen is what there is, also to who comes after. */
	for (uint64_t at = 0; at < bytes; at += CHUNK) {
		if (pread(fd, data, CHUNK, (off_t) at) != CHUNK)
			die("reading all");
		crc = crc32_more(crc, data, CHUNK);
	}
	say("verified %08x\n", crc);
	free(data);
	close(fd);
}

/* ---- the network ---- */

static void do_net(const char *address)
{
	struct ifreq request = { .ifr_name = "eth0" };
	struct sockaddr_in *in = (struct sockaddr_in *) &request.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	in->sin_family = AF_INET;
	if (inet_pton(AF_INET, address, &in->sin_addr) != 1 || ioctl(fd, SIOCSIFADDR, &request) < 0)
		die("the address of eth0");
	inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
	if (ioctl(fd, SIOCSIFNETMASK, &request) < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		die("eth0");
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		die("eth0");
	close(fd);
}

static void do_sink(const char *arguments)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, fd;
	char *data = aligned(CHUNK);
	uint64_t bytes = 0;
	ssize_t n;

	address.sin_port = htons((uint16_t) atoi(arguments));
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *) &address, sizeof(address)) < 0 ||
	    listen(listener, 1) < 0)
		die("listening");
	say("listening\n");
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		die("accepting");
	while ((n = read(fd, data, CHUNK)) > 0)
		bytes += (uint64_t) n;
	if (n < 0 || write(fd, &bytes, sizeof(bytes)) != sizeof(bytes))
		die("receiving");
	say("received %llu\n", (unsigned long long) bytes);
	close(fd);
	close(listener);
	free(data);
}

static void do_send(const char *arguments)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned int port, seconds;
	uint64_t bytes = 0, arrived = 0;
	char *data = aligned(CHUNK), host[64];
	double begin, end;

	if (sscanf(arguments, "%63[^,],%u,%u", host, &port, &seconds) != 3 ||
	    inet_pton(AF_INET, host, &address.sin_addr) != 1)
		die("send=ADDRESS,PORT,SECONDS");
	address.sin_port = htons((uint16_t) port);
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		die("connecting");
	begin = now();
	end = begin + seconds;
	while (now() < end) {
		ssize_t n = write(fd, data, CHUNK / 4);

		if (n < 0)
			die("sending");
		bytes += (uint64_t) n;
	}
	shutdown(fd, SHUT_WR);
	if (read(fd, &arrived, sizeof(arrived)) != sizeof(arrived) || arrived != bytes) {
		errno = EIO;
		die("what was sent has not arrived");
	}
	say("sent %.0f MB/s\n", (double) bytes / (now() - begin) / 1e6);
	close(fd);
	free(data);
}

/* As many at a time as come; each says something and gets it back. */
static void do_vsock(const char *arguments)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };
	int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned int port, count, accepted = 0, ended = 0, open_now = 1;
	struct pollfd *fds;
	char data[BLOCK];

	if (sscanf(arguments, "%u,%u", &port, &count) != 2 || count > 4000)
		die("vsock=PORT,COUNT");
	fds = calloc(count + 1, sizeof(*fds));
	address.svm_port = port;
	if (!fds || bind(listener, (struct sockaddr *) &address, sizeof(address)) < 0 ||
	    listen(listener, (int) count) < 0) /* one that finds no room is refused */
		die("listening on vsock");
	fds[0] = (struct pollfd){ .fd = listener, .events = POLLIN };
	say("listening\n");
	while (ended < count) {
		if (poll(fds, open_now, -1) < 0)
			die("waiting");
		for (unsigned int i = open_now; i-- > 1;) {
			ssize_t n;

			if (!fds[i].revents)
				continue;
			n = read(fds[i].fd, data, sizeof(data));
			if (n > 0 && write(fds[i].fd, data, (size_t) n) != n)
				die("echoing");
			if (n < 0)
				die("reading from vsock");
			if (n == 0) {
				close(fds[i].fd);
				fds[i] = fds[--open_now];
				ended++;
			}
		}
		if (fds[0].revents && accepted < count) {
			int fd = accept(listener, NULL, NULL);

			if (fd < 0)
				die("accepting");
			fds[open_now++] = (struct pollfd){ .fd = fd, .events = POLLIN };
			accepted++;
		}
	}
	say("echoed %u\n", ended);
	close(listener);
	free(fds);
}

/* ---- all steps ---- */

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void do_modules(void)
{
	struct dirent **names = NULL;
	int count = scandir("/modules", &names, NULL, by_name);

	for (int i = 0; i < count; i++) {
		char path[512];
		int fd;

		if (names[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/modules/%s", names[i]->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
			die(path);
		close(fd);
	}
}

static void begin(void)
{
	is_init = getpid() == 1;
	if (!is_init)
		return;
	mount("dev", "/dev", "devtmpfs", 0, NULL);
}

static bool starts(const char *step, const char *name, const char **ret_arguments)
{
	size_t size = strlen(name);

	*ret_arguments = step + size;
	return strncmp(step, name, size) == 0;
}

static void do_step(const char *step)
{
	const char *arguments;

	if (strcmp(step, "ready") == 0)
		write_port("!", 1);
	else if (strcmp(step, "modules") == 0)
		do_modules();
	else if (starts(step, "net=", &arguments))
		do_net(arguments);
	else if (starts(step, "read=", &arguments))
		do_read(arguments);
	else if (starts(step, "verify=", &arguments))
		do_verify(arguments);
	else if (starts(step, "sink=", &arguments))
		do_sink(arguments);
	else if (starts(step, "send=", &arguments))
		do_send(arguments);
	else if (starts(step, "vsock=", &arguments))
		do_vsock(arguments);
	else if (strcmp(step, "wait") == 0)
		pause();
	else if (strcmp(step, "off") == 0)
		reboot(RB_POWER_OFF);
	else
		say("no such step: %s\n", step);
}

int main(int argc, char **argv)
{
	begin();
	for (int i = 1; i < argc; i++)
		do_step(argv[i]);
	if (is_init)
		reboot(RB_POWER_OFF);
	return 0;
}
