#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "own_netns.h"
#include "vmm/options.h"

enum { WORDS_MAX = 32 };

/* Words with spaces in between, behind the name of the program and a kernel. */
static int parse(const char *words, struct options *ret, struct error *err)
{
	static char copy[512];
	char *argv[WORDS_MAX] = { "brume-vmm", "--kernel", "/dev/null" }, *save = NULL;
	int argc = 3;

	snprintf(copy, sizeof(copy), "%s", words);
	for (char *word = strtok_r(copy, " ", &save); word && argc < WORDS_MAX - 1;
	     word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	err->msg[0] = '\0';
	return options_parse(argc, argv, ret, err);
}

static void has_defaults(void **state)
{
	struct options options;
	struct error err;

	(void) state;
	assert_int_equal(parse("", &options, &err), 0);
	assert_int_equal(options.vm.cpus, 1);
	assert_int_equal(options.vm.memory.size_bytes, 256 << 20);
	assert_string_equal(options.vm.baseline, "host");
	assert_string_equal(options.vm.boot.command_line, BOOT_ARGUMENTS);
	assert_true(options.vm.balloon && options.vm.has_kernel);
	assert_false(options.vm.serial || options.vm.no_reboot || options.paused);
	assert_int_equal(options.vm.console_out_fd, -1);
	options_done(&options);
}

static void takes_everything(void **state)
{
	struct options options;
	struct error err;
	char words[512];
	AUTO(fd_close) int fd = memfd_create("disk", 0);

	(void) state;
	snprintf(words, sizeof(words),
		 "--cpus 4 --memory 5G,overcommit,thp --cpu-baseline x86-64-v2 --append a=b "
		 "--initrd /dev/null --initrd /dev/zero --disk "
		 "fd:%d,ro,id=root,serial=brume-image,queues=4,ops=10 "
		 "--net fd:%d,id=lan,mac=02:00:00:00:00:0a,mtu=1400,bytes=1M --port "
		 "name=brume.out,fd=%d "
		 "--port name=brume.in,fd=%d --vsock cid=7,path=/x --control /c --no-reboot "
		 "--paused "
		 "--no-balloon",
		 fd, fd, fd, fd);
	assert_int_equal(parse(words, &options, &err), 0);
	assert_int_equal(options.vm.cpus, 4);
	assert_int_equal(options.vm.memory.size_bytes, 5ull << 30);
	assert_true(options.vm.overcommit && options.vm.memory.thp);
	assert_string_equal(options.vm.boot.command_line, BOOT_ARGUMENTS " a=b");
	assert_int_equal(options.vm.boot.initrd_count, 2);
	assert_int_equal(options.vm.disk_count, 1);
	assert_true(options.vm.disks[0].read_only && options.vm.disks[0].fd != fd);
	assert_string_equal(options.vm.disks[0].id, "root");
	assert_string_equal(options.vm.disks[0].serial, "brume-image");
	assert_int_equal(options.vm.disks[0].queues, 4);
	assert_int_equal(options.vm.disks[0].ops_per_second, 10);
	assert_string_equal(options.vm.nics[0].id, "lan");
	assert_int_equal(options.vm.nics[0].mac[5], 10);
	assert_int_equal(options.vm.nics[0].mtu, 1400);
	assert_int_equal(options.vm.nics[0].bytes_per_second, 1 << 20);
	assert_int_equal(options.vm.port_count, 2);
	assert_string_equal(options.vm.ports[0].name, "brume.out");
	assert_true(options.vm.ports[0].out_fd >= 0 && options.vm.ports[0].in_fd == -1);
	assert_true(options.vm.ports[1].out_fd == -1 && options.vm.ports[1].in_fd >= 0);
	assert_int_equal(options.vm.vsock_cid, 7);
	assert_string_equal(options.vm.vsock_path, "/x");
	assert_string_equal(options.control_path, "/c");
	assert_true(options.vm.no_reboot && options.paused && !options.vm.balloon);
	/* Copies that are closed on exec. */
	assert_int_equal(fcntl(options.vm.disks[0].fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	int disk = options.vm.disks[0].fd;
	options_done(&options);
	assert_int_equal(fcntl(disk, F_GETFD), -1);
}

static void says_what_is_wrong(void **state)
{
	static const struct {
		const char *words, *message;
		int code;
	} bad[] = {
		{ "--cpus 0", "--cpus: '0' is not a number from 1 to 64", -EINVAL },
		{ "--cpus 65", "1 to 64", -EINVAL },
		{ "--cpus -1", "'-1'", -EINVAL },
		{ "--cpus x", "'x'", -EINVAL },
		{ "--memory 1Q", "like 512M", -EINVAL },
		{ "--memory 99999999999999999999", "like 512M", -EINVAL },
		{ "--memory 99999999999G", "like 512M", -EINVAL },
		{ "--memory 1G,fast", "'fast'", -EINVAL },
		{ "--memory thp=1", "", -EINVAL },
		{ "--cpu-baseline v9", "x86-64-v2", -EINVAL },
		{ "--disk fd:999", "fd:999", -EBADF },
		{ "--disk fd:x", "'x'", -EINVAL },
		{ "--disk /nowhere", "/nowhere", -ENOENT },
		{ "--disk /dev/null,serial=123456789012345678901", "20 characters", -EINVAL },
		{ "--disk /dev/null,rw", "'rw'", -EINVAL },
		{ "--net eth0", "neither tap=NAME nor fd:N", -EINVAL },
		{ "--net fd:0,mac=zz:00:00:00:00:00", "MAC", -EINVAL },
		{ "--net fd:0,mac=01:00:00:00:00:00", "MAC", -EINVAL },
		{ "--net fd:0,mac=00:00:00:00:00:00", "MAC", -EINVAL },
		{ "--net fd:0,mtu=1", "68", -EINVAL },
		{ "--net tap=a-name-that-is-too-long", "interface", -EINVAL },
		{ "--net tap=x,queues=9", "'9' is not a number from 1 to 8", -EINVAL },
		{ "--net fd:0,queues=2", "tap=NAME", -EINVAL },
		{ "--disk /dev/null,queues=17", "from 1 to 16", -EINVAL },
		{ "--disk /dev/null,queues=0", "'0'", -EINVAL },
		{ "--port fd=1", "name=NAME", -EINVAL },
		{ "--port name=x", "fd=N", -EINVAL },
		{ "--port name=x,fd=987", "--port x", -EBADF },
		{ "--port name=x,what", "'what'", -EINVAL },
		{ "--vsock cid=2,path=/x", "3", -EINVAL },
		{ "--vsock cid=3", "path=SOCKET", -EINVAL },
		{ "--nonsense", "--nonsense", -EINVAL },
		{ "--cpus", "--cpus", -EINVAL },
		{ "word", "'word'", -EINVAL },
		{ "--serial /nowhere/x", "/nowhere/x", -ENOENT },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct options options;
		struct error err;

		if (parse(bad[i].words, &options, &err) != bad[i].code ||
		    (bad[i].message[0] && !strstr(err.msg, bad[i].message)))
			fail_msg("%s: %s", bad[i].words, err.msg);
		options_done(&options);
	}
}

/* With a name for the tap device there is a descriptor for each pair. */
static void opens_a_tap_several_times(void **state)
{
	struct ifreq request = { .ifr_name = "single", .ifr_flags = IFF_TAP | IFF_NO_PI };
	AUTO(fd_close) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	struct options options;
	struct error err;

	(void) state;
	NEED_OWN_NETNS();
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0) {
		print_message("skipped: no tap device can be made\n");
		skip();
	}
	assert_int_equal(parse("--net tap=several,queues=3", &options, &err), 0);
	assert_int_equal(options.vm.nics[0].more_count, 2);
	assert_int_equal(ioctl(options.vm.nics[0].more_fds[1], TUNGETIFF, &request), 0);
	assert_string_equal(request.ifr_name, "several");
	assert_true(request.ifr_flags & IFF_MULTI_QUEUE);
	options_done(&options);
	fd_close(TAKE_FD(fd));
	assert_int_equal(parse("--net tap=single,queues=2", &options, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "multi_queue"));
	options_done(&options);
}

/* Only a port that writes to standard error takes it from us. */
static void keeps_its_log(void **state)
{
	AUTO(fd_close) int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 20);
	struct stat before, after;
	struct options options;
	struct error err;
	char words[64];

	(void) state;
	assert_true(fd >= 20 && fd < 30);
	assert_int_equal(fstat(STDERR_FILENO, &before), 0);
	snprintf(words, sizeof(words), "--port name=x,fd=%d --port name=y,fd=1", fd);
	assert_int_equal(parse(words, &options, &err), 0);
	options_done(&options);
	assert_int_equal(fstat(STDERR_FILENO, &after), 0);
	assert_true(before.st_dev == after.st_dev && before.st_ino == after.st_ino);
	assert_int_equal(parse("--port name=x,fd=2", &options, &err), 0);
	options_done(&options);
	assert_int_equal(fstat(STDERR_FILENO, &after), 0);
	assert_int_equal(after.st_rdev, makedev(1, 3));
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
}

static void needs_a_kernel(void **state)
{
	char *argv[] = { "brume-vmm", NULL };
	struct options options;
	struct error err = {};

	(void) state;
	assert_int_equal(options_parse(1, argv, &options, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "--kernel"));
	options_done(&options);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(has_defaults),       cmocka_unit_test(takes_everything),
		cmocka_unit_test(says_what_is_wrong), cmocka_unit_test(opens_a_tap_several_times),
		cmocka_unit_test(keeps_its_log),      cmocka_unit_test(needs_a_kernel),
	};

	return cmocka_run_group_tests(tests, enter_own_netns, NULL);
}
