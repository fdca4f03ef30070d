/*
 * What instances have carried, over a stream: one JSON document about all of a project, some, or
 * those on one network.
 *
 * The loop's thread says which ports there are, a worker brings the sums up to date and writes the
 * answer.  Sums are put down before they are told, so nobody ever hears less than before.
 */
#include <errno.h>
#include <string.h>

#include "agent/agent_internal.h"
#include "agent/document_stream.h"
#include "agent/instance_actor.h"
#include "agent/traffic.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "model/instance.h"
#include "model/member.h"
#include "net/count.h"

enum { ANSWER_MAX = 4 << 20 };

struct subject {
	char uid[UID_SIZE];
	char *name;
	struct port *ports;
	size_t port_count;
};

struct inquiry {
	struct agent *agent;
	char *project;
	char **uids;                /* NULL: all of the project */
	char network_uid[UID_SIZE]; /* "": all networks */
	struct subject *list;
	size_t count, size;
};

static void inquiry_free(void *data)
{
	struct inquiry *inquiry = data;

	for (size_t i = 0; i < inquiry->count; i++) {
		free(inquiry->list[i].name);
		ports_free(inquiry->list[i].ports, inquiry->list[i].port_count);
	}
	free(inquiry->list);
	free(inquiry->project);
	strv_free(inquiry->uids);
	free(inquiry);
}

static bool is_asked_for(const struct inquiry *inquiry, const struct instance *instance)
{
	if (strcmp(instance->meta.project, inquiry->project) != 0)
		return false;
	for (size_t i = 0; inquiry->uids && inquiry->uids[i]; i++)
		if (strcmp(inquiry->uids[i], instance->meta.uid) == 0)
			return true;
	return !inquiry->uids;
}

static void add_subject(const struct instance *instance, bool runs, void *data)
{
	struct inquiry *inquiry = data;
	struct subject *subject;

	(void) runs;
	if (!is_asked_for(inquiry, instance))
		return;
	if (inquiry->count == inquiry->size) {
		inquiry->size = inquiry->size ? inquiry->size * 2 : 16;
		inquiry->list = mem_realloc(inquiry->list, inquiry->size, sizeof(*inquiry->list));
	}
	subject = &inquiry->list[inquiry->count++];
	*subject = (struct subject){ .name = mem_strdup(instance->meta.name),
				     .port_count = instance->spec.port_count,
				     .ports = ports_copy(instance->spec.ports,
							 instance->spec.port_count) };
	memcpy(subject->uid, instance->meta.uid, sizeof(subject->uid));
}

/* ---- on a worker ---- */

/* `out` ends in a '[' or another port. */
static void put(struct strbuf *out, const struct inquiry *inquiry, const struct subject *subject,
		const char *network, const char *network_uid, const struct port *port,
		const struct traffic_port *sum)
{
	AUTO(json_decref)
	json_t *object = traffic_encode(sum ? &sum->sum : &(struct traffic){});
	AUTO(free) char *text = NULL;

	if (inquiry->network_uid[0] && strcmp(inquiry->network_uid, network_uid) != 0)
		return;
	json_object_set_new(object, "instance", json_string(subject->name));
	json_object_set_new(object, "instance_uid", json_string(subject->uid));
	json_put_string(object, "network", network);
	json_put_string(object, "network_uid", network_uid);
	if (port) {
		json_put_string(object, "interface", port->interface);
		json_put_string(object, "port_uid", port->uid);
	}
	text = json_text(object);
	strbuf_printf(out, "%s%s", out->data[out->size - 1] == '[' ? "" : ",", text);
}

static int tell(struct strbuf *out, const struct inquiry *inquiry, const struct subject *subject,
		struct error *err)
{
	AUTO(traffic_record_done) struct traffic_record record = {};
	int r = traffic_save(inquiry->agent, subject->uid, subject->ports, subject->port_count,
			     &record, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < subject->port_count; i++) {
		const struct port *port = &subject->ports[i];

		if (!port->leaving)
			put(out, inquiry, subject, port->network, port->network_uid, port,
			    traffic_record_find(&record, port->network_uid));
	}
	/* Those that it was on. */
	for (size_t i = 0; i < record.count; i++) {
		const struct traffic_port *sum = &record.ports[i];
		bool present = false;

		for (size_t n = 0; n < subject->port_count; n++)
			present |= !subject->ports[n].leaving &&
				   strcmp(subject->ports[n].network_uid, sum->network_uid) == 0;
		if (!present)
			put(out, inquiry, subject, sum->network, sum->network_uid, NULL, sum);
	}
	return out->size <= ANSWER_MAX
		       ? 0
		       : error_say(err, -E2BIG, "usage: too many ports for one answer");
}

static int work(void *data, struct strbuf *ret, struct error *err)
{
	const struct inquiry *inquiry = data;
	int r = 0;

	strbuf_puts(ret, "{\"ports\":[");
	for (size_t i = 0; i < inquiry->count && r == 0; i++)
		r = tell(ret, inquiry, &inquiry->list[i], err);
	strbuf_printf(ret, "],\"counts\":%s}",
		      count_refused(inquiry->agent->net) ? "false" : "true");
	return r;
}

/* ---- on the loop ---- */

static int read_arguments(struct inquiry *inquiry, const json_t *arguments, struct error *err)
{
	struct json_reader in = { .err = err, .where = "usage" };
	int r;

	json_read_any(&in, arguments, "kind", NULL);
	json_read_string(&in, arguments, "project", &inquiry->project);
	json_read_strv(&in, arguments, "uids", &inquiry->uids);
	member_read_uid(&in, arguments, "network_uid", inquiry->network_uid);
	r = json_reader_finish(&in, arguments);
	return r == 0 && !inquiry->project ? error_say(err, -EINVAL, "usage.project: is missing")
					   : r;
}

int usage_open_stream(struct stream *stream, const json_t *arguments,
		      const struct stream_ops **ret_ops, void **ret_data, struct error *err)
{
	static const struct document_ops ops = { .work = work, .free = inquiry_free };
	struct inquiry *inquiry = mem_new0(struct inquiry);
	int r;

	inquiry->agent = stream_agent(stream);
	r = read_arguments(inquiry, arguments, err);
	if (r < 0) {
		inquiry_free(inquiry);
		return r;
	}
	instance_actors_each(inquiry->agent, add_subject, inquiry);
	document_stream_open(stream, inquiry->agent->slow_pool, &ops, inquiry, ret_ops, ret_data);
	return 0;
}
