/*
 * brume-tini [--] PROGRAM [ARG...] - the first process of an instance that asked for --init.
 *
 * Programs that were not written to be process 1 leave zombies behind and ignore signals.  This one
 * starts the program, hands every signal on to it, reaps whatever becomes its child, and ends with
 * the program's exit code (128 + signal).  One thread, no memory of its own, linked statically: it
 * is seen in images that have no C library.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127, EXIT_SIGNAL_BASE = 128 };

/* Faults of our own, and what a terminal sends to those that touch it from the background. */
static void block_signals(sigset_t *before)
{
	static const int never[] = { SIGFPE,  SIGILL, SIGSEGV, SIGBUS, SIGABRT,
				     SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU };
	sigset_t all;

	sigfillset(&all);
	for (size_t i = 0; i < sizeof(never) / sizeof(*never); i++)
		sigdelset(&all, never[i]);
	sigprocmask(SIG_SETMASK, &all, before);
	signal(SIGTTIN, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
}

static void run(char **argv, const sigset_t *before)
{
	/* Of a terminal the program is the foreground, so that ^C and job control are its own. */
	if (setpgid(0, 0) == 0 && isatty(STDIN_FILENO))
		tcsetpgrp(STDIN_FILENO, getpgrp());
	signal(SIGTTIN, SIG_DFL);
	signal(SIGTTOU, SIG_DFL);
	sigprocmask(SIG_SETMASK, before, NULL);
	execvp(argv[0], argv);
	fprintf(stderr, "brume-tini: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

/* True when it was the program itself. */
static int reap(pid_t program, int *ret_code)
{
	int status, ended = 0;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != program)
			continue;
		ended = 1;
		*ret_code = WIFSIGNALED(status) ? EXIT_SIGNAL_BASE + WTERMSIG(status)
						: WEXITSTATUS(status);
	}
	return ended;
}

int main(int argc, char **argv)
{
	char **program = argv + 1;
	int code = EXIT_USAGE;
	sigset_t before, all;
	siginfo_t info;

	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		puts("brume-tini " BRUME_VERSION);
		return 0;
	}
	if (argc > 1 && strcmp(argv[1], "--") == 0)
		program++;
	if (!*program) {
		fprintf(stderr, "Usage: brume-tini [--] PROGRAM [ARG...]\n");
		return EXIT_USAGE;
	}
	block_signals(&before);
	/* Also where it is not process 1. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid_t pid = fork();
	if (pid < 0) {
		fprintf(stderr, "brume-tini: fork: %s\n", strerror(errno));
		return 1;
	}
	if (pid == 0)
		run(program, &before);
	sigfillset(&all);
	for (;;) {
		if (sigwaitinfo(&all, &info) < 0)
			continue;
		if (info.si_signo == SIGCHLD) {
			if (reap(pid, &code))
				return code;
		} else {
			kill(pid, info.si_signo);
		}
	}
}
