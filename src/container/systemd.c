#include "container/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "codec/dbus.h"
#include "container/resources.h"
#include "kern/ns.h"
#include "kern/pidfd.h"
#include "kern/sock.h"

enum { ANSWER_MS = 30000, CPU_PERIOD_US = 100000 };

static const char manager[] = "org.freedesktop.systemd1.Manager";

/* ---- names ---- */

/* Characters that a unit's name may have. */
static bool good_name(const char *name, size_t size)
{
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
			    ":-_.\\@") >= size;
}

int systemd_parse_path(const char *path, const char *id, char **ret_slice, char **ret_unit,
		       struct error *err)
{
	AUTO(free) char *made = path && path[0] ? NULL : mem_printf(":brume-oci:%s", id);
	const char *text = made ? made : path;
	const char *prefix = strchr(text, ':');
	const char *name = prefix ? strchr(prefix + 1, ':') : NULL;
	size_t slice_size = prefix ? (size_t) (prefix - text) : 0;

	if (!name || !name[1] || strchr(name + 1, ':') || text[0] == '/')
		return error_say(err, -EINVAL,
				 "linux.cgroupsPath: \"%.128s\" is not SLICE:PREFIX:NAME, as "
				 "--systemd-cgroup needs it",
				 text);
	if (slice_size && (slice_size < 7 || strncmp(prefix - 6, ".slice", 6) != 0))
		return error_say(err, -EINVAL,
				 "linux.cgroupsPath: \"%.128s\": the first part is not a slice",
				 text);
	if (strlen(text) > 200 || !good_name(text, strlen(text)) || strstr(text, ".."))
		return error_say(err, -EINVAL,
				 "linux.cgroupsPath: \"%.128s\" does not make the name of a unit",
				 text);
	*ret_slice = mem_strndup(text, slice_size);
	*ret_unit = name == prefix + 1 ? mem_printf("%s.scope", name + 1)
				       : mem_printf("%.*s-%s.scope", (int) (name - prefix - 1),
						    prefix + 1, name + 1);
	return 0;
}

/* ---- the connection ---- */

struct bus {
	int fd;
	bool direct; /* to the manager itself, without a daemon in between */
	uint32_t serial;
	struct strbuf in;
};

static inline void bus_done_autop(struct bus *bus)
{
	fd_close(bus->fd);
	strbuf_done(&bus->in);
}

static int bus_wait(const struct bus *bus, short events)
{
	struct pollfd poll_fd = { .fd = bus->fd, .events = events };
	int r;

	do
		r = poll(&poll_fd, 1, ANSWER_MS);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

static int bus_write(struct bus *bus, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = send(bus->fd, data, size, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			int r = bus_wait(bus, POLLOUT);

			if (r < 0)
				return r;
			continue;
		}
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			size -= (size_t) n;
		}
	}
	return 0;
}

static int bus_read(struct bus *bus)
{
	int r = bus_wait(bus, POLLIN);
	ssize_t n;

	if (r < 0)
		return r;
	n = recv(bus->fd, strbuf_reserve(&bus->in, 4096), 4096, 0);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	strbuf_grown(&bus->in, (size_t) n);
	return n == 0 ? -EPIPE : 0;
}

/* The peer takes our identity from the socket; we say none, as ours may be another inside. */
static int bus_authenticate(struct bus *bus)
{
	static const char hello[] = "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
	int r = bus_write(bus, hello, sizeof(hello) - 1);

	while (r == 0) {
		const char *end =
			bus->in.data ? memmem(bus->in.data, bus->in.size, "\r\n", 2) : NULL;
		bool ok;

		if (!end) {
			r = bus->in.size > 512 ? -EPROTO : bus_read(bus);
			continue;
		}
		ok = strncmp(bus->in.data, "OK", 2) == 0;
		if (!ok && strncmp(bus->in.data, "DATA", 4) != 0)
			return -EACCES;
		strbuf_consume(&bus->in, (size_t) (end - bus->in.data) + 2);
		if (ok)
			return 0;
	}
	return r;
}

/* The next message; it borrows from bus->in, and `ret_size` is to be consumed after use. */
static int bus_next(struct bus *bus, struct dbus_message *ret, size_t *ret_size)
{
	for (;;) {
		int64_t size = bus->in.size ? dbus_message_size(bus->in.data, bus->in.size) : 0;
		int r;

		if (size < 0)
			return (int) size;
		if (size > 0 && bus->in.size >= (size_t) size) {
			*ret_size = (size_t) size;
			return dbus_message_decode(bus->in.data, (size_t) size, ret);
		}
		r = bus_read(bus);
		if (r < 0)
			return r;
	}
}

static int answer_error(const struct dbus_message *message, const char *what, struct error *err)
{
	const char *text = "";
	size_t at = 0;

	if (message->signature[0] == 's')
		(void) dbus_read_text(message, &at, &text);
	return error_say(err, -EREMOTEIO, "systemd: %s: %s", what, text[0] ? text : message->error);
}

/* Whether it is the end of this unit's job; then *ret_result says how it went. */
static bool job_ended(const struct dbus_message *message, const char *unit, bool *ret_done)
{
	const char *path, *name, *result;
	size_t at = 0;
	uint32_t id;

	if (message->type != DBUS_SIGNAL || strcmp(message->member, "JobRemoved") != 0 ||
	    strcmp(message->signature, "uoss") != 0 || dbus_read_u32(message, &at, &id) < 0 ||
	    dbus_read_text(message, &at, &path) < 0 || dbus_read_text(message, &at, &name) < 0 ||
	    dbus_read_text(message, &at, &result) < 0 || strcmp(name, unit) != 0)
		return false;
	*ret_done = strcmp(result, "done") == 0;
	return true;
}

/* Calls, and waits for the answer; with `unit` for the end of the unit's job, too. */
static int bus_call(struct bus *bus, struct dbus_call *call, const struct strbuf *body,
		    const char *unit, struct error *err)
{
	AUTO(strbuf_done) struct strbuf out = {};
	bool answered = false, ended = unit == NULL, done = true;
	int r;

	call->serial = ++bus->serial;
	call->destination = bus->direct ? NULL : call->destination;
	dbus_call_encode(&out, call, body);
	r = bus_write(bus, out.data, out.size);
	while (r == 0 && !(answered && ended)) {
		struct dbus_message message;
		size_t size = 0;

		r = bus_next(bus, &message, &size);
		if (r < 0)
			break;
		if (message.reply_serial == call->serial && message.type == DBUS_ERROR)
			return answer_error(&message, call->member, err);
		answered = answered ||
			   (message.reply_serial == call->serial && message.type == DBUS_RETURN);
		if (unit && job_ended(&message, unit, &done))
			ended = true;
		strbuf_consume(&bus->in, size);
	}
	if (r < 0)
		return error_set(err, r, "talking to systemd (%s)", call->member);
	return done ? 0 : error_say(err, -EREMOTEIO, "systemd could not start %s", unit);
}

/* Through the daemon signals must be asked for. */
static int bus_greet(struct bus *bus, struct error *err)
{
	static const char rule[] = "type='signal',interface='org.freedesktop.systemd1.Manager',"
				   "member='JobRemoved'";
	struct dbus_call hello = { .destination = "org.freedesktop.DBus",
				   .path = "/org/freedesktop/DBus",
				   .interface = "org.freedesktop.DBus",
				   .member = "Hello" };
	struct dbus_call match = hello;
	struct dbus_call subscribe = { .destination = "org.freedesktop.systemd1",
				       .path = "/org/freedesktop/systemd1",
				       .interface = manager,
				       .member = "Subscribe" };
	AUTO(strbuf_done) struct strbuf body = {};
	int r = bus_call(bus, &hello, NULL, NULL, err);

	match.member = "AddMatch";
	match.signature = "s";
	dbus_put_text(&body, rule);
	if (r == 0)
		r = bus_call(bus, &match, &body, NULL, err);
	return r < 0 ? r : bus_call(bus, &subscribe, NULL, NULL, err);
}

static int bus_open(bool user, struct bus *bus, struct error *err)
{
	const char *folder = getenv("XDG_RUNTIME_DIR");
	AUTO(free) char *own = mem_printf("%s/systemd/private", folder ? folder : "/nonexistent");
	AUTO(free) char *shared = mem_printf("%s/bus", folder ? folder : "/nonexistent");
	int r;

	bus->direct = true;
	bus->fd = sock_connect(user ? own : "/run/systemd/private", SOCK_STREAM);
	if (bus->fd < 0) {
		bus->direct = false;
		bus->fd = sock_connect(user ? shared : "/run/dbus/system_bus_socket", SOCK_STREAM);
	}
	if (bus->fd < 0)
		return error_set(err, bus->fd, "--systemd-cgroup: %s of systemd cannot be reached",
				 user ? "your user's manager" : "the system's manager");
	r = bus_authenticate(bus);
	if (r < 0)
		return error_set(err, r, "--systemd-cgroup: systemd does not let us in");
	return bus->direct ? 0 : bus_greet(bus, err);
}

/* ---- limits ---- */

static uint64_t limit_of(int64_t value)
{
	return value < 0 || value == INT64_MAX ? UINT64_MAX : (uint64_t) value;
}

/* Those that systemd has a name for; the rest is ours alone, and it leaves it alone. */
static void put_limits(struct strbuf *body, const struct oci_resources *resources)
{
	const struct oci_opt *quota = &resources->cpu.quota, *period = &resources->cpu.period;

	if (resources->memory.limit.set && resources->memory.limit.value)
		dbus_put_property_u64(body, "MemoryMax", limit_of(resources->memory.limit.value));
	if (resources->memory.reservation.set && resources->memory.reservation.value)
		dbus_put_property_u64(body, "MemoryLow",
				      limit_of(resources->memory.reservation.value));
	if (resources->pids_limit.set)
		dbus_put_property_u64(body, "TasksMax",
				      resources->pids_limit.value <= 0
					      ? UINT64_MAX
					      : (uint64_t) resources->pids_limit.value);
	if (resources->cpu.shares.set && resources->cpu.shares.value)
		dbus_put_property_u64(
			body, "CPUWeight",
			resources_weight_of_shares((uint64_t) resources->cpu.shares.value));
	if (quota->set && quota->value) {
		uint64_t each =
			period->set && period->value > 0 ? (uint64_t) period->value : CPU_PERIOD_US;

		dbus_put_property_u64(body, "CPUQuotaPeriodUSec", each);
		/* systemd knows hundredths of a CPU; a limit must not become smaller by that. */
		dbus_put_property_u64(body, "CPUQuotaPerSecUSec",
				      quota->value < 0
					      ? UINT64_MAX
					      : ((uint64_t) quota->value * 1000000 / each + 9999) /
							10000 * 10000);
	}
}

int systemd_set_limits(const char *unit, const struct oci_resources *resources, bool user,
		       struct error *err)
{
	AUTO(bus_done) struct bus bus = { .fd = -1 };
	AUTO(strbuf_done) struct strbuf body = {};
	struct dbus_call call = { .destination = "org.freedesktop.systemd1",
				  .path = "/org/freedesktop/systemd1",
				  .interface = manager,
				  .member = "SetUnitProperties",
				  .signature = "sba(sv)" };
	size_t array;
	int r = bus_open(user, &bus, err);

	if (r < 0)
		return r;
	dbus_put_text(&body, unit);
	dbus_put_u32(&body, 1); /* only until the next boot */
	array = dbus_array_begin(&body, 8);
	put_limits(&body, resources);
	dbus_array_end(&body, array);
	return bus_call(&bus, &call, &body, NULL, err);
}

/* ---- the scope ---- */

static void put_scope(struct strbuf *body, const char *slice, const char *unit, pid_t pid,
		      const struct oci_resources *resources)
{
	size_t array;

	dbus_put_text(body, unit);
	dbus_put_text(body, "replace");
	array = dbus_array_begin(body, 8);
	dbus_put_property_text(body, "Description", "container of brume-oci");
	if (slice[0])
		dbus_put_property_text(body, "Slice", slice);
	dbus_put_property_bool(body, "Delegate", 1);
	dbus_put_property_bool(body, "DefaultDependencies", 0);
	dbus_put_property_text(body, "CollectMode", "inactive-or-failed");
	dbus_put_property_pid(body, "PIDs", (uint32_t) pid);
	put_limits(body, resources);
	dbus_array_end(body, array);
	/* No further units. */
	array = dbus_array_begin(body, 8);
	dbus_array_end(body, array);
}

static int fork_placeholder(struct systemd_scope *scope, struct error *err)
{
	struct ns_clone child = { .cgroup_fd = -1, .pidfd = -1 };
	pid_t parent = getpid(), pid = ns_clone(&child);

	if (pid < 0)
		return error_set(err, (int) pid, "clone3");
	if (pid == 0) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
			_exit(1);
		for (;;)
			pause();
	}
	scope->placeholder = pid;
	scope->placeholder_pidfd = child.pidfd;
	return 0;
}

/* Where systemd has put the placeholder: version 2's line, or that of its own hierarchy. */
static int read_group(struct systemd_scope *scope, struct error *err)
{
	AUTO(free) char *text = NULL;
	char path[48], *line, *save = NULL;
	AUTO(free) char *found = NULL;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int) scope->placeholder);
	r = file_read(AT_FDCWD, path, 1 << 16, &text, NULL);
	if (r < 0)
		return error_set(err, r, "%s", path);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *group = strchr(line, '/');

		if (group && (strncmp(line, "0::", 3) == 0 || strstr(line, ":name=systemd:")) &&
		    strstr(group, scope->unit))
			mem_replace(&found, group);
	}
	if (!found)
		return error_say(err, -EREMOTEIO, "systemd has not put %s into a control group",
				 scope->unit);
	scope->group = TAKE_PTR(found);
	return 0;
}

int systemd_scope_start(const char *slice, const char *unit, const struct oci_resources *resources,
			bool user, struct systemd_scope *ret, struct error *err)
{
	struct systemd_scope scope = { .placeholder_pidfd = -1 };
	AUTO(bus_done) struct bus bus = { .fd = -1 };
	AUTO(strbuf_done) struct strbuf body = {};
	struct dbus_call call = { .destination = "org.freedesktop.systemd1",
				  .path = "/org/freedesktop/systemd1",
				  .interface = manager,
				  .member = "StartTransientUnit",
				  .signature = "ssa(sv)a(sa(sv))" };
	int r = bus_open(user, &bus, err);

	if (r == 0)
		r = fork_placeholder(&scope, err);
	if (r < 0)
		return r;
	scope.unit = mem_strdup(unit);
	put_scope(&body, slice, unit, scope.placeholder, resources);
	r = bus_call(&bus, &call, &body, unit, err);
	if (r == 0)
		r = read_group(&scope, err);
	if (r < 0) {
		systemd_scope_done(&scope);
		return r;
	}
	*ret = scope;
	return 0;
}

void systemd_scope_done(struct systemd_scope *scope)
{
	if (scope->placeholder_pidfd >= 0) {
		(void) pidfd_send(scope->placeholder_pidfd, SIGKILL);
		while (waitid(P_PIDFD, (id_t) scope->placeholder_pidfd, NULL, WEXITED) < 0 &&
		       errno == EINTR)
			;
		close(scope->placeholder_pidfd);
	}
	free(scope->unit);
	free(scope->group);
	*scope = (struct systemd_scope){ .placeholder_pidfd = -1 };
}

void systemd_scope_forget(const char *unit, bool user)
{
	AUTO(bus_done) struct bus bus = { .fd = -1 };
	AUTO(strbuf_done) struct strbuf body = {};
	struct dbus_call call = { .destination = "org.freedesktop.systemd1",
				  .path = "/org/freedesktop/systemd1",
				  .interface = manager,
				  .member = "StopUnit",
				  .signature = "ss" };

	if (bus_open(user, &bus, NULL) < 0)
		return;
	dbus_put_text(&body, unit);
	dbus_put_text(&body, "replace");
	(void) bus_call(&bus, &call, &body, NULL, NULL);
}
