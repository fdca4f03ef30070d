/*
 * brume-image-worker - fetches or reads one image, or files of one instance, in a sandbox, for
 * brume-agentd.
 *
 * Not for people: it expects its descriptors from the agent, see image/worker.h.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "image/worker.h"

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("brume-image-worker " BRUME_VERSION);
		return 0;
	}
	if (argc != 2 || !image_worker_knows(argv[1]) || fcntl(WORKER_WIRE_FD, F_GETFD) < 0 ||
	    fcntl(WORKER_JOB_FD, F_GETFD) < 0) {
		fputs("brume-image-worker is started by brume-agentd, not by hand\n", stderr);
		return 2;
	}
	image_worker_main(argv[1]);
}
