#pragma once
/*
 * model/run_options.h - how an instance is run: its init, what it may do, what it sees of the node.
 *
 * Part of an instance's spec (the members stand in the spec itself).  Shared by the command line,
 * the API, control (which refuses what the project may not) and the agent (which asks the node's
 * policy).  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/instance_device.h"
#include "model/instance_mount.h"
#include "model/ulimit.h"

struct error;
struct json_reader;

enum {
	RUN_OPTIONS_DNS_MAX = 3,
	RUN_OPTIONS_SYSCTLS_MAX = 64,
	RUN_OPTIONS_SECCOMP_MAX_BYTES = 64 * 1024,
	RUN_OPTIONS_GRANTS_MAX = 14, /* folders and devices of the node, together */
};

enum seccomp_mode { SECCOMP_DEFAULT, SECCOMP_UNCONFINED };
extern const char *const seccomp_mode_names[];

struct run_options {
	bool init;       /* a small init of ours is process 1 */
	bool read_only;  /* its root file system */
	bool privileged; /* see docs/operate/policy.md */
	enum seccomp_mode seccomp;
	char *seccomp_profile;   /* instead of the default: JSON, as codec/seccomp_user takes it */
	char **cap_add;          /* "CAP_NET_ADMIN", "ALL"; added to the default ones */
	char **cap_drop;         /* "ALL" leaves only those of cap_add */
	char **sysctls;          /* "net.ipv4.ip_forward=1" */
	char **dns;              /* name servers instead of the network's */
	uint64_t shm_size_bytes; /* /dev/shm; 0 = 64 MiB */
	struct ulimit *ulimits;
	size_t ulimit_count;
	struct instance_device *devices;
	size_t device_count;
	struct instance_mount *mounts;
	size_t mount_count;
};

/*
 * "NAME=VALUE" of something that every instance has for itself: net.*, the System V and message
 * queue limits.  -EINVAL says why not.
 */
int sysctl_check(const char *text, struct error *err);

/* Appends the stored spelling of the capability. */
int run_options_add_capability(char ***list, const char *text, struct error *err);

/* How many folders and devices of the node it asks for. */
size_t run_options_grants(const struct run_options *options);

/* What only holds between the members; also after each was parsed by itself. */
int run_options_check(const struct run_options *options, struct error *err);

void run_options_read(struct json_reader *in, const json_t *object, struct run_options *options);
void run_options_put(json_t *object, const struct run_options *options);
void run_options_copy(struct run_options *to, const struct run_options *from);
void run_options_done(struct run_options *options);
