#pragma once
/*
 * model/instance_mount.h - what is mounted into an instance besides its image: folders of the node
 * and file systems in memory.
 *
 * Shared by the command line (texts), the API (JSON) and the agent.  Whether a folder of the node
 * may be shown at all is the node's decision: agent/policy.h.  No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct json_reader;

enum { INSTANCE_MOUNTS_MAX = 64 };

enum instance_mount_type { MOUNT_TYPE_BIND, MOUNT_TYPE_TMPFS };
extern const char *const instance_mount_type_names[];

struct instance_mount {
	enum instance_mount_type type;
	char *source; /* bind: a path of the node */
	char *target; /* absolute, without "..", "." or double slashes */
	bool read_only;
	bool no_exec;
	uint64_t size_bytes; /* tmpfs; 0 = 64 MiB */
	uint32_t mode;       /* tmpfs; 0 = 1777 */
};

/* "type=bind,source=/a,target=/b[,readonly]", "type=tmpfs,target=/b[,size=64M][,mode=1777]" */
int instance_mount_parse(const char *text, struct instance_mount *ret, struct error *err);

/* "/host:/inside[:ro]" */
int instance_mount_parse_volume(const char *text, struct instance_mount *ret, struct error *err);

/* "/inside[:size=64M,mode=1777]" */
int instance_mount_parse_tmpfs(const char *text, struct instance_mount *ret, struct error *err);

/*
 * What holds for every path inside an instance that somebody names: absolute, no "..", not a
 * place that the system itself makes.  Reason in words, or NULL when it is good.
 */
const char *instance_path_problem(const char *path);

/* One target must not be another's.  -EINVAL names it. */
int instance_mounts_check(const struct instance_mount *list, size_t count, struct error *err);

int instance_mounts_read(struct json_reader *in, const json_t *object, const char *name,
			 struct instance_mount **ret, size_t *ret_count);
json_t *instance_mounts_encode(const struct instance_mount *list, size_t count);
struct instance_mount *instance_mounts_copy(const struct instance_mount *list, size_t count);
void instance_mount_done(struct instance_mount *mount);
void instance_mounts_free(struct instance_mount *list, size_t count);
