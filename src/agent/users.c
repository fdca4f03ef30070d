#include "agent/users.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

/* NULL when there is no such regular file inside the root. */
static char *read_inside(int root_fd, const char *path)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	AUTO(fd_close) int fd = (int) syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
	struct stat st;
	char *text;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    file_read_fd(fd, USERS_FILE_MAX, &text, NULL) < 0)
		return NULL;
	return text;
}

int users_resolve(int root_fd, const char *spec, struct users *ret, struct error *err)
{
	AUTO(free) char *passwd = read_inside(root_fd, "etc/passwd");
	AUTO(free) char *group = read_inside(root_fd, "etc/group");

	return users_find(passwd, group, spec, ret, err);
}

char *users_read_passwd(int root_fd)
{
	return read_inside(root_fd, "etc/passwd");
}
