/* What of an instance differs from its image, over a stream: the answer's JSON on channel 1. */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/instance_files.h"
#include "agent/instance_task.h"
#include "agent/outpipe.h"
#include "agent/stream.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strv.h"
#include "image/info.h"
#include "image/rootfs.h"
#include "image/upper.h"
#include "model/member.h"

struct changes {
	struct stream *stream; /* NULL: closed */
	struct agent *agent;
	struct instance_upper upper;
	struct outpipe out;
	int worker_fd, cancel_fd;
	bool working;
	int result;
	struct error err;
};

static void changes_destroy(struct changes *changes)
{
	fd_close(changes->worker_fd);
	fd_close(changes->cancel_fd);
	instance_upper_done(&changes->upper);
	free(changes);
}

static void changes_free(void *data)
{
	struct changes *changes = data;

	changes->stream = NULL;
	outpipe_done(&changes->out);
	if (changes->working)
		eventfd_write(changes->cancel_fd, 1);
	else
		changes_destroy(changes);
}

/* On a worker thread. */
static void work(void *data)
{
	struct changes *changes = data;
	AUTO(image_info_done) struct image_info image = {};

	changes->result =
		instance_image_read(changes->agent, changes->upper.uid, &image, &changes->err);
	if (changes->result == 0) {
		AUTO(strv_free) char **layers = image_info_layers(&image);
		const struct image_upper upper = {
			.dir = changes->upper.dir,
			.layers = layers,
			.owner_base = rootfs_slot_uid(changes->upper.slot),
			.mount_points = changes->upper.mount_points,
			.cancel_fd = changes->cancel_fd,
		};

		changes->result = image_changes(changes->agent->images, &upper, changes->worker_fd,
						&changes->err);
	}
	fd_close(TAKE_FD(changes->worker_fd));
}

static void finish(void *data)
{
	struct changes *changes = data;
	struct error err = changes->err;

	if (!changes->stream || changes->working || changes->out.fd >= 0)
		return;
	if (changes->result == 0)
		stream_close_code(changes->stream, 0);
	else
		stream_close_error(changes->stream, &err);
}

static void done(void *data)
{
	struct changes *changes = data;

	changes->working = false;
	if (!changes->stream)
		changes_destroy(changes);
	else
		finish(changes);
}

static void changes_writable(void *data)
{
	struct changes *changes = data;

	outpipe_credited(&changes->out);
}

static const struct stream_ops changes_ops = { NULL, changes_writable, changes_free };

static int begin(struct changes *changes, const json_t *arguments, struct error *err)
{
	struct json_reader in = { .err = err, .where = "changes" };
	char uid[UID_SIZE] = "";
	int fds[2], r;

	json_read_any(&in, arguments, "kind", NULL);
	member_read_uid(&in, arguments, "uid", uid);
	r = json_reader_finish(&in, arguments);
	if (r == 0)
		r = instance_upper_find(changes->agent, uid, &changes->upper, err);
	if (r < 0)
		return r;
	changes->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (changes->cancel_fd < 0 || pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	changes->worker_fd = fds[1];
	return outpipe_start(&changes->out, changes->stream, FRAME_CHANNEL_OUT, fds[0], finish,
			     changes, err);
}

int changes_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
		 void **ret_data, struct error *err)
{
	struct changes *changes = mem_new0(struct changes);
	int r;

	changes->stream = stream;
	changes->agent = stream_agent(stream);
	changes->out = (struct outpipe){ .stream = stream, .fd = -1 };
	changes->worker_fd = changes->cancel_fd = -1;
	r = begin(changes, arguments, err);
	if (r < 0) {
		changes_free(changes);
		return r;
	}
	changes->working = true;
	pool_submit(changes->agent->files_pool, work, done, changes);
	*ret_ops = &changes_ops;
	*ret_data = changes;
	return 0;
}
