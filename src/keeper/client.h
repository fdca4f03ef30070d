#pragma once
/*
 * keeper/client.h - how the agent talks to the keeper: requests go out at once, events come back on
 * the loop.
 *
 * Used by agent/ on its loop's thread only.  Nothing here waits.  When the keeper dies the client
 * tells so (`closed`) and the owner makes a new one; on each connection the owner gives back what
 * it held and then lists all jobs, so a lost event costs nothing.
 */
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "codec/keeper_wire.h"

struct error;
struct keeper_client;

struct keeper_client_ops {
	/*
	 * STARTING, SPAWNED, FAILED, EXITED, LISTED or REFUSED; `msg` is borrowed for the call.
	 * *console_fd is the job's console socket or -1; who keeps it puts -1 there.
	 */
	void (*event)(void *data, const struct keeper_msg *msg, int *console_fd);
	/* The connection is gone; the client may be freed in here. */
	void (*closed)(void *data);
};

/* Connects to the keeper at `path` (RUN/keeper.sock). */
int keeper_client_new(sd_event *event, const char *path, const struct keeper_client_ops *ops,
		      void *data, struct keeper_client **ret, struct error *err);

/* What to run.  Everything is borrowed for the call. */
struct keeper_spawn {
	const char *job;
	enum keeper_mode mode;
	enum keeper_stdio stdio;
	char *const *argv; /* argv[0] is an absolute path */
	char *const *env;
	const char *cwd;        /* NULL: / */
	const char *pid_file;   /* KEEPER_PID_FILE */
	const char *log;        /* KEEPER_LOGGED: the log file; rotated to LOG.1, ... */
	uint64_t log_max_bytes; /* 0: 16 MiB */
	uint32_t log_max_files; /* 0: 2 */
	enum keeper_input input;
	uid_t owner_uid; /* KEEPER_LOGGED: who may open the FIFOs again by /dev/stdout */
	gid_t owner_gid;
	unsigned int fd_count;
	const int *fds;    /* sent along; stay open here */
	const int *fds_as; /* their numbers in the child: 0..2 with KEEPER_GIVEN, 3.. for others */
};

/* Answered by SPAWNED or FAILED; a job that exists already answers with what it does now. */
int keeper_client_spawn(struct keeper_client *client, const struct keeper_spawn *spawn,
			struct error *err);
int keeper_client_signal(struct keeper_client *client, const char *job, int signal_number);
int keeper_client_forget(struct keeper_client *client, const char *job);
int keeper_client_end_input(struct keeper_client *client, const char *job);
/* Sends a copy of the console; a keeper that has it already closes the copy. */
int keeper_client_hold(struct keeper_client *client, const char *job, int console_fd);
int keeper_client_list(struct keeper_client *client);
int keeper_client_reexec(struct keeper_client *client);

void keeper_client_free(struct keeper_client *client);
DEFINE_AUTO(struct keeper_client *, keeper_client_free)
