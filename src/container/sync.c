#include "container/sync.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "container/process.h"

/* The kernel's own bound. */
enum { ERRNO_MAX = 4095 };

/* An errno, or what says that the program cannot be run. */
static bool code_is_known(int code)
{
	return (code < 0 && code >= -ERRNO_MAX) || code == PROCESS_MISSING ||
	       code == PROCESS_UNUSABLE;
}

struct sync_message {
	int type;
	pid_t pid;
	int code;
	char text[480];
};

static int send_message(int fd, const struct sync_message *message)
{
	ssize_t n;

	do
		n = send(fd, message, sizeof(*message), MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int sync_send(int fd, enum sync_type type, pid_t pid)
{
	struct sync_message message = { .type = (int) type, .pid = pid };

	return send_message(fd, &message);
}

int sync_send_error(int fd, const struct error *err)
{
	struct sync_message message = { .type = SYNC_ERROR, .code = err->code };

	memcpy(message.text, err->msg, sizeof(message.text));
	message.text[sizeof(message.text) - 1] = '\0';
	return send_message(fd, &message);
}

/* 1: a message, 0: the end, or an error. */
static int receive(int fd, struct sync_message *message, struct error *err)
{
	ssize_t n;

	/* Reset: the other side ended without hearing our last word; its own may still wait here.
	 */
	do
		n = recv(fd, message, sizeof(*message), 0);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n == 0)
		return 0;
	if (n < 0)
		return error_set(err, -errno, "talking to the container's init");
	if (n != sizeof(*message))
		return error_say(err, -EPROTO, "the container's init sent a broken message");
	message->text[sizeof(message->text) - 1] = '\0';
	if (message->type < 0 || message->type > SYNC_ERROR)
		return error_say(err, -EPROTO, "the container's init sent a message of type %d",
				 message->type);
	if (message->type != SYNC_ERROR)
		return 1;
	if (!code_is_known(message->code) || !message->text[0])
		return error_say(err, -EPROTO, "the container's init sent a broken error: %s",
				 message->text);
	return error_say(err, message->code, "%s", message->text);
}

int sync_next(int fd, enum sync_type *ret_type, pid_t *ret_pid, struct error *err)
{
	struct sync_message message;
	int r = receive(fd, &message, err);

	if (r < 0)
		return r;
	if (r == 0)
		return error_say(err, -EPIPE, "the other side ended without a word");
	*ret_type = (enum sync_type) message.type;
	if (ret_pid)
		*ret_pid = message.pid;
	return 0;
}

int sync_expect(int fd, enum sync_type type, pid_t *ret_pid, struct error *err)
{
	enum sync_type got;
	int r = sync_next(fd, &got, ret_pid, err);

	if (r < 0)
		return r;
	if (got != type)
		return error_say(err, -EPROTO, "expected message %d, got %d", (int) type,
				 (int) got);
	return 0;
}

int sync_expect_end(int fd, struct error *err)
{
	struct sync_message message;
	int r = receive(fd, &message, err);

	return r > 0 ? error_say(err, -EPROTO, "unexpected message %d", message.type) : r;
}
