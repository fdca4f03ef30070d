#include "container/lsm.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"
#include "kern/procfs.h"

static bool is_set(const char *text)
{
	return text && text[0];
}

int lsm_check_apparmor(const char *profile, struct error *err)
{
	if (!is_set(profile) || access("/sys/module/apparmor/parameters/enabled", F_OK) == 0)
		return 0;
	if (strcmp(profile, "unconfined") == 0)
		return 0;
	return error_say(err, -EOPNOTSUPP,
			 "process.apparmorProfile: AppArmor is not enabled in this kernel");
}

int lsm_check_selinux(const char *property, const char *label, struct error *err)
{
	if (!is_set(label) || access("/sys/fs/selinux/enforce", F_OK) == 0)
		return 0;
	return error_say(err, -EOPNOTSUPP, "%s: SELinux is not enabled in this kernel", property);
}

/*
 * Only a real /proc will do: what the configuration mounted there in its place could swallow the
 * profile, and the program would run without it.
 */
static int write_attribute(const char *path, const char *text)
{
	AUTO(fd_close) int proc = procfs_open();

	return proc < 0 ? proc : procfs_write_self(proc, path, text);
}

int lsm_set_apparmor(const char *profile, struct error *err)
{
	AUTO(free) char *text = NULL;
	int r;

	if (!is_set(profile) || access("/sys/module/apparmor", F_OK) < 0)
		return is_set(profile) ? lsm_check_apparmor(profile, err) : 0;
	text = mem_printf("exec %s", profile);
	r = write_attribute("attr/apparmor/exec", text);
	if (r == -ENOENT)
		r = write_attribute("attr/exec", text);
	return r < 0 ? error_set(err, r, "process.apparmorProfile \"%s\" (is it loaded?)", profile)
		     : 0;
}

int lsm_set_selinux(const char *label, struct error *err)
{
	int r = is_set(label) ? write_attribute("attr/exec", label) : 0;

	return r < 0 ? error_set(err, r, "process.selinuxLabel \"%s\"", label) : 0;
}
