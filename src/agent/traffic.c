#include "agent/traffic.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "agent/agent_internal.h"
#include "agent/instance_actor.h"
#include "agent/retry.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "model/instance.h"
#include "net/count.h"

enum { INTERVAL_MS = 30 * 1000, RECORD_MAX = 256 << 10 };

/* The ports of instances that run. */
struct carrier {
	char uid[UID_SIZE];
	struct port *ports;
	size_t port_count;
};

struct carriers {
	struct carrier *list;
	size_t count, size;
};

struct traffic_keeper {
	struct agent *agent;
	pthread_mutex_t lock; /* of all traffic.json: each is read, changed and written in one go */
	struct retry timer;
	struct carriers carriers; /* the worker's while it is at work */
	bool told;                /* that this kernel does not count */
};

/* ---- what the kernel has counted ---- */

struct seen {
	char port_uid[UID_SIZE];
	struct count count;
};

struct snapshot {
	struct seen *list;
	size_t count, size;
	char (*networks)[UID_SIZE]; /* those that were read */
	size_t network_count;
};

static void snapshot_done(struct snapshot *snapshot)
{
	free(snapshot->list);
	free(snapshot->networks);
}
static inline void snapshot_done_autop(struct snapshot *snapshot)
{
	snapshot_done(snapshot);
}

static void take_count(const char *port_uid, const struct count *count, void *data)
{
	struct snapshot *snapshot = data;
	struct seen *seen;

	if (strlen(port_uid) != UID_SIZE - 1)
		return;
	if (snapshot->count == snapshot->size) {
		snapshot->size = snapshot->size ? snapshot->size * 2 : 16;
		snapshot->list =
			mem_realloc(snapshot->list, snapshot->size, sizeof(*snapshot->list));
	}
	seen = &snapshot->list[snapshot->count++];
	memcpy(seen->port_uid, port_uid, sizeof(seen->port_uid));
	seen->count = *count;
}

static bool was_read(const struct snapshot *snapshot, const char *network_uid)
{
	for (size_t i = 0; i < snapshot->network_count; i++)
		if (strcmp(snapshot->networks[i], network_uid) == 0)
			return true;
	return false;
}

static int snapshot_take(struct snapshot *snapshot, const struct agent *agent,
			 const struct port *ports, size_t count, struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++) {
		if (was_read(snapshot, ports[i].network_uid))
			continue;
		snapshot->networks = mem_realloc(snapshot->networks, snapshot->network_count + 1,
						 sizeof(*snapshot->networks));
		memcpy(snapshot->networks[snapshot->network_count++], ports[i].network_uid,
		       UID_SIZE);
		r = count_each(agent->net, ports[i].network_uid, take_count, snapshot, err);
	}
	return r;
}

static struct traffic_way way_of(const struct count_way *way)
{
	return (struct traffic_way){ .inside = { way->inside.bytes, way->inside.packets },
				     .outside = { way->outside.bytes, way->outside.packets } };
}

/* ---- the sums ---- */

static int load(const char *path, struct traffic_record *ret, struct error *err)
{
	AUTO(json_decref) json_t *document = NULL;
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, path, RECORD_MAX, &text, &size);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return error_set(err, r, "%s", path);
	r = json_parse(text, size, RECORD_MAX, &document, err);
	if (r == 0)
		r = traffic_record_decode(document, ret, err);
	return r < 0 ? error_wrap(err, r, "%s", path) : 0;
}

static int store(const char *path, const struct traffic_record *record, struct error *err)
{
	AUTO(json_decref) json_t *document = traffic_record_encode(record);
	AUTO(free) char *text = json_text(document);
	int r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0);

	return r < 0 ? error_set(err, r, "write %s", path) : 0;
}

static bool add_port(struct traffic_record *record, const struct snapshot *snapshot,
		     const struct port *port)
{
	bool changed = false;

	/* Two with one serial, after a crash: the lesser adds nothing. */
	for (size_t i = 0; i < snapshot->count; i++) {
		const struct count *count = &snapshot->list[i].count;
		struct traffic now = { .in = way_of(&count->in), .out = way_of(&count->out) };

		if (strcmp(snapshot->list[i].port_uid, port->uid) == 0)
			changed |= traffic_record_add(record, port, count->serial, &now);
	}
	return changed;
}

static int update(const struct agent *agent, const char *uid, const struct snapshot *snapshot,
		  const struct port *ports, size_t count, struct traffic_record *record,
		  struct error *err)
{
	AUTO(free) char *path = agent_state_path(agent, uid, "traffic.json");
	bool changed = false;
	int r = load(path, record, err);

	/* Sums that cannot be read are gone; the next ones are not to be. */
	if (r < 0) {
		log_error("instance %s: what it has carried is counted anew: %s", uid, err->msg);
		*err = (struct error){};
	}
	for (size_t i = 0; i < count; i++)
		changed |= add_port(record, snapshot, &ports[i]);
	traffic_record_trim(record, ports, count);
	r = changed ? store(path, record, err) : 0;
	/* It was removed just now. */
	return r == -ENOENT ? 0 : r;
}

static int save(const struct agent *agent, const char *uid, const struct snapshot *snapshot,
		const struct port *ports, size_t count, struct traffic_record *ret,
		struct error *err)
{
	AUTO(traffic_record_done) struct traffic_record record = {};
	struct error why = {};
	int r;

	pthread_mutex_lock(&agent->traffic->lock);
	r = update(agent, uid, snapshot, ports, count, &record, &why);
	pthread_mutex_unlock(&agent->traffic->lock);
	if (r < 0)
		return error_say(err, r, "%s", why.msg);
	if (ret) {
		*ret = record;
		record = (struct traffic_record){};
	}
	return 0;
}

int traffic_save(const struct agent *agent, const char *uid, const struct port *ports, size_t count,
		 struct traffic_record *ret, struct error *err)
{
	AUTO(snapshot_done) struct snapshot snapshot = {};
	int r = snapshot_take(&snapshot, agent, ports, count, err);

	return r < 0 ? r : save(agent, uid, &snapshot, ports, count, ret, err);
}

int traffic_save_gone(const struct agent *agent, const char *uid, const struct port *ports,
		      size_t count, struct error *err)
{
	int r = traffic_save(agent, uid, ports, count, NULL, err);

	for (size_t i = 0; i < count && r == 0; i++)
		r = count_forget(agent->net, ports[i].network_uid, ports[i].uid, err);
	return r;
}

/* ---- again and again ---- */

static void carriers_done(struct carriers *carriers)
{
	for (size_t i = 0; i < carriers->count; i++)
		ports_free(carriers->list[i].ports, carriers->list[i].port_count);
	free(carriers->list);
	*carriers = (struct carriers){};
}

static void add_carrier(const struct instance *instance, pid_t pid, void *data)
{
	struct carriers *carriers = data;
	struct carrier *carrier;

	(void) pid;
	if (instance->spec.port_count == 0)
		return;
	if (carriers->count == carriers->size) {
		carriers->size = carriers->size ? carriers->size * 2 : 16;
		carriers->list =
			mem_realloc(carriers->list, carriers->size, sizeof(*carriers->list));
	}
	carrier = &carriers->list[carriers->count++];
	*carrier = (struct carrier){ .port_count = instance->spec.port_count };
	memcpy(carrier->uid, instance->meta.uid, sizeof(carrier->uid));
	carrier->ports = ports_copy(instance->spec.ports, instance->spec.port_count);
}

static void save_all(struct traffic_keeper *keeper)
{
	AUTO(snapshot_done) struct snapshot snapshot = {};
	const struct carriers *carriers = &keeper->carriers;
	struct error err = {};
	int r = 0;

	for (size_t i = 0; i < carriers->count && r == 0; i++)
		r = snapshot_take(&snapshot, keeper->agent, carriers->list[i].ports,
				  carriers->list[i].port_count, &err);
	for (size_t i = 0; i < carriers->count && r == 0; i++)
		r = save(keeper->agent, carriers->list[i].uid, &snapshot, carriers->list[i].ports,
			 carriers->list[i].port_count, NULL, &err);
	if (r < 0)
		log_error("what instances carry cannot be put down: %s", err.msg);
}

static void work(void *data)
{
	save_all(data);
}

static void done(void *data)
{
	struct traffic_keeper *keeper = data;

	carriers_done(&keeper->carriers);
	if (!keeper->told && count_refused(keeper->agent->net)) {
		keeper->told = true;
		log_warning("network: what instances carry is not counted: this kernel lacks "
			    "BPF_SYSCALL, NET_SCH_INGRESS or NET_CLS_BPF");
	}
	retry_in(&keeper->timer, keeper->agent->event, INTERVAL_MS);
}

static void on_timer(void *data)
{
	struct traffic_keeper *keeper = data;

	instance_actors_each_running(keeper->agent, add_carrier, &keeper->carriers);
	pool_submit(keeper->agent->slow_pool, work, done, keeper);
}

struct traffic_keeper *traffic_keeper_new(struct agent *agent)
{
	struct traffic_keeper *keeper = mem_new0(struct traffic_keeper);

	keeper->agent = agent;
	keeper->timer = (struct retry){ .fire = on_timer, .data = keeper };
	pthread_mutex_init(&keeper->lock, NULL);
	retry_in(&keeper->timer, agent->event, INTERVAL_MS);
	return keeper;
}

void traffic_keeper_free(struct traffic_keeper *keeper)
{
	if (!keeper)
		return;
	retry_stop(&keeper->timer);
	carriers_done(&keeper->carriers);
	instance_actors_each_running(keeper->agent, add_carrier, &keeper->carriers);
	save_all(keeper);
	carriers_done(&keeper->carriers);
	pthread_mutex_destroy(&keeper->lock);
	free(keeper);
}
