#include "container/lifecycle.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/oci_spec.h"
#include "container/hooks.h"
#include "container/rdt.h"
#include "container/rootless.h"
#include "container/sync.h"
#include "container/systemd.h"
#include "kern/cgroup.h"
#include "kern/pidfd.h"
#include "kern/sock.h"

enum { KILL_WAIT_MS = 10000, END_WAIT_MS = 1000, REMOVE_TRIES = 200 };

int lifecycle_spec(const struct record *record, struct oci_spec **ret, struct error *err)
{
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(record->fd, "config.json", OCI_CONFIG_MAX, &text, &size);

	if (r < 0)
		return error_set(err, r, "%s/config.json", record->path);
	r = oci_spec_decode(text, size, ret, err);
	return r < 0 ? error_wrap(err, r, "%s/config.json", record->path) : 0;
}

static int need_status(const struct record *record, enum oci_status wanted, const char *verb,
		       struct error *err)
{
	enum oci_status status;
	int r = record_status(record, &status, err);

	if (r < 0)
		return r;
	if (status != wanted)
		return error_say(
			err, -EINVAL, "container \"%s\" is %s; only one that is %s can be %s",
			record->state->id, oci_status_name(status), oci_status_name(wanted), verb);
	return 0;
}

/* ---- control groups of a record ---- */

static int open_cgroup(const struct record *record, struct cgroup_host **ret_host,
		       struct cgroup **ret, struct error *err)
{
	int r = record->state->cgroup ? cgroup_host_read(ret_host) : -ENOENT;

	if (r == 0)
		r = cgroup_open(*ret_host, record->state->cgroup, false, ret);
	return r < 0 ? error_set(err, r, "control group of container \"%s\"", record->state->id)
		     : 0;
}

/* A frozen process dies when it is thawed. */
static void thaw(const struct record *record)
{
	AUTO(cgroup_host_free) struct cgroup_host *host = NULL;
	AUTO(cgroup_free) struct cgroup *cgroup = NULL;

	if (open_cgroup(record, &host, &cgroup, NULL) == 0 && cgroup_frozen(cgroup) == 1)
		(void) cgroup_freeze(cgroup, false);
}

static int kill_init(const struct record *record, struct error *err)
{
	AUTO(fd_close) int init = record_open_init(record);
	struct pollfd poll_fd = { .fd = init, .events = POLLIN };
	int r;

	if (init == -ESRCH)
		return 0;
	r = init < 0 ? init : pidfd_send(init, SIGKILL);
	if (r < 0 && r != -ESRCH)
		return error_set(err, r, "killing init of container \"%s\"", record->state->id);
	thaw(record);
	do
		r = poll(&poll_fd, 1, KILL_WAIT_MS);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return error_say(err, -ETIMEDOUT, "init of container \"%s\" does not die",
				 record->state->id);
	return 0;
}

/* ---- start ---- */

/* A connection to init's start.sock, whose path may be too long for an address. */
static int connect_init(const struct record *record)
{
	char path[64];
	int fd, flags;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/start.sock", record->fd);
	fd = sock_connect(path, SOCK_SEQPACKET);
	if (fd < 0)
		return fd;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

/* An init that has said why it cannot go on is about to end. */
static void await_end(int init)
{
	struct pollfd poll_fd = { .fd = init, .events = POLLIN };

	while (init >= 0 && poll(&poll_fd, 1, END_WAIT_MS) < 0 && errno == EINTR)
		;
}

int lifecycle_start(struct record *record, struct error *err)
{
	AUTO(oci_spec_free) struct oci_spec *spec = NULL;
	AUTO(fd_close) int init = -1;
	AUTO(fd_close) int fd = -1;
	int r = need_status(record, OCI_STATUS_CREATED, "started", err);

	if (r == 0)
		r = lifecycle_spec(record, &spec, err);
	if (r < 0)
		return r;
	init = record_open_init(record);
	fd = connect_init(record);
	if (fd < 0)
		return error_set(err, fd, "init of container \"%s\"", record->state->id);
	r = sync_send(fd, SYNC_START, 0);
	if (r < 0)
		return error_set(err, r, "init of container \"%s\"", record->state->id);
	(void) unlinkat(record->fd, "start.sock", 0);
	r = sync_expect_end(fd, err);
	if (r < 0) {
		/* Whoever asks next must not find a container that runs. */
		await_end(init);
		return r;
	}
	r = hooks_run(spec, OCI_HOOK_POSTSTART, record->state, OCI_STATUS_RUNNING, err);
	if (r < 0)
		(void) kill_init(record, NULL);
	return r;
}

int lifecycle_kill(struct record *record, int signal_number, bool all, struct error *err)
{
	AUTO(cgroup_host_free) struct cgroup_host *host = NULL;
	AUTO(cgroup_free) struct cgroup *cgroup = NULL;
	AUTO(fd_close) int init = record_open_init(record);
	int r;

	if (init < 0 && init != -ESRCH)
		return error_set(err, init, "init of container \"%s\"", record->state->id);
	if (all) {
		r = open_cgroup(record, &host, &cgroup, err);
		if (r < 0)
			return r;
		r = cgroup_signal(cgroup, signal_number);
		return r < 0 ? error_set(err, r, "signal %d", signal_number) : 0;
	}
	if (init == -ESRCH)
		return error_say(err, -ESRCH, "container \"%s\" is not running", record->state->id);
	r = pidfd_send(init, signal_number);
	if (r < 0)
		return error_set(err, r, "signal %d", signal_number);
	if (signal_number == SIGKILL)
		thaw(record);
	return 0;
}

int lifecycle_pids(const struct record *record, pid_t **ret, size_t *ret_count, struct error *err)
{
	AUTO(cgroup_host_free) struct cgroup_host *host = NULL;
	AUTO(cgroup_free) struct cgroup *cgroup = NULL;
	int r = open_cgroup(record, &host, &cgroup, err);

	if (r < 0)
		return r;
	r = cgroup_pids(cgroup, ret, ret_count);
	return r < 0 ? error_set(err, r, "processes of container \"%s\"", record->state->id) : 0;
}

int lifecycle_freeze(struct record *record, bool freeze, struct error *err)
{
	AUTO(cgroup_host_free) struct cgroup_host *host = NULL;
	AUTO(cgroup_free) struct cgroup *cgroup = NULL;
	int r = need_status(record, freeze ? OCI_STATUS_RUNNING : OCI_STATUS_PAUSED,
			    freeze ? "paused" : "resumed", err);

	if (r == 0)
		r = open_cgroup(record, &host, &cgroup, err);
	if (r < 0)
		return r;
	r = cgroup_freeze(cgroup, freeze);
	return r < 0 ? error_set(err, r, "%s container \"%s\"", freeze ? "pausing" : "resuming",
				 record->state->id)
		     : 0;
}

/* ---- the end ---- */

/*
 * Kills what is left and removes the folders.  The kernel lets go of a group's last process a
 * moment after it is gone from sight, and tells nobody in version 1: so this asks again.
 */
static int remove_cgroups(const struct record *record, struct error *err)
{
	AUTO(cgroup_host_free) struct cgroup_host *host = NULL;
	const char *path = record->state->cgroup;
	int r = cgroup_host_read(&host);

	for (int i = 0; r == 0 && i < REMOVE_TRIES; i++) {
		AUTO(cgroup_free) struct cgroup *cgroup = NULL;
		struct timespec pause = { .tv_nsec = 1000000L * (i < 20 ? 1 : 10) };

		r = cgroup_remove(host, path);
		if (r != -EBUSY)
			break;
		r = i + 1 < REMOVE_TRIES ? 0 : r;
		if (cgroup_open(host, path, false, &cgroup) == 0)
			(void) cgroup_signal(cgroup, SIGKILL);
		if (i > 0)
			nanosleep(&pause, NULL);
	}
	if (r < 0)
		return error_set(err, r, "removing the control group %s", path);
	return 0;
}

int lifecycle_destroy(struct record *record, const struct oci_spec *spec, struct error *err)
{
	int r = kill_init(record, err);

	if (r == 0 && record->state->cgroup)
		r = remove_cgroups(record, err);
	if (r == 0 && record->state->unit)
		systemd_scope_forget(record->state->unit, rootless_is());
	if (r == 0 && spec)
		rdt_remove(RDT_ROOT, &spec->linux_.rdt, record->state->id);
	if (r == 0)
		r = record_remove(record, err);
	if (r == 0 && spec)
		hooks_run_all(spec, OCI_HOOK_POSTSTOP, record->state, OCI_STATUS_STOPPED);
	return r;
}

int lifecycle_delete(struct record *record, bool force, struct error *err)
{
	AUTO(oci_spec_free) struct oci_spec *spec = NULL;
	enum oci_status status;
	struct error why = {};
	int r = record_status(record, &status, err);

	if (r < 0)
		return r;
	if (status != OCI_STATUS_STOPPED && !force)
		return error_say(err, -EBUSY,
				 "container \"%s\" is %s; stop it first or use --force",
				 record->state->id, oci_status_name(status));
	/* Without it there are no hooks to run, and the rest can be taken away all the same. */
	if (lifecycle_spec(record, &spec, &why) < 0 && status != OCI_STATUS_CREATING)
		log_warning("%s: its hooks are not run", why.msg);
	return lifecycle_destroy(record, spec, err);
}
