/* The host's end of the guest channel: whatever a guest sends, nothing is read past its end. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/guest_link.h"
#include "base/cleanup.h"

enum { CALLS = 2, BUFFER_SIZE = 65536, PORT_CONNECTION = 77 };

struct end {
	struct guest_link *link;
	struct guest_call *calls[CALLS];
};

static void on_told(void *data)
{
	struct end *end = data;

	(void) end;
}

static void on_lost(void *data, const struct error *why)
{
	struct end *end = data;

	(void) why;
	guest_link_free(end->link);
	end->link = NULL;
}

static void on_received(void *data, enum frame_channel channel, const char *bytes, size_t size)
{
	struct guest_call **call = data;

	if ((channel != FRAME_CHANNEL_OUT && channel != FRAME_CHANNEL_ERR) ||
	    size > FRAME_CREDIT_INITIAL)
		abort();
	/* Every byte is looked at: the sanitizer sees one that is not there. */
	for (size_t i = 0; i < size; i++)
		if (bytes[i] == 'c') {
			guest_call_grant(*call, i);
			break;
		}
}

static void on_closed(void *data, int64_t exit_code, const struct error *err)
{
	struct guest_call **call = data;

	(void) err;
	if (exit_code < -1 || exit_code > 255)
		abort();
	*call = NULL;
}

static void drain(int fd)
{
	static char buffer[BUFFER_SIZE];

	while (recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
		;
}

static void talk(uint64_t connection, const uint8_t *data, size_t size)
{
	static const struct guest_link_ops ops = { on_told, on_lost };
	static const struct guest_call_ops call_ops = { on_received, NULL, on_closed };
	static sd_event *event;
	AUTO(json_decref) json_t *arguments = json_object();
	struct end end = {};
	int fds[2];
	bool asked = false;

	if (!event && sd_event_new(&event) < 0)
		abort();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
	    guest_link_new(event, fds[0], connection, &ops, &end, &end.link, NULL) < 0)
		abort();
	for (size_t sent = 0; sent < size && end.link;) {
		size_t part = size - sent < BUFFER_SIZE ? size - sent : BUFFER_SIZE;
		ssize_t n = send(fds[1], data + sent, part, MSG_DONTWAIT | MSG_NOSIGNAL);

		sent += n > 0 ? (size_t) n : 0;
		while (sd_event_run(event, 0) > 0)
			drain(fds[1]);
		if (end.link && guest_link_ready(end.link) && !asked) {
			asked = true;
			for (size_t i = 0; i < CALLS; i++)
				(void) guest_call_new(end.link, arguments, &call_ops, &end.calls[i],
						      &end.calls[i], NULL);
		}
	}
	close(fds[1]);
	while (end.link && sd_event_run(event, 0) > 0)
		;
	if (end.link && connection)
		guest_link_give_up(end.link);
	guest_link_free(end.link);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	talk(0, data, size);
	talk(PORT_CONNECTION, data, size);
	return 0;
}
