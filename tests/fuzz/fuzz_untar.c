/*
 * A layer as it comes from the network: decompressed and unpacked into a folder of its own. Nothing
 * may appear beside that folder, whatever the tar says.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "image/inflate_internal.h"
#include "image/untar_internal.h"

enum { BYTES_MAX = 1 << 20, INODES_MAX = 1000 };

struct input {
	const uint8_t *data;
	size_t size, at;
	struct inflate *inflate;
	char block[65536];
};

static ssize_t take(void *data, void *buffer, size_t size, struct error *err)
{
	struct input *input = data;
	size_t n = input->size - input->at < size ? input->size - input->at : size;

	(void) err;
	memcpy(buffer, input->data + input->at, n);
	input->at += n;
	return (ssize_t) n;
}

static ssize_t next(void *data, const void **ret, struct error *err)
{
	struct input *input = data;

	*ret = input->block;
	return inflate_read(input->inflate, input->block, sizeof(input->block), err);
}

static int ignore_node(void *data, const char *name, const struct untar_node *node)
{
	(void) data;
	(void) name;
	(void) node;
	return 0;
}

static int ignore_opaque(void *data, const char *name)
{
	(void) data;
	(void) name;
	return 0;
}

static void check_alone(const char *dir)
{
	DIR *listing = opendir(dir);
	unsigned int count = 0;

	while (readdir(listing))
		count++;
	closedir(listing);
	if (count != 3)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tree_limits limits = { .bytes_max = BYTES_MAX, .inodes_max = INODES_MAX };
	AUTO(free) struct input *input = mem_new0(struct input);
	struct untar job = { .source = next,
			     .source_data = input,
			     .report_node = ignore_node,
			     .report_opaque = ignore_opaque };
	char dir[] = "/tmp/brume-fuzz-XXXXXX";
	struct layer_meta meta;
	struct error err = {};

	if (!mkdtemp(dir))
		abort();
	AUTO(free) char *inside = mem_printf("%s/inside", dir);
	if (mkdir(inside, 0755) < 0)
		abort();
	AUTO(fd_close) int fd = open(inside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	input->data = data;
	input->size = size;
	input->inflate = inflate_new(take, input);
	struct tree *tree = tree_new(fd, &limits);
	untar(&job, tree, &meta, &err);
	tree_free(tree);
	inflate_free(input->inflate);
	check_alone(dir);
	if (file_remove_tree(AT_FDCWD, dir) < 0)
		abort();
	return 0;
}
