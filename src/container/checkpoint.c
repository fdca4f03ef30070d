#include "container/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/mountinfo.h"
#include "codec/oci_checkpoint.h"
#include "container/external.h"
#include "container/lifecycle.h"
#include "container/rootless.h"
#include "kern/cgroup.h"
#include "kern/pidfd.h"

enum { STDIO_COUNT = 3, FDINFO_MAX = 4096, MOUNTINFO_MAX = 16 << 20, TREE_DEPTH_MAX = 4096 };

/* ---- may it be done ---- */

int checkpoint_check(const struct oci_spec *spec, struct error *err)
{
	for (size_t i = 0; i < OCI_NS_COUNT; i++)
		if (spec->linux_.ns[i].path && i != OCI_NS_NETWORK)
			return error_say(err, -EOPNOTSUPP,
					 "linux.namespaces: %s: CRIU cannot carry a namespace that "
					 "was joined by its path, only network ones",
					 oci_ns_name((enum oci_ns) i));
	return 0;
}

static int check_status(const struct record *record, struct error *err)
{
	enum oci_status status;
	int r = record_status(record, &status, err);

	if (r < 0)
		return r;
	if (status != OCI_STATUS_RUNNING && status != OCI_STATUS_PAUSED)
		return error_say(err, -EINVAL,
				 "container \"%s\" is %s; only one that is running can be "
				 "checkpointed",
				 record->state->id, oci_status_name(status));
	return 0;
}

/* Whether `pid` is `init` or comes from it; also when it has just ended. */
static bool descends(pid_t pid, pid_t init)
{
	struct pidfd_stat stat;

	for (int i = 0; i < TREE_DEPTH_MAX && pid != init; i++) {
		if (pid <= 0)
			return false;
		if (pidfd_read_stat(pid, &stat) < 0)
			return true;
		pid = stat.parent;
	}
	return true;
}

/* CRIU carries a tree of processes; what `exec` starts is not in it. */
static int check_tree(const struct record *record, struct error *err)
{
	AUTO(free) pid_t *pids = NULL;
	size_t count = 0;
	int r = record->state->cgroup ? lifecycle_pids(record, &pids, &count, err) : 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		if (!descends(pids[i], record->state->pid))
			return error_say(err, -EBUSY,
					 "process %d was started in the container by exec, and "
					 "CRIU cannot carry it; end it first",
					 (int) pids[i]);
	return r;
}

/* ---- the request ---- */

void checkpoint_request(const struct oci_spec *spec, const struct criu_options *options,
			const struct criu_folders *folders, pid_t pid, struct strbuf *request)
{
	const struct oci_namespace *network = &spec->linux_.ns[OCI_NS_NETWORK];

	criu_put_common(request, options, folders);
	criu_put_number(request, CRIU_OPT_PID, (uint64_t) pid);
	criu_put_switch(request, CRIU_OPT_LEAVE_RUNNING, options->leave_running);
	criu_put_switch(request, CRIU_OPT_TCP_SKIP_IN_FLIGHT, options->tcp_skip_in_flight);
	criu_put_switch(request, CRIU_OPT_LINK_REMAP, options->link_remap);
	criu_put_text(request, CRIU_OPT_PARENT_IMAGES, options->parent_path);
	criu_put_switch(request, CRIU_OPT_TRACK_MEMORY, options->parent_path || options->pre_dump);
	/* Interfaces are made by who has made them the first time, as with runc. */
	if (network->wanted && !network->path)
		criu_put_number(request, CRIU_OPT_EMPTY_NS, CLONE_NEWNET);
}

static int put_network(const struct oci_spec *spec, pid_t pid, struct strbuf *request,
		       struct error *err)
{
	AUTO(free) char *path = mem_printf("/proc/%d/ns/net", (int) pid);
	AUTO(free) char *name = NULL;
	struct stat st;

	if (!spec->linux_.ns[OCI_NS_NETWORK].path)
		return 0;
	if (stat(path, &st) < 0)
		return error_set(err, -errno, "%s", path);
	name = mem_printf("net[%llu]:" CHECKPOINT_NETWORK, (unsigned long long) st.st_ino);
	criu_put_text(request, CRIU_OPT_EXTERNAL, name);
	return 0;
}

/* All processes stand still at one moment; version 1 has a hierarchy for that. */
static void put_freezer(const struct record *record, struct strbuf *request)
{
	AUTO(cgroup_host_free) struct cgroup_host *host = NULL;

	if (!record->state->cgroup || cgroup_host_read(&host) < 0)
		return;
	for (size_t i = 0; i < host->count; i++) {
		const struct cgroup_hierarchy *one = &host->list[i];
		AUTO(free) char *path = mem_printf("%s%s", one->mount, record->state->cgroup);
		bool freezer = one->v2 ? host->mode == CGROUP_V2
				       : strcmp(one->controllers, "freezer") == 0;

		if (freezer && access(path, F_OK) == 0)
			criu_put_text(request, CRIU_OPT_FREEZE_CGROUP, path);
	}
}

/* ---- stdio ---- */

static int mount_of_fd(pid_t pid, int fd)
{
	AUTO(free) char *path = mem_printf("/proc/%d/fdinfo/%d", (int) pid, fd);
	AUTO(free) char *text = NULL;
	const char *at;

	if (file_read(AT_FDCWD, path, FDINFO_MAX, &text, NULL) < 0)
		return -1;
	at = strstr(text, "mnt_id:");
	return at ? (int) strtol(at + strlen("mnt_id:"), NULL, 10) : -1;
}

/* The name of a file that is in none of the container's mounts: it was handed in. */
static char *foreign_file(const struct mountinfo *info, pid_t pid, int fd)
{
	AUTO(free) char *path = mem_printf("/proc/%d/fd/%d", (int) pid, fd);
	int mount = mount_of_fd(pid, fd);
	char target[2];
	struct stat st;

	if (mount < 0 || mountinfo_find(info, mount) ||
	    readlink(path, target, sizeof(target)) < 1 || target[0] != '/' || stat(path, &st) < 0)
		return NULL;
	return mem_printf("file[%x:%lx]", (unsigned int) mount, (unsigned long) st.st_ino);
}

/* Pipes are known from the creation on: what lies at 0 to 2 now may be the program's own. */
static int put_stdio(const struct record *record, struct oci_checkpoint *checkpoint,
		     struct strbuf *request, struct error *err)
{
	const struct oci_state *state = record->state;
	AUTO(free) char *path = mem_printf("/proc/%d/mountinfo", (int) state->pid);
	AUTO(mountinfo_done) struct mountinfo info = {};
	AUTO(free) char *text = NULL;
	size_t known = strv_count(state->stdio);
	int r = file_read(AT_FDCWD, path, MOUNTINFO_MAX, &text, NULL);

	if (r == 0)
		r = mountinfo_parse(text, &info);
	if (r < 0)
		return error_set(err, r, "%s", path);
	for (int fd = 0; fd < STDIO_COUNT; fd++) {
		AUTO(free) char *file = foreign_file(&info, state->pid, fd);

		if (file)
			criu_put_text(request, CRIU_OPT_EXTERNAL, file);
		strv_append(&checkpoint->stdio, file                  ? file
						: (size_t) fd < known ? state->stdio[fd]
								      : "");
	}
	return 0;
}

/* ---- all ---- */

/* CRIU would say no more than that it failed. */
static int check_parent(const struct criu_options *options, const struct criu_folders *folders,
			struct error *err)
{
	struct stat st;

	if (!options->parent_path ||
	    (fstatat(folders->images, options->parent_path, &st, 0) == 0 && S_ISDIR(st.st_mode)))
		return 0;
	return error_say(err, -ENOENT,
			 "--parent-path: \"%s\" is not a folder, relative to --image-path %s",
			 options->parent_path, options->image_path);
}

static int write_file(const struct criu_folders *folders, const struct oci_checkpoint *checkpoint,
		      struct error *err)
{
	AUTO(free) char *text = oci_checkpoint_encode(checkpoint);
	int r = file_write_atomic(folders->images, CHECKPOINT_FILE, text, strlen(text), 0600, 0);

	return r < 0 ? error_set(err, r, CHECKPOINT_FILE) : 0;
}

static int dump(struct record *record, const struct oci_spec *spec,
		const struct criu_options *options, const char *program,
		const struct criu_folders *folders, struct error *err)
{
	AUTO(oci_checkpoint_done) struct oci_checkpoint checkpoint = {};
	AUTO(strbuf_done) struct strbuf request = {};
	struct criu_start how = { .fds = { folders->images, folders->work },
				  .fd_count = folders->work >= 0 ? 2 : 1,
				  .cgroup_fd = -1 };
	pid_t pid = record->state->pid;
	struct criu_options changed = *options;
	struct criu_reply reply;
	struct criu criu;
	int r = 0;

	if (!record->state->cgroup)
		changed.cgroups = CRIU_CGROUPS_IGNORE;
	checkpoint_request(spec, &changed, folders, pid, &request);
	put_freezer(record, &request);
	r = put_network(spec, pid, &request, err);
	if (r == 0 && !options->pre_dump) {
		r = external_find(spec, record->state->bundle, pid, &checkpoint, &request, err);
		if (r == 0)
			r = put_stdio(record, &checkpoint, &request, err);
		if (r == 0)
			r = write_file(folders, &checkpoint, err);
	}
	if (r == 0)
		r = criu_spawn(program, &how, &criu, err);
	if (r < 0)
		return r;
	r = criu_call(&criu, options->pre_dump ? CRIU_PRE_DUMP : CRIU_DUMP, &request, NULL, NULL,
		      &reply, err);
	if (r < 0)
		r = criu_explain(&criu, folders, r, err);
	criu_end(&criu, false);
	return r;
}

int checkpoint_make(struct record *record, const struct criu_options *options, struct error *err)
{
	AUTO(oci_spec_free) struct oci_spec *spec = NULL;
	AUTO(criu_close_folders) struct criu_folders folders = { .images = -1, .work = -1 };
	AUTO(free) char *program = NULL;
	int r = check_status(record, err);

	if (r == 0)
		r = lifecycle_spec(record, &spec, err);
	if (r == 0)
		r = checkpoint_check(spec, err);
	if (r == 0 && !options->pre_dump)
		r = check_tree(record, err);
	if (r == 0)
		r = criu_find(&program, err);
	if (r == 0)
		r = criu_open_folders(options, true, "dump.log", &folders, err);
	if (r == 0)
		r = check_parent(options, &folders, err);
	if (r == 0)
		r = dump(record, spec, options, program, &folders, err);
	if (r < 0 || options->leave_running || options->pre_dump)
		return r;
	return lifecycle_destroy(record, spec, err);
}
