#pragma once
/*
 * container/criu.h - the program `criu`, which writes processes into files and makes them again.
 *
 * It is run as `criu swrk FD`: one request over a seqpacket socket, notices while it works, one
 * answer.  That is the interface that its own library uses; brume-oci is linked statically and
 * could not load that.  Used by checkpoint and restore, as root of the machine.  One thread.  When
 * we are killed, criu goes on to its end, or fails at the next notice.
 */
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/strbuf.h"
#include "codec/criu_rpc.h"

/* What the command lines of checkpoint and restore say, for both. */
struct criu_options {
	const char *image_path;  /* folder of the images, absolute */
	const char *work_path;   /* folder of the log, or NULL: the same */
	const char *parent_path; /* of an earlier dump, relative to image_path; or NULL */
	bool leave_running;
	bool pre_dump;
	bool tcp_established;
	bool tcp_skip_in_flight;
	bool tcp_close;
	bool ext_unix_sk;
	bool shell_job;
	bool file_locks;
	bool link_remap;
	bool auto_dedup;
	enum criu_cgroups cgroups;
	const char *lsm_profile;       /* "apparmor:NAME", or NULL */
	const char *lsm_mount_context; /* or NULL */
};

/* The folders, opened. */
struct criu_folders {
	int images;
	int work;             /* -1: the same */
	const char *log_path; /* of the one with the log */
	const char *log_name;
};

enum { CRIU_FDS_MAX = 16, CRIU_VERSION_MIN = 31700 };

/* What `criu` gets besides its socket. */
struct criu_start {
	int fds[CRIU_FDS_MAX]; /* kept open under the same numbers */
	size_t fd_count;
	int cgroup_fd; /* of version 2, to be born in; -1 */
	const int *tasks;
	int task_count;
	int (*prepare)(void *data, struct error *err); /* in the child, before exec; may be NULL */
	void *data;
};

struct criu {
	pid_t pid;
	int pidfd;
	int fd;        /* the socket */
	int output_fd; /* what it said on stderr */
};

/* The notice `script`; `fd` (or -1) is borrowed.  A failure makes criu fail. */
typedef int (*criu_notify_fn)(void *data, const char *script, pid_t pid, int fd, struct error *err);

/* Path of the program on PATH, and that it is new enough; the caller frees. */
int criu_find(char **ret, struct error *err);

/* `make` makes the images' when it is not there.  An old log is removed. */
int criu_open_folders(const struct criu_options *options, bool make, const char *log_name,
		      struct criu_folders *ret, struct error *err);
void criu_close_folders(struct criu_folders *folders);
static inline void criu_close_folders_autop(struct criu_folders *folders)
{
	criu_close_folders(folders);
}

/* What both requests have in common. */
void criu_put_common(struct strbuf *request, const struct criu_options *options,
		     const struct criu_folders *folders);

int criu_spawn(const char *path, const struct criu_start *how, struct criu *ret, struct error *err);

/* One request to its end. */
int criu_call(struct criu *criu, enum criu_type type, const struct strbuf *options,
	      criu_notify_fn notify, void *data, struct criu_reply *ret, struct error *err);
/* After a failure: adds what CRIU has said, and where its log is.  Gives `r`. */
int criu_explain(struct criu *criu, const struct criu_folders *folders, int r, struct error *err);

/* Waits for its end, having closed the socket; kills it when `kill`. */
void criu_end(struct criu *criu, bool kill);

/* The first line of a log that tells of an error, made printable; empty when there is none.  Pure.
 */
void criu_first_error(const char *log, struct strbuf *ret);
