#pragma once
/*
 * model/instance.h - something that runs: what was asked for and what is observed.
 *
 * control/ writes the spec and hands addresses out, agent/ carries it out and reports the status.
 * Decoders check everything that can be checked without knowing other resources.
 * No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "model/health.h"
#include "model/meta.h"
#include "model/port.h"
#include "model/publish.h"
#include "model/quantity.h"
#include "model/run_options.h"
#include "model/stdio_options.h"
#include "model/vm.h"

enum instance_target { INSTANCE_TARGET_RUNNING, INSTANCE_TARGET_STOPPED, INSTANCE_TARGET_PAUSED };

enum instance_state {
	INSTANCE_PENDING,
	INSTANCE_PULLING,
	INSTANCE_CREATING,
	INSTANCE_RUNNING,
	INSTANCE_PAUSED,
	INSTANCE_STOPPING,
	INSTANCE_STOPPED,
	INSTANCE_FAILED,
	INSTANCE_GONE,
	INSTANCE_UNKNOWN, /* its node is offline: only shown to people, never stored */
};

const char *instance_state_name(enum instance_state state);

enum { INSTANCE_STOP_TIMEOUT_S = 10 };

struct instance_spec {
	enum instance_type type;
	struct vm_options vm; /* of a virtual machine only */
	char *image;          /* reference as the user wrote it */
	char *image_name;     /* name of the image resource; set by control */
	char *node;           /* set by control */
	enum instance_target target;
	uint64_t start_seq; /* +1 per start or restart: "begin again" */
	char **entrypoint;  /* NULL = absent: the image's; empty = none */
	char **command;     /* NULL = absent */
	char **env;         /* "NAME=value" */
	char *workdir;
	char *user;
	char *hostname;
	enum restart_policy restart_policy;
	uint32_t restart_max_retries; /* for on-failure; 0 = no limit */
	double cpus;                  /* limits; 0 = none */
	uint64_t memory_bytes;
	uint64_t pids;
	struct port *ports; /* NULL = absent: one on the default network; no ports = no network */
	size_t port_count;
	struct publish *publish;
	size_t publish_count;
	bool remove_on_exit;
	struct stdio_options stdio;
	char *stop_signal;       /* NULL = the image's, or TERM */
	uint32_t stop_timeout_s; /* then it is killed */
	int64_t stop_override_s; /* the time-out of the last stop, restart or delete; -1 = none */
	struct run_options run;
	struct health_check health;
};

struct instance_status {
	uint64_t generation; /* of the spec that was carried out */
	enum instance_state state;
	uint64_t start_seq; /* carried out */
	int64_t pid;
	int64_t started_ms;
	int64_t finished_ms;
	int64_t exit_code; /* -1 = not known; 128 + signal */
	uint32_t restarts;
	char *error;        /* one line */
	char *update_error; /* why the limits of this generation are not in force */
	char *ports_error;  /* why a port of this generation is not there */
	char *image_digest; /* of the manifest it runs */
	char *node;
	struct health_status health;
	struct vm_status machine;
};

struct instance {
	struct meta meta;
	struct instance_spec spec;
	struct instance_status status;
};

/* The whole resource, as instance_encode() writes it. */
int instance_decode(const json_t *doc, struct instance **ret, struct error *err);
json_t *instance_encode(const struct instance *instance, unsigned int parts); /* enum encode */
struct instance *instance_copy(const struct instance *instance);
void instance_free(struct instance *instance);
DEFINE_AUTO(struct instance *, instance_free)

/* `where` is the path of the object in messages ("spec", "" at the top). */
int instance_spec_decode(const json_t *object, const char *where, struct instance_spec *spec,
			 struct error *err);
json_t *instance_spec_encode(const struct instance_spec *spec);
void instance_spec_init(struct instance_spec *spec); /* the defaults */
void instance_spec_done(struct instance_spec *spec);

/* Status alone, as it travels over the agent link.  `status` was initialised before. */
int instance_status_decode(const json_t *object, struct instance_status *status, struct error *err);
json_t *instance_status_encode(const struct instance_status *status);
void instance_status_init(struct instance_status *status); /* pending, exit_code -1 */
void instance_status_done(struct instance_status *status);

/* Seconds between the stop signal and KILL for the stop that is wanted now. */
uint32_t instance_stop_timeout_s(const struct instance_spec *spec);

/*
 * Reads those members of a spec that a user may set from `object` (the caller finishes the reader)
 * and checks them: for requests, where they stand next to others.
 */
int instance_spec_read_user(struct json_reader *in, const json_t *object,
			    struct instance_spec *spec);
void instance_spec_put_user(json_t *object, const struct instance_spec *spec);

/* The members `restart` and `limits` of `object`, where they are there, into the spec. */
void instance_restart_read(struct json_reader *in, const json_t *object,
			   struct instance_spec *spec);
void instance_limits_read(struct json_reader *in, const json_t *object, struct instance_spec *spec);

/*
 * The list of ports, which read_user leaves out.  `user`: as a request has it, only with what a
 * user may set.
 */
int instance_ports_read(struct json_reader *in, const json_t *object, bool user,
			struct instance_spec *spec);

/* What can be changed while it runs; 0 = no limit. */
struct instance_limits {
	double cpus;
	uint64_t memory_bytes;
	uint64_t pids;
};

static inline struct instance_limits instance_limits_of(const struct instance_spec *spec)
{
	return (struct instance_limits){ spec->cpus, spec->memory_bytes, spec->pids };
}

static inline bool instance_limits_equal(const struct instance_limits *a,
					 const struct instance_limits *b)
{
	return a->cpus == b->cpus && a->memory_bytes == b->memory_bytes && a->pids == b->pids;
}
