#pragma once
/*
 * codec/keeper_wire.h - messages between the agent and the keeper, and the keeper's own records.
 *
 * A message is one seqpacket datagram: u16 type, then fields, each u16 tag, u32 size, bytes (host
 * byte order: both ends are on one host).  Unknown tags are skipped, so that a keeper and an agent
 * of different versions understand each other.  The keeper's state files and the memory that a
 * re-executed keeper inherits hold the same messages.
 *
 * Used by keeper/.  Pure functions; decoding allocates nothing: strings are borrowed from the
 * buffer.  Everything is checked: a decoded message is safe to use.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strbuf;

enum {
	KEEPER_MSG_MAX = 128 * 1024,
	KEEPER_EVENT_MAX = 8 * 1024, /* what the keeper sends */
	KEEPER_JOB_MAX = 64,
	KEEPER_TEXT_MAX = 4096, /* paths and messages, with the NUL */
	KEEPER_FDS_MAX = 16,
	KEEPER_STRINGS_MAX = 4096,
	KEEPER_LOG_FILES_MAX = 64,
};

enum keeper_type {
	/* From the agent. */
	KEEPER_SPAWN = 1, /* a job; a known job id answers with what the job does now */
	KEEPER_SIGNAL,    /* job, signal */
	KEEPER_LIST,      /* answered with one event per job, then KEEPER_LISTED */
	KEEPER_FORGET,    /* job that has ended; its FIFOs and its record are removed */
	KEEPER_REEXEC,    /* the keeper executes its binary anew, in place */
	KEEPER_END_INPUT, /* job: its stdin ends when it has read what is in the FIFO */
	KEEPER_HOLD, /* job and its console socket, which the agent kept over a keeper's death */
	/* To the agent. */
	KEEPER_STARTING = 32, /* job: its helper has not ended yet; with its console socket */
	KEEPER_SPAWNED,       /* job, pid: it runs; with its console socket */
	KEEPER_FAILED,        /* job, message: it never ran */
	KEEPER_EXITED,        /* job, pid, exit_kind, exit_value */
	KEEPER_LISTED,        /* pid of the keeper */
	KEEPER_REFUSED,       /* job, message: a request that could not be done */
	/* Only in files and memory of the keeper. */
	KEEPER_RECORD = 64, /* a job with everything the keeper knows about it */
	KEEPER_SOCKETS,     /* fds: the listening socket, the lock, then connected agents */
};

enum keeper_mode {
	KEEPER_DIRECT,   /* the spawned process is the job */
	KEEPER_PID_FILE, /* the spawned process makes the job and writes its pid into pid_file */
};

enum keeper_stdio {
	KEEPER_LOGGED, /* 1 and 2 are FIFOs that the keeper reads into the log file */
	KEEPER_GIVEN,  /* all from fds */
};

enum keeper_input {
	KEEPER_INPUT_NONE, /* 0 is /dev/null, or given */
	KEEPER_INPUT_FIFO, /* KEEPER_LOGGED: 0 is a FIFO that the keeper and the agent hold open */
	/*
	 * The job gets a terminal: the helper finds a socket at fd KEEPER_CONSOLE_FD and sends the
	 * terminal's master over it.  The keeper only ever peeks, so that whoever holds the other
	 * end of the socket can have the terminal.
	 */
	KEEPER_INPUT_TERMINAL,
};

enum { KEEPER_CONSOLE_FD = 63 };

enum keeper_exit {
	KEEPER_EXIT_CODE,
	KEEPER_EXIT_SIGNAL,
	KEEPER_EXIT_UNKNOWN, /* it ended while no keeper ran, and the kernel has forgotten */
};

/* NUL-terminated strings one after the other. */
struct keeper_strings {
	const char *data;
	size_t size;
	unsigned int count;
};

struct keeper_msg {
	enum keeper_type type;
	char job[KEEPER_JOB_MAX + 1];
	enum keeper_mode mode;
	enum keeper_stdio stdio;
	enum keeper_type phase; /* of a record: STARTING, SPAWNED, FAILED, EXITED */
	int32_t pid;
	uint64_t start_time;
	enum keeper_exit exit_kind;
	int32_t exit_value;
	int32_t signal;
	enum keeper_input input;
	uint64_t log_max_bytes;
	uint32_t log_max_files;
	uint32_t owner_uid, owner_gid; /* of the FIFOs: the container may open /dev/stdout */
	const char *cwd, *log, *pid_file, *message; /* NULL when absent */
	struct keeper_strings argv, env;
	unsigned int fd_count;
	int32_t fds[KEEPER_FDS_MAX]; /* spawn: number in the child of each descriptor sent along */
};

/* A job id: 1..64 of [A-Za-z0-9_-]: it becomes file names. */
bool keeper_job_valid(const char *job);

/* Packs a NULL-terminated array; the result borrows from `buffer`. */
struct keeper_strings keeper_strings_pack(struct strbuf *buffer, char *const *strv);

/* The array (not the strings) is new, NULL-terminated; the caller frees it. */
char **keeper_strings_unpack(const struct keeper_strings *strings);

/* Appends the message to `buffer`.  0 or -EMSGSIZE. */
int keeper_msg_encode(const struct keeper_msg *msg, struct strbuf *buffer);

/* 0 or -EBADMSG. */
int keeper_msg_decode(const void *data, size_t size, struct keeper_msg *ret);
