#pragma once
/*
 * agent/policy.h - what this node gives of itself to instances: folders, devices, capabilities,
 * interfaces, its word to the routers beside it.
 *
 * A file of the node's administrator (docs/operate/policy.md).  Without it nothing is given.  It is
 * read again for every start of an instance that asks for something, so a change counts from the
 * next start on.  The decoder and the searches are pure; for any thread.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "model/address.h"
#include "model/instance_device.h"

struct error;
struct run_options;

/* How the owners of a folder's files look inside. */
enum policy_idmap {
	POLICY_IDMAP_NONE, /* they are nobody there */
	POLICY_IDMAP_SAME, /* the same numbers: the node's root is the instance's */
	POLICY_IDMAP_USER, /* one user of the node is the instance's root */
};

struct policy_mount {
	char *path; /* of the folder; everything below it may be asked for */
	bool read_only;
	enum policy_idmap idmap;
	uint32_t uid, gid; /* POLICY_IDMAP_USER */
	char **projects;   /* NULL: all */
};

struct policy_device {
	char *path;
	char access[DEVICE_ACCESS_SIZE]; /* at most this */
	char **projects;
};

struct policy_uplink {
	char *name; /* of an interface, or of a bridge of Open vSwitch */
	char **projects;
};

struct policy_prefix {
	struct subnet prefix; /* and all that is inside of it */
	char **projects;
};

struct policy {
	struct policy_mount *mounts;
	size_t mount_count;
	struct policy_device *devices;
	size_t device_count;
	struct policy_uplink *uplinks;
	size_t uplink_count;
	struct policy_prefix *prefixes; /* that may be announced */
	size_t prefix_count;
	uint64_t denied_capabilities; /* bits by the kernel's numbers */
	bool seccomp_profiles;        /* instances may bring their own */
	char **seccomp_projects;      /* NULL: those of all projects */
};

int policy_decode(const json_t *document, struct policy **ret, struct error *err);

/*
 * A file that is not there is an empty policy.  One that others than root may write, or that is
 * wrong, is an error: nothing is given then.
 */
int policy_load(const char *path, struct policy **ret, struct error *err);

/* The entry that covers `source` in this project (the longest one), or NULL. */
const struct policy_mount *policy_find_mount(const struct policy *policy, const char *project,
					     const char *source);

/* The entry of this very path, or NULL. */
const struct policy_device *policy_find_device(const struct policy *policy, const char *project,
					       const char *source);

/* -EPERM names a capability that is asked for and denied. */
int policy_check_capabilities(const struct policy *policy, const struct run_options *run,
			      struct error *err);

/* -EPERM when instances of this project may not bring a seccomp profile of their own and one does.
 */
int policy_check_seccomp(const struct policy *policy, const char *project,
			 const struct run_options *run, struct error *err);

/* -EPERM when networks of this project may not be on the interface `name`. */
int policy_check_uplink(const struct policy *policy, const char *project, const char *name,
			struct error *err);

/* -EPERM when the node's routing daemon may not announce `subnet` for this project. */
int policy_check_advertise(const struct policy *policy, const char *project,
			   const struct subnet *subnet, struct error *err);

void policy_free(struct policy *policy);
DEFINE_AUTO(struct policy *, policy_free)
