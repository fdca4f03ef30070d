#pragma once
/*
 * agent/agent_internal.h - what the actors share: the agent itself.
 *
 * All of it belongs to the loop's thread, except `options`, `images`, `net`, `cgroups`,
 * `traffic` and the ids, which never change after the start and may be used by steps on worker
 * threads.
 */
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "agent/actors.h"
#include "agent/agent.h"
#include "agent/link.h"
#include "base/clock.h"
#include "base/json.h"
#include "keeper/client.h"

struct balancer_round;
struct cgroup_host;
struct files;
struct flow_log;
struct hold;
struct image_store;
struct instance_actor;
struct keeper_watch;
struct net_watch;
struct net;
struct net_observed;
struct pool;
struct probe;
struct stream;
struct traffic_keeper;

enum { BOOT_ID_SIZE = 37 };

struct agent {
	const struct agent_options *options;
	char boot_id[BOOT_ID_SIZE];
	char run_id[UID_SIZE]; /* of the run folder: a new one says that the machine was rebooted */
	struct cgroup_host *cgroups;
	struct image_store *images;
	struct net *net;
	struct net_observed *found; /* what there was of networks at the start; NULL: not known */

	sd_event *event;
	struct pool *pool;       /* steps: milliseconds */
	struct pool *slow_pool;  /* pulls, imports, exports: minutes */
	struct pool *files_pool; /* copies: as long as their clients take */
	struct link *link;
	struct keeper_watch *keeper;
	struct net_watch *net_watch;
	struct traffic_keeper *traffic;
	struct flow_log *flow_log;

	struct instance_actor *instances;       /* hash by uid */
	struct actor *actors[ACTOR_KIND_COUNT]; /* hashes by uid */
	struct balancer_round *balancer_rounds; /* checks of their members under way */
	struct hold *holds;                     /* hash by job */
	struct stream *streams;
	struct files *files;
	char **dropped_jobs;  /* strv; to be dropped when the keeper has named all */
	struct probe *probes; /* health checks under way */
	uint64_t probe_number;
	uint32_t trace_slots; /* bitmap of those in use, see net/trace.h */
	uint32_t *slots;      /* bitmap of id slots in use */
	uint32_t slot_words;
	uint32_t salt;    /* in the names of exec jobs: those of an earlier agent are told apart */
	uint32_t session; /* counts connections to brumed: who was not named in this one is garbage
			   */
	bool complete; /* brumed has named everything at least once: what is unknown is garbage */
	bool collecting, collect_again;
};

/* agent.c: what the link and the keeper tell. */
void agent_assign(struct agent *agent, const json_t *resource);
void agent_assigned_all(struct agent *agent);
void agent_forget(struct agent *agent, const char *kind, const char *uid);
void agent_link_changed(struct agent *agent, bool connected);
void agent_keeper_event(struct agent *agent, const struct keeper_msg *msg);
void agent_keeper_lost(struct agent *agent);

/* The keeper, when it is connected and has named all jobs; else NULL. */
struct keeper_client *agent_keeper(struct agent *agent);

/*
 * A job that nobody waits for any more, or of an earlier agent: it is ended, and forgotten when it
 * has ended.  While the keeper still lists its jobs that is put off until it has named all.
 */
void agent_drop_job(struct agent *agent, const struct keeper_msg *msg);

/* Something that instances, or routers, may wait for has changed. */
void agent_wake_instances(struct agent *agent);

/* garbage.c: looks at the node's folders and the kernel, and removes what nobody wants. */
void agent_scan(struct agent *agent);
void agent_collect(struct agent *agent);

/* Id slots: the lowest free one; the caller gives it back. */
uint32_t agent_slot_take(struct agent *agent);
void agent_slot_mark(struct agent *agent, uint32_t slot);
void agent_slot_release(struct agent *agent, uint32_t slot);

/* Of a status' text, to see whether it changed; never 0. */
uint64_t agent_hash(const json_t *value);

/* All memory of the node. */
uint64_t agent_memory_bytes(void);

/* Folders; the caller frees. */
char *agent_state_path(const struct agent *agent, const char *uid, const char *name);
char *agent_run_path(const struct agent *agent, const char *uid, const char *name);
/* The file of what the node gives away (agent/policy.h). */
char *agent_policy_path(const struct agent *agent);
