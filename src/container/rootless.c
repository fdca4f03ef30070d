#include "container/rootless.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/oci_spec.h"
#include "container/self.h"

static const char marker[] = "_BRUME_OCI_USERNS";

bool rootless_entered(void)
{
	return getenv(marker) != NULL;
}

void rootless_forget(void)
{
	unsetenv(marker);
}

bool rootless_is(void)
{
	AUTO(free) char *text = NULL;
	unsigned long inside, outside, count;

	if (geteuid() != 0)
		return true;
	return file_read(AT_FDCWD, "/proc/self/uid_map", 1 << 16, &text, NULL) == 0 &&
	       (sscanf(text, "%lu %lu %lu", &inside, &outside, &count) != 3 || inside || outside ||
		count != UINT32_MAX);
}

static int again(struct error *err)
{
	if (setenv(marker, "1", 1) < 0)
		return error_set(err, -errno, "environment");
	return self_execute(err);
}

/* ---- mapping ---- */

static bool own_alone(const struct oci_id_maps *maps, uint32_t own)
{
	return maps->count == 1 && maps->list[0].size == 1 && maps->list[0].host_id == own;
}

static bool root_is(const struct oci_id_maps *maps, uint32_t own)
{
	for (size_t i = 0; i < maps->count; i++)
		if (maps->list[i].container_id == 0 && maps->list[i].host_id == own)
			return true;
	return false;
}

static int map_own(const struct oci_spec *spec, struct error *err)
{
	char line[64];
	int r;

	/* The kernel wants to be sure that nobody loses a group that keeps him out of something. */
	r = file_write_kernel(AT_FDCWD, "/proc/self/setgroups", "deny");
	snprintf(line, sizeof(line), "%u %u 1", spec->linux_.uid_maps.list[0].container_id,
		 spec->linux_.uid_maps.list[0].host_id);
	if (r == 0)
		r = file_write_kernel(AT_FDCWD, "/proc/self/uid_map", line);
	snprintf(line, sizeof(line), "%u %u 1", spec->linux_.gid_maps.list[0].container_id,
		 spec->linux_.gid_maps.list[0].host_id);
	if (r == 0)
		r = file_write_kernel(AT_FDCWD, "/proc/self/gid_map", line);
	return r < 0 ? error_set(err, r, "linux.uidMappings: mapping your own id") : 0;
}

static void execute_helper(const char *program, pid_t pid, const struct oci_id_maps *maps)
{
	AUTO(strv_free) char **args = NULL;

	strv_append(&args, program);
	strv_append_take(&args, mem_printf("%d", (int) pid));
	for (size_t i = 0; i < maps->count; i++) {
		strv_append_take(&args, mem_printf("%u", maps->list[i].container_id));
		strv_append_take(&args, mem_printf("%u", maps->list[i].host_id));
		strv_append_take(&args, mem_printf("%u", maps->list[i].size));
	}
	execvp(program, args);
	_exit(127);
}

/* Runs one of the two programs outside; it says on stderr itself what it does not like. */
static int run_helper(const char *program, pid_t pid, const struct oci_id_maps *maps)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0)
		execute_helper(program, pid, maps);
	if (child < 0)
		return 1;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* Stays outside, in the namespace where the ids are given out; waits until we have left it. */
static pid_t fork_mapper(const struct oci_spec *spec, int *ret_go, struct error *err)
{
	pid_t pid, target = getpid();
	int go[2];
	char byte;

	if (pipe2(go, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	pid = fork();
	if (pid == 0) {
		int r;

		close(go[1]);
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		r = run_helper("newuidmap", target, &spec->linux_.uid_maps);
		if (r == 0)
			r = run_helper("newgidmap", target, &spec->linux_.gid_maps);
		_exit(r);
	}
	close(go[0]);
	if (pid < 0) {
		close(go[1]);
		return error_set(err, -errno, "fork");
	}
	*ret_go = go[1];
	return pid;
}

static int wait_mapper(pid_t pid, struct error *err)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return error_say(err, -ENOENT,
				 "linux.uidMappings: more than your own id needs newuidmap and "
				 "newgidmap (package uidmap)");
	return error_say(err, -EPERM,
			 "linux.uidMappings, linux.gidMappings: /etc/subuid and /etc/subgid do not "
			 "give you these ids");
}

static int check_maps(const struct oci_spec *spec, struct error *err)
{
	const struct oci_linux *linux_ = &spec->linux_;

	if (!linux_->ns[OCI_NS_USER].wanted || linux_->ns[OCI_NS_USER].path)
		return error_say(
			err, -EPERM,
			"linux.namespaces: who is not root needs a new user namespace; see "
			"spec --rootless");
	if (!root_is(&linux_->uid_maps, geteuid()))
		return error_say(err, -EPERM,
				 "linux.uidMappings: container id 0 must be your own id %u",
				 geteuid());
	if (!root_is(&linux_->gid_maps, getegid()))
		return error_say(err, -EPERM,
				 "linux.gidMappings: container id 0 must be your own group %u",
				 getegid());
	return 0;
}

int rootless_make(const struct oci_spec *spec, struct error *err)
{
	bool alone = own_alone(&spec->linux_.uid_maps, geteuid()) &&
		     own_alone(&spec->linux_.gid_maps, getegid());
	AUTO(fd_close) int go = -1;
	pid_t mapper = 0;
	int r = check_maps(spec, err);

	if (r < 0)
		return r;
	if (!alone) {
		mapper = fork_mapper(spec, &go, err);
		if (mapper < 0)
			return mapper;
	}
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
		r = error_set(
			err, -errno,
			"user namespace (may be forbidden by kernel.unprivileged_userns_clone "
			"or user.max_user_namespaces)");
		close(TAKE_FD(go));
		while (mapper > 0 && waitpid(mapper, NULL, 0) < 0 && errno == EINTR)
			;
		return r;
	}
	if (alone) {
		r = map_own(spec, err);
	} else {
		r = write(go, "", 1) == 1 ? 0 : error_set(err, -errno, "pipe");
		close(TAKE_FD(go));
		if (r == 0)
			r = wait_mapper(mapper, err);
	}
	return r < 0 ? r : again(err);
}

/* ---- a container that exists ---- */

int rootless_join(const struct record *record, struct error *err)
{
	AUTO(fd_close) int init = record_open_init(record);

	if (init < 0)
		return error_say(err, -ESRCH, "container \"%s\" is not running", record->state->id);
	if (setns(init, CLONE_NEWUSER) < 0)
		return error_set(err, -errno, "joining the user namespace of container \"%s\"",
				 record->state->id);
	if (unshare(CLONE_NEWNS) < 0)
		return error_set(err, -errno, "mount namespace");
	return again(err);
}
