#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "agent/actors.h"
#include "agent/agent_internal.h"
#include "agent/balancer_round.h"
#include "agent/flow_log.h"
#include "agent/freeze.h"
#include "agent/hold.h"
#include "agent/image_actor.h"
#include "agent/instance_actor.h"
#include "agent/keeper_watch.h"
#include "agent/net_watch.h"
#include "agent/network_actor.h"
#include "agent/probe.h"
#include "agent/router_actor.h"
#include "agent/stream.h"
#include "agent/traffic.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strv.h"
#include "image/store.h"
#include "kern/cgroup.h"
#include "machine/machine.h"
#include "net/node.h"
#include "net/observe.h"

enum {
	/* One step of this many instances at a time: more only fight for the kernel's locks. */
	STEP_THREADS = 6,
	SLOW_THREADS = 8,
	/* Each waits for a client that may be slow. */
	FILES_THREADS = 32,

	SLOT_BITS = 32,
	BOOT_ID_FILE_MAX = 64,
};

uint64_t agent_hash(const json_t *value)
{
	AUTO(free) char *text = json_text(value);
	uint64_t hash = 0xcbf29ce484222325;

	for (const char *p = text; *p; p++)
		hash = (hash ^ (unsigned char) *p) * 0x100000001b3;
	return hash ? hash : 1;
}

static char *make_path(const char *base, const char *uid, const char *name)
{
	return mem_printf("%s/instances/%s%s%s", base, uid, name ? "/" : "", name ? name : "");
}

char *agent_state_path(const struct agent *agent, const char *uid, const char *name)
{
	return make_path(agent->options->state, uid, name);
}

char *agent_run_path(const struct agent *agent, const char *uid, const char *name)
{
	return make_path(agent->options->run, uid, name);
}

char *agent_policy_path(const struct agent *agent)
{
	const struct agent_options *options = agent->options;

	return options->policy ? mem_strdup(options->policy)
			       : mem_printf("%s/policy.json", options->state);
}

uint64_t agent_memory_bytes(void)
{
	struct sysinfo memory = {};

	sysinfo(&memory);
	return (uint64_t) memory.totalram * memory.mem_unit;
}

/* -- id slots --------------------------------------------------------------------------------- */

void agent_slot_mark(struct agent *agent, uint32_t slot)
{
	uint32_t word = slot / SLOT_BITS;

	if (word >= agent->slot_words) {
		uint32_t words = word + 1;

		agent->slots = mem_realloc(agent->slots, words, sizeof(*agent->slots));
		memset(agent->slots + agent->slot_words, 0,
		       (words - agent->slot_words) * sizeof(*agent->slots));
		agent->slot_words = words;
	}
	agent->slots[word] |= 1U << (slot % SLOT_BITS);
}

uint32_t agent_slot_take(struct agent *agent)
{
	uint32_t slot = 0;

	while (slot / SLOT_BITS < agent->slot_words &&
	       (agent->slots[slot / SLOT_BITS] & (1U << (slot % SLOT_BITS))))
		slot++;
	agent_slot_mark(agent, slot);
	return slot;
}

void agent_slot_release(struct agent *agent, uint32_t slot)
{
	if (slot / SLOT_BITS < agent->slot_words)
		agent->slots[slot / SLOT_BITS] &= ~(1U << (slot % SLOT_BITS));
}

/* -- what the link tells ---------------------------------------------------------------------- */

void agent_assign(struct agent *agent, const json_t *resource)
{
	const char *kind = json_string_value(json_object_get(resource, "kind"));

	if (kind && strcmp(kind, "instance") == 0)
		instance_actor_assign(agent, resource);
	else if (!kind || actors_assign(agent, kind, resource) < 0)
		log_error("brumed assigned a resource of an unknown kind '%s'", kind ? kind : "");
	flow_log_changed(agent);
}

void agent_assigned_all(struct agent *agent)
{
	bool first = !agent->complete;

	agent->complete = true;
	instance_actors_complete(agent);
	actors_complete(agent);
	flow_log_changed(agent);
	/* Later the actors take away what is theirs; only an earlier life leaves more than that. */
	if (first)
		agent_collect(agent);
}

void agent_forget(struct agent *agent, const char *kind, const char *uid)
{
	if (strcmp(kind, "instance") == 0)
		instance_actor_forget(agent, uid);
	else
		actors_forget(agent, kind, uid);
	flow_log_changed(agent);
}

void agent_link_changed(struct agent *agent, bool connected)
{
	if (!connected) {
		stream_free_all(agent);
		return;
	}
	agent->session++;
	instance_actors_tell(agent);
	actors_tell(agent);
}

/* -- what the keeper tells -------------------------------------------------------------------- */

struct keeper_client *agent_keeper(struct agent *agent)
{
	return keeper_watch_client(agent->keeper);
}

static void drop_job(struct keeper_client *keeper, enum keeper_type type, const char *job)
{
	if (type == KEEPER_EXITED || type == KEEPER_FAILED)
		keeper_client_forget(keeper, job);
	else if (type == KEEPER_SPAWNED)
		keeper_client_signal(keeper, job, SIGKILL);
}

void agent_drop_job(struct agent *agent, const struct keeper_msg *msg)
{
	struct keeper_client *keeper = agent_keeper(agent);

	if (keeper)
		drop_job(keeper, msg->type, msg->job);
	else if (msg->type != KEEPER_STARTING)
		strv_append_take(
			&agent->dropped_jobs,
			mem_printf("%c%s", msg->type == KEEPER_SPAWNED ? '+' : '-', msg->job));
}

static void drop_jobs(struct agent *agent)
{
	struct keeper_client *keeper = agent_keeper(agent);

	for (char **job = agent->dropped_jobs; keeper && job && *job; job++)
		drop_job(keeper, **job == '+' ? KEEPER_SPAWNED : KEEPER_EXITED, *job + 1);
	strv_free(agent->dropped_jobs);
	agent->dropped_jobs = NULL;
}

/*
 * What runs is known.  Only now brumed is connected to: whoever sees this node online sees what is
 * true, not what was told before a restart.
 */
static void keeper_listed(struct agent *agent)
{
	struct error err = {};

	drop_jobs(agent);
	hold_keeper_listed(agent);
	network_actors_keeper_listed(agent);
	instance_actors_keeper_listed(agent);
	exec_keeper_listed(agent);
	if (!agent->link && link_new(agent, &agent->link, &err) < 0) {
		log_error("%s", err.msg);
		sd_event_exit(agent->event, -EIO);
	}
}

void agent_keeper_event(struct agent *agent, const struct keeper_msg *msg)
{
	if (msg->type == KEEPER_LISTED) {
		keeper_listed(agent);
		return;
	}
	switch (msg->job[0]) {
	case 'i':
		instance_actor_keeper_event(agent, msg);
		break;
	case 'a':
	case 'd':
		network_actor_keeper_event(agent, msg);
		break;
	case 'b':
	case 'x':
		exec_keeper_event(agent, msg);
		break;
	case 'l':
		balancer_round_keeper_event(agent, msg);
		break;
	case 'h':
		probe_keeper_event(agent, msg);
		break;
	default:
		log_debug("keeper: nothing of ours: job '%s'", msg->job);
	}
}

void agent_keeper_lost(struct agent *agent)
{
	drop_jobs(agent);
	instance_actors_keeper_lost(agent);
	network_actors_keeper_lost(agent);
	exec_keeper_lost(agent);
	probe_keeper_lost(agent);
	balancer_rounds_keeper_lost(agent);
	hold_keeper_lost(agent);
}

void agent_wake_instances(struct agent *agent)
{
	router_actors_wake(agent);
	instance_actors_wake(agent);
}

/* -- the start -------------------------------------------------------------------------------- */

static int make_folders(const struct agent_options *options, struct error *err)
{
	const char *const names[][2] = { { options->state, "/instances" },
					 { options->state, "/images" },
					 { options->state, "/agent/images" },
					 { options->run, "/instances" },
					 { options->run, "/oci" } };

	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		AUTO(free) char *path = mem_printf("%s%s", names[i][0], names[i][1]);
		/* Mapped users pass through these, nobody else may look. */
		int r = file_mkdir_all(path, 0711);

		if (r < 0)
			return error_set(err, r, "make %s", path);
	}
	return 0;
}

static int read_boot_id(char ret[BOOT_ID_SIZE], struct error *err)
{
	AUTO(free) char *text = NULL;
	int r = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", BOOT_ID_FILE_MAX, &text,
			  NULL);

	if (r < 0)
		return error_set(err, r, "read the boot id");
	strncat(ret, text, BOOT_ID_SIZE - 1);
	ret[strcspn(ret, "\n")] = '\0';
	return 0;
}

/* The run folder is emptied by a reboot, so an id in it lives as long as what runs. */
static int read_run_id(const char *run, char ret[UID_SIZE], struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/run-id", run);
	AUTO(free) char *text = NULL;
	int r = file_read(AT_FDCWD, path, BOOT_ID_FILE_MAX, &text, NULL);

	if (r == 0 && strlen(text) == UID_SIZE - 1) {
		memcpy(ret, text, UID_SIZE);
		return 0;
	}
	rng_uid(rng_system(), ret);
	r = file_write_atomic(AT_FDCWD, path, ret, UID_SIZE - 1, 0600, 0);
	return r < 0 ? error_set(err, r, "write %s", path) : 0;
}

static int open_rooms(struct agent *agent, struct error *err)
{
	const struct agent_options *options = agent->options;
	AUTO(free) char *images = mem_printf("%s/images", options->state);
	struct image_store_config store = { .dir = images, .worker = options->image_worker };
	struct net_options net = { .prefix = options->prefix, .run_dir = options->run };
	int r = cgroup_host_read(&agent->cgroups);

	if (r < 0)
		return error_set(err, r, "find the cgroup file systems");
	r = image_store_open(&store, &agent->images, err);
	if (r < 0)
		return error_wrap(err, r, "image store");
	r = net_new(&net, &agent->net, err);
	return r < 0 ? error_wrap(err, r, "network") : 0;
}

static int open_loop(struct agent *agent, struct error *err)
{
	int r = sd_event_new(&agent->event);

	if (r < 0)
		return error_set(err, r, "make the event loop");
	r = sd_event_add_signal(agent->event, NULL, SIGTERM, NULL, NULL);
	if (r >= 0)
		r = sd_event_add_signal(agent->event, NULL, SIGINT, NULL, NULL);
	if (r < 0)
		return error_set(err, r, "watch signals");
	r = pool_new(agent->event, STEP_THREADS, &agent->pool, err);
	if (r == 0)
		r = pool_new(agent->event, SLOW_THREADS, &agent->slow_pool, err);
	if (r == 0)
		r = pool_new(agent->event, FILES_THREADS, &agent->files_pool, err);
	return r;
}

static void agent_free(struct agent *agent)
{
	if (!agent)
		return;
	if (agent->link)
		stream_free_all(agent);
	link_free(agent->link);
	keeper_watch_free(agent->keeper);
	hold_free_all(agent);
	image_actors_cancel(agent);
	pool_free(agent->pool);
	pool_free(agent->slow_pool);
	pool_free(agent->files_pool);
	traffic_keeper_free(agent->traffic);
	flow_log_free(agent->flow_log);
	instance_actors_free(agent);
	probes_free(agent);
	actors_free(agent);
	balancer_rounds_free(agent);
	image_store_free(agent->images);
	net_watch_free(agent->net_watch);
	net_free(agent->net);
	if (agent->found)
		net_observed_done(agent->found);
	free(agent->found);
	cgroup_host_free(agent->cgroups);
	strv_free(agent->dropped_jobs);
	free(agent->slots);
	sd_event_unref(agent->event);
	free(agent);
}
DEFINE_AUTO(struct agent *, agent_free)

/* Many descriptors pass through; few arenas keep what threads have freed small. */
static void set_limits(void)
{
	struct rlimit limit;

	mallopt(M_ARENA_MAX, 2);
	mallopt(M_TRIM_THRESHOLD, 64 * 1024);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	signal(SIGPIPE, SIG_IGN);
}

static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Measures before the loop runs; the node's hello then has the answer at once. */
static void tell_machines(const struct agent_options *options)
{
	struct machine_host host;

	machine_host(options->vm_backend, &host);
	log_info("virtual machines: %s (%s)", host.backend[0] ? host.backend : "none", host.why);
}

int agent_run(const struct agent_options *options, struct error *err)
{
	AUTO(agent_free) struct agent *agent = mem_new0(struct agent);
	AUTO(free) char *lock = mem_printf("%s/agentd.lock", options->run);
	int r;

	set_limits();
	block_signals();
	umask(022);
	agent->options = options;
	rng_system()->fill(rng_system(), &agent->salt, sizeof(agent->salt));
	r = make_folders(options, err);
	if (r < 0)
		return r;
	AUTO(fd_close) int lock_fd = file_lock_pid(lock);
	if (lock_fd == -EWOULDBLOCK)
		return error_say(err, lock_fd, "another brume-agentd runs with %s", options->run);
	if (lock_fd < 0)
		return error_set(err, lock_fd, "lock %s", lock);
	r = read_boot_id(agent->boot_id, err);
	if (r == 0)
		r = read_run_id(options->run, agent->run_id, err);
	if (r == 0)
		r = open_rooms(agent, err);
	if (r == 0)
		r = open_loop(agent, err);
	if (r < 0)
		return r;
	agent_scan(agent);
	freeze_undo_all(agent);
	agent->traffic = traffic_keeper_new(agent);
	r = flow_log_new(agent, &agent->flow_log, err);
	if (r == 0)
		r = net_watch_new(agent, &agent->net_watch, err);
	if (r == 0)
		r = keeper_watch_new(agent, &agent->keeper, err);
	if (r < 0)
		return r;
	log_info("node %s: state %s, run %s, prefix %s", options->node, options->state,
		 options->run, options->prefix);
	tell_machines(options);
	r = sd_event_loop(agent->event);
	return r < 0 ? error_set(err, r, "event loop") : 0;
}
