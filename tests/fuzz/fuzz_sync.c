/* What init says to the runtime, and the other way round; each message begins with its size. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "container/sync.h"

enum { MESSAGES_MAX = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return 0;
	for (int i = 0; i < MESSAGES_MAX && size >= 2; i++) {
		size_t length = (size_t) data[0] | (size_t) data[1] << 8;

		data += 2;
		size -= 2;
		if (length > size)
			length = size;
		if (send(pair[0], data, length, MSG_NOSIGNAL) < 0)
			break;
		data += length;
		size -= length;
	}
	close(pair[0]);
	for (int i = 0; i < MESSAGES_MAX; i++) {
		struct error err = {};
		enum sync_type type;
		pid_t pid = 0;
		int r = i % 2 ? sync_next(pair[1], &type, &pid, &err)
			      : sync_expect(pair[1], SYNC_READY, &pid, &err);

		/* Whoever refuses says why, in words that end. */
		if (r < 0 && (!err.msg[0] || !memchr(err.msg, 0, sizeof(err.msg))))
			abort();
	}
	close(pair[1]);
	return 0;
}
