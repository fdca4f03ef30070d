#include "agent/flow_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uthash.h>

#include "agent/agent_internal.h"
#include "agent/flow_table.h"
#include "agent/instance_actor.h"
#include "agent/network_actor.h"
#include "agent/retry.h"
#include "agent/router_actor.h"
#include "agent/stream.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "keeper/joblog.h"
#include "model/instance.h"
#include "model/network.h"
#include "model/router.h"
#include "net/flow.h"

enum {
	FILE_MAX_BYTES = 4 * 1024 * 1024,
	FILES = 4,
	TEXT_MAX = 128 * 1024, /* of one network that waits to be written */
	READ_MAX = 512,        /* messages, before others have their turn */
	ROUNDS_MAX = 64,       /* of that, before the loop is asked what is new */
	CHANGED_MS = 50,       /* what changes at once is looked at once */
	NS_PER_S = 1000000000,
};

/* Who tells that flows end: the node, or a router. */
struct flow_source {
	UT_hash_handle hh;
	char router[UID_SIZE]; /* "": the node */
	struct flow_log *log;
	int fd;
	uint32_t lost; /* told already */
	struct flow_timeouts timeouts;
	bool gone; /* nobody wants it any more */
	bool more; /* there was more than it had time for */

	/* The loop's. */
	sd_event_source *io;
	bool readable;
};

struct flow_file {
	UT_hash_handle hh;
	char uid[UID_SIZE]; /* of the network */
	struct joblog log;
	struct strbuf text; /* lines that are not written yet */
};

/* What is wanted. */
struct flow_plan {
	struct flow_table *table;
	char **networks; /* uids of those with a log */
	char **routers;  /* uids of those that join one of them */
	bool complete;   /* all that should be is known */
};

struct flow_log {
	struct agent *agent;
	struct pool *pool;
	struct retry timer;
	bool busy, again;

	/* The worker's while `busy`. */
	struct flow_plan *plan; /* to be carried out */
	struct flow_table *table;
	struct flow_source *sources;
	struct flow_file *files;
	bool accounting; /* the node's */
	bool settled;    /* it was made what it is to be, once */
	bool planned;    /* a plan was carried out just now */
	char *buffer;    /* for joblog_write() */
};

static void plan_free(struct flow_plan *plan)
{
	if (!plan)
		return;
	flow_table_free(plan->table);
	strv_free(plan->networks);
	strv_free(plan->routers);
	free(plan);
}

char *flow_log_folder(const struct agent *agent, const char *network_uid)
{
	return mem_printf("%s/networks/%s", agent->options->state, network_uid);
}

/* ---- on the worker: lines */

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void file_flush(struct flow_log *log, struct flow_file *file)
{
	struct joblog_batch batch = { .stream = LOGLINE_STDOUT,
				      .time_ns = now_ns(),
				      .text = file->text.data,
				      .size = file->text.size };

	if (file->text.size == 0)
		return;
	joblog_write(&file->log, &batch, log->buffer);
	strbuf_consume(&file->text, file->text.size);
}

static void flush_all(struct flow_log *log)
{
	struct flow_file *file;

	for (file = log->files; file; file = file->hh.next)
		file_flush(log, file);
}

struct match {
	struct flow_log *log;
	const char *router_uid;
	const struct conntrack_flow *flow;
	const char *network_uid;              /* NULL: of every network */
	const struct flow_timeouts *timeouts; /* NULL: it is open */
};

static void put_line(const struct flow_network *network, void *data)
{
	const struct match *match = data;
	const char *uid = flow_network_uid(network);
	struct flow_log *log = match->log;
	struct flow_file *file;

	HASH_FIND_STR(log->files, uid, file);
	if (!file || (match->network_uid && strcmp(match->network_uid, uid) != 0))
		return;
	flow_table_line(log->table, network, match->router_uid, match->flow, match->timeouts,
			&file->text);
	strbuf_puts(&file->text, "\n");
	if (file->text.size > TEXT_MAX)
		file_flush(log, file);
}

static void take_flow(const struct conntrack_flow *flow, void *data)
{
	struct match *match = data;

	match->flow = flow;
	flow_table_match(match->log->table, match->router_uid, flow, put_line, match);
}

/* ---- on the worker: reading */

static const char *router_of(const struct flow_source *source)
{
	return source->router[0] ? source->router : NULL;
}

/* Whose they were nobody knows, so all who might have been meant are told. */
static void tell_lost(struct flow_log *log, const struct flow_source *source, uint32_t count)
{
	struct flow_file *file;

	for (file = log->files; file; file = file->hh.next)
		if (!source->router[0] || flow_table_joins(log->table, source->router, file->uid))
			strbuf_printf(&file->text, "{\"lost\":%u}\n", count);
}

/* True when there is more. */
static bool read_source(struct flow_log *log, struct flow_source *source)
{
	struct match match = { .log = log,
			       .router_uid = router_of(source),
			       .timeouts = &source->timeouts };
	uint32_t lost = source->lost;
	bool more = conntrack_read(source->fd, READ_MAX, take_flow, &match, &lost) > 0;

	if (lost != source->lost)
		tell_lost(log, source, lost - source->lost);
	source->lost = lost;
	return more;
}

static void read_sources(struct flow_log *log)
{
	struct flow_source *source;
	bool more = true;

	for (source = log->sources; source; source = source->hh.next)
		source->more = source->fd >= 0 && !source->gone;
	for (int i = 0; i < ROUNDS_MAX && more; i++) {
		more = false;
		for (source = log->sources; source; source = source->hh.next) {
			if (source->more)
				source->more = read_source(log, source);
			more = more || source->more;
		}
		flush_all(log);
	}
}

/* ---- on the worker: what is wanted */

static void warn(const char *what, const struct error *err)
{
	log_warning("flow log: %s: %s", what, err->msg);
}

static void dump(struct flow_log *log, const char *router_uid, const char *network_uid)
{
	struct match match = { .log = log, .router_uid = router_uid, .network_uid = network_uid };
	struct error err = {};

	if (flow_dump(log->agent->net, router_uid, take_flow, &match, &err) < 0)
		warn("what is open already is not told", &err);
}

/* What was there before it was listened to may end unheard, so it is put down as it is. */
static void dump_all(struct flow_log *log, const char *network_uid)
{
	struct flow_source *source;

	for (source = log->sources; source; source = source->hh.next)
		if (source->fd >= 0 && !source->gone)
			dump(log, router_of(source), network_uid);
}

static struct flow_source *find_source(struct flow_log *log, const char *router_uid)
{
	struct flow_source *source;

	HASH_FIND_STR(log->sources, router_uid, source);
	if (source)
		return source;
	source = mem_new0(struct flow_source);
	snprintf(source->router, sizeof(source->router), "%s", router_uid);
	source->log = log;
	source->fd = -1;
	HASH_ADD_STR(log->sources, router, source);
	return source;
}

/* True when flows that are there are not counted, and may not be heard of. */
static bool open_source(struct flow_log *log, const char *router_uid)
{
	struct flow_source *source = find_source(log, router_uid);
	const char *router = router_of(source);
	struct error err = {};
	bool changed = false;

	source->gone = false;
	if (source->fd >= 0)
		return false;
	if (flow_read_timeouts(log->agent->net, router, &source->timeouts, &err) < 0)
		warn("when flows ended is not exact", &err);
	/* First the ear, then what makes flows heard: none falls between. */
	if (flow_watch(log->agent->net, router, &source->fd, &err) < 0) {
		source->fd = -1;
		warn(router ? router : "node", &err);
		return false;
	}
	if (flow_account(log->agent->net, router, true, &changed, &err) < 0)
		warn("flows are not counted", &err);
	return changed;
}

static void close_sources(struct flow_log *log, const struct flow_plan *plan)
{
	struct flow_source *source;

	for (source = log->sources; source; source = source->hh.next) {
		if (source->router[0] ? strv_contains(plan->routers, source->router)
				      : plan->networks != NULL)
			continue;
		if (!source->gone && source->router[0])
			/* It may have gone itself. */
			(void) flow_account(log->agent->net, source->router, false, NULL, NULL);
		source->gone = true;
	}
}

/* The log begins, or goes on after nobody has listened. */
static void file_begin(struct flow_log *log, const char *uid, bool *ret_new)
{
	AUTO(free) char *folder = flow_log_folder(log->agent, uid);
	AUTO(free) char *path = mem_printf("%s/" FLOW_LOG_NAME, folder);
	struct flow_file *file = mem_new0(struct flow_file);
	char from[CLOCK_RFC3339_SIZE], to[CLOCK_RFC3339_SIZE];
	struct stat st;
	int r = file_mkdir_all(folder, 0711);

	if (r < 0)
		log_warning("flow log: cannot create %s: %s", folder, strerror(-r));
	*ret_new = stat(path, &st) < 0;
	snprintf(file->uid, sizeof(file->uid), "%s", uid);
	joblog_init(&file->log, path, FILE_MAX_BYTES, FILES);
	HASH_ADD_STR(log->files, uid, file);
	if (*ret_new)
		return;
	/* Whatever ended before was put down by then. */
	clock_format_rfc3339((int64_t) st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000,
			     from);
	clock_format_rfc3339(clock_realtime_ms(clock_system()), to);
	strbuf_printf(&file->text, "{\"gap\":{\"from\":\"%s\",\"to\":\"%s\"}}\n", from, to);
}

static void file_free(struct flow_log *log, struct flow_file *file)
{
	HASH_DEL(log->files, file);
	joblog_done(&file->log);
	strbuf_done(&file->text);
	free(file);
}

static void close_files(struct flow_log *log, const struct flow_plan *plan)
{
	struct flow_file *file, *next;

	HASH_ITER(hh, log->files, file, next)
	{
		if (strv_contains(plan->networks, file->uid))
			continue;
		/* Of a network that is deleted the folder has gone, too. */
		file->text.size = 0;
		file_free(log, file);
	}
}

static void switch_off(struct flow_log *log)
{
	struct error err = {};

	if (flow_account(log->agent->net, NULL, false, NULL, &err) < 0)
		warn("the node's settings are not put back", &err);
	log->accounting = false;
	log->settled = true;
}

static void carry_out(struct flow_log *log, struct flow_plan *plan)
{
	bool changed = false;

	flow_table_follow(plan->table, log->table, clock_realtime_ms(clock_system()));
	flow_table_free(log->table);
	log->table = plan->networks ? TAKE_PTR(plan->table) : NULL;
	close_files(log, plan);
	close_sources(log, plan);
	if (plan->networks) {
		changed = open_source(log, "");
		log->accounting = true;
	} else if (plan->complete && (log->accounting || !log->settled)) {
		switch_off(log);
	}
	for (size_t i = 0; i < strv_count(plan->routers); i++)
		if (open_source(log, plan->routers[i]))
			dump(log, plan->routers[i], NULL);
	for (size_t i = 0; i < strv_count(plan->networks); i++) {
		struct flow_file *file;
		bool new;

		HASH_FIND_STR(log->files, plan->networks[i], file);
		if (file)
			continue;
		file_begin(log, plan->networks[i], &new);
		if (new || changed)
			dump_all(log, plan->networks[i]);
	}
	flush_all(log);
}

static void work(void *data)
{
	struct flow_log *log = data;

	/* What has ended until now is of those who were there until now. */
	if (log->table)
		read_sources(log);
	log->planned = log->plan != NULL;
	if (log->plan)
		carry_out(log, log->plan);
	plan_free(log->plan);
	log->plan = NULL;
}

/* ---- on the loop: what there is */

static void add_network(const struct network *network, uint16_t zone, void *data)
{
	struct flow_plan *plan = data;

	flow_table_add_network(plan->table, network, zone);
	/* Without its zone nothing could be told to be an isolated one's. */
	if (network->spec.flow_log && (zone || !network->spec.isolated))
		strv_append(&plan->networks, network->meta.uid);
}

static void add_router(const struct router *router, bool made, void *data)
{
	const struct router_spec *spec = &router->spec;
	AUTO(strv_free) char **uids = NULL;
	struct flow_plan *plan = data;
	bool logged = false;

	for (size_t i = 0; i < spec->network_count; i++) {
		strv_append(&uids, spec->networks[i].uid);
		logged = logged || strv_contains(plan->networks, spec->networks[i].uid);
	}
	flow_table_add_router(plan->table, router->meta.uid, router->meta.name, uids);
	if (made && logged)
		strv_append(&plan->routers, router->meta.uid);
}

static void add_instance(const struct instance *instance, bool runs, void *data)
{
	struct flow_plan *plan = data;

	(void) runs;
	for (size_t i = 0; i < instance->spec.port_count; i++)
		flow_table_add_port(plan->table, instance->meta.uid, instance->meta.name,
				    instance->meta.created_ms, &instance->spec.ports[i]);
}

static struct flow_plan *make_plan(struct agent *agent)
{
	struct flow_plan *plan = mem_new0(struct flow_plan);

	plan->table = flow_table_new();
	plan->complete = agent->complete;
	network_actors_each(agent, add_network, plan);
	router_actors_each(agent, add_router, plan);
	instance_actors_each(agent, add_instance, plan);
	return plan;
}

struct flow_table *flow_log_table(struct agent *agent)
{
	struct flow_plan *plan = make_plan(agent);
	struct flow_table *table = TAKE_PTR(plan->table);

	plan_free(plan);
	return table;
}

static void look_for_log(const struct network *network, uint16_t zone, void *data)
{
	bool *found = data;

	(void) zone;
	*found = *found || network->spec.flow_log;
}

/* Where nobody wants a log, and nobody did, nothing is done. */
static bool is_wanted(struct flow_log *log)
{
	bool found = false;

	if (log->sources || log->files || (log->agent->complete && !log->settled))
		return true;
	network_actors_each(log->agent, look_for_log, &found);
	return found;
}

/* ---- on the loop: turns */

static void done(void *data);

static void submit(struct flow_log *log)
{
	struct flow_source *source;

	for (source = log->sources; source; source = source->hh.next)
		source->readable = false;
	log->busy = true;
	pool_submit(log->pool, work, done, log);
}

static void update(struct flow_log *log)
{
	log->again = log->busy;
	if (log->busy || !is_wanted(log))
		return;
	log->plan = make_plan(log->agent);
	submit(log);
}

static int on_readable(sd_event_source *io, int fd, uint32_t revents, void *data)
{
	struct flow_source *source = data;

	(void) fd;
	(void) revents;
	/* Until the worker has read it, it says nothing new. */
	sd_event_source_set_enabled(io, SD_EVENT_OFF);
	source->readable = true;
	if (!source->log->busy)
		submit(source->log);
	return 0;
}

static void source_free(struct flow_source *source)
{
	HASH_DEL(source->log->sources, source);
	sd_event_source_disable_unref(source->io);
	fd_close(source->fd);
	free(source);
}

/* True when it is to be read at once. */
static bool source_turn(struct flow_source *source)
{
	int r = 0;

	if (!source->io)
		r = sd_event_add_io(source->log->agent->event, &source->io, source->fd, EPOLLIN,
				    on_readable, source);
	else if (!source->readable)
		r = sd_event_source_set_enabled(source->io, SD_EVENT_ON);
	if (r < 0)
		log_warning("flow log: cannot wait for flows: %s", strerror(-r));
	return source->more || source->readable;
}

static void done(void *data)
{
	struct flow_log *log = data;
	struct flow_source *source, *next;
	bool more = false;

	log->busy = false;
	HASH_ITER(hh, log->sources, source, next)
	{
		if (source->gone || source->fd < 0)
			source_free(source);
		else
			more = source_turn(source) || more;
	}
	if (log->planned)
		flow_streams_look_again(log->agent);
	if (log->again)
		update(log);
	if (more && !log->busy)
		submit(log);
}

static void on_timer(void *data)
{
	update(data);
}

void flow_log_changed(struct agent *agent)
{
	struct flow_log *log = agent->flow_log;

	if (!retry_waiting(&log->timer))
		retry_in(&log->timer, agent->event, CHANGED_MS);
}

int flow_log_new(struct agent *agent, struct flow_log **ret, struct error *err)
{
	struct flow_log *log = mem_new0(struct flow_log);
	int r = pool_new(agent->event, 1, &log->pool, err);

	if (r < 0) {
		free(log);
		return r;
	}
	log->agent = agent;
	log->timer = (struct retry){ .fire = on_timer, .data = log };
	log->buffer = mem_zalloc(JOBLOG_BUFFER_SIZE);
	*ret = log;
	return 0;
}

void flow_log_free(struct flow_log *log)
{
	struct flow_source *source, *next_source;
	struct flow_file *file, *next_file;

	if (!log)
		return;
	retry_stop(&log->timer);
	pool_free(log->pool);
	if (log->table)
		read_sources(log);
	HASH_ITER(hh, log->sources, source, next_source)
	source_free(source);
	HASH_ITER(hh, log->files, file, next_file)
	file_free(log, file);
	flow_table_free(log->table);
	plan_free(log->plan);
	free(log->buffer);
	free(log);
}
