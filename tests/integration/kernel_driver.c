/*
 * kernel-driver FOLDER VMLINUZ MODULES INIT WORKER - imports a kernel into a node's store, for
 * tests of virtual machines: no network, no daemon.
 */
#include <stdio.h>

#include "base/error.h"
#include "base/json.h"
#include "image/kernel.h"

int main(int argc, char **argv)
{
	AUTO(json_decref) json_t *meta = NULL;
	struct error err = {};

	if (argc != 6)
		return 2;
	const struct kernel_tools tools = { argv[4], argv[5] };
	struct kernel_import import = { .source = argv[2], .modules = argv[3], .tools = &tools };
	if (kernel_import(argv[1], &import, &meta, &err) < 0) {
		fprintf(stderr, "kernel-driver: %s\n", err.msg);
		return 1;
	}
	AUTO(free) char *text = json_text(meta);
	puts(text);
	return 0;
}
