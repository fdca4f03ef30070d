#include "api/link.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "api/link_internal.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

enum { OUT_HIGH = 4 * 1024 * 1024, OUT_MAX = 64 * 1024 * 1024 };

/* -- the connection --------------------------------------------------------------------------- */

static void disconnect(struct link *link, const char *why)
{
	bool greeted = link->greeted;

	if (!link->conn)
		return;
	conn_free(TAKE_PTR(link->conn));
	link->greeted = false;
	if (!greeted)
		return;
	log_info("agent disconnected: %s", why);
	link_streams_break(link, "the agent of the node has gone");
	if (link->ops->gone)
		link->ops->gone(link->user);
}

void link_send(struct link *link, struct strbuf *out)
{
	int r = link->conn ? conn_write(link->conn, out->data, out->size) : 0;

	strbuf_done(out);
	/* Closing here would end the streams under the caller's feet; the loop sees the shutdown.
	 */
	if (r == -ENOBUFS)
		shutdown(conn_fd(link->conn), SHUT_RDWR);
}

static int handle_hello(struct link *link, const struct frame *frame, struct error *err)
{
	AUTO(json_decref) json_t *hello = NULL;
	int r;

	if (link->greeted)
		return error_say(err, -EPROTO, "agent link: hello came twice");
	r = frame_json(frame, &hello, err);
	if (r < 0)
		return r;
	link->greeted = true;
	return link->ops->hello ? link->ops->hello(hello, link->user, err) : 0;
}

static int handle_status(struct link *link, const struct frame *frame, struct error *err)
{
	AUTO(json_decref) json_t *body = NULL;
	int r = frame_json(frame, &body, err);

	if (r < 0)
		return r;
	return link->ops->status ? link->ops->status(body, link->user, err) : 0;
}

static int handle_frame(const struct frame *frame, void *user, struct error *err)
{
	struct link *link = user;

	if (!link->greeted && frame->type != FRAME_HELLO)
		return error_say(err, -EPROTO, "agent link: the first frame must be hello, not %s",
				 frame_type_name(frame->type));
	switch (frame->type) {
	case FRAME_HELLO:
		return handle_hello(link, frame, err);
	case FRAME_STATUS:
		return handle_status(link, frame, err);
	case FRAME_STREAM_DATA:
	case FRAME_STREAM_CREDIT:
	case FRAME_STREAM_CLOSE:
		return link_stream_handle(link, frame, err);
	case FRAME_ASSIGN:
	case FRAME_ASSIGNED_ALL:
	case FRAME_FORGET:
	case FRAME_STREAM_OPEN:
	case FRAME_GOODBYE:
	case FRAME_CALL:
	case FRAME_RETURN:
		break;
	}
	return error_say(err, -EPROTO, "agent link: %s does not travel up",
			 frame_type_name(frame->type));
}

static int on_read(struct conn *conn, struct strbuf *in, void *user)
{
	struct link *link = user;
	struct error err = {};
	int r = frame_read_all(in, handle_frame, link, &err);

	(void) conn;
	if (r < 0)
		log_error("%s; disconnecting the agent", err.msg);
	return r;
}

static void on_closed(struct conn *conn, int reason, void *user)
{
	struct link *link = user;

	if (link->conn == conn)
		disconnect(link, reason == 0 ? "it closed the link" : strerror(-reason));
}

static int on_accept(sd_event_source *source, int listen_fd, uint32_t revents, void *user)
{
	static const struct conn_ops ops = { .read = on_read, .closed = on_closed };
	static const struct conn_limits limits = { FRAME_IN_MAX, OUT_HIGH, OUT_MAX };
	struct link *link = user;
	AUTO(fd_close) int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred cred = { .uid = (uid_t) -1 };
	socklen_t size = sizeof(cred);
	struct error err = {};

	(void) source;
	(void) revents;
	if (fd < 0)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0 ||
	    cred.uid != link->allowed_uid) {
		log_warning("agent link: refused user %u pid %d", cred.uid, cred.pid);
		return 0;
	}
	disconnect(link, "another one has connected");
	if (conn_new(link->event, fd, &limits, &ops, link, &link->conn, &err) < 0) {
		log_error("agent link: %s", err.msg);
		return 0;
	}
	TAKE_FD(fd);
	return 0;
}

int link_new(sd_event *event, int listen_fd, uid_t allowed_uid, const struct link_ops *ops,
	     void *user, struct link **ret, struct error *err)
{
	AUTO(link_free) struct link *link = mem_new0(struct link);
	int r;

	link->event = event;
	link->listen_fd = -1;
	link->allowed_uid = allowed_uid;
	link->ops = ops;
	link->user = user;
	r = sd_event_add_io(event, &link->accept, listen_fd, EPOLLIN, on_accept, link);
	if (r < 0)
		return error_set(err, r, "agent link");
	sd_event_source_set_enabled(link->accept, SD_EVENT_OFF);
	link->listen_fd = listen_fd;
	*ret = TAKE_PTR(link);
	return 0;
}

void link_start(struct link *link)
{
	sd_event_source_set_enabled(link->accept, SD_EVENT_ON);
}

bool link_connected(const struct link *link)
{
	return link->conn && link->greeted;
}

/* -- what control decides --------------------------------------------------------------------- */

void link_assign(struct link *link, const json_t *resource)
{
	AUTO(strbuf_done) struct strbuf out = {};

	if (!link_connected(link))
		return;
	if (frame_append_json(&out, FRAME_ASSIGN, 0, resource) < 0)
		log_error("agent link: a resource is too large to be assigned");
	else
		link_send(link, &out);
}

void link_assigned_all(struct link *link)
{
	AUTO(strbuf_done) struct strbuf out = {};

	if (!link_connected(link))
		return;
	frame_append(&out, FRAME_ASSIGNED_ALL, 0, "{}", 2);
	link_send(link, &out);
}

void link_forget(struct link *link, const char *kind, const char *uid)
{
	AUTO(strbuf_done) struct strbuf out = {};
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:s}", "kind", kind, "uid", uid);

	if (!link_connected(link))
		return;
	frame_append_json(&out, FRAME_FORGET, 0, body);
	link_send(link, &out);
}

void link_free(struct link *link)
{
	AUTO(strbuf_done) struct strbuf out = {};

	if (!link)
		return;
	if (link_connected(link)) {
		frame_append(&out, FRAME_GOODBYE, 0, "{}", 2);
		link_send(link, &out);
	}
	link->ops = &(const struct link_ops){};
	disconnect(link, "stopping");
	sd_event_source_disable_unref(link->accept);
	fd_close(link->listen_fd);
	free(link);
}
