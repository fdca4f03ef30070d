#include "agent/freeze.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/oci.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/member.h"

static bool is_paused_by_owner(const struct agent *agent, const char *uid)
{
	AUTO(free) char *path = agent_run_path(agent, uid, "paused");

	return access(path, F_OK) == 0;
}

static void thaw(const struct agent *agent, const char *uid)
{
	AUTO(free) char *path = agent_run_path(agent, uid, "frozen");
	enum oci_status status = OCI_STATUS_NONE;
	struct error err = {};

	/* Its owner may have paused it meanwhile: then it stays so. */
	if (!is_paused_by_owner(agent, uid) && oci_do(agent->options, "resume", uid, &err) < 0 &&
	    oci_state(agent->options, uid, &status, NULL) == 0 && status == OCI_STATUS_PAUSED)
		log_error("instance %s: it stands still and does not go on: %s", uid, err.msg);
	unlink(path);
}

/* The marker, held; the one before may have taken it away while we waited for it. */
static int hold_marker(const char *path)
{
	for (;;) {
		AUTO(fd_close)
		int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		struct stat st;

		if (fd < 0 || flock(fd, LOCK_EX) < 0 || fstat(fd, &st) < 0)
			return -errno;
		if (st.st_nlink > 0)
			return TAKE_FD(fd);
	}
}

int freeze_begin(const struct agent *agent, const char *uid, struct freeze *ret, struct error *err)
{
	AUTO(free) char *path = agent_run_path(agent, uid, "frozen");
	enum oci_status status = OCI_STATUS_NONE;
	int fd, r = oci_state(agent->options, uid, &status, err);

	/* What does not run stands still already. */
	if (r < 0 || status != OCI_STATUS_RUNNING)
		return r;
	fd = hold_marker(path);
	/* It has just ended, and its run folder with it. */
	if (fd < 0)
		return fd == -ENOENT ? 0 : error_set(err, fd, "%s", path);
	*ret = (struct freeze){ agent, uid, fd, false };
	if (is_paused_by_owner(agent, uid))
		return 0;
	r = oci_do(agent->options, "pause", uid, err);
	if (r == 0) {
		ret->frozen = true;
		return 0;
	}
	if (oci_state(agent->options, uid, &status, NULL) == 0 && status == OCI_STATUS_RUNNING)
		return r;
	return 0;
}

void freeze_end(struct freeze *freeze)
{
	if (freeze->lock_fd < 0)
		return;
	if (freeze->frozen) {
		thaw(freeze->agent, freeze->uid);
	} else {
		AUTO(free) char *path = agent_run_path(freeze->agent, freeze->uid, "frozen");

		unlink(path);
	}
	close(TAKE_FD(freeze->lock_fd));
}

void freeze_undo_all(const struct agent *agent)
{
	AUTO(free) char *path = mem_printf("%s/instances", agent->options->run);
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		AUTO(free) char *marker = agent_run_path(agent, entry->d_name, "frozen");

		if (!uid_is_valid(entry->d_name) || access(marker, F_OK) < 0)
			continue;
		log_info("instance %s: stood still for a commit, it goes on", entry->d_name);
		thaw(agent, entry->d_name);
	}
	if (dir)
		closedir(dir);
}
