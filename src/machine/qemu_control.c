/*
 * control.sock of brume-qemu: calls become QMP commands, their answers become returns.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/frame.h"
#include "kern/sock.h"
#include "machine/qemu_internal.h"

static const struct {
	const char *method, *command;
	bool metrics;
} methods[] = {
	{ "pause", "stop", false },
	{ "resume", "cont", false },
	{ "power_button", "system_powerdown", false },
	{ "reset", "system_reset", false },
	{ "quit", "quit", false },
	{ "metrics", "query-blockstats", true },
};

int qemu_control_listen(struct qemu *qemu, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/control.sock", qemu->options->run_dir);
	int fd = sock_listen(path, SOCK_STREAM, 0600);

	if (fd < 0)
		return error_set(err, fd, "listen on %s", path);
	qemu->listen_fd = fd;
	return 0;
}

static void drop(struct qemu_client *client)
{
	close(client->fd);
	client->fd = -1;
	client->serial = 0;
	strbuf_done(&client->in);
	strbuf_done(&client->out);
}

static void flush(struct qemu_client *client)
{
	while (client->fd >= 0 && client->out.size > 0) {
		ssize_t n = send(client->fd, client->out.data, client->out.size,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			strbuf_consume(&client->out, (size_t) n);
		} else if (errno != EINTR) {
			if (errno != EAGAIN || client->out.size > QEMU_OUT_BYTES_MAX)
				drop(client);
			return;
		}
	}
}

/* Steals `body`. */
static void send_return(struct qemu_client *client, uint64_t id, json_t *body)
{
	frame_append_json(&client->out, FRAME_RETURN, id, body);
	json_decref(body);
	flush(client);
}

static void send_error(struct qemu_client *client, uint64_t id, const char *text)
{
	send_return(client, id, json_pack("{s:s}", "error", text));
}

static json_t *info(const struct qemu *qemu)
{
	const char *state = qemu->cause != QMP_CAUSE_NONE ? "ended"
			    : qemu->paused                ? "paused"
							  : "running";

	return json_pack("{s:{s:s, s:s*, s:s, s:b}}", "result", "backend", "qemu", "version",
			 qemu->version, "state", state, "guest_open", qemu->guest_open);
}

static struct qemu_call *free_call(struct qemu *qemu)
{
	for (unsigned int i = 0; i < QEMU_CALLS_MAX; i++)
		if (qemu->calls[i].qmp_id == 0)
			return &qemu->calls[i];
	return NULL;
}

static void call(struct qemu *qemu, struct qemu_client *client, uint64_t id, const char *method)
{
	struct qemu_call *slot = free_call(qemu);

	if (strcmp(method, "info") == 0) {
		send_return(client, id, info(qemu));
		return;
	}
	for (size_t i = 0; i < ARRAY_COUNT(methods); i++) {
		if (strcmp(method, methods[i].method) != 0)
			continue;
		if (!slot) {
			send_error(client, id, "too many calls at once");
			return;
		}
		*slot = (struct qemu_call){ ++qemu->next_qmp_id, client->serial, id,
					    methods[i].metrics };
		qmp_append_command(&qemu->qmp_out, methods[i].command, slot->qmp_id);
		return;
	}
	send_error(client, id, "QEMU has no such method");
}

static int on_frame(struct qemu *qemu, struct qemu_client *client, const struct frame *frame)
{
	AUTO(json_decref) json_t *body = NULL;
	AUTO(free) char *method = NULL;
	struct json_reader in = { .where = "call" };
	json_t *arguments = NULL;

	if (frame->type != FRAME_CALL || frame->size > QEMU_CALL_BYTES_MAX ||
	    frame_json(frame, &body, NULL) < 0)
		return -EPROTO;
	json_read_string(&in, body, "method", &method);
	json_read_object(&in, body, "arguments", &arguments);
	if (json_reader_finish(&in, body) < 0 || !method)
		return -EPROTO;
	call(qemu, client, frame->id, method);
	return 0;
}

static int read_frames(struct qemu *qemu, struct qemu_client *client)
{
	size_t offset = 0, used = 0;
	struct frame frame;
	int r = 1;

	while (client->fd >= 0 && r > 0) {
		r = frame_decode(client->in.data + offset, client->in.size - offset, &frame, &used,
				 NULL);
		if (r <= 0)
			break;
		offset += used;
		if (on_frame(qemu, client, &frame) < 0)
			return -EPROTO;
	}
	if (client->fd >= 0)
		strbuf_consume(&client->in, offset);
	return r < 0 || client->in.size > QEMU_CALL_BYTES_MAX + FRAME_HEADER_SIZE ? -EPROTO : 0;
}

void qemu_control_accept(struct qemu *qemu)
{
	int fd = sock_accept(qemu->listen_fd);

	for (unsigned int i = 0; fd >= 0 && i < QEMU_CLIENTS_MAX; i++) {
		if (qemu->clients[i].fd >= 0)
			continue;
		qemu->clients[i] =
			(struct qemu_client){ .fd = TAKE_FD(fd), .serial = ++qemu->next_serial };
	}
	fd_close(fd);
}

void qemu_control_ready(struct qemu *qemu, struct qemu_client *client, short revents)
{
	enum { PIECE = 4096 };

	if (revents & POLLOUT)
		flush(client);
	if (client->fd < 0 || !(revents & (POLLIN | POLLHUP | POLLERR)))
		return;
	ssize_t n = recv(client->fd, strbuf_reserve(&client->in, PIECE), PIECE, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		strbuf_grown(&client->in, (size_t) n);
	if (n <= 0 || read_frames(qemu, client) < 0)
		if (client->fd >= 0)
			drop(client);
}

void qemu_control_answered(struct qemu *qemu, const struct qmp_message *message)
{
	struct qemu_client *client = NULL;
	struct qemu_call *found = NULL;

	for (unsigned int i = 0; message->id != 0 && i < QEMU_CALLS_MAX; i++)
		if (qemu->calls[i].qmp_id == message->id)
			found = &qemu->calls[i];
	for (unsigned int i = 0; found && i < QEMU_CLIENTS_MAX; i++)
		if (qemu->clients[i].serial == found->client_serial)
			client = &qemu->clients[i];
	if (client && message->kind == QMP_ERROR)
		send_error(client, found->frame_id, message->text);
	else if (client && found->metrics)
		send_return(
			client, found->frame_id,
			json_pack("{s:{s:o}}", "result", "disks", qmp_disk_metrics(message->data)));
	else if (client)
		send_return(client, found->frame_id, json_pack("{s:{}}", "result"));
	if (found)
		*found = (struct qemu_call){};
}

void qemu_control_done(struct qemu *qemu)
{
	for (unsigned int i = 0; i < QEMU_CLIENTS_MAX; i++)
		if (qemu->clients[i].fd >= 0)
			drop(&qemu->clients[i]);
	fd_close(qemu->listen_fd);
	qemu->listen_fd = -1;
}
