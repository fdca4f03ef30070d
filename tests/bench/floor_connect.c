/*
 * tests/bench/floor_connect.c - how long COUNT TCP connections take.
 *
 *	floor-connect CLIENT_PID SERVER_PID ADDRESS PORT SERVER_PORT COUNT
 *
 * One process is both ends, each in the network namespace of the process named; a connection is
 *opened, accepted and reset, so that no port is left waiting.  Prints seconds.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int open_namespace(const char *pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/ns/net", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		perror(path), exit(1);
	return fd;
}

static int open_socket(int namespace_fd)
{
	struct linger reset = { .l_onoff = 1 };
	int on = 1, fd;

	if (setns(namespace_fd, CLONE_NEWNET) < 0)
		perror("setns"), exit(1);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		perror("socket"), exit(1);
	return fd;
}

int main(int argc, char **argv)
{
	struct sockaddr_in target = { .sin_family = AF_INET }, any = { .sin_family = AF_INET };
	struct timespec begin, end;
	int client_side, server;

	if (argc != 7 || inet_pton(AF_INET, argv[3], &target.sin_addr) != 1)
		return 2;
	target.sin_port = htons((uint16_t) atoi(argv[4]));
	any.sin_port = htons((uint16_t) atoi(argv[5]));
	server = open_socket(open_namespace(argv[2]));
	if (bind(server, (struct sockaddr *) &any, sizeof(any)) < 0 || listen(server, 64) < 0)
		perror("listen"), exit(1);
	client_side = open_namespace(argv[1]);
	close(open_socket(client_side));
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = atoi(argv[6]); i > 0; i--) {
		struct linger reset = { .l_onoff = 1 };
		int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), accepted;

		setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		if (connect(client, (struct sockaddr *) &target, sizeof(target)) < 0)
			perror("connect"), exit(1);
		accepted = accept4(server, NULL, NULL, SOCK_CLOEXEC);
		if (accepted < 0)
			perror("accept"), exit(1);
		close(client);
		close(accepted);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%.6f\n",
	       (double) (end.tv_sec - begin.tv_sec) + (double) (end.tv_nsec - begin.tv_nsec) / 1e9);
	return 0;
}
