#include "agent/link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/retry.h"
#include "agent/stream.h"
#include "base/conn.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "kern/cgroup.h"
#include "kern/sock.h"
#include "machine/machine.h"
#include "model/node.h"

enum { RETRY_FIRST_MS = 50, RETRY_MAX_MS = 2000, OUT_HIGH = 1 << 20, OUT_MAX = 64 << 20 };

struct link {
	struct agent *agent;
	struct conn *conn;
	char *path;
	sd_event_source *watch; /* tells when brumed's socket appears */
	struct retry retry;
	bool told; /* that brumed is not there */
};

static void lost(struct link *link, int reason)
{
	conn_free(link->conn);
	link->conn = NULL;
	log_info("brumed: connection ended%s%s, connecting again", reason < 0 ? ": " : "",
		 reason < 0 ? strerror(-reason) : "");
	agent_link_changed(link->agent, false);
	retry_reset(&link->retry);
	retry_later(&link->retry, link->agent->event, RETRY_FIRST_MS, RETRY_MAX_MS);
}

static int handle_json(struct link *link, const struct frame *frame, struct error *err)
{
	AUTO(json_decref) json_t *body = NULL;
	AUTO(free) char *kind = NULL;
	AUTO(free) char *uid = NULL;
	struct json_reader in = { .err = err, .where = "forget" };
	int r = frame_json(frame, &body, err);

	if (r < 0)
		return r;
	switch (frame->type) {
	case FRAME_ASSIGN:
		agent_assign(link->agent, body);
		return 0;
	case FRAME_ASSIGNED_ALL:
		agent_assigned_all(link->agent);
		return 0;
	case FRAME_FORGET:
		json_read_string(&in, body, "kind", &kind);
		json_read_string(&in, body, "uid", &uid);
		if (in.result == 0 && kind && uid)
			agent_forget(link->agent, kind, uid);
		return in.result;
	case FRAME_STREAM_OPEN:
		stream_open(link->agent, frame->id, body);
		return 0;
	case FRAME_STREAM_CLOSE:
		stream_peer_closed(link->agent, frame->id);
		return 0;
	default: /* goodbye: nothing is deleted, and the connection's end is handled anyway */
		return 0;
	}
}

static int handle_frame(const struct frame *frame, void *data, struct error *err)
{
	struct link *link = data;
	enum frame_channel channel;
	const char *bytes;
	size_t size;
	uint32_t credit;
	int r;

	switch (frame->type) {
	case FRAME_STREAM_DATA:
		r = frame_data(frame, &channel, &bytes, &size, err);
		if (r < 0)
			return r;
		return stream_received(link->agent, frame->id, channel, bytes, size, err);
	case FRAME_STREAM_CREDIT:
		r = frame_credit(frame, &credit, err);
		if (r == 0)
			stream_credited(link->agent, frame->id, credit);
		return r;
	default:
		return handle_json(link, frame, err);
	}
}

static int on_read(struct conn *conn, struct strbuf *in, void *data)
{
	struct link *link = data;
	struct error err = {};
	int r = frame_read_all(in, handle_frame, link, &err);

	(void) conn;
	if (r < 0)
		log_error("brumed: %s", err.msg);
	return r;
}

static void on_closed(struct conn *conn, int reason, void *data)
{
	(void) conn;
	lost(data, reason);
}

static void on_drained(struct conn *conn, void *data)
{
	struct link *link = data;

	(void) conn;
	stream_link_drained(link->agent);
}

static const struct conn_ops ops = { on_read, on_drained, on_closed };

static void send_hello(struct link *link)
{
	static const char *const modes[] = { [CGROUP_NONE] = "none",
					     [CGROUP_V1] = "v1",
					     [CGROUP_V2] = "v2",
					     [CGROUP_HYBRID] = "hybrid" };
	struct agent *agent = link->agent;
	struct utsname name = {};
	struct machine_host host;

	uname(&name);
	machine_host(agent->options->vm_backend, &host); /* agent_run() has made it measure */
	struct node_facts facts = { .version = (char *) BRUME_VERSION,
				    .kernel = name.release,
				    .cgroup = (char *) modes[agent->cgroups->mode],
				    .cpus = (uint32_t) sysconf(_SC_NPROCESSORS_ONLN),
				    .memory_bytes = agent_memory_bytes(),
				    .boot_id = agent->boot_id,
				    .virtualization = {
					    .backend =
						    host.backend[0] ? (char *) host.backend : NULL,
					    .why = host.why,
					    .usable = host.usable,
					    .nested_paging = host.nested_paging,
					    .apicv = host.apicv,
					    .iommu = host.iommu,
					    .ring0_mips = host.ring0_mips,
					    .ring3_mips = host.ring3_mips,
				    } };
	AUTO(json_decref) json_t *hello = node_hello_encode(agent->options->node, &facts);
	link_send_json(link, FRAME_HELLO, 0, hello);
}

static void connect_now(void *data)
{
	static const struct conn_limits limits = { FRAME_IN_MAX, OUT_HIGH, OUT_MAX };
	struct link *link = data;
	struct error err = {};
	int fd = sock_connect(link->path, SOCK_STREAM);
	int r = fd < 0 ? error_set(&err, fd, "connect to %s", link->path)
		       : conn_new(link->agent->event, fd, &limits, &ops, link, &link->conn, &err);

	if (r < 0) {
		if (fd >= 0)
			close(fd);
		if (!link->told)
			log_info("brumed: %s, trying again", err.msg);
		link->told = true;
		retry_later(&link->retry, link->agent->event, RETRY_FIRST_MS, RETRY_MAX_MS);
		return;
	}
	retry_stop(&link->retry);
	link->told = false;
	log_info("brumed: connected");
	send_hello(link);
	agent_link_changed(link->agent, true);
}

/* The socket's file appeared or changed: do not wait for the timer. */
static int on_appeared(sd_event_source *source, const struct inotify_event *event, void *data)
{
	struct link *link = data;

	(void) source;
	if (!link->conn && event->len > 0 && strcmp(event->name, "agent.sock") == 0) {
		retry_stop(&link->retry);
		connect_now(link);
	}
	return 0;
}

int link_new(struct agent *agent, struct link **ret, struct error *err)
{
	AUTO(link_free) struct link *link = mem_new0(struct link);
	int r;

	link->agent = agent;
	link->path = mem_printf("%s/agent.sock", agent->options->run);
	link->retry = (struct retry){ .fire = connect_now, .data = link };
	r = sd_event_add_inotify(agent->event, &link->watch, agent->options->run,
				 IN_CREATE | IN_MOVED_TO | IN_ATTRIB, on_appeared, link);
	if (r < 0)
		return error_set(err, r, "watch %s", agent->options->run);
	retry_in(&link->retry, agent->event, 0);
	*ret = TAKE_PTR(link);
	return 0;
}

bool link_connected(const struct link *link)
{
	return link && link->conn;
}

static void send_all(struct link *link, const struct strbuf *frame)
{
	int r = conn_write(link->conn, frame->data, frame->size);

	/* Too much is waiting, or it is closing: a fresh connection gets everything anew. */
	if (r < 0 && r != -EPIPE)
		conn_finish(link->conn);
}

void link_send_json(struct link *link, enum frame_type type, uint64_t id, const json_t *body)
{
	AUTO(strbuf_done) struct strbuf frame = {};

	if (!link_connected(link))
		return;
	if (frame_append_json(&frame, type, id, body) < 0) {
		log_error("brumed: a %s message is too large, dropping it", frame_type_name(type));
		return;
	}
	send_all(link, &frame);
}

void link_send_status(struct link *link, const char *kind, const char *uid, json_t *status)
{
	AUTO(json_decref)
	json_t *body = json_pack("{s:s, s:s, s:O}", "kind", kind, "uid", uid, "status", status);

	link_send_json(link, FRAME_STATUS, 0, body);
}

void link_send_data(struct link *link, uint64_t id, enum frame_channel channel, const void *data,
		    size_t size)
{
	AUTO(strbuf_done) struct strbuf frame = {};

	if (!link_connected(link))
		return;
	frame_append_data(&frame, id, channel, data, size);
	send_all(link, &frame);
}

void link_send_credit(struct link *link, uint64_t id, uint32_t bytes)
{
	AUTO(strbuf_done) struct strbuf frame = {};

	if (!link_connected(link))
		return;
	frame_append_credit(&frame, id, bytes);
	send_all(link, &frame);
}

void link_free(struct link *link)
{
	if (!link)
		return;
	sd_event_source_disable_unref(link->watch);
	retry_stop(&link->retry);
	conn_free(link->conn);
	free(link->path);
	free(link);
}
