#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "guest/boot.h"
#include "guest/button.h"
#include "guest/guest_internal.h"
#include "guest/netconf.h"
#include "guest/poller.h"
#include "guest/port.h"
#include "guest/setup.h"
#include "guest/spawn.h"
#include "kern/mount.h"

enum { STATUS_MAX = 512, STATUS_WAIT_MS = 3000 };

static void on_signal(void *data)
{
	struct guest *guest = data;
	int status;
	pid_t pid;

	/* The signals themselves say nothing: children that ended are asked for. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (command_reaped(guest, pid, status))
			channel_tell_status(guest);
		else
			job_reaped(guest, pid, status);
}

struct signals {
	struct guest *guest;
	int fd;
};

static void on_signal_fd(void *data)
{
	struct signals *signals = data;
	struct signalfd_siginfo info;

	while (read(signals->fd, &info, sizeof(info)) > 0)
		;
	on_signal(signals->guest);
}

static int watch_signals(struct signals *signals, struct error *err)
{
	struct poller_watch *watch;
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signals->fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals->fd < 0)
		return error_set(err, -errno, "signalfd");
	return poller_watch_fd(signals->guest->poller, signals->fd, on_signal_fd, signals, &watch);
}

static uint64_t uptime_ms(void)
{
	struct timespec now = {};

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

static int boot(struct guest *guest, struct error *err)
{
	int root_fd = -1, r = boot_modules(err);

	if (r == 0)
		button_watch(guest);
	if (r == 0)
		r = boot_config(&guest->config, err);
	guest->proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (r == 0)
		r = boot_root(&guest->config, &root_fd, &guest->upper_fd, err);
	if (r == 0)
		r = setup_root(&guest->config, root_fd, err);
	if (r == 0)
		r = boot_switch(root_fd, err);
	fd_close(root_fd);
	if (r == 0)
		r = setup_machine(&guest->config, guest->proc_fd, err);
	if (r == 0)
		r = netconf_setup(&guest->config, err);
	if (r == 0)
		r = guest_nics_encode(guest->config.nics, guest->config.nic_count, &guest->network,
				      err);
	return r;
}

/* Everything that is spawned from here on lives in a pid namespace of its own. */
static int start(struct guest *guest, int *ret_code, struct error *err)
{
	int r;

	if (unshare(CLONE_NEWPID) < 0)
		return error_set(err, -errno, "a pid namespace for the command");
	r = channel_listen(guest, err);
	if (r == 0)
		r = command_start(guest, ret_code, err);
	if (r < 0)
		return r;
	guest->boot_ms = uptime_ms();
	guest->state = GUEST_RUNNING;
	channel_tell_status(guest);
	return 0;
}

/* One line, on a port that the host reads when it comes to it. */
static void tell(const char *line)
{
	struct error err = {};
	struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
	AUTO(fd_close) int fd = port_open("brume.status", &err);
	size_t done = 0, size = strlen(line);

	for (int i = 0; fd >= 0 && done < size && i < STATUS_WAIT_MS / 10; i++) {
		ssize_t n = write(fd, line + done, size - done);

		if (n > 0)
			done += (size_t) n;
		else if (n < 0 && errno != EAGAIN && errno != EINTR)
			break;
		else
			nanosleep(&pause, NULL);
	}
}

/* Nothing may write any more when the disk is let go of. */
static void end_machine(struct guest *guest)
{
	static const char *const read_only[] = { "ro", NULL };

	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	sync();
	if (guest->upper_fd >= 0) {
		umount2("/", MNT_DETACH);
		(void) mount_reconfigure(guest->upper_fd, read_only, NULL, 0);
		syncfs(guest->upper_fd);
	}
	reboot(guest->reboot ? RB_AUTOBOOT : RB_POWER_OFF);
}

static int run(struct guest *guest, int *ret_code, struct error *err)
{
	struct signals signals = { .guest = guest, .fd = -1 };
	int r = boot_mounts(err);

	if (r == 0)
		r = poller_new(&guest->poller, err);
	if (r == 0)
		r = watch_signals(&signals, err);
	if (r == 0)
		r = boot(guest, err);
	if (r == 0)
		r = start(guest, ret_code, err);
	if (r == 0) {
		r = poller_run(guest->poller);
		if (r < 0)
			error_set(err, r, "the event loop");
	}
	return r;
}

int guest_main(int argc, char **argv)
{
	struct guest guest = { .proc_fd = -1, .upper_fd = -1 };
	struct error err = {};
	char line[STATUS_MAX + 16];
	int code = 1;

	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		puts("brume-init " BRUME_VERSION);
		return 0;
	}
	if (getpid() != 1) {
		fprintf(stderr, "brume-init is the first process of a virtual machine; it is not "
				"started by hand\n");
		return 2;
	}
	if (run(&guest, &code, &err) < 0) {
		fprintf(stderr, "brume-init: %s\n", err.msg);
		if (code == SPAWN_MISSING || code == SPAWN_UNUSABLE)
			snprintf(line, sizeof(line), "refused %d %s\n", code, err.msg);
		else
			snprintf(line, sizeof(line), "error %s\n", err.msg);
	} else {
		snprintf(line, sizeof(line), "exit %d\n", command_exit_code(&guest));
	}
	channel_flush_all(&guest);
	tell(line);
	end_machine(&guest);
	/* The kernel would panic if this returned. */
	for (;;)
		pause();
}
