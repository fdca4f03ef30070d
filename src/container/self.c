#include "container/self.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/strv.h"
#include "kern/mount.h"

enum { ARGUMENTS_MAX = 2 << 20 };

static int read_arguments(char ***ret)
{
	AUTO(strv_free) char **args = NULL;
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, "/proc/self/cmdline", ARGUMENTS_MAX, &text, &size);

	if (r < 0)
		return r;
	for (size_t i = 0; i < size;) {
		strv_append(&args, text + i);
		while (i < size && text[i])
			i++;
		i++;
	}
	if (!args)
		return -EINVAL;
	*ret = TAKE_PTR(args);
	return 0;
}

int self_hide(struct error *err)
{
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? error_set(err, -errno, "prctl") : 0;
}

int self_execute(struct error *err)
{
	AUTO(strv_free) char **args = NULL;
	struct stat now, named;
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	int r = read_arguments(&args);

	if (r < 0)
		return error_set(err, r, "/proc/self/cmdline");
	if (n < 0 || stat("/proc/self/exe", &now) < 0)
		return error_set(err, -errno, "/proc/self/exe");
	path[n] = '\0';
	/* By its name: the link leads to the mount namespace that we may have left. */
	if (stat(path, &named) < 0 || named.st_dev != now.st_dev || named.st_ino != now.st_ino)
		return error_say(err, -ENOENT, "%s: this program is not there any more", path);
	execve(path, args, environ);
	return error_set(err, -errno, "executing %s again", path);
}

int self_protect(struct error *err)
{
	AUTO(fd_close) int exe = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	AUTO(fd_close) int clone = -1;
	AUTO(strv_free) char **args = NULL;
	struct statvfs st;
	int r;

	if (exe < 0 || fstatvfs(exe, &st) < 0)
		return error_set(err, -errno, "/proc/self/exe");
	if (st.f_flag & ST_RDONLY)
		return self_hide(err);
	clone = mount_clone(exe, "", false);
	if (clone < 0)
		return error_set(err, clone, "cloning the mount of this program");
	r = mount_change(clone, "", false, MOUNT_ATTR_RDONLY, 0, 0);
	if (r == 0)
		r = read_arguments(&args);
	if (r < 0)
		return error_set(err, r, "protecting this program");
	execveat(clone, "", args, environ, AT_EMPTY_PATH);
	return error_set(err, -errno, "executing this program from a read-only mount");
}
