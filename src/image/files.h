#pragma once
/*
 * image/files.h - files of one instance: what a path is, a tar of it, a tar into it.
 *
 * The work is done by a short-lived brume-image-worker that holds a clone of the instance's tree
 * without devices, set-user-id bits and programs, is user 0 of a user namespace with the instance's
 * ids, has nothing else to look at, and is in none of the instance's namespaces.  So whatever the
 * instance does to its names meanwhile, nothing outside of it can be read or written.
 * Used by the agent.  Thread-safe; the calls block.  A crash of the caller ends the worker and with
 * it the clone; what was half written into the instance stays.
 */
#include <stdbool.h>
#include <stdint.h>

struct error;
struct image_store;

enum image_files_action {
	IMAGE_FILES_STAT, /* one line of JSON about the path (codec/file_stat.h) */
	IMAGE_FILES_GET,  /* that line, and then a tar of the path */
	IMAGE_FILES_PUT,  /* unpacks a tar (plain, gzip, zstd) below the folder */
};

struct image_files {
	enum image_files_action action;
	/* The detached root of an instance at rest, or the mount namespace of a running one. */
	int root_fd;
	bool is_namespace;
	uint32_t slot;    /* of its ids */
	const char *path; /* absolute; links in it are resolved inside the instance */
	bool follow;      /* the last component too */
	bool keep_ids;    /* PUT: owners as the tar says, else user 0 */
	int stream_fd;    /* where the bytes go, or come from */
	int cancel_fd;    /* readable: stop; or -1 */
};

int image_files(struct image_store *store, const struct image_files *files, struct error *err);
