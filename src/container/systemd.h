#pragma once
/*
 * container/systemd.h - control groups that systemd makes (--systemd-cgroup).
 *
 * A container becomes a transient scope: systemd knows it, puts it below a slice, and leaves what
 * is in it to us (Delegate).  A scope needs a process from the beginning, and our init is born
 * inside its group; so a placeholder holds the scope until init is there.  The limits that systemd
 * has words for are told to it as well, or its next reload would take them back.
 *
 * Root talks to the system's manager, an ordinary user to his own.  Used by launch and update.  One
 * thread.  After a crash the placeholder dies with us, and systemd removes the scope that is empty.
 */
#include <sys/types.h>

#include "codec/oci_spec.h"

struct error;

struct systemd_scope {
	char *unit;  /* "PREFIX-NAME.scope" */
	char *group; /* where systemd has put it, in its hierarchy */
	pid_t placeholder;
	int placeholder_pidfd;
};

/* "SLICE:PREFIX:NAME" of linux.cgroupsPath; an empty or absent one gives ":brume-oci:ID". */
int systemd_parse_path(const char *path, const char *id, char **ret_slice, char **ret_unit,
		       struct error *err);

int systemd_scope_start(const char *slice, const char *unit, const struct oci_resources *resources,
			bool user, struct systemd_scope *ret, struct error *err);

/* Ends the placeholder; the scope lives on with whoever else is in it. */
void systemd_scope_done(struct systemd_scope *scope);

/*
 * Makes systemd forget a scope whose group is gone.  Left alone it may take it for alive: the end
 * of a group that is removed at once is not always told.  One that is forgotten already is fine.
 */
void systemd_scope_forget(const char *unit, bool user);

/* Tells systemd of changed limits. */
int systemd_set_limits(const char *unit, const struct oci_resources *resources, bool user,
		       struct error *err);
