#pragma once
/*
 * container/checkpoint.h - writes a running container into files (CRIU).
 *
 * Used by the verb.  Until CRIU has written everything the container is only stopped for a moment;
 * when anything fails it goes on as it was.  The record's lock is held all the time.
 */
#include "base/strbuf.h"
#include "codec/oci_spec.h"
#include "container/criu.h"
#include "container/record.h"

#define CHECKPOINT_FILE "brume-oci.json"

/* With neither leave_running nor pre_dump the container is gone afterwards. */
int checkpoint_make(struct record *record, const struct criu_options *options, struct error *err);

/* What CRIU cannot carry of a configuration; for restore as well.  Pure. */
int checkpoint_check(const struct oci_spec *spec, struct error *err);

/* The switches of a dump.  Pure. */
void checkpoint_request(const struct oci_spec *spec, const struct criu_options *options,
			const struct criu_folders *folders, pid_t pid, struct strbuf *request);

/* The name under which CRIU knows a network namespace that is not the container's own. */
#define CHECKPOINT_NETWORK "extRootNetNS"
