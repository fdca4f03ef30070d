#include "image/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/layer_meta_internal.h"
#include "image/store_internal.h"
#include "kern/overlay.h"

enum { META_MAX = 4096, SLOT_MAX = (LAYER_UID_BASE - SLOT_UID_BASE) / LAYER_UID_COUNT };

/*
 * The layers' trees below the folder of layers, topmost first.  One that occurs twice counts once,
 * at its highest place: overlayfs refuses it twice, and the lower one is hidden anyway.
 */
static int lower_names(int layers_fd, char *const *layers, char ***ret, struct error *err)
{
	AUTO(strv_free) char **names = NULL;

	for (size_t i = strv_count(layers); i-- > 0;) {
		struct digest digest;
		char hex[DIGEST_TEXT_SIZE];
		int r = digest_parse(layers[i], &digest, err);

		if (r < 0)
			return r;
		digest_hex(&digest, hex);
		AUTO(free) char *name = mem_printf("%s/fs", hex);
		if (strv_contains(names, name))
			continue;
		if (faccessat(layers_fd, name, F_OK, 0) < 0)
			return error_say(err, -errno,
					 "layer %s is not on this node: pull the image again",
					 layers[i]);
		strv_append(&names, name);
	}
	if (!names)
		return error_say(err, -EINVAL, "an image without layers cannot run");
	*ret = TAKE_PTR(names);
	return 0;
}

/* How the image's root folder looks: as the topmost layer that describes it says. */
static int read_root(int layers_fd, char *const *names, struct layer_meta *ret, struct error *err)
{
	*ret = (struct layer_meta){ .root_mode = 0755 };
	for (; *names; names++) {
		AUTO(json_decref) json_t *object = NULL;
		AUTO(free) char *text = NULL;
		AUTO(free)
		char *path = mem_printf("%.*s/meta.json", (int) strlen(*names) - 3, *names);
		struct layer_meta meta;
		size_t size;
		int r = file_read(layers_fd, path, META_MAX, &text, &size);

		if (r < 0)
			return error_set(err, r, "layers/%s", path);
		r = json_parse(text, size, META_MAX, &object, err);
		if (r == 0)
			r = layer_meta_read(object, &meta, err);
		if (r < 0)
			return error_wrap(err, r, "layers/%s", path);
		if (meta.has_root) {
			*ret = meta;
			return 0;
		}
	}
	return 0;
}

/* Makes a folder of the slot; one that has an owner of the slot is left as it is. */
static int make_folder(const char *path, uint32_t slot, uint32_t uid, uint32_t gid, mode_t mode,
		       struct error *err)
{
	uint32_t first = rootfs_slot_uid(slot);
	AUTO(fd_close) int fd = -1;
	struct stat st;
	int r = file_mkdir_all(path, 0711);

	if (r < 0)
		return error_set(err, r, "%s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "%s", path);
	if (st.st_uid - first < LAYER_UID_COUNT)
		return 0;
	/* The owner last: it says that the rest is done. */
	if (fchmod(fd, mode) < 0 || fchown(fd, first + uid, first + gid) < 0)
		return error_set(err, -errno, "%s", path);
	return 0;
}

int rootfs_open(struct image_store *store, char *const *layers, const char *upper_dir,
		const char *work_dir, uint32_t slot, int *ret, struct error *err)
{
	AUTO(strv_free) char **names = NULL;
	AUTO(fd_close) int layers_fd = -1, userns_fd = -1;
	struct layer_meta root;
	int r;

	if (slot >= SLOT_MAX)
		return error_say(err, -ERANGE, "slot %u is above the last one, %d", slot,
				 SLOT_MAX - 1);
	layers_fd = openat(store->dir_fd, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (layers_fd < 0)
		return error_set(err, -errno, "%s/layers", store->dir);
	r = lower_names(layers_fd, layers, &names, err);
	if (r == 0)
		r = read_root(layers_fd, names, &root, err);
	if (r == 0)
		r = make_folder(upper_dir, slot, root.root_uid, root.root_gid, root.root_mode, err);
	if (r == 0)
		r = make_folder(work_dir, slot, 0, 0, 0700, err);
	if (r < 0)
		return r;

	const struct idmap_range range = { LAYER_UID_BASE, rootfs_slot_uid(slot), LAYER_UID_COUNT };
	r = idmap_userns_new(&range, 1, &userns_fd);
	if (r < 0)
		return error_set(err, r, "user namespace of slot %u", slot);
	const struct overlay_config overlay = {
		.base_fd = layers_fd,
		.base_userns_fd = userns_fd,
		.lower = (const char *const *) names,
		.lower_count = strv_count(names),
		.upper = upper_dir,
		.work = work_dir,
	};
	return overlay_mount(&overlay, ret, err);
}
