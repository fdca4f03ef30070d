/*
 * image-driver DIR COMMAND ... - calls image/ for tests/integration/test_image_store.py and
 * tests/bench/bench_pull.py, without the daemons.
 *
 *	pull UID REFERENCE [NAME=VALUE...]	platform insecure username password bytes inodes
 *	twice UID UID REFERENCE			two pulls at once
 *	import UID NAME < TAR			export UID > TAR
 *	list | info UID | remove UID | gc [DIFF-ID...]
 *	rootfs UID SLOT UPPER WORK TARGET	mounts it there
 *	disk UID > FILE				the image's disk
 *	empty PATH BYTES			a disk for an instance
 *	kernels DIR list|import|default|delete|open [SOURCE|NAME [NAME|ARCHITECTURE [MODULES]]]
 *
 * Prints JSON and, on failure, one line on stderr.  With IMAGE_DRIVER_PROGRESS the progress goes to
 * stderr, with IMAGE_DRIVER_BOOT that is the boot id.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/strv.h"
#include "image/disk.h"
#include "image/import.h"
#include "image/kernel.h"
#include "image/pull.h"
#include "image/rootfs.h"
#include "image/store.h"

struct puller {
	struct image_store *store;
	struct image_pull pull;
	struct error err;
	int result;
};

static void show_progress(uint64_t done, uint64_t total, const char *text, void *data)
{
	(void) data;
	if (getenv("IMAGE_DRIVER_PROGRESS"))
		fprintf(stderr, "progress %llu/%llu %s\n", (unsigned long long) done,
			(unsigned long long) total, text);
}

static void show(json_t *object)
{
	AUTO(json_decref) json_t *own = object;
	AUTO(free) char *text = json_text(object);

	puts(text);
}

static int pull(struct image_store *store, char **argv, struct error *err)
{
	AUTO(image_info_done) struct image_info info = {};
	char **options = argv + 2;
	const char *bytes = strv_env_get(options, "bytes"),
		   *inodes = strv_env_get(options, "inodes");
	const struct image_pull pull = {
		.uid = argv[0],
		.reference = argv[1],
		.platform = strv_env_get(options, "platform"),
		.insecure = !strv_env_get(options, "insecure"),
		.username = strv_env_get(options, "username"),
		.password = strv_env_get(options, "password"),
		.limits = { .unpacked_bytes = bytes ? strtoull(bytes, NULL, 10) : 0,
			    .inodes = inodes ? strtoull(inodes, NULL, 10) : 0 },
		.cancel_fd = -1,
	};
	int r = image_pull(store, &pull, show_progress, NULL, &info, err);

	if (r == 0)
		show(image_info_json(&info));
	return r;
}

static void *pull_main(void *data)
{
	struct puller *puller = data;

	puller->result =
		image_pull(puller->store, &puller->pull, show_progress, NULL, NULL, &puller->err);
	return NULL;
}

static int pull_twice(struct image_store *store, char **argv, struct error *err)
{
	struct puller pullers[2] = {};
	pthread_t threads[2];

	for (size_t i = 0; i < ARRAY_COUNT(pullers); i++) {
		pullers[i].store = store;
		pullers[i].pull = (struct image_pull){
			.uid = argv[i], .reference = argv[2], .insecure = true, .cancel_fd = -1
		};
		if (pthread_create(&threads[i], NULL, pull_main, &pullers[i]) != 0)
			return error_say(err, -EAGAIN, "thread");
	}
	for (size_t i = 0; i < ARRAY_COUNT(pullers); i++)
		pthread_join(threads[i], NULL);
	*err = pullers[0].result < 0 ? pullers[0].err : pullers[1].err;
	return pullers[0].result < 0 ? pullers[0].result : pullers[1].result;
}

static int import(struct image_store *store, char **argv, struct error *err)
{
	AUTO(image_info_done) struct image_info info = {};
	const struct image_import import = {
		.uid = argv[0], .name = argv[1], .input_fd = STDIN_FILENO, .cancel_fd = -1
	};
	int r = image_import(store, &import, show_progress, NULL, &info, err);

	if (r == 0)
		show(image_info_json(&info));
	return r;
}

static int list(struct image_store *store, struct error *err)
{
	AUTO(strv_free) char **uids = NULL;
	json_t *array = json_array();
	int r = image_store_list(store, &uids, err);

	for (char **uid = uids; r == 0 && *uid; uid++)
		json_array_append_new(array, json_string(*uid));
	show(array);
	return r;
}

static int info(struct image_store *store, char **argv, struct error *err)
{
	AUTO(image_info_done) struct image_info found = {};
	int r = image_store_lookup(store, argv[0], &found, err);

	if (r == 0)
		show(image_info_status(&found));
	return r;
}

static int collect(struct image_store *store, char **argv, struct error *err)
{
	struct image_gc_result result;
	int r = image_store_gc(store, argv, &result, err);

	if (r == 0)
		show(json_pack("{s:I, s:i, s:i}", "bytes", (json_int_t) result.freed_bytes,
			       "layers", (int) result.layers, "blobs", (int) result.blobs));
	return r;
}

static int rootfs(struct image_store *store, char **argv, struct error *err)
{
	AUTO(image_info_done) struct image_info found = {};
	AUTO(strv_free) char **layers = NULL;
	AUTO(fd_close) int fd = -1;
	int r = image_store_lookup(store, argv[0], &found, err);

	if (r < 0)
		return r;
	layers = image_info_layers(&found);
	r = rootfs_open(store, layers, argv[2], argv[3], (uint32_t) strtoul(argv[1], NULL, 10), &fd,
			err);
	if (r == 0 && move_mount(fd, "", AT_FDCWD, argv[4], MOVE_MOUNT_F_EMPTY_PATH) < 0)
		r = error_set(err, -errno, "attach to %s", argv[4]);
	return r;
}

/* Its contents go to standard output. */
static int disk(struct image_store *store, char **argv, struct error *err)
{
	AUTO(image_info_done) struct image_info found = {};
	AUTO(strv_free) char **layers = NULL;
	AUTO(fd_close) int fd = -1;
	char buffer[64 << 10];
	ssize_t n = 0;
	int r = image_store_lookup(store, argv[0], &found, err);

	if (r < 0)
		return r;
	layers = image_info_layers(&found);
	r = image_disk_open(store, &found.manifest, layers, -1, &fd, err);
	while (r == 0 && (n = read(fd, buffer, sizeof(buffer))) > 0)
		r = file_write_all(STDOUT_FILENO, buffer, (size_t) n);
	return r;
}

static int kernels(int argc, char **argv, struct error *err)
{
	const char *dir = argv[0], *action = argv[1];
	const struct kernel_tools tools = { getenv("IMAGE_DRIVER_INIT"),
					    getenv("IMAGE_DRIVER_WORKER") };
	const struct kernel_import args = { .source = argc > 2 ? argv[2] : "",
					    .name = argc > 3 ? argv[3] : "",
					    .modules = argc > 4 ? argv[4] : NULL,
					    .tools = &tools };
	AUTO(kernel_files_done)
	struct kernel_files files = { .vmlinux_fd = -1, .bzimage_fd = -1, .initramfs_fd = -1 };
	json_t *answer = NULL;
	int r;

	if (strcmp(action, "list") == 0)
		r = kernel_list(dir, &answer, err);
	else if (strcmp(action, "import") == 0)
		r = kernel_import(dir, &args, &answer, err);
	else if (strcmp(action, "default") == 0)
		r = kernel_set_default(dir, args.source, err);
	else if (strcmp(action, "delete") == 0)
		r = kernel_delete(dir, args.source, err);
	else
		r = kernel_open(dir, args.source, args.name[0] ? args.name : "amd64", &tools,
				&files, err);
	if (r == 0)
		show(answer ? answer : json_string(files.name));
	return r;
}

static int run(struct image_store *store, const char *command, int argc, char **argv,
	       struct error *err)
{
	if (strcmp(command, "pull") == 0 && argc >= 2)
		return pull(store, argv, err);
	if (strcmp(command, "twice") == 0 && argc == 3)
		return pull_twice(store, argv, err);
	if (strcmp(command, "import") == 0 && argc == 2)
		return import(store, argv, err);
	if (strcmp(command, "export") == 0 && argc == 1)
		return image_export(store, argv[0], STDOUT_FILENO, -1, err);
	if (strcmp(command, "list") == 0)
		return list(store, err);
	if (strcmp(command, "info") == 0 && argc == 1)
		return info(store, argv, err);
	if (strcmp(command, "remove") == 0 && argc == 1)
		return image_store_remove(store, argv[0], err);
	if (strcmp(command, "gc") == 0)
		return collect(store, argv, err);
	if (strcmp(command, "rootfs") == 0 && argc == 5)
		return rootfs(store, argv, err);
	if (strcmp(command, "disk") == 0 && argc == 1)
		return disk(store, argv, err);
	if (strcmp(command, "empty") == 0 && argc == 2)
		return image_disk_make_empty(argv[0], strtoull(argv[1], NULL, 10), err);
	if (strcmp(command, "kernels") == 0 && argc >= 2)
		return kernels(argc, argv, err);
	return error_say(err, -EINVAL, "image-driver: bad command '%s'", command);
}

int main(int argc, char **argv)
{
	AUTO(image_store_free) struct image_store *store = NULL;
	struct error err = {};
	int r;

	if (argc < 3)
		return 2;

	const struct image_store_config config = { .dir = argv[1],
						   .worker = getenv("IMAGE_DRIVER_WORKER"),
						   .boot_id = getenv("IMAGE_DRIVER_BOOT") };
	r = image_store_open(&config, &store, &err);
	if (r == 0)
		r = run(store, argv[2], argc - 3, argv + 3, &err);
	if (r < 0)
		fprintf(stderr, "%d %s\n", r, err.msg);
	return r < 0;
}
