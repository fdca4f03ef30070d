/*
 * Calls machine/ for tests/integration/test_machine.py.
 *
 *	machine-driver run PROGRAM RUN_DIR KERNEL INITRDS ARGS [input] [vmm] [disk=PATH]...
 *		becomes PROGRAM, which is brume-qemu, or with vmm brume-vmm; INITRDS are separated
 *by commas; a KERNEL of "-" boots the disk machine-driver do RUN_DIR
 *pause|resume|power-button|reset|quit machine-driver metrics|exit-code|words RUN_DIR machine-driver
 *guest RUN_DIR	sends a line to the guest's port, prints one of it
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "machine/machine.h"

enum { FIRST_FREE_FD = 64 };

static int fail(const struct error *err)
{
	fprintf(stderr, "%s\n", err->msg);
	return 1;
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);
	int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);

	if (high < 0) {
		perror(path);
		_exit(2);
	}
	close(fd);
	return high;
}

static int run(int argc, char **argv)
{
	struct machine_spec spec = { .backend = MACHINE_QEMU,
				     .architecture = "amd64",
				     .cpus = 2,
				     .memory_bytes = 256 << 20,
				     .run_dir = argv[1],
				     .kernel_fd = -1 };
	AUTO(machine_command_done) struct machine_command command = {};
	struct error err = {};

	if (strcmp(argv[2], "-") != 0) {
		spec.kernel_fd = open_file(argv[2], O_RDONLY);
		spec.kernel_args = argv[4];
		for (char *rest = argv[3], *path; (path = strsep(&rest, ","));)
			spec.initrd_fds[spec.initrd_count++] = open_file(path, O_RDONLY);
	}
	for (int i = 5; i < argc; i++) {
		if (strcmp(argv[i], "input") == 0)
			spec.input = true;
		else if (strcmp(argv[i], "vmm") == 0)
			spec.backend = MACHINE_BRUME_VMM;
		else if (strncmp(argv[i], "disk=", 5) == 0)
			spec.disks[spec.disk_count++] =
				(struct machine_disk){ .fd = open_file(argv[i] + 5, O_RDWR),
						       .serial = "brume-disk" };
	}
	if (machine_command(&spec, &command, &err) < 0)
		return fail(&err);
	/* None may already have the number that another one is to get. */
	for (unsigned int i = 0; i < command.fd_count; i++)
		command.fds[i] = fcntl(command.fds[i], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
	for (unsigned int i = 0; i < command.fd_count; i++)
		dup2(command.fds[i], command.fds_as[i]);
	execv(argv[0], command.argv);
	perror(argv[0]);
	return 1;
}

static int act(const char *run_dir, const char *name)
{
	static const char *const names[] = { "pause", "resume", "power-button", "reset", "quit" };
	struct error err = {};

	for (unsigned int i = 0; i < ARRAY_COUNT(names); i++)
		if (strcmp(names[i], name) == 0)
			return machine_do(MACHINE_QEMU, run_dir, (enum machine_action) i, &err) < 0
				       ? fail(&err)
				       : 0;
	return 2;
}

static int ask(const char *what, const char *run_dir)
{
	AUTO(json_decref) json_t *metrics = NULL;
	AUTO(free) char *text = NULL;
	struct error err = {};
	int code = -1, r;

	if (strcmp(what, "exit-code") == 0) {
		r = machine_exit_code(run_dir, &code, &err);
		if (r >= 0)
			printf("%d %d\n", r, code);
	} else if (strcmp(what, "words") == 0) {
		r = machine_last_words(MACHINE_QEMU, run_dir, 1 << 16, &text, &err);
		if (r >= 0)
			printf("%s\n", text);
	} else {
		r = machine_metrics(run_dir, &metrics, &err);
		text = r < 0 ? NULL : json_text(metrics);
		if (text)
			printf("%s\n", text);
	}
	return r < 0 ? fail(&err) : 0;
}

static int guest(const char *run_dir)
{
	static const char line[] = "hello guest\n";
	struct error err = {};
	char byte = 0;
	AUTO(fd_close) int fd = machine_connect_guest(MACHINE_QEMU, run_dir, &err);

	if (fd == -ECONNREFUSED)
		return 3;
	if (fd < 0)
		return fail(&err);
	if (write(fd, line, sizeof(line) - 1) < 0)
		return 1;
	while (byte != '\n' && read(fd, &byte, 1) == 1)
		putchar(byte);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 7 && strcmp(argv[1], "run") == 0)
		return run(argc - 2, argv + 2);
	if (argc == 4 && strcmp(argv[1], "do") == 0)
		return act(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "guest") == 0)
		return guest(argv[2]);
	return argc == 3 ? ask(argv[1], argv[2]) : 2;
}
