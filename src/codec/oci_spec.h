#pragma once
/*
 * codec/oci_spec.h - config.json of an OCI bundle (runtime-spec 1.x, the Linux parts) as a struct.
 *
 * Used by the runtime (container/), which turns names into kernel values, and by tests and fuzzers.
 * Pure: no system calls.  What the specification defines and brume-oci does not do is an error that
 * names the property; properties that it does not define are ignored, as it demands.
 *
 * A spec owns everything it points to (strings are borrowed from the parsed document) until
 * oci_spec_free().  Not shared between threads.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/json.h"

struct error;

enum { OCI_CONFIG_MAX = 4 << 20 };

/* What is implemented; documents of every 1.x are accepted. */
#define OCI_SPEC_VERSION "1.2.1"

struct oci_opt { /* a number that may be absent */
	bool set;
	int64_t value;
};

/* NULL-terminated list; NULL when the property is absent. */
typedef const char *const *oci_strings;

struct oci_pair {
	const char *name;
	const char *value;
};

struct oci_id_map {
	uint32_t container_id;
	uint32_t host_id;
	uint32_t size;
};

struct oci_id_maps {
	struct oci_id_map *list;
	size_t count;
};

/* The order in which an existing one is joined. */
enum oci_ns {
	OCI_NS_USER,
	OCI_NS_PID,
	OCI_NS_NETWORK,
	OCI_NS_IPC,
	OCI_NS_UTS,
	OCI_NS_CGROUP,
	OCI_NS_TIME,
	OCI_NS_MOUNT,
	OCI_NS_COUNT
};

struct oci_namespace {
	bool wanted;
	const char *path; /* NULL: a new one */
};

struct oci_rlimit {
	const char *type; /* "RLIMIT_NOFILE" */
	uint64_t soft;
	uint64_t hard;
};

enum oci_cap_set {
	OCI_CAPS_BOUNDING,
	OCI_CAPS_EFFECTIVE,
	OCI_CAPS_INHERITABLE,
	OCI_CAPS_PERMITTED,
	OCI_CAPS_AMBIENT,
	OCI_CAPS_COUNT
};

struct oci_scheduler {
	const char *policy; /* "SCHED_OTHER"; NULL: not asked for */
	int64_t nice;
	int64_t priority;
	oci_strings flags;
	uint64_t runtime;
	uint64_t deadline;
	uint64_t period;
};

struct oci_process {
	bool terminal;
	uint32_t console_height;
	uint32_t console_width;
	uint32_t uid;
	uint32_t gid;
	struct oci_opt umask;
	uint32_t *groups;
	size_t group_count;
	oci_strings args;
	oci_strings env;
	const char *cwd;
	bool has_capabilities;
	oci_strings capabilities[OCI_CAPS_COUNT];
	struct oci_rlimit *rlimits;
	size_t rlimit_count;
	bool no_new_privileges;
	const char *apparmor_profile;
	const char *selinux_label;
	struct oci_opt oom_score_adj;
	struct oci_scheduler scheduler;
	const char *io_class; /* "IOPRIO_CLASS_BE"; NULL: not asked for */
	int64_t io_priority;
	const char
		*affinity_initial; /* of exec, before and in the control group: "0-3,7" or NULL */
	const char *affinity_final;
};

struct oci_mount {
	const char *destination;
	const char *type;   /* may be NULL */
	const char *source; /* may be NULL */
	oci_strings options;
	struct oci_id_maps uid_maps; /* both or none: an idmapped mount */
	struct oci_id_maps gid_maps;
};

struct oci_hook {
	const char *path;
	oci_strings args;
	oci_strings env;
	int64_t timeout_s; /* 0: none */
};

enum oci_hook_kind {
	OCI_HOOK_PRESTART,
	OCI_HOOK_CREATE_RUNTIME,
	OCI_HOOK_CREATE_CONTAINER,
	OCI_HOOK_START_CONTAINER,
	OCI_HOOK_POSTSTART,
	OCI_HOOK_POSTSTOP,
	OCI_HOOK_COUNT
};

struct oci_hooks {
	struct oci_hook *list;
	size_t count;
};

struct oci_device {
	char type; /* 'c', 'b', 'p'; 'u' is made 'c' */
	const char *path;
	uint32_t major;
	uint32_t minor;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
};

struct oci_device_rule {
	bool allow;
	char type;            /* 'a', 'b' or 'c' */
	struct oci_opt major; /* unset: all */
	struct oci_opt minor;
	const char *access; /* of "rwm" */
};

struct oci_throttle {
	uint32_t major;
	uint32_t minor;
	uint64_t rate;
};

struct oci_throttles {
	struct oci_throttle *list;
	size_t count;
};

enum oci_throttle_kind {
	OCI_THROTTLE_READ_BPS,
	OCI_THROTTLE_WRITE_BPS,
	OCI_THROTTLE_READ_IOPS,
	OCI_THROTTLE_WRITE_IOPS,
	OCI_THROTTLE_COUNT
};

struct oci_weight_device {
	uint32_t major;
	uint32_t minor;
	struct oci_opt weight;
	struct oci_opt leaf_weight;
};

struct oci_hugepage {
	const char *page_size; /* "2MB" */
	uint64_t limit;
};

struct oci_rdma {
	const char *device;
	struct oci_opt handles;
	struct oci_opt objects;
};

struct oci_priority {
	const char *interface;
	uint32_t priority;
};

struct oci_resources {
	struct oci_device_rule *devices;
	size_t device_count;
	struct {
		struct oci_opt limit, reservation, swap, kernel, kernel_tcp, swappiness;
		bool disable_oom_killer;
		bool check_before_update; /* no limit below what is in use */
		struct oci_opt use_hierarchy;
	} memory;
	struct {
		struct oci_opt shares, quota, burst, period, rt_runtime, rt_period, idle;
		const char *cpus;
		const char *mems;
	} cpu;
	struct oci_opt pids_limit;
	struct {
		struct oci_opt weight, leaf_weight;
		struct oci_weight_device *devices;
		size_t device_count;
		struct oci_throttles throttles[OCI_THROTTLE_COUNT];
	} block_io;
	struct oci_hugepage *hugepages;
	size_t hugepage_count;
	struct oci_opt class_id;
	struct oci_priority *priorities;
	size_t priority_count;
	struct oci_rdma *rdma;
	size_t rdma_count;
	struct oci_pair *unified;
	size_t unified_count;
};

struct oci_time_offset {
	bool set;
	int64_t secs;
	uint32_t nanosecs;
};

struct oci_memory_policy {
	const char *mode;  /* "MPOL_BIND"; NULL: not asked for */
	const char *nodes; /* "0-1", or NULL */
	oci_strings flags;
};

struct oci_rdt {
	bool wanted;
	const char *clos; /* NULL: the container's id */
	const char *l3_cache;
	const char *memory_bandwidth;
	oci_strings schemata; /* lines */
};

struct oci_linux {
	struct oci_namespace ns[OCI_NS_COUNT];
	struct oci_id_maps uid_maps;
	struct oci_id_maps gid_maps;
	struct oci_time_offset monotonic;
	struct oci_time_offset boottime;
	struct oci_device *devices;
	size_t device_count;
	const char *cgroups_path;
	struct oci_resources resources;
	struct oci_pair *sysctl;
	size_t sysctl_count;
	const char *rootfs_propagation;
	oci_strings masked_paths;
	oci_strings readonly_paths;
	const char *mount_label;
	const char *personality;      /* "LINUX" or "LINUX32" */
	struct oci_pair *net_devices; /* of the host, and its name inside */
	size_t net_device_count;
	struct oci_memory_policy memory_policy;
	struct oci_rdt rdt;
	/*
	 * The seccomp profile, not decoded: as the text that stood in the file (so that a compiled
	 * filter can be found by its hash without looking inside), or parsed.  At most one is set.
	 */
	const char *seccomp_text;
	size_t seccomp_size;
	const json_t *seccomp;
};

struct oci_spec {
	const char *version;
	bool has_root;
	const char *root_path;
	bool root_readonly;
	const char *hostname;
	const char *domainname;
	struct oci_process *process; /* NULL when absent */
	struct oci_mount *mounts;
	size_t mount_count;
	struct oci_hooks hooks[OCI_HOOK_COUNT];
	const json_t *annotations; /* object of strings, or NULL */
	struct oci_linux linux_;

	json_t *document; /* owner of all strings */
	char *text;       /* owner of seccomp_text */
	void **allocations;
	size_t allocation_count;
};

/* Decodes a whole config.json. */
int oci_spec_decode(const char *text, size_t size, struct oci_spec **ret, struct error *err);

/* Decodes a document that holds one process object only (exec --process). */
int oci_spec_decode_process(const char *text, size_t size, struct oci_spec **ret,
			    struct error *err);

void oci_spec_free(struct oci_spec *spec);
DEFINE_AUTO(struct oci_spec *, oci_spec_free)

/* "network": the name in config.json. */
const char *oci_ns_name(enum oci_ns ns);
/* "prestart" and so on. */
const char *oci_hook_name(enum oci_hook_kind kind);
