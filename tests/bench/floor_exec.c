/*
 * The bare floor of `brume-oci exec`: join the namespaces of a process, be born there, execute,
 *wait.
 *
 *	floor-exec PID
 *
 * PID is the container's first process.  No control groups, no filter, no capabilities, no checks.
 */
#include <err.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int must(long r, const char *what)
{
	if (r < 0)
		err(1, "%s", what);
	return (int) r;
}

int main(int argc, char **argv)
{
	int pidfd, status;
	pid_t pid;

	if (argc != 2)
		errx(2, "usage: floor-exec PID");
	pidfd = must(syscall(SYS_pidfd_open, atoi(argv[1]), 0), "pidfd_open");
	must(setns(pidfd, CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET |
				  CLONE_NEWCGROUP),
	     "setns");
	pid = must(fork(), "fork");
	if (pid == 0) {
		execl("/bin/true", "true", (char *) NULL);
		err(1, "/bin/true");
	}
	must(waitpid(pid, &status, 0), "waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
