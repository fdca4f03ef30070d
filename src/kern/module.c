#include "kern/module.h"

#include <errno.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

int module_load(const char *name)
{
	return module_load_with(name, NULL);
}

int module_load_with(const char *name, const char *parameter)
{
	/* Also where PATH has no sbin; -q: a kernel without the module is none of its business. */
	static const char *const programs[] = { "/sbin/modprobe", "/usr/sbin/modprobe" };
	char *argv[] = { "modprobe", "-q", "--", (char *) name, (char *) parameter, NULL };
	char *environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	int status, r = ENOENT;
	pid_t pid;

	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]) && r != 0; i++)
		r = posix_spawn(&pid, programs[i], NULL, NULL, argv, environment);
	if (r != 0)
		return -r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOENT;
}
