/*
 * brume-vmm - one virtual machine on /dev/kvm; see docs/man/brume-vmm.1 and --help.
 *
 * Started by the keeper inside a container, or by a person.  Everything outside is opened before
 * the guest runs; then the process locks itself in (vmm/jail.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "vmm/ctl.h"
#include "vmm/jail.h"
#include "vmm/loop.h"
#include "vmm/options.h"
#include "vmm/vm.h"
#include "vmm/vm_control.h"

enum {
	EXIT_OFF = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_RESET = 3,
	EXIT_CRASHED = 4,
};

struct program {
	struct options options;
	struct loop *loop;
	struct vm *vm;
	unsigned int terminations;
};

/* What the agent reads: why there is no machine (any more). */
static void write_status(const struct options *options, const char *text)
{
	char line[600];
	int n;

	if (options->status_fd < 0)
		return;
	n = snprintf(line, sizeof(line), "monitor %s\n", text);
	if (n > 0 && write(options->status_fd, line, (size_t) n) < 0)
		log_warning("status: %s", strerror(errno));
}

static void on_end(void *data, enum vm_end end, const char *why)
{
	static const int codes[] = {
		[VM_POWERED_OFF] = EXIT_OFF,  [VM_RESET] = EXIT_RESET,
		[VM_PANICKED] = EXIT_CRASHED, [VM_TRIPLE_FAULT] = EXIT_CRASHED,
		[VM_QUIT] = EXIT_OFF,         [VM_FAILED] = EXIT_FAILED,
	};
	struct program *program = data;

	if (end == VM_FAILED) {
		log_error("%s", why);
		write_status(&program->options, why);
	} else {
		log_info("%s: %s", vm_end_name(end), why);
	}
	loop_quit(program->loop, codes[end]);
}

/* The first one presses the power button, the second one pulls the plug. */
static void on_signal(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct program *program = data;
	struct signalfd_siginfo info;

	(void) source, (void) events;
	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (program->terminations++ > 0 || vm_power_button(program->vm, NULL) < 0)
		vm_quit(program->vm);
}

static int watch_signals(struct program *program, struct error *err)
{
	struct loop_source *source;
	sigset_t set;
	int fd, r;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	r = fd < 0 ? -errno : loop_add_fd(program->loop, fd, EPOLLIN, on_signal, program, &source);
	return r < 0 ? error_set(err, r, "signals") : 0;
}

static void write_metrics(const struct program *program)
{
	AUTO(json_decref) json_t *metrics = NULL;
	AUTO(free) char *text = NULL;

	if (program->options.metrics_fd < 0)
		return;
	metrics = vm_metrics(program->vm);
	text = json_text(metrics);
	if (dprintf(program->options.metrics_fd, "%s\n", text) < 0)
		log_warning("metrics: %s", strerror(errno));
}

/* A thread that cannot be limited must not run. */
static void limit_thread(enum jail_thread kind)
{
	struct error err = {};

	if (jail_thread(kind, &err) < 0) {
		log_error("%s", err.msg);
		_exit(EXIT_FAILED);
	}
}

static void on_cpu_thread(void *data)
{
	(void) data;
	limit_thread(JAIL_CPU);
}

static void on_io_thread(void *data)
{
	(void) data;
	limit_thread(JAIL_IO);
}

static int start(struct program *program, struct error *err)
{
	bool jail = !program->options.no_jail;
	int r = jail ? jail_process(err) : 0;

	if (r == 0)
		r = vm_start(program->vm, program->options.paused, err);
	if (r == 0 && jail)
		r = jail_thread(JAIL_MAIN, err);
	return r;
}

static int run(struct program *program, struct error *err)
{
	AUTO(vm_control_free) struct vm_control *control = NULL;
	struct options *options = &program->options;
	int r;

	if (!options->no_jail) {
		options->vm.on_cpu_thread = on_cpu_thread;
		options->vm.on_io_thread = on_io_thread;
	}
	r = vm_new(&options->vm, program->loop, on_end, program, &program->vm, err);

	if (r == 0)
		r = watch_signals(program, err);
	if (r == 0 && (options->control_path || options->control_fd >= 0))
		r = vm_control_new(options->control_path, options->control_fd, program->loop,
				   program->vm, &control, err);
	if (r == 0)
		r = start(program, err);
	if (r < 0)
		return r;
	r = loop_run(program->loop);
	if (r < 0)
		return error_set(err, r, "the main loop");
	write_metrics(program);
	return r;
}

static int fail_early(int r, const struct error *err)
{
	fprintf(stderr, "brume-vmm: %s\n", err->msg);
	return r == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
}

int main(int argc, char **argv)
{
	struct program program = {};
	struct error err = {};
	int r;

	if (argc > 1 && strcmp(argv[1], "ctl") == 0) {
		r = ctl_run(argc - 1, argv + 1, stdout, &err);
		return r < 0 ? fail_early(r, &err) : EXIT_OFF;
	}
	/* Opens /dev/urandom the first time, and that must not be when no file can be opened. */
	json_object_seed(0);
	r = options_parse(argc, argv, &program.options, &err);
	if (r < 0)
		return fail_early(r, &err);
	if (r > 0)
		return EXIT_OFF;
	log_set_program("brume-vmm");
	r = loop_new(&program.loop, &err);
	if (r == 0)
		r = run(&program, &err);
	if (r < 0) {
		log_error("%s", err.msg);
		write_status(&program.options, err.msg);
		r = EXIT_FAILED;
	}
	vm_free(program.vm);
	loop_free(program.loop);
	options_done(&program.options);
	return r;
}
