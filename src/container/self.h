#pragma once
/*
 * container/self.h - keeps containers from writing into this program.
 *
 * A process that enters a container is seen there as /proc/PID/exe, a way to the program's own
 * file on the host; a container whose root is the host's root could open it and write.  So before
 * anything else the program executes itself again through a private clone of its mount that is
 * read-only and reachable by nobody: whoever follows /proc/PID/exe ends on that mount.  That costs
 * one exec; a copy in sealed memory would cost the copy as well.  Until its own exec the process is
 * also not dumpable, so that only the host's root may look into it.
 */
struct error;

/* Returns at once when we run from such a mount already. */
int self_protect(struct error *err);

/* Executes this program again with the words that it was given; returns only on failure. */
int self_execute(struct error *err);

/* Not dumpable again: a change of user makes a process what fs.suid_dumpable says. */
int self_hide(struct error *err);
