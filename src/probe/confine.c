#include "probe/confine.h"

#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "kern/caps.h"
#include "kern/seccomp.h"

enum { CPU_MAX_S = 5, FILES_MAX = 96 };

static int limit(int resource, rlim_t value)
{
	struct rlimit both = { value, value };

	return setrlimit(resource, &both) < 0 ? -errno : 0;
}

static int drop_user(struct error *err)
{
	int r = caps_drop_bounding(0);

	if (r == 0 &&
	    (setgroups(0, NULL) < 0 || setresgid(CONFINE_USER, CONFINE_USER, CONFINE_USER) < 0 ||
	     setresuid(CONFINE_USER, CONFINE_USER, CONFINE_USER) < 0))
		r = -errno;
	if (r == 0)
		r = caps_set(0, 0, 0);
	return r < 0 ? error_set(err, r, "giving all powers up") : 0;
}

/* What check.c, printing a line and ending need. */
static int load_filter(struct error *err)
{
	static const char *const allowed[] = {
		"connect", "getsockopt", "poll",         "ppoll",           "recvfrom",
		"sendto",  "read",       "write",        "close",           "clock_gettime",
		"exit",    "exit_group", "rt_sigreturn", "restart_syscall",
	};
	AUTO(seccomp_builder_free) struct seccomp_builder *builder = NULL;
	AUTO(seccomp_filter_free) struct seccomp_filter *filter = NULL;
	struct seccomp_arg inet = { .index = 0, .op = "SCMP_CMP_EQ", .value = AF_INET };
	int r = seccomp_builder_new("SCMP_ACT_KILL_PROCESS", 0, &builder, err);

	for (size_t i = 0; r == 0 && i < ARRAY_COUNT(allowed); i++)
		r = seccomp_builder_add_rule(builder, allowed[i], "SCMP_ACT_ALLOW", 0, NULL, 0,
					     err);
	if (r == 0)
		r = seccomp_builder_add_rule(builder, "socket", "SCMP_ACT_ALLOW", 0, &inet, 1, err);
	inet.value = AF_INET6;
	if (r == 0)
		r = seccomp_builder_add_rule(builder, "socket", "SCMP_ACT_ALLOW", 0, &inet, 1, err);
	if (r == 0)
		r = seccomp_builder_build(builder, NULL, &filter, err);
	if (r < 0)
		return r;
	r = seccomp_filter_load(filter);
	return r < 0 ? error_set(err, r, "loading the filter of system calls") : 0;
}

int confine_enter(int netns_fd, struct error *err)
{
	int r;

	if (netns_fd >= 0 && setns(netns_fd, CLONE_NEWNET) < 0)
		return error_set(err, -errno, "joining the network namespace");
	if (netns_fd >= 0)
		close(netns_fd);
	r = limit(RLIMIT_CPU, CPU_MAX_S);
	if (r == 0)
		r = limit(RLIMIT_CORE, 0);
	if (r == 0)
		r = limit(RLIMIT_NOFILE, FILES_MAX);
	if (r == 0)
		r = limit(RLIMIT_NPROC, 0);
	if (r < 0)
		return error_set(err, r, "limits");
	r = drop_user(err);
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = error_set(err, -errno, "no new privileges");
	return r < 0 ? r : load_filter(err);
}
