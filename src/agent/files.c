/*
 * Files of an instance over a stream: "files" with {uid, action, path, follow, keep_ids}.
 *
 * `stat` and `get` send a line of JSON about the path on channel 1, `get` a tar behind it; `put`
 * takes a tar on channel 0 and then eof.  The work is image/files.h's, on a pool of its own.
 *
 * An instance at rest has no mounts, so its root is opened for the time of the work: one at a time,
 * because the same changed files must not be mounted twice.  For the same reason a new run of the
 * instance waits until all work, which is told to stop, has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utlist.h>

#include "agent/agent_internal.h"
#include "agent/guest_stream.h"
#include "agent/instance_actor.h"
#include "agent/instance_files.h"
#include "agent/outpipe.h"
#include "agent/stream.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strv.h"
#include "image/files.h"
#include "image/rootfs.h"
#include "model/member.h"

struct files {
	struct files *prev, *next;
	struct stream *stream; /* NULL: closed */
	struct agent *agent;
	struct image_files args;
	char *path;
	struct instance_root root;
	struct outpipe out;
	struct inpipe in;
	int worker_fd; /* of the pipe, for the worker */
	bool complete; /* PUT: everything has come */
	bool working, waiting;
	const char *stopped; /* why it was told to stop, or NULL */
	int result;
	struct error err;
};

static void files_destroy(struct files *files)
{
	DL_DELETE(files->agent->files, files);
	fd_close(files->worker_fd);
	fd_close(files->args.cancel_fd);
	free(files->path);
	free(files);
}

static void stop(struct files *files, const char *why)
{
	if (!files->stopped)
		files->stopped = why;
	eventfd_write(files->args.cancel_fd, 1);
}

static void files_free(void *data)
{
	struct files *files = data;

	files->stream = NULL;
	outpipe_done(&files->out);
	inpipe_done(&files->in);
	/* A tar that is cut between two files looks complete: the worker must not go on. */
	if (files->working)
		stop(files, "the client has gone");
	else
		files_destroy(files);
}

/* On a worker thread. */
static void work(void *data)
{
	struct files *files = data;

	files->result =
		instance_root_open(files->agent, &files->root, &files->args.root_fd, &files->err);
	if (files->result == 0)
		files->result = image_files(files->agent->images, &files->args, &files->err);
	fd_close(TAKE_FD(files->args.root_fd));
	/* The other end sees the end. */
	fd_close(TAKE_FD(files->worker_fd));
}

static void finish(struct files *files)
{
	struct error err = files->err;

	if (!files->stream || files->working || files->out.fd >= 0)
		return;
	if (files->result == 0)
		stream_close_code(files->stream, 0);
	else
		stream_close_error(files->stream, &err);
}

static void begin(struct files *files);

/* Those that wait for the root of the same instance: one begins, or all hear why not. */
static void begin_waiting(struct agent *agent, const char *uid)
{
	struct files *files, *next;

	DL_FOREACH_SAFE(agent->files, files, next)
	if (files->waiting && strcmp(files->root.uid, uid) == 0)
		begin(files);
}

static void done(void *data)
{
	struct files *files = data;
	struct agent *agent = files->agent;
	char uid[UID_SIZE];

	memcpy(uid, files->root.uid, sizeof(uid));
	files->working = false;
	if (files->result < 0 && files->stopped)
		files->result = error_say(&files->err, -ECANCELED, "%s", files->stopped);
	if (!files->stream)
		files_destroy(files);
	else
		finish(files);
	instance_files_ended(agent, uid);
	begin_waiting(agent, uid);
}

static void out_ended(void *data)
{
	finish(data);
}

static bool is_taken(const struct files *files)
{
	struct files *other;

	DL_FOREACH(files->agent->files, other)
	if (other != files && other->working && !other->root.is_running &&
	    strcmp(other->root.uid, files->root.uid) == 0)
		return true;
	return false;
}

static int check_root(struct files *files, struct error *err)
{
	return instance_root_check(files->agent, &files->root, files->path,
				   files->args.action == IMAGE_FILES_PUT, err);
}

/* It may have been started or deleted while this waited, so its state is asked for now. */
static void begin(struct files *files)
{
	struct error err = {};
	int r = instance_root_find(files->agent, files->root.uid, &files->root, &err);

	files->waiting = false;
	if (r == 0)
		r = check_root(files, &err);
	if (r < 0) {
		stream_close_error(files->stream, &err);
		return;
	}
	if (!files->root.is_running && is_taken(files)) {
		files->waiting = true;
		return;
	}
	files->args.is_namespace = files->root.is_running;
	files->args.slot = files->root.slot;
	files->args.stream_fd = files->worker_fd;
	files->working = true;
	pool_submit(files->agent->files_pool, work, done, files);
}

static int files_received(void *data, enum frame_channel channel, const char *bytes, size_t size,
			  struct error *err)
{
	struct files *files = data;
	AUTO(json_decref) json_t *message = NULL;
	int r;

	if (files->args.action != IMAGE_FILES_PUT)
		return error_say(err, -EINVAL, "files: takes no data");
	if (channel == FRAME_CHANNEL_IN) {
		inpipe_write(&files->in, bytes, size);
		return 0;
	}
	if (channel != FRAME_CHANNEL_CONTROL)
		return error_say(err, -EINVAL, "files: data must come on channel 0");
	r = json_parse(bytes, size, FRAME_BODY_MAX, &message, err);
	if (r < 0)
		return r;
	if (!json_is_true(json_object_get(message, "eof")))
		return error_say(err, -EINVAL, "files: the only control message is {\"eof\":true}");
	files->complete = true;
	inpipe_finish(&files->in);
	return 0;
}

static void files_writable(void *data)
{
	struct files *files = data;

	outpipe_credited(&files->out);
}

static const struct stream_ops files_ops = { files_received, files_writable, files_free };

static int read_action(const char *word, enum image_files_action *ret, struct error *err)
{
	static const char *const words[] = { "stat", "get", "put" };

	for (size_t i = 0; word && i < ARRAY_COUNT(words); i++)
		if (strcmp(word, words[i]) == 0) {
			*ret = (enum image_files_action) i;
			return 0;
		}
	return error_say(err, -EINVAL, "files.action: must be stat, get or put");
}

static int read_arguments(struct files *files, const json_t *arguments, struct error *err)
{
	struct json_reader in = { .err = err, .where = "files" };
	AUTO(free) char *action = NULL;
	int r;

	json_read_any(&in, arguments, "kind", NULL);
	member_read_uid(&in, arguments, "uid", files->root.uid);
	json_read_string(&in, arguments, "action", &action);
	json_read_string(&in, arguments, "path", &files->path);
	json_read_bool(&in, arguments, "follow", &files->args.follow);
	json_read_bool(&in, arguments, "keep_ids", &files->args.keep_ids);
	r = json_reader_finish(&in, arguments);
	if (r < 0)
		return r;
	files->args.path = files->path;
	if (!files->root.uid[0])
		return error_say(err, -EINVAL, "files.uid: is missing");
	if (!files->path || files->path[0] != '/' || strlen(files->path) > INSTANCE_PATH_MAX)
		return error_say(err, -EINVAL,
				 "path: must be absolute and at most %d bytes, like \"/etc\"",
				 INSTANCE_PATH_MAX);
	return read_action(action, &files->args.action, err);
}

static int make_pipe(struct files *files, struct error *err)
{
	bool put = files->args.action == IMAGE_FILES_PUT;
	int fds[2];

	files->args.cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (files->args.cancel_fd < 0 || pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	files->worker_fd = fds[put ? 0 : 1];
	if (put)
		return inpipe_start(&files->in, files->stream, fds[1], err);
	return outpipe_start(&files->out, files->stream, FRAME_CHANNEL_OUT, fds[0], out_ended,
			     files, err);
}

/* The guest does it; its answer's first line is checked by who reads it, as any other. */
static int open_in_guest(struct stream *stream, struct guest *guest, const json_t *arguments,
			 const struct stream_ops **ret_ops, void **ret_data, struct error *err)
{
	static const struct guest_stream_kind kind = {};
	struct files checked = {};
	int r = read_arguments(&checked, arguments, err);

	free(checked.path);
	if (r == 0)
		guest_stream_open(stream, guest, arguments, &kind, ret_ops, ret_data);
	return r;
}

int files_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	       void **ret_data, struct error *err)
{
	const char *uid = json_string_value(json_object_get(arguments, "uid"));
	struct guest *guest = NULL;
	struct error why = {};
	struct files *files;
	int r = instance_guest(stream_agent(stream), uid ? uid : "", &guest, &why);

	if (r == -EOPNOTSUPP)
		return error_say(err, r, "%s", why.msg);
	if (r > 0)
		return open_in_guest(stream, guest, arguments, ret_ops, ret_data, err);
	files = mem_new0(struct files);
	files->stream = stream;
	files->agent = stream_agent(stream);
	files->out = (struct outpipe){ .stream = stream, .fd = -1 };
	files->in = (struct inpipe){ .stream = stream, .fd = -1 };
	files->worker_fd = files->args.root_fd = files->args.cancel_fd = -1;
	instance_root_init(&files->root);
	DL_APPEND(files->agent->files, files);
	r = read_arguments(files, arguments, err);
	if (r == 0)
		r = instance_root_find(files->agent, files->root.uid, &files->root, err);
	if (r == 0)
		r = check_root(files, err);
	if (r == 0)
		r = make_pipe(files, err);
	if (r < 0) {
		files_free(files);
		return r;
	}
	*ret_ops = &files_ops;
	*ret_data = files;
	/* Never closes the stream here: what was found is still there. */
	begin(files);
	return 0;
}

bool files_stop(struct agent *agent, const char *uid, const char *why)
{
	struct files *files;
	bool any = false;

	DL_FOREACH(agent->files, files)
	if (files->working && strcmp(files->root.uid, uid) == 0) {
		any = true;
		stop(files, why);
	}
	return any;
}
