#include "agent/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "agent/agent_internal.h"
#include "agent/bundle.h"
#include "agent/exit_code.h"
#include "agent/guest.h"
#include "agent/instance_actor.h"
#include "agent/probe_kill.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include "base/strv.h"

enum {
	TIMER_ACCURACY_MS = 50,
	NETWORK_GRACE_MS = 1000,    /* brume-probe keeps the time itself, and says more about it */
	READ_MAX_BYTES = 64 * 1024, /* in one round of the loop */
	NETWORK_FD_IN_CHILD = 3,
};

/* What the worker that writes the process document needs; outlives the probe. */
struct preparation {
	struct probe *probe; /* NULL: it is gone */
	pid_t pid;
	char *dir, *path;
	char **command;
	int result;
	struct error err;
};

struct probe {
	struct probe *prev, *next;
	struct agent *agent;
	char uid[UID_SIZE];
	pid_t pid;   /* of the instance */
	pid_t child; /* of the check; 0: not known yet */
	char job[KEEPER_JOB_MAX + 1];
	const struct health_check *check;
	probe_done_fn done;
	void *data;
	struct preparation *preparation;
	char *process_path, *pid_path;
	int child_out, network_fd; /* until it is spawned */
	int out_fd;
	sd_event_source *out, *timer;
	struct strbuf output;
	struct guest_request *request; /* of a machine's guest, instead of a job */
	bool spawned;
};

unsigned int probe_count(const struct agent *agent)
{
	const struct probe *probe;
	unsigned int count = 0;

	DL_FOREACH(agent->probes, probe)
	count++;
	return count;
}

static void preparation_free(struct preparation *preparation)
{
	strv_free(preparation->command);
	free(preparation->dir);
	free(preparation->path);
	free(preparation);
}

static void close_child_ends(struct probe *probe)
{
	fd_close(probe->child_out);
	fd_close(probe->network_fd);
	probe->child_out = probe->network_fd = -1;
}

static void remove_file(char *path)
{
	if (path)
		unlink(path);
	free(path);
}

static void probe_free(struct probe *probe)
{
	DL_DELETE(probe->agent->probes, probe);
	if (probe->preparation)
		probe->preparation->probe = NULL;
	sd_event_source_disable_unref(probe->out);
	sd_event_source_disable_unref(probe->timer);
	fd_close(probe->out_fd);
	close_child_ends(probe);
	remove_file(probe->process_path);
	remove_file(probe->pid_path);
	guest_request_free(probe->request);
	strbuf_done(&probe->output);
	free(probe);
}

/* ---- the end ---- */

/* Ends what was begun, with everything that it has started itself. */
static void kill_all(struct probe *probe)
{
	struct keeper_client *keeper = agent_keeper(probe->agent);

	if (!probe->spawned)
		return;
	if (keeper)
		keeper_client_signal(keeper, probe->job, SIGKILL);
	if (probe->child > 0 && probe->check->type == HEALTH_TYPE_EXEC)
		probe_kill(probe->agent, probe->uid, probe->child);
}

static void read_output(struct probe *probe)
{
	char buffer[4096];
	size_t total = 0;
	ssize_t n;

	if (probe->out_fd < 0)
		return;
	while (total < READ_MAX_BYTES && (n = read(probe->out_fd, buffer, sizeof(buffer))) > 0) {
		size_t room = HEALTH_OUTPUT_MAX_BYTES - probe->output.size;

		total += (size_t) n;
		strbuf_append(&probe->output, buffer, (size_t) n < room ? (size_t) n : room);
	}
	if (total == READ_MAX_BYTES || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	probe->out = sd_event_source_disable_unref(probe->out);
}

static int on_output(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	(void) source;
	(void) fd;
	(void) revents;
	read_output(data);
	return 0;
}

/* Without the last line end, and as JSON and terminals take it. */
static char *take_output(struct probe *probe)
{
	AUTO(strbuf_done) struct strbuf text = {};
	const char *line = probe->output.data;
	size_t left = probe->output.size;

	while (left > 0 && strchr("\r\n", line[left - 1]))
		left--;
	while (left > 0) {
		const char *end = memchr(line, '\n', left);
		size_t size = end ? (size_t) (end - line) : left;

		strbuf_put_printable(&text, line, size);
		if (end)
			strbuf_puts(&text, "\n");
		line += size + (end != NULL);
		left -= size + (end != NULL);
	}
	return text.size > 0 ? strbuf_take(&text) : NULL;
}

static void finish(struct probe *probe, int exit_code, const char *words)
{
	struct probe_result result = { .exit_code = exit_code };
	probe_done_fn done = probe->done;
	void *data = probe->data;

	read_output(probe);
	result.output = words ? mem_strdup(words) : take_output(probe);
	probe_free(probe);
	done(data, &result);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct probe *probe = data;
	AUTO(free)
	char *words =
		mem_printf("it took longer than %u ms and was ended", probe->check->timeout_ms);

	(void) source;
	(void) usec;
	kill_all(probe);
	finish(probe, PROBE_BROKEN, words);
	return 0;
}

/* ---- the beginning ---- */

static int open_output(struct probe *probe, struct error *err)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	probe->out_fd = fds[0];
	probe->child_out = fds[1];
	if (fcntl(probe->out_fd, F_SETFL, O_NONBLOCK) < 0)
		return error_set(err, -errno, "pipe");
	r = sd_event_add_io(probe->agent->event, &probe->out, probe->out_fd, EPOLLIN, on_output,
			    probe);
	return r < 0 ? error_set(err, r, "watch a check's output") : 0;
}

static int spawn(struct probe *probe, char *const *argv, enum keeper_mode mode, struct error *err)
{
	struct keeper_client *keeper = agent_keeper(probe->agent);
	char *env[] = { (char *) "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	const int fds[] = { probe->child_out, probe->child_out, probe->network_fd };
	const int as[] = { STDOUT_FILENO, STDERR_FILENO, NETWORK_FD_IN_CHILD };
	struct keeper_spawn order = { .job = probe->job,
				      .mode = mode,
				      .stdio = KEEPER_GIVEN,
				      .argv = argv,
				      .env = env,
				      .pid_file = mode == KEEPER_PID_FILE ? probe->pid_path : NULL,
				      .fd_count = probe->network_fd >= 0 ? 3 : 2,
				      .fds = fds,
				      .fds_as = as };
	int r = keeper ? keeper_client_spawn(keeper, &order, err)
		       : error_say(err, -EAGAIN, "brume-keeper is not running");

	probe->spawned = r == 0;
	close_child_ends(probe);
	return r;
}

static int spawn_exec(struct probe *probe, struct error *err)
{
	const struct agent_options *options = probe->agent->options;
	AUTO(free) char *oci_root = mem_printf("%s/oci", options->run);
	char *argv[] = { (char *) options->oci,
			 "--root",
			 oci_root,
			 "exec",
			 "--detach",
			 "--pid-file",
			 probe->pid_path,
			 "--process",
			 probe->process_path,
			 probe->uid,
			 NULL };

	return spawn(probe, argv, KEEPER_PID_FILE, err);
}

/* ---- in the guest of a virtual machine ---- */

static void guest_received(void *data, enum frame_channel channel, const char *bytes, size_t size)
{
	struct probe *probe = data;
	size_t room = HEALTH_OUTPUT_MAX_BYTES - probe->output.size;

	(void) channel;
	strbuf_append(&probe->output, bytes, size < room ? size : room);
	guest_request_grant(probe->request, size);
}

static void guest_closed(void *data, int64_t exit_code, const struct error *err)
{
	struct probe *probe = data;

	probe->request = NULL;
	if (err && exit_code < 0)
		finish(probe, PROBE_BROKEN, err->msg);
	else
		finish(probe, exit_code < 0 ? PROBE_BROKEN : (int) exit_code,
		       err ? err->msg : NULL);
}

static void ask_guest(struct probe *probe, struct guest *guest)
{
	static const struct guest_call_ops ops = { guest_received, NULL, guest_closed };
	AUTO(json_decref) json_t *arguments = json_pack("{s:s}", "kind", "exec");

	json_put_strv(arguments, "command", probe->check->command);
	probe->request = guest_request_new(guest, arguments, &ops, probe);
}

/* The program that connects, from where `option` says. */
static int spawn_probe(struct probe *probe, const char *option, const char *value,
		       struct error *err)
{
	const struct health_check *check = probe->check;
	AUTO(free) char *timeout = mem_printf("%u", check->timeout_ms);
	AUTO(free) char *port = mem_printf("%u", check->port);
	bool http = check->type == HEALTH_TYPE_HTTP;
	char *argv[] = { (char *) probe->agent->options->probe,
			 (char *) option,
			 (char *) value,
			 "--timeout-ms",
			 timeout,
			 http ? "http" : "tcp",
			 port,
			 http ? check->path : NULL,
			 NULL };

	return spawn(probe, argv, KEEPER_DIRECT, err);
}

/* From the node: a machine has no network namespace to look from. */
static int spawn_to_address(struct probe *probe, struct error *err)
{
	const char *address = instance_address(probe->agent, probe->uid);

	if (!address)
		return error_say(err, -ENONET,
				 "the machine has no network that the node reaches it by (driver "
				 "macvlan is none); a check by exec needs none");
	return spawn_probe(probe, "--address", address, err);
}

/* ---- on the node ---- */

static int spawn_network(struct probe *probe, struct error *err)
{
	char path[40];
	struct stat own, other;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", probe->pid);
	probe->network_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (probe->network_fd < 0 || fstat(probe->network_fd, &other) < 0 ||
	    stat("/proc/self/ns/net", &own) < 0)
		return error_set(err, -errno, "the instance's network namespace");
	/* The pid may be another process's by now. */
	if (own.st_ino == other.st_ino)
		return error_say(err, -ESRCH, "the instance has just ended");
	return spawn_probe(probe, "--netns-fd", "3", err);
}

static void prepare(void *data)
{
	struct preparation *preparation = data;
	struct bundle_exec exec = { .command = preparation->command };

	preparation->result = bundle_write_exec_process(preparation->dir, preparation->pid, &exec,
							preparation->path, &preparation->err);
}

static void prepared(void *data)
{
	struct preparation *preparation = data;
	struct probe *probe = preparation->probe;
	struct error err = preparation->err;
	int r = preparation->result;

	/* Nobody would remove it later. */
	if (!probe)
		unlink(preparation->path);
	preparation_free(preparation);
	if (!probe)
		return;
	probe->preparation = NULL;
	if (r == 0)
		r = spawn_exec(probe, &err);
	if (r < 0)
		finish(probe, PROBE_BROKEN, err.msg);
}

static void submit(struct probe *probe)
{
	struct preparation *preparation = mem_new0(struct preparation);

	preparation->probe = probe;
	preparation->pid = probe->pid;
	preparation->dir = agent_run_path(probe->agent, probe->uid, NULL);
	preparation->path = mem_strdup(probe->process_path);
	preparation->command = strv_copy(probe->check->command);
	probe->preparation = preparation;
	pool_submit(probe->agent->pool, prepare, prepared, preparation);
}

static int begin(struct probe *probe, struct error *err)
{
	struct agent *agent = probe->agent;
	bool exec = probe->check->type == HEALTH_TYPE_EXEC;
	uint64_t timeout_ms = probe->check->timeout_ms + (exec ? 0 : NETWORK_GRACE_MS);
	struct guest *guest = NULL;
	int r = open_output(probe, err);

	if (r < 0)
		return r;
	r = sd_event_add_time_relative(agent->event, &probe->timer, CLOCK_MONOTONIC,
				       timeout_ms * 1000, TIMER_ACCURACY_MS * 1000, on_timer,
				       probe);
	if (r < 0)
		return error_set(err, r, "a check's timer");
	r = instance_guest(agent, probe->uid, &guest, err);
	/* What serves a page in there need not know brume. */
	if (r == -EOPNOTSUPP && !exec)
		return spawn_to_address(probe, err);
	if (r < 0)
		return r;
	if (!exec)
		return r > 0 ? spawn_to_address(probe, err) : spawn_network(probe, err);
	if (r > 0) {
		ask_guest(probe, guest);
		return 0;
	}
	submit(probe);
	return 0;
}

int probe_start(struct agent *agent, const char *uid, pid_t pid, const struct health_check *check,
		probe_done_fn done, void *data, struct probe **ret, struct error *err)
{
	struct probe *probe = mem_new0(struct probe);
	int r;

	probe->agent = agent;
	probe->pid = pid;
	probe->check = check;
	probe->done = done;
	probe->data = data;
	probe->child_out = probe->network_fd = probe->out_fd = -1;
	snprintf(probe->uid, sizeof(probe->uid), "%s", uid);
	snprintf(probe->job, sizeof(probe->job), "h-%08x-%llx", agent->salt,
		 (unsigned long long) ++agent->probe_number);
	probe->process_path =
		mem_printf("%s/instances/%s/%s.json", agent->options->run, uid, probe->job);
	probe->pid_path =
		mem_printf("%s/instances/%s/%s.pid", agent->options->run, uid, probe->job);
	DL_APPEND(agent->probes, probe);
	r = begin(probe, err);
	if (r < 0) {
		probe_free(probe);
		return r;
	}
	*ret = probe;
	return 0;
}

void probe_cancel(struct probe *probe)
{
	if (!probe)
		return;
	kill_all(probe);
	probe_free(probe);
}

/* ---- what the keeper says ---- */

void probe_keeper_event(struct agent *agent, const struct keeper_msg *msg)
{
	struct probe *probe;

	DL_FOREACH(agent->probes, probe)
	{
		if (strcmp(probe->job, msg->job) == 0)
			break;
	}
	if (!probe) {
		agent_drop_job(agent, msg);
		return;
	}
	if (msg->type == KEEPER_SPAWNED)
		probe->child = msg->pid;
	if (msg->type != KEEPER_EXITED && msg->type != KEEPER_FAILED)
		return;
	if (agent_keeper(agent))
		keeper_client_forget(agent_keeper(agent), msg->job);
	if (msg->type == KEEPER_EXITED) {
		finish(probe, exit_code_of(msg, PROBE_BROKEN), NULL);
		return;
	}
	read_output(probe);
	finish(probe, PROBE_BROKEN, probe->output.size == 0 && msg->message ? msg->message : NULL);
}

void probe_keeper_lost(struct agent *agent)
{
	struct probe *probe, *next;

	/* The next keeper tells of its jobs; those checks are made again. */
	DL_FOREACH_SAFE(agent->probes, probe, next)
	{
		if (probe->spawned)
			finish(probe, PROBE_LOST, NULL);
	}
}

void probes_free(struct agent *agent)
{
	struct probe *probe, *next;

	DL_FOREACH_SAFE(agent->probes, probe, next)
	probe_free(probe);
}
