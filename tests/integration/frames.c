/*
 * tests/integration/frames.c - sends Ethernet frames as fast as it can, for test_net_hostile.py.
 *
 *	frames INTERFACE COUNT
 *
 * Reads frames from stdin, one a line, in hexadecimal; sends them in turns until COUNT are sent,
 *and prints how many the kernel took.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FRAMES_MAX = 256, FRAME_SIZE_MAX = 1600, AT_ONCE = 64 };

static unsigned char frames[FRAMES_MAX][FRAME_SIZE_MAX];
static size_t sizes[FRAMES_MAX];

static size_t read_frames(void)
{
	static char line[2 * FRAME_SIZE_MAX + 2];
	size_t count = 0;

	while (count < FRAMES_MAX && fgets(line, sizeof(line), stdin)) {
		unsigned int byte;
		size_t size = 0;

		while (size < FRAME_SIZE_MAX && sscanf(line + 2 * size, "%2x", &byte) == 1)
			frames[count][size++] = (unsigned char) byte;
		sizes[count++] = size;
	}
	return count;
}

int main(int argc, char **argv)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_halen = ETH_ALEN };
	struct mmsghdr messages[AT_ONCE];
	struct iovec parts[AT_ONCE];
	long wanted = argc == 3 ? atol(argv[2]) : 0, sent = 0;
	size_t count, next = 0;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (wanted <= 0 || fd < 0)
		return 2;
	to.sll_ifindex = (int) if_nametoindex(argv[1]);
	count = read_frames();
	if (count == 0 || to.sll_ifindex == 0)
		return 2;
	while (sent < wanted) {
		unsigned int n = 0;
		int done;

		for (; n < AT_ONCE && sent + n < wanted; n++) {
			size_t i = (next + n) % count;

			parts[n] = (struct iovec){ .iov_base = frames[i], .iov_len = sizes[i] };
			messages[n] = (struct mmsghdr){ .msg_hdr = { .msg_name = &to,
								     .msg_namelen = sizeof(to),
								     .msg_iov = &parts[n],
								     .msg_iovlen = 1 } };
		}
		done = sendmmsg(fd, messages, n, 0);
		if (done < 0 && errno != ENOBUFS && errno != EINTR) {
			perror("sendmmsg");
			return 1;
		}
		if (done > 0) {
			sent += done;
			next = (next + (size_t) done) % count;
		}
	}
	printf("%ld\n", sent);
	return close(fd);
}
