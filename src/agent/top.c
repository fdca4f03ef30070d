/*
 * The processes inside an instance, over a stream: one JSON document, then the end.
 *
 * Read on a worker from the cgroup's list and /proc.  What processes say about themselves is
 * hostile: at most PROCESSES_MAX of them, each with a bounded command line in which everything that
 * is not printable text is escaped.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/document_stream.h"
#include "agent/guest_stream.h"
#include "agent/instance_actor.h"
#include "agent/users.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "image/rootfs.h"
#include "kern/cgroup.h"
#include "kern/proc.h"
#include "model/member.h"

enum { GUEST_TOP_MAX = 1 << 20, PROCESSES_MAX = 1024, USER_SIZE = 64 };

struct listing {
	const struct agent *agent;
	char uid[UID_SIZE];
	pid_t init;
};

static json_t *encode(const struct proc *proc, uint32_t first_uid, const char *passwd)
{
	bool mapped = proc->uid >= first_uid && proc->uid - first_uid < LAYER_UID_COUNT;
	AUTO(free) char *command = proc_command(proc);
	AUTO(strbuf_done) struct strbuf user = {};
	char name[USER_SIZE], state[2] = { proc->state, '\0' };

	if (mapped && users_name(passwd, proc->uid - first_uid, name, sizeof(name)) == 0)
		strbuf_put_printable(&user, name, strlen(name));
	else
		strbuf_printf(&user, "%u", mapped ? proc->uid - first_uid : proc->uid);
	return json_pack("{s:i, s:i, s:s, s:I, s:I, s:s, s:s}", "pid", (int) proc->inside_pid,
			 "host_pid", (int) proc->pid, "user", strbuf_str(&user), "cpu_ms",
			 (json_int_t) proc->cpu_ms, "rss_bytes", (json_int_t) proc->rss_bytes,
			 "state", proc->state >= ' ' ? state : "?", "command", command);
}

/* The slot is seen in whom the init process belongs to. */
static uint32_t first_uid_of(uid_t uid)
{
	return uid < (uid_t) SLOT_UID_BASE ? 0 : uid - (uid - SLOT_UID_BASE) % LAYER_UID_COUNT;
}

static char *passwd_of(int proc_fd, pid_t init)
{
	char path[32];

	snprintf(path, sizeof(path), "%d/root", init);
	AUTO(fd_close) int root_fd = openat(proc_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root_fd < 0 ? NULL : users_read_passwd(root_fd);
}

/* On a worker. */
static int list_processes(void *data, struct strbuf *ret, struct error *err)
{
	const struct listing *listing = data;
	AUTO(free) char *path = mem_printf("/%s/%s", listing->agent->options->prefix, listing->uid);
	AUTO(fd_close) int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO(json_decref) json_t *processes = json_array();
	AUTO(cgroup_free) struct cgroup *cgroup = NULL;
	AUTO(free) char *passwd = NULL;
	AUTO(free) char *text = NULL;
	AUTO(free) pid_t *pids = NULL;
	struct proc proc;
	size_t count = 0;
	int r = cgroup_open(listing->agent->cgroups, path, false, &cgroup);

	if (r == 0)
		r = cgroup_pids(cgroup, &pids, &count);
	if (r < 0)
		return error_set(err, r, "list the processes");
	passwd = passwd_of(proc_fd, listing->init);
	for (size_t i = 0; i < count && i < PROCESSES_MAX; i++)
		if (proc_read(proc_fd, pids[i], &proc) == 0)
			json_array_append_new(processes,
					      encode(&proc, first_uid_of(proc.uid), passwd));
	json_t *answer =
		json_pack("{s:O, s:I}", "processes", processes, "count", (json_int_t) count);
	text = json_text(answer);
	json_decref(answer);
	strbuf_puts(ret, text);
	return 0;
}

/* A guest's own list, of which only what is expected is handed on. */
static json_t *rebuild(const json_t *answer)
{
	AUTO(json_decref) json_t *processes = json_array();
	const json_t *list = json_object_get(answer, "processes"), *process;
	size_t i;

	if (!json_is_array(list))
		return NULL;
	json_array_foreach(list, i, process)
	{
		const char *const texts[] = { "user", "state", "command" };
		const char *const numbers[] = { "pid", "cpu_ms", "rss_bytes" };
		json_t *built = json_object();

		for (size_t n = 0; n < ARRAY_COUNT(texts); n++) {
			const char *text = json_string_value(json_object_get(process, texts[n]));
			AUTO(strbuf_done) struct strbuf printable = {};

			/* It has escaped them already; twice would be once too often. */
			for (const char *p = text ? text : "?"; *p; p++)
				strbuf_append(&printable,
					      (unsigned char) *p < ' ' || *p == '\x7f' ? "?" : p,
					      1);
			json_object_set_new(built, texts[n], json_string(strbuf_str(&printable)));
		}
		for (size_t n = 0; n < ARRAY_COUNT(numbers); n++) {
			json_int_t value = json_integer_value(json_object_get(process, numbers[n]));

			json_object_set_new(built, numbers[n], json_integer(value < 0 ? 0 : value));
		}
		json_array_append_new(processes, built);
		if (i + 1 == PROCESSES_MAX)
			break;
	}
	return json_pack("{s:O, s:I}", "processes", processes, "count",
			 (json_int_t) json_array_size(list));
}

int top_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	     void **ret_data, struct error *err)
{
	static const struct guest_stream_kind guest_kind = { GUEST_TOP_MAX, rebuild };
	static const struct document_ops ops = { .work = list_processes, .free = free };
	struct json_reader in = { .err = err, .where = "top" };
	struct guest *guest = NULL;
	struct agent *agent = stream_agent(stream);
	char uid[UID_SIZE] = "";
	struct listing *listing;
	pid_t init = 0;
	int r;

	json_read_any(&in, arguments, "kind", NULL);
	member_read_uid(&in, arguments, "uid", uid);
	r = json_reader_finish(&in, arguments);
	if (r < 0)
		return r;
	r = instance_guest(agent, uid, &guest, err);
	if (r > 0)
		guest_stream_open(stream, guest, arguments, &guest_kind, ret_ops, ret_data);
	if (r != 0)
		return r < 0 ? r : 0;
	if (instance_pid(agent, uid, &init) < 0)
		return error_say(err, -EBUSY, "the instance does not run");
	listing = mem_new0(struct listing);
	listing->agent = agent;
	listing->init = init;
	memcpy(listing->uid, uid, sizeof(uid));
	document_stream_open(stream, agent->pool, &ops, listing, ret_ops, ret_data);
	return 0;
}
