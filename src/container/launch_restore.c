#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/mountinfo.h"
#include "container/checkpoint.h"
#include "container/console.h"
#include "container/device_rules.h"
#include "container/external.h"
#include "container/launch_internal.h"
#include "container/net_devices.h"
#include "container/rdt.h"
#include "kern/mount.h"
#include "kern/ns.h"
#include "kern/pidfd.h"

/* Descriptors that criu gets are out of the way of its own stdio. */
enum { FIRST_FD = 10 };

#define CLOCK_IMAGE "timens-0.img"

/* ---- before anything is made ---- */

static int read_checkpoint(struct launch_restore *restore, const char *folder, struct error *err)
{
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(restore->folders.images, CHECKPOINT_FILE, OCI_CHECKPOINT_MAX, &text,
			  &size);

	if (r == -ENOENT)
		return error_say(err, r,
				 "--image-path %s: has no " CHECKPOINT_FILE
				 "; `brume-oci checkpoint` writes it",
				 folder);
	if (r < 0)
		return error_set(err, r, "%s/" CHECKPOINT_FILE, folder);
	r = oci_checkpoint_decode(text, size, &restore->checkpoint, err);
	return r < 0 ? error_wrap(err, r, "%s/" CHECKPOINT_FILE, folder) : 0;
}

int launch_restore_plan(struct launch_work *work, struct error *err)
{
	const struct criu_options *options = work->options->restore;
	struct launch_restore *restore = &work->restore;
	int r = checkpoint_check(work->launch->spec, err);

	if (r == 0)
		r = rdt_check(RDT_ROOT, &work->launch->spec->linux_.rdt, err);
	if (r == 0)
		r = criu_find(&restore->program, err);
	if (r == 0)
		r = criu_open_folders(options, false, "restore.log", &restore->folders, err);
	return r < 0 ? r : read_checkpoint(restore, options->image_path, err);
}

/* ---- in criu's process, before it is criu ---- */

struct place {
	const struct launch_work *work;
	const char *folder;
	int images; /* a detached mount of them, or -1 */
};

/*
 * CRIU's first process of a user namespace opens this one image while its ids are still being
 * written; should it be faster, it may do what everybody may.  The image says two offsets of
 * clocks. Where that cannot be allowed (a file system that is read-only, a file with other names)
 * the ids are still first nearly always.
 */
static void open_clock_image(int images)
{
	AUTO(fd_close)
	int fd = openat(images, CLOCK_IMAGE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat folder, image;

	if (fd < 0 || fstat(images, &folder) < 0 || fstat(fd, &image) < 0 ||
	    !S_ISREG(image.st_mode) || image.st_nlink != 1)
		return;
	if (fchmod(images, (folder.st_mode & 07777) | S_IXOTH) == 0)
		(void) fchmod(fd, (image.st_mode & 07777) | S_IROTH);
}

/*
 * Processes of another user namespace read the images themselves: they are shown to them as their
 * own.
 */
static int clone_images(const struct launch_work *work, int *ret, struct error *err)
{
	const struct oci_linux *linux_ = &work->launch->spec->linux_;
	AUTO(fd_close) int fd = -1;
	int r;

	if (!linux_->ns[OCI_NS_USER].wanted)
		return 0;
	open_clock_image(work->restore.folders.images);
	fd = mount_clone(work->restore.folders.images, "", true);
	r = fd < 0 ? error_set(err, fd, "clone")
		   : rootfs_idmap(fd, &linux_->uid_maps, &linux_->gid_maps, false, err);
	if (r < 0)
		return error_wrap(err, r,
				  "--image-path %s: its file system cannot show the images as the "
				  "container's own",
				  work->options->restore->image_path);
	*ret = TAKE_FD(fd);
	return 0;
}

/*
 * Where the mounts for CRIU come, in a mount namespace of its own: a folder that every system has,
 * that processes of any user namespace may pass, and that hides nothing of what CRIU looks for.
 */
static const char *find_folder(const struct launch_work *work)
{
	static const char *const folders[] = { "/mnt", "/media", "/srv", "/opt" };

	for (size_t i = 0; i < ARRAY_COUNT(folders); i++) {
		struct stat st;

		if (lstat(folders[i], &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & S_IXOTH) &&
		    !mountinfo_below(work->options->restore->image_path, folders[i]) &&
		    !mountinfo_below(work->restore.folders.log_path, folders[i]))
			return folders[i];
	}
	return NULL;
}

/* All that is mounted for CRIU is in its own namespace and ends with it. */
static int prepare(void *data, struct error *err)
{
	const struct place *place = data;
	int r = unshare(CLONE_NEWNS) < 0 ? -errno : 0;

	if (r == 0)
		r = mount_change(AT_FDCWD, "/", true, 0, 0, MS_PRIVATE);
	if (r < 0)
		return error_set(err, r, "mount namespace for criu");
	/* CRIU 3.17 does not carry it; what it makes inherits it. */
	if (place->work->launch->spec->process->no_new_privileges &&
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(err, -errno, "process.noNewPrivileges");
	return external_provide(&place->work->rootfs, &place->work->restore.checkpoint,
				place->images, place->folder, err);
}

/* ---- what criu is given ---- */

static int give(struct criu_start *how, int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD);

	if (copy < 0)
		return -errno;
	how->fds[how->fd_count++] = copy;
	return copy;
}

static void close_given_autop(struct criu_start *how)
{
	for (size_t i = 0; i < how->fd_count; i++)
		close(how->fds[i]);
}

static int give_stdio(const struct oci_checkpoint *checkpoint, struct criu_start *how,
		      struct strbuf *request, struct error *err)
{
	for (size_t i = 0; i < strv_count(checkpoint->stdio); i++) {
		const char *name = checkpoint->stdio[i];
		bool known = !name[0];
		int fd;

		/* One file at two numbers is one file for CRIU. */
		for (size_t k = 0; k < i; k++)
			known = known || strcmp(checkpoint->stdio[k], name) == 0;
		if (known)
			continue;
		fd = give(how, (int) i);
		if (fd < 0)
			return error_set(err, fd, "stdio");
		criu_put_inherit(request, name, fd);
	}
	return 0;
}

static int give_network(const struct oci_spec *spec, struct criu_start *how, struct strbuf *request,
			struct error *err)
{
	const struct oci_namespace *network = &spec->linux_.ns[OCI_NS_NETWORK];
	AUTO(fd_close) int ns = -1;
	int fd;

	if (network->wanted && !network->path)
		criu_put_number(request, CRIU_OPT_EMPTY_NS, CLONE_NEWNET);
	if (!network->path)
		return 0;
	ns = ns_open(network->path, CLONE_NEWNET);
	fd = ns < 0 ? ns : give(how, ns);
	if (fd < 0)
		return error_set(err, fd, "linux.namespaces: network: \"%s\"", network->path);
	criu_put_inherit(request, CHECKPOINT_NETWORK, fd);
	return 0;
}

/* ---- what criu says on the way ---- */

static int remember_init(struct launch_work *work, pid_t pid, struct error *err)
{
	struct oci_state *state = work->launch->record->state;
	struct pidfd_stat stat;
	int r = pid > 0 ? pidfd_read_stat(pid, &stat) : -ESRCH;

	if (r < 0)
		return error_set(err, r, "process %d", (int) pid);
	state->pid = pid;
	state->start_time = stat.start_time;
	return 0;
}

/* The processes are there, and wait for CRIU to let them go on. */
static int protect(struct launch_work *work, struct error *err)
{
	const struct oci_linux *linux_ = &work->launch->spec->linux_;
	int r = work->cgroup ? device_rules_apply(&linux_->resources, linux_->devices,
						  linux_->device_count, work->cgroup, err)
			     : 0;

	work->restore.protected = r == 0;
	return r;
}

static int notice(void *data, const char *script, pid_t pid, int fd, struct error *err)
{
	struct launch_work *work = data;
	int r = 0;

	if (strcmp(script, "setup-namespaces") == 0) {
		r = remember_init(work, pid, err);
		if (r == 0)
			r = net_devices_move(work->launch->spec, pid, err);
		if (r == 0)
			r = launch_run_hooks(work, err);
	} else if (strcmp(script, "post-restore") == 0) {
		r = protect(work, err);
	} else if (strcmp(script, "orphan-pts-master") == 0 && fd >= 0 &&
		   work->init.console_fd >= 0) {
		r = console_send_master(work->init.console_fd, fd);
		if (r < 0)
			error_set(err, r, "sending the terminal");
	}
	return r;
}

/* ---- all ---- */

static int take_init(struct launch_work *work, pid_t pid, struct error *err)
{
	struct pidfd_stat stat;
	int r = remember_init(work, pid, err);

	if (r < 0)
		return r;
	/* Nothing but our own child may ever be signalled. */
	if (pidfd_read_stat(pid, &stat) < 0 || stat.parent != getpid())
		return error_say(err, -ECHILD, "process %d is not our child", (int) pid);
	work->launch->pidfd = pidfd_open_pid(pid);
	if (work->launch->pidfd < 0)
		return error_set(err, work->launch->pidfd, "process %d", (int) pid);
	return rdt_join(RDT_ROOT, &work->launch->spec->linux_.rdt, work->options->id, pid, err);
}

/* CRIU opens descriptors of ours, and mounts what it finds there: it must be its own namespace's.
 */
static int enter_folders(const struct place *place, const struct criu *criu,
			 struct criu_folders *ret, struct error *err)
{
	const struct criu_options *options = place->work->options->restore;
	AUTO(free) char *path = mem_printf("/proc/%d/root", (int) criu->pid);
	AUTO(free) char *own = mem_printf("%s/images", place->folder);
	AUTO(fd_close) int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int flags = O_RDONLY | O_DIRECTORY;

	*ret = (struct criu_folders){ .images = -1,
				      .work = -1,
				      .log_name = place->work->restore.folders.log_name };
	if (root < 0)
		return error_set(err, -errno, "%s", path);
	ret->images =
		mount_open_in_root(root, place->images >= 0 ? own : options->image_path, flags);
	if (ret->images < 0)
		return error_set(err, ret->images, "--image-path %s", options->image_path);
	ret->work = mount_open_in_root(root, place->work->restore.folders.log_path, flags);
	if (ret->work < 0)
		return error_set(err, ret->work, "--work-path %s", options->work_path);
	return 0;
}

static void put_switches(const struct launch_work *work, const struct criu_folders *folders,
			 struct strbuf *request)
{
	struct criu_options options = *work->options->restore;
	const char *cgroup = work->launch->record->state->cgroup;

	if (!cgroup)
		options.cgroups = CRIU_CGROUPS_IGNORE;
	criu_put_common(request, &options, folders);
	criu_put_switch(request, CRIU_OPT_SIBLING, true);
	criu_put_switch(request, CRIU_OPT_NOTIFY, true);
	criu_put_switch(request, CRIU_OPT_EVASIVE_DEVICES, true);
	criu_put_switch(request, CRIU_OPT_TCP_CLOSE, options.tcp_close);
	criu_put_text(request, CRIU_OPT_LSM_PROFILE, options.lsm_profile);
	criu_put_text(request, CRIU_OPT_LSM_MOUNT_CONTEXT, options.lsm_mount_context);
	if (cgroup)
		criu_put_cgroup_root(request, cgroup);
}

static int run(struct launch_work *work, const struct place *place, const struct criu_start *how,
	       struct strbuf *request, struct error *err)
{
	AUTO(criu_close_folders) struct criu_folders folders = { .images = -1, .work = -1 };
	struct criu_reply reply;
	struct criu criu;
	int r = criu_spawn(work->restore.program, how, &criu, err);

	if (r < 0)
		return r;
	r = enter_folders(place, &criu, &folders, err);
	if (r == 0) {
		put_switches(work, &folders, request);
		r = criu_call(&criu, CRIU_RESTORE, request, notice, work, &reply, err);
		if (r < 0)
			r = criu_explain(&criu, &work->restore.folders, r, err);
	}
	criu_end(&criu, false);
	if (r == 0 && !work->restore.protected)
		r = error_say(err, -EPROTO, "CRIU did not wait for the rules about devices");
	return r < 0 ? r : take_init(work, reply.pid, err);
}

int launch_restore_make(struct launch_work *work, struct error *err)
{
	struct place place = { work, find_folder(work), -1 };
	AUTO(close_given)
	struct criu_start how = { .cgroup_fd = work->cgroup ? cgroup_v2_fd(work->cgroup) : -1,
				  .tasks = work->init.tasks,
				  .task_count = work->init.task_count,
				  .prepare = prepare,
				  .data = &place };
	AUTO(strbuf_done) struct strbuf request = {};
	int r;

	if (!place.folder)
		return error_say(err, -ENOTDIR,
				 "mounts for CRIU need one of the folders /mnt, /media, /srv and "
				 "/opt without images in it");
	external_request(&work->restore.checkpoint, place.folder, &request);
	r = clone_images(work, &place.images, err);
	if (r == 0)
		r = give_stdio(&work->restore.checkpoint, &how, &request, err);
	if (r == 0)
		r = give_network(work->launch->spec, &how, &request, err);
	if (r == 0)
		r = run(work, &place, &how, &request, err);
	fd_close(place.images);
	return r;
}
