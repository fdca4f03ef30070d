#pragma once
/*
 * container/record.h - the folder ROOT/ID in which the runtime remembers one container.
 *
 * It holds state.json (replaced atomically), config.json (the bundle's as it was at creation) and,
 * until `start`, the socket start.sock on which init waits.  Verbs that change the container hold
 * the folder's lock.  A runtime killed in the middle leaves a folder whose container is "creating"
 * without a process; `delete --force` takes everything it may have made away.
 *
 * Used by every verb.  One thread.
 */
#include <stdbool.h>

#include "base/cleanup.h"
#include "codec/oci_state.h"

struct error;

/* The limits as `update` left them; absent when it never did. */
#define RECORD_RESOURCES "resources.json"

struct record {
	char *root;
	char *path; /* ROOT/ID */
	int fd;     /* of it */
	struct oci_state *state;
};

/* Makes the folder, locked; -EEXIST when the id is taken. */
int record_create(const char *root, const char *id, struct record **ret, struct error *err);

/* Opens an existing one; with `lock` waits for other verbs to end. */
int record_open(const char *root, const char *id, bool lock, struct record **ret,
		struct error *err);

/* Lets other verbs in; the record may be used on for reading. */
void record_unlock(struct record *record);

int record_save(struct record *record, struct error *err);

/* What the kernel says about the container now. */
int record_status(const struct record *record, enum oci_status *ret, struct error *err);
/* The same for who asks the control group itself whether it is paused: that is "running" here. */
int record_stage(const struct record *record, enum oci_status *ret, struct error *err);

/* A pidfd of init; -ESRCH when it has ended. */
int record_open_init(const struct record *record);

/* Removes the folder. */
int record_remove(struct record *record, struct error *err);

/* The ids below root, sorted; NULL-terminated, see strv.h.  No folder means none. */
int record_list(const char *root, char ***ret, struct error *err);

/* Letters, digits, and _ + - . but not as the first character a dot. */
bool record_id_good(const char *id);

void record_free(struct record *record);
DEFINE_AUTO(struct record *, record_free)
