#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/files_internal.h"
#include "image/sandbox_internal.h"
#include "image/upper_internal.h"
#include "image/worker.h"

#include <linux/openat2.h>
#include <sys/syscall.h>

struct request {
	char **layers; /* "HEX/fs", topmost first */
	uint32_t owner_base;
	char **mount_points;
};

static int read_points(json_t *array, struct request *request, struct error *err)
{
	json_t *item;
	size_t i;

	json_array_foreach(array, i, item)
	{
		const char *text = json_string_value(item);
		char *path = NULL;

		if (!text || wire_path_decode(text, &path) < 0)
			return error_say(err, -EPROTO, "request: a bad path");
		strv_append_take(&request->mount_points, path);
	}
	return 0;
}

static int read_request(struct wire *wire, struct request *request, struct error *err)
{
	AUTO(json_decref) json_t *document = NULL;
	struct json_reader in = { .err = err, .where = "request" };
	json_t *points = NULL;
	int r = wire_receive(wire, &document, err);

	if (r < 0)
		return r;
	json_read_strv(&in, document, "layers", &request->layers);
	json_read_uint32(&in, document, "owner_base", UINT32_MAX, &request->owner_base);
	json_read_array(&in, document, "mount_points", &points);
	r = json_reader_finish(&in, document);
	return r < 0 ? r : read_points(points, request, err);
}

/* A clone that nobody writes through, that has no devices, and that nobody else sees. */
static int clone_read_only(int fd, struct error *err)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
					       MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
					       MOUNT_ATTR_NOATIME,
				   .attr_clr = MOUNT_ATTR__ATIME,
				   .propagation = MS_PRIVATE };
	int clone = open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (clone < 0 || mount_setattr(clone, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0) {
		fd_close(clone);
		return error_set(err, -errno, "clone a folder");
	}
	close(fd);
	return clone;
}

static int open_lower(struct upper *upper, int layers_fd, char *const *names)
{
	struct open_how how = { .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };

	upper->lower.fds = mem_new0_array(int, UPPER_LOWER_MAX);
	for (; names && *names; names++) {
		int fd = (int) syscall(SYS_openat2, layers_fd, *names, &how, sizeof(how));

		if (fd < 0 || upper->lower.count == UPPER_LOWER_MAX)
			return error_set(upper->err, fd < 0 ? -errno : -E2BIG, "layer %.80s",
					 *names);
		upper->lower.fds[upper->lower.count++] = fd;
	}
	return 0;
}

int upper_worker(struct wire *wire, const char *action, struct error *err)
{
	struct request request = {};
	struct upper upper = { .wire = wire, .err = err };
	json_t *done = NULL;
	int layers_fd, r = read_request(wire, &request, err);

	if (r < 0)
		return r;
	upper.owner_base = request.owner_base;
	upper.mount_points = request.mount_points;
	upper.upper_fd = clone_read_only(WORKER_JOB_FD, err);
	if (upper.upper_fd < 0)
		return upper.upper_fd;
	layers_fd = clone_read_only(WORKER_EXTRA_FD, err);
	if (layers_fd < 0)
		return layers_fd;
	r = sandbox_enter_reader(err);
	if (r == 0)
		r = open_lower(&upper, layers_fd, request.layers);
	if (r < 0)
		return r;
	/* The clone itself is an O_PATH descriptor. */
	upper.upper_fd = files_open_child(upper.upper_fd, ".", O_RDONLY | O_DIRECTORY);
	if (upper.upper_fd < 0)
		return error_set(err, upper.upper_fd, "the changed files");
	if (strcmp(action, "changes") == 0)
		return upper_changes(&upper);
	r = upper_layer(&upper, &done);
	if (r == 0)
		wire_send(wire->fd, done);
	return r;
}
