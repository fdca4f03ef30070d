#include "image/upper.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/helper_internal.h"
#include "image/rootfs.h"
#include "image/store_internal.h"
#include "image/wire_internal.h"

/* The layers' trees below the folder of layers, topmost first, each once. */
static int layer_names(char *const *layers, size_t count, json_t **ret, struct error *err)
{
	AUTO(json_decref) json_t *names = json_array();

	for (size_t i = count; i-- > 0;) {
		struct digest digest;
		char hex[DIGEST_TEXT_SIZE];
		bool again = false;
		int r = digest_parse(layers[i], &digest, err);

		if (r < 0)
			return r;
		for (size_t j = i + 1; j < count; j++)
			again |= strcmp(layers[i], layers[j]) == 0;
		if (again)
			continue;
		digest_hex(&digest, hex);
		AUTO(free) char *name = mem_printf("%s/fs", hex);
		json_array_append_new(names, json_string(name));
	}
	*ret = TAKE_PTR(names);
	return 0;
}

static int open_folders(struct image_store *store, const struct image_upper *upper, size_t count,
			int *ret_upper_fd, int *ret_layers_fd, struct error *err)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	struct digest digest;
	char name[STORE_NAME_SIZE];

	*ret_layers_fd = openat(store->dir_fd, "layers", flags);
	if (*ret_layers_fd < 0)
		return error_set(err, -errno, "%s/layers", store->dir);
	if (upper->dir) {
		*ret_upper_fd = open(upper->dir, flags);
		return *ret_upper_fd < 0 ? error_set(err, -errno, "%s", upper->dir) : 0;
	}
	if (digest_parse(upper->layers[count], &digest, err) < 0)
		return err ? err->code : -EINVAL;
	store_layer_name(&digest, name);
	AUTO(free) char *path = mem_printf("%s/fs", name);
	*ret_upper_fd = openat(store->dir_fd, path, flags);
	return *ret_upper_fd < 0 ? error_set(err, -errno, "%s", path) : 0;
}

static int run(struct image_store *store, const struct image_upper *upper, struct helper *helper,
	       json_t **ret, struct error *err)
{
	AUTO(fd_close) int upper_fd = -1;
	AUTO(fd_close) int layers_fd = -1;
	AUTO(json_decref) json_t *layers = NULL;
	json_t *points = json_array();
	size_t count = strv_count(upper->layers);
	int r;

	count -= !upper->dir;
	r = layer_names(upper->layers, count, &layers, err);
	if (r == 0)
		r = open_folders(store, upper, count, &upper_fd, &layers_fd, err);
	if (r < 0) {
		json_decref(points);
		return r;
	}
	for (char *const *p = upper->mount_points; p && *p; p++) {
		AUTO(free) char *encoded = wire_path_encode(*p);

		json_array_append_new(points, json_string(encoded));
	}
	helper->worker = store->worker;
	helper->root_fd = upper_fd;
	helper->extra_fd = layers_fd;
	helper->more_fd = -1;
	helper->cancel_fd = upper->cancel_fd;
	return helper_run(helper,
			  json_pack("{s:O, s:o, s:I}", "layers", layers, "mount_points", points,
				    "owner_base", (json_int_t) upper->owner_base),
			  ret, err);
}

int image_changes(struct image_store *store, const struct image_upper *upper, int output_fd,
		  struct error *err)
{
	struct helper helper = { .action = "changes", .stream_fd = output_fd };

	return run(store, upper, &helper, NULL, err);
}

int image_layer_write(struct image_store *store, const struct image_upper *upper, int output_fd,
		      void (*progress)(uint64_t done_bytes, void *data), void *data,
		      struct image_layer_made *ret, struct error *err)
{
	struct helper helper = { .action = "layer",
				 .stream_fd = output_fd,
				 .progress = progress,
				 .progress_data = data };
	AUTO(json_decref) json_t *done = NULL;
	AUTO(free) char *digest = NULL;
	AUTO(free) char *diff_id = NULL;
	struct json_reader in = { .err = err, .where = "layer" };
	struct image_layer_made made = {};
	int r = run(store, upper, &helper, &done, err);

	if (r < 0)
		return r;
	json_read_any(&in, done, "type", NULL);
	json_read_string(&in, done, "digest", &digest);
	json_read_string(&in, done, "diff_id", &diff_id);
	json_read_uint64(&in, done, "size", &made.size_bytes);
	r = json_reader_finish(&in, done);
	if (r == 0)
		r = digest_parse(digest ? digest : "", &made.digest, err);
	if (r == 0)
		r = digest_parse(diff_id ? diff_id : "", &made.diff_id, err);
	if (r == 0)
		*ret = made;
	return r;
}
