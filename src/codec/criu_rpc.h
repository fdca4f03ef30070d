#pragma once
/*
 * codec/criu_rpc.h - what is said to `criu swrk` and what it answers (CRIU's rpc.proto).
 *
 * The messages are Protocol Buffers, of which little is needed: numbers, texts, and one level of
 * messages inside of messages.  Options are put one after the other into a buffer, which then goes
 * into a request.  Used by container/criu.c.  Pure; what is read is bounded and checked.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/strbuf.h"

enum { CRIU_REPLY_MAX = 16 << 10 };

enum criu_type {
	CRIU_DUMP = 1,
	CRIU_RESTORE = 2,
	CRIU_PRE_DUMP = 4,
	CRIU_NOTIFY = 6,
	CRIU_VERSION = 10,
};

/* What may be done to the control groups of the processes. */
enum criu_cgroups {
	CRIU_CGROUPS_IGNORE = 0,
	CRIU_CGROUPS_SOFT = 3,
	CRIU_CGROUPS_FULL = 4,
	CRIU_CGROUPS_STRICT = 5,
};

enum { CRIU_NETWORK_LOCK_NFTABLES = 2 };

/* Options, by their numbers; the letter says with which function each is put. */
enum criu_option {
	CRIU_OPT_IMAGES_DIR_FD = 1,       /* number */
	CRIU_OPT_PID = 2,                 /* number */
	CRIU_OPT_LEAVE_RUNNING = 3,       /* switch */
	CRIU_OPT_EXT_UNIX_SK = 4,         /* switch */
	CRIU_OPT_TCP_ESTABLISHED = 5,     /* switch */
	CRIU_OPT_EVASIVE_DEVICES = 6,     /* switch */
	CRIU_OPT_SHELL_JOB = 7,           /* switch */
	CRIU_OPT_FILE_LOCKS = 8,          /* switch */
	CRIU_OPT_LOG_LEVEL = 9,           /* number */
	CRIU_OPT_LOG_FILE = 10,           /* text */
	CRIU_OPT_NOTIFY = 12,             /* switch */
	CRIU_OPT_ROOT = 13,               /* text */
	CRIU_OPT_PARENT_IMAGES = 14,      /* text */
	CRIU_OPT_TRACK_MEMORY = 15,       /* switch */
	CRIU_OPT_AUTO_DEDUP = 16,         /* switch */
	CRIU_OPT_WORK_DIR_FD = 17,        /* number */
	CRIU_OPT_LINK_REMAP = 18,         /* switch */
	CRIU_OPT_EXT_MOUNT = 23,          /* pair */
	CRIU_OPT_MANAGE_CGROUPS = 24,     /* switch */
	CRIU_OPT_CGROUP_ROOT = 25,        /* one text inside */
	CRIU_OPT_SIBLING = 26,            /* switch */
	CRIU_OPT_INHERIT_FD = 27,         /* text and number inside */
	CRIU_OPT_CGROUPS_MODE = 34,       /* number */
	CRIU_OPT_EXTERNAL = 37,           /* text */
	CRIU_OPT_EMPTY_NS = 38,           /* number */
	CRIU_OPT_FREEZE_CGROUP = 44,      /* text */
	CRIU_OPT_TCP_SKIP_IN_FLIGHT = 46, /* switch */
	CRIU_OPT_ORPHAN_PTS_MASTER = 50,  /* switch */
	CRIU_OPT_TCP_CLOSE = 52,          /* switch */
	CRIU_OPT_LSM_PROFILE = 53,        /* text */
	CRIU_OPT_LSM_MOUNT_CONTEXT = 63,  /* text */
	CRIU_OPT_NETWORK_LOCK = 64,       /* number */
};

/* ---- writing ---- */

void criu_put_number(struct strbuf *options, enum criu_option option, uint64_t value);
/* Nothing when it is off, which is what an absent one means. */
void criu_put_switch(struct strbuf *options, enum criu_option option, bool on);
/* Nothing for NULL. */
void criu_put_text(struct strbuf *options, enum criu_option option, const char *text);
void criu_put_mount(struct strbuf *options, const char *key, const char *value);
void criu_put_inherit(struct strbuf *options, const char *key, int fd);
/* The control group that takes the place of the one in the images, in every hierarchy. */
void criu_put_cgroup_root(struct strbuf *options, const char *path);

/* `options` may be NULL. */
void criu_request_encode(struct strbuf *out, enum criu_type type, const struct strbuf *options);
/* The answer to a CRIU_NOTIFY. */
void criu_notify_encode(struct strbuf *out, bool success);

/* ---- reading ---- */

struct criu_reply {
	uint64_t type;
	bool success;
	pid_t pid;       /* of what was restored, or of what the notice is about; 0: none */
	char script[40]; /* which notice */
	int version;     /* 31701 for 3.17.1; 0: none was said */
};

/* -EBADMSG. */
int criu_reply_decode(const void *data, size_t size, struct criu_reply *ret);
