/*
 * A network's flow log over a stream, from any place and on as it grows; or the flows that are open
 * now, log or not.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/document_stream.h"
#include "agent/flow_log.h"
#include "agent/flow_table.h"
#include "agent/logfeed.h"
#include "agent/network_actor.h"
#include "agent/router_actor.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "model/network.h"
#include "model/router.h"
#include "net/flow.h"

enum { ANSWER_MAX = 8 << 20 };

/* A look at what is open. */
struct flow_look {
	struct agent *agent;
	struct flow_table *table;
	char uid[UID_SIZE]; /* of the network */
	char **routers;     /* that join it */
	const char *router; /* that is being looked at; NULL: the node */
	const struct conntrack_flow *flow;
	struct strbuf *text;
	uint64_t left_out;
};

struct flows {
	struct logfeed feed;
	bool follow;
};

/* ---- what is open */

static void look_free(void *data)
{
	struct flow_look *look = data;

	flow_table_free(look->table);
	strv_free(look->routers);
	free(look);
}

static void put_open(const struct flow_network *network, void *data)
{
	struct flow_look *look = data;

	if (strcmp(flow_network_uid(network), look->uid) != 0)
		return;
	if (look->text->size > ANSWER_MAX) {
		look->left_out++;
		return;
	}
	flow_table_line(look->table, network, look->router, look->flow, NULL, look->text);
	strbuf_puts(look->text, "\n");
}

static void take_open(const struct conntrack_flow *flow, void *data)
{
	struct flow_look *look = data;

	look->flow = flow;
	flow_table_match(look->table, look->router, flow, put_open, look);
}

static int look_work(void *data, struct strbuf *ret, struct error *err)
{
	struct flow_look *look = data;
	int r;

	look->text = ret;
	r = flow_dump(look->agent->net, NULL, take_open, look, err);
	for (size_t i = 0; r == 0 && i < strv_count(look->routers); i++) {
		look->router = look->routers[i];
		r = flow_dump(look->agent->net, look->router, take_open, look, err);
	}
	if (look->left_out)
		strbuf_printf(ret, "{\"left_out\":%llu}\n", (unsigned long long) look->left_out);
	return r;
}

static void add_router(const struct router *router, bool made, void *data)
{
	struct flow_look *look = data;

	if (made && router_find_network(&router->spec, look->uid))
		strv_append(&look->routers, router->meta.uid);
}

static void look_open(struct stream *stream, const char *network_uid,
		      const struct stream_ops **ret_ops, void **ret_data)
{
	static const struct document_ops ops = { .work = look_work, .free = look_free };
	struct flow_look *look = mem_new0(struct flow_look);

	look->agent = stream_agent(stream);
	look->table = flow_log_table(look->agent);
	snprintf(look->uid, sizeof(look->uid), "%s", network_uid);
	router_actors_each(look->agent, add_router, look);
	document_stream_open(stream, look->agent->slow_pool, &ops, look, ret_ops, ret_data);
}

/* ---- the log */

struct search {
	const char *uid;
	const char *name; /* borrowed; NULL: there is no such network */
	bool logged;
};

static void look_at_network(const struct network *network, uint16_t zone, void *data)
{
	struct search *search = data;

	(void) zone;
	if (strcmp(network->meta.uid, search->uid) != 0)
		return;
	search->name = network->meta.name;
	search->logged = network->spec.flow_log;
}

static void at_end(void *data)
{
	struct flows *flows = data;
	struct search search = { .uid = flows->feed.uid };

	network_actors_each(flows->feed.agent, look_at_network, &search);
	if (logfeed_is_over(&flows->feed) || !search.logged)
		stream_close_code(flows->feed.stream, 0);
}

static int log_begin(struct flows *flows, struct error *err)
{
	struct search search = { .uid = flows->feed.uid };
	AUTO(free) char *folder = flow_log_folder(flows->feed.agent, flows->feed.uid);
	AUTO(free) char *path = mem_printf("%s/" FLOW_LOG_NAME, folder);

	network_actors_each(flows->feed.agent, look_at_network, &search);
	if (!search.name)
		return error_say(err, -ENOENT, "the network is not on this node");
	if (!search.logged && access(path, F_OK) < 0)
		return error_say(err, -ENOENT,
				 "network \"%s\" has no flow log: switch it on with brume network "
				 "update --flow-log %s",
				 search.name, search.name);
	logfeed_start(&flows->feed, TAKE_PTR(folder), FLOW_LOG_NAME, flows->follow);
	return 0;
}

/* ---- the stream */

static void flows_writable(void *data)
{
	struct flows *flows = data;

	logfeed_pump(&flows->feed);
}

static void flows_free(void *data)
{
	struct flows *flows = data;

	logfeed_done(&flows->feed);
	free(flows);
}

static const struct stream_ops flows_ops = { NULL, flows_writable, flows_free };

static int begin(struct flows *flows, const json_t *arguments, bool *ret_open, struct error *err)
{
	struct json_reader in = { .err = err, .where = "flows" };
	int r;

	logfeed_read_arguments(&flows->feed, &in, arguments);
	json_read_bool(&in, arguments, "follow", &flows->follow);
	json_read_bool(&in, arguments, "open", ret_open);
	r = json_reader_finish(&in, arguments);
	return r < 0 || *ret_open ? r : log_begin(flows, err);
}

int flows_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	       void **ret_data, struct error *err)
{
	struct flows *flows = mem_new0(struct flows);
	bool open = false;
	int r;

	flows->feed = (struct logfeed){
		.stream = stream, .agent = stream_agent(stream), .at_end = at_end, .data = flows
	};
	r = begin(flows, arguments, &open, err);
	if (r == 0 && open)
		look_open(stream, flows->feed.uid, ret_ops, ret_data);
	if (r < 0 || open) {
		flows_free(flows);
		return r;
	}
	*ret_ops = &flows_ops;
	*ret_data = flows;
	return 0;
}

static void look_again(void *data, void *argument)
{
	struct flows *flows = data;

	(void) argument;
	logfeed_go_on(&flows->feed);
}

void flow_streams_look_again(struct agent *agent)
{
	stream_each(agent, &flows_ops, look_again, NULL);
}
