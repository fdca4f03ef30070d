/* Images as tar over a stream: in (import) and out (export), through a pipe to a worker. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/image_actor.h"
#include "agent/outpipe.h"
#include "agent/stream.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"
#include "image/import.h"
#include "model/member.h"

static int read_uid(const json_t *arguments, const char *where, char ret[UID_SIZE],
		    struct error *err)
{
	struct json_reader in = { .err = err, .where = where };

	ret[0] = '\0';
	json_read_any(&in, arguments, "kind", NULL);
	member_read_uid(&in, arguments, "uid", ret);
	if (in.result == 0 && !ret[0])
		return error_say(err, -EINVAL, "%s.uid: is missing", where);
	return json_reader_finish(&in, arguments);
}

static int make_pipe(int *ret_read, int *ret_write, struct error *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	*ret_read = fds[0];
	*ret_write = fds[1];
	return 0;
}

/* -- import ----------------------------------------------------------------------------------- */

struct import {
	struct stream *stream; /* NULL: closed */
	struct agent *agent;
	char uid[UID_SIZE];
	struct inpipe in;
	bool complete; /* all bytes have come */
	bool working;  /* the image actor will call back */
};

static void import_free(void *data)
{
	struct import *import = data;

	import->stream = NULL;
	/* A tar that is cut between two files looks complete: say that it is not. */
	if (import->working && !import->complete)
		image_actor_import_cancel(import->agent, import->uid);
	inpipe_done(&import->in);
	if (!import->working)
		free(import);
}

static void import_done(void *data, int result, const struct error *err)
{
	struct import *import = data;

	import->working = false;
	if (!import->stream)
		free(import);
	else if (result < 0)
		stream_close_error(import->stream, err);
	else
		stream_close_code(import->stream, 0);
}

static int import_received(void *data, enum frame_channel channel, const char *bytes, size_t size,
			   struct error *err)
{
	struct import *import = data;
	AUTO(json_decref) json_t *message = NULL;
	int r;

	if (channel == FRAME_CHANNEL_IN) {
		inpipe_write(&import->in, bytes, size);
		return 0;
	}
	if (channel != FRAME_CHANNEL_CONTROL)
		return error_say(err, -EINVAL, "import: data must come on channel 0");
	r = json_parse(bytes, size, FRAME_BODY_MAX, &message, err);
	if (r < 0)
		return r;
	if (!json_is_true(json_object_get(message, "eof")))
		return error_say(err, -EINVAL,
				 "import: the only control message is {\"eof\":true}");
	import->complete = true;
	inpipe_finish(&import->in);
	return 0;
}

static const struct stream_ops import_ops = { import_received, NULL, import_free };

int import_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
		void **ret_data, struct error *err)
{
	struct import *import = mem_new0(struct import);
	int read_fd = -1, write_fd = -1, r;

	import->stream = stream;
	import->agent = stream_agent(stream);
	import->in = (struct inpipe){ .stream = stream, .fd = -1 };
	r = read_uid(arguments, "import", import->uid, err);
	if (r == 0)
		r = make_pipe(&read_fd, &write_fd, err);
	if (r == 0)
		r = inpipe_start(&import->in, stream, write_fd, err);
	if (r == 0) {
		import->working = true;
		r = image_actor_import(import->agent, import->uid, read_fd, import_done, import,
				       err);
		import->working = r == 0;
	} else {
		fd_close(read_fd);
	}
	if (r < 0) {
		import_free(import);
		return r;
	}
	*ret_ops = &import_ops;
	*ret_data = import;
	return 0;
}

/* -- export ----------------------------------------------------------------------------------- */

struct export
{
	struct stream *stream; /* NULL: closed */
	struct image_store *images;
	char uid[UID_SIZE];
	struct outpipe out;
	int write_fd; /* of the worker */
	bool working;
	int result;
	struct error err;
};

static void export_free(void *data)
{
	struct export *export = data;

	export->stream = NULL;
	/* The worker's next write fails, and it ends. */
	outpipe_done(&export->out);
	if (!export->working)
		free(export);
}

static void export_finish(struct export *export)
{
	if (export->working || export->out.fd >= 0)
		return;
	struct error err = export->err;
	if (export->result < 0)
		stream_close_error(export->stream, &err);
	else
		stream_close_code(export->stream, 0);
}

static void export_ended(void *data)
{
	export_finish(data);
}

static void export_work(void *data)
{
	struct export *export = data;

	export->result =
		image_export(export->images, export->uid, export->write_fd, -1, &export->err);
	close(export->write_fd);
	export->write_fd = -1;
}

static void export_done(void *data)
{
	struct export *export = data;

	export->working = false;
	if (!export->stream)
		free(export);
	else
		export_finish(export);
}

static void export_writable(void *data)
{
	struct export *export = data;

	outpipe_credited(&export->out);
}

static const struct stream_ops export_ops = { NULL, export_writable, export_free };

int export_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
		void **ret_data, struct error *err)
{
	struct export *export = mem_new0(struct export);
	int read_fd = -1, r;

	export->stream = stream;
	export->images = stream_agent(stream)->images;
	export->out = (struct outpipe){ .stream = stream, .fd = -1 };
	export->write_fd = -1;
	r = read_uid(arguments, "export", export->uid, err);
	if (r == 0)
		r = make_pipe(&read_fd, &export->write_fd, err);
	if (r == 0)
		r = outpipe_start(&export->out, stream, FRAME_CHANNEL_OUT, read_fd, export_ended,
				  export, err);
	if (r < 0) {
		fd_close(export->write_fd);
		export_free(export);
		return r;
	}
	export->working = true;
	pool_submit(stream_agent(stream)->slow_pool, export_work, export_done, export);
	*ret_ops = &export_ops;
	*ret_data = export;
	return 0;
}
