#include "keeper/client.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "kern/sock.h"

/* A message that did not fit into the socket's queue. */
struct pending {
	struct pending *next;
	struct strbuf data;
	int fds[KEEPER_FDS_MAX];
	size_t fd_count;
};

struct keeper_client {
	int fd;
	sd_event_source *source;
	const struct keeper_client_ops *ops;
	void *data;
	struct pending *first;
	struct pending **last;
	bool *freed; /* set while a callback runs, so that it may free the client */
};

static void pending_free(struct pending *pending)
{
	if (!pending)
		return;
	for (size_t i = 0; i < pending->fd_count; i++)
		fd_close(pending->fds[i]);
	strbuf_done(&pending->data);
	free(pending);
}
DEFINE_AUTO(struct pending *, pending_free)

static int queue(struct keeper_client *client, struct strbuf *data, const int *fds, size_t fd_count)
{
	AUTO(pending_free) struct pending *pending = mem_new0(struct pending);

	for (; pending->fd_count < fd_count; pending->fd_count++) {
		int fd = fcntl(fds[pending->fd_count], F_DUPFD_CLOEXEC, 0);

		if (fd < 0)
			return -errno;
		pending->fds[pending->fd_count] = fd;
	}
	strbuf_append(&pending->data, data->data, data->size);
	*client->last = pending;
	client->last = &pending->next;
	(void) TAKE_PTR(pending);
	sd_event_source_set_io_events(client->source, EPOLLIN | EPOLLOUT);
	return 0;
}

static int request(struct keeper_client *client, const struct keeper_msg *msg, const int *fds,
		   size_t fd_count)
{
	AUTO(strbuf_done) struct strbuf buffer = {};
	int r = keeper_msg_encode(msg, &buffer);

	if (r < 0)
		return r;
	r = client->first ? -EAGAIN
			  : sock_send(client->fd, buffer.data, buffer.size, fds, fd_count);
	if (r == -EAGAIN)
		return queue(client, &buffer, fds, fd_count);
	return r;
}

static int send_pending(struct keeper_client *client)
{
	while (client->first) {
		struct pending *pending = client->first;
		int r = sock_send(client->fd, pending->data.data, pending->data.size, pending->fds,
				  pending->fd_count);

		if (r == -EAGAIN)
			return 0;
		if (r < 0)
			return r;
		client->first = pending->next;
		pending_free(pending);
	}
	client->last = &client->first;
	return sd_event_source_set_io_events(client->source, EPOLLIN);
}

static void connection_lost(struct keeper_client *client)
{
	sd_event_source_set_enabled(client->source, SD_EVENT_OFF);
	client->ops->closed(client->data);
}

/* Returns whether to go on reading. */
static bool receive_one(struct keeper_client *client)
{
	struct keeper_msg msg;
	bool freed = false;
	int fds[SOCK_FDS_MAX];
	size_t fd_count = 0;
	char buffer[KEEPER_EVENT_MAX];
	ssize_t n = sock_recv(client->fd, buffer, sizeof(buffer), fds, &fd_count);

	if (n == -EAGAIN)
		return false;
	while (n >= 0 && fd_count > 1)
		close(fds[--fd_count]);
	AUTO(fd_close) int console_fd = n >= 0 && fd_count > 0 ? fds[0] : -1;
	if (n <= 0 || keeper_msg_decode(buffer, (size_t) n, &msg) < 0) {
		connection_lost(client);
		return false;
	}
	client->freed = &freed;
	client->ops->event(client->data, &msg, &console_fd);
	if (!freed)
		client->freed = NULL;
	return !freed;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct keeper_client *client = data;

	(void) source;
	(void) fd;
	if ((revents & EPOLLOUT) && send_pending(client) < 0) {
		connection_lost(client);
		return 0;
	}
	if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
		while (receive_one(client))
			;
	return 0;
}

int keeper_client_new(sd_event *event, const char *path, const struct keeper_client_ops *ops,
		      void *data, struct keeper_client **ret, struct error *err)
{
	AUTO(keeper_client_free) struct keeper_client *client = mem_new0(struct keeper_client);
	int r;

	client->ops = ops;
	client->data = data;
	client->last = &client->first;
	client->fd = sock_connect(path, SOCK_SEQPACKET);
	if (client->fd < 0)
		return error_set(err, client->fd, "connect to keeper at %s", path);
	r = sd_event_add_io(event, &client->source, client->fd, EPOLLIN, on_io, client);
	if (r < 0)
		return error_set(err, r, "watch keeper");
	*ret = TAKE_PTR(client);
	return 0;
}

static int set_job(struct keeper_msg *msg, const char *job)
{
	if (!keeper_job_valid(job))
		return -EINVAL;
	memcpy(msg->job, job, strlen(job) + 1);
	return 0;
}

int keeper_client_spawn(struct keeper_client *client, const struct keeper_spawn *spawn,
			struct error *err)
{
	AUTO(strbuf_done) struct strbuf argv = {}, env = {};
	struct keeper_msg msg = { .type = KEEPER_SPAWN,
				  .mode = spawn->mode,
				  .stdio = spawn->stdio,
				  .cwd = spawn->cwd,
				  .pid_file = spawn->pid_file,
				  .log = spawn->log,
				  .log_max_bytes = spawn->log_max_bytes,
				  .log_max_files = spawn->log_max_files,
				  .input = spawn->input,
				  .owner_uid = spawn->owner_uid,
				  .owner_gid = spawn->owner_gid };
	int r = set_job(&msg, spawn->job);

	if (r < 0 || spawn->fd_count > KEEPER_FDS_MAX)
		return error_set(err, -EINVAL, "start job %s", spawn->job);
	msg.argv = keeper_strings_pack(&argv, spawn->argv);
	msg.env = keeper_strings_pack(&env, spawn->env);
	msg.fd_count = spawn->fd_count;
	for (unsigned int i = 0; i < spawn->fd_count; i++)
		msg.fds[i] = spawn->fds_as[i];
	r = request(client, &msg, spawn->fds, spawn->fd_count);
	return r < 0 ? error_set(err, r, "start job %s", spawn->job) : 0;
}

int keeper_client_signal(struct keeper_client *client, const char *job, int signal_number)
{
	struct keeper_msg msg = { .type = KEEPER_SIGNAL, .signal = signal_number };
	int r = set_job(&msg, job);

	return r < 0 ? r : request(client, &msg, NULL, 0);
}

int keeper_client_forget(struct keeper_client *client, const char *job)
{
	struct keeper_msg msg = { .type = KEEPER_FORGET };
	int r = set_job(&msg, job);

	return r < 0 ? r : request(client, &msg, NULL, 0);
}

int keeper_client_end_input(struct keeper_client *client, const char *job)
{
	struct keeper_msg msg = { .type = KEEPER_END_INPUT };
	int r = set_job(&msg, job);

	return r < 0 ? r : request(client, &msg, NULL, 0);
}

int keeper_client_hold(struct keeper_client *client, const char *job, int console_fd)
{
	struct keeper_msg msg = { .type = KEEPER_HOLD };
	int r = set_job(&msg, job);

	return r < 0 ? r : request(client, &msg, &console_fd, 1);
}

int keeper_client_list(struct keeper_client *client)
{
	struct keeper_msg msg = { .type = KEEPER_LIST };

	return request(client, &msg, NULL, 0);
}

int keeper_client_reexec(struct keeper_client *client)
{
	struct keeper_msg msg = { .type = KEEPER_REEXEC };

	return request(client, &msg, NULL, 0);
}

void keeper_client_free(struct keeper_client *client)
{
	if (!client)
		return;
	if (client->freed)
		*client->freed = true;
	while (client->first) {
		struct pending *pending = client->first;

		client->first = pending->next;
		pending_free(pending);
	}
	sd_event_source_disable_unref(client->source);
	fd_close(client->fd);
	free(client);
}
