#include "container/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/oci_spec.h"
#include "kern/cgroup.h"
#include "kern/pidfd.h"

bool record_id_good(const char *id)
{
	size_t size = strlen(id);

	return size > 0 && size <= 200 && id[0] != '.' &&
	       strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.") ==
		       size;
}

static int check_id(const char *id, struct error *err)
{
	if (record_id_good(id))
		return 0;
	return error_say(err, -EINVAL,
			 "container id \"%.64s\" is not good: use letters, digits, and _ + - .",
			 id);
}

static struct record *record_new(const char *root, const char *id)
{
	struct record *record = mem_new0(struct record);

	record->root = mem_strdup(root);
	record->path = mem_printf("%s/%s", root, id);
	record->fd = -1;
	return record;
}

int record_create(const char *root, const char *id, struct record **ret, struct error *err)
{
	AUTO(record_free) struct record *record = NULL;
	int r = check_id(id, err);

	if (r < 0)
		return r;
	record = record_new(root, id);
	r = mkdir(record->path, 0700) < 0 ? -errno : 0;
	if (r == -ENOENT) {
		r = file_mkdir_all(root, 0700);
		if (r == 0)
			r = mkdir(record->path, 0700) < 0 ? -errno : 0;
	}
	if (r == -EEXIST)
		return error_say(err, r, "container \"%s\" exists already", id);
	if (r < 0)
		return error_set(err, r, "%s", record->path);
	record->fd = open(record->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (record->fd < 0 || flock(record->fd, LOCK_EX) < 0)
		return error_set(err, -errno, "%s", record->path);
	record->state = mem_new0(struct oci_state);
	record->state->id = mem_strdup(id);
	*ret = TAKE_PTR(record);
	return 0;
}

/* What it names will be signalled and removed: it must be what this runtime has written. */
static int check_state(const struct oci_state *state, const char *id, struct error *err)
{
	if (strcmp(state->id, id) != 0)
		return error_say(err, -EBADMSG, "is of another container, \"%.64s\"", state->id);
	if (state->cgroup && !cgroup_path_good(state->cgroup))
		return error_say(err, -EBADMSG, "cgroup: \"%.64s\" is not a good path",
				 state->cgroup);
	return 0;
}

int record_open(const char *root, const char *id, bool lock, struct record **ret, struct error *err)
{
	AUTO(record_free) struct record *record = NULL;
	AUTO(free) char *text = NULL;
	size_t size;
	int r = check_id(id, err);

	if (r < 0)
		return r;
	record = record_new(root, id);
	record->fd = open(record->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (record->fd < 0 && errno == ENOENT)
		return error_say(err, -ENOENT, "container \"%s\" does not exist", id);
	if (record->fd < 0)
		return error_set(err, -errno, "%s", record->path);
	if (lock && flock(record->fd, LOCK_EX) < 0)
		return error_set(err, -errno, "locking %s", record->path);
	r = file_read(record->fd, "state.json", OCI_STATE_MAX, &text, &size);
	if (r == -ENOENT && access(record->path, F_OK) < 0)
		return error_say(err, -ENOENT, "container \"%s\" does not exist", id);
	if (r == 0) {
		r = oci_state_decode(text, size, &record->state, err);
		if (r < 0)
			return error_wrap(err, r, "%s/state.json", record->path);
		r = check_state(record->state, id, err);
		if (r < 0)
			return error_wrap(err, r, "%s/state.json", record->path);
	} else if (r == -ENOENT) {
		/* The creator has not come further, or died there. */
		record->state = mem_new0(struct oci_state);
		record->state->id = mem_strdup(id);
		record->state->version = mem_strdup(OCI_SPEC_VERSION);
		record->state->bundle = mem_strdup("/");
	} else {
		return error_set(err, r, "%s/state.json", record->path);
	}
	*ret = TAKE_PTR(record);
	return 0;
}

void record_unlock(struct record *record)
{
	flock(record->fd, LOCK_UN);
}

int record_save(struct record *record, struct error *err)
{
	AUTO(free) char *text = oci_state_encode(record->state);
	int r = file_write_atomic(record->fd, "state.json", text, strlen(text), 0600, 0);

	return r < 0 ? error_set(err, r, "%s/state.json", record->path) : 0;
}

int record_open_init(const struct record *record)
{
	AUTO(fd_close) int fd = -1;
	struct pidfd_stat stat;
	int r;

	if (record->state->pid <= 0)
		return -ESRCH;
	fd = pidfd_open_pid(record->state->pid);
	if (fd < 0)
		return TAKE_FD(fd);
	r = pidfd_read_stat(record->state->pid, &stat);
	if (r < 0)
		return r;
	/* A zombie that nobody reaps has ended too. */
	if (stat.start_time != record->state->start_time || stat.state == 'Z' || stat.state == 'X')
		return -ESRCH;
	return TAKE_FD(fd);
}

static bool is_frozen(const struct record *record)
{
	AUTO(cgroup_host_free) struct cgroup_host *host = NULL;
	AUTO(cgroup_free) struct cgroup *cgroup = NULL;

	return record->state->cgroup && cgroup_host_read(&host) == 0 &&
	       cgroup_open(host, record->state->cgroup, false, &cgroup) == 0 &&
	       cgroup_frozen(cgroup) == 1;
}

int record_stage(const struct record *record, enum oci_status *ret, struct error *err)
{
	AUTO(fd_close) int init = record_open_init(record);

	if (record->state->pid == 0)
		*ret = OCI_STATUS_CREATING;
	else if (init == -ESRCH)
		*ret = OCI_STATUS_STOPPED;
	else if (init < 0)
		return error_set(err, init, "process %d", (int) record->state->pid);
	else if (faccessat(record->fd, "start.sock", F_OK, 0) == 0)
		*ret = OCI_STATUS_CREATED;
	else
		*ret = OCI_STATUS_RUNNING;
	return 0;
}

int record_status(const struct record *record, enum oci_status *ret, struct error *err)
{
	int r = record_stage(record, ret, err);

	if (r == 0 && *ret == OCI_STATUS_RUNNING && is_frozen(record))
		*ret = OCI_STATUS_PAUSED;
	return r;
}

int record_remove(struct record *record, struct error *err)
{
	static const char *const files[] = { "start.sock", "config.json", RECORD_RESOURCES,
					     "state.json" };
	int r;

	/* In this order a removal that was interrupted can be repeated. */
	for (size_t i = 0; i < ARRAY_COUNT(files); i++)
		(void) unlinkat(record->fd, files[i], 0);
	r = rmdir(record->path) < 0 ? -errno : 0;
	if (r == -ENOTEMPTY || r == -EEXIST)
		r = file_remove_tree(AT_FDCWD, record->path);
	return r < 0 && r != -ENOENT ? error_set(err, r, "%s", record->path) : 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

int record_list(const char *root, char ***ret, struct error *err)
{
	AUTO(strv_free) char **ids = mem_new0(char *);
	struct dirent *entry;
	DIR *dir = opendir(root);

	if (!dir && errno != ENOENT)
		return error_set(err, -errno, "%s", root);
	while (dir && (entry = readdir(dir)))
		if (record_id_good(entry->d_name))
			strv_append(&ids, entry->d_name);
	if (dir)
		closedir(dir);
	qsort(ids, strv_count(ids), sizeof(char *), compare);
	*ret = TAKE_PTR(ids);
	return 0;
}

void record_free(struct record *record)
{
	if (!record)
		return;
	fd_close(record->fd);
	oci_state_free(record->state);
	free(record->root);
	free(record->path);
	free(record);
}
