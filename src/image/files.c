#include "image/files.h"

#include <errno.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "image/helper_internal.h"
#include "image/rootfs.h"
#include "image/store_internal.h"
#include "image/wire_internal.h"
#include "kern/idmap.h"

static const char *const actions[] = {
	[IMAGE_FILES_STAT] = "stat",
	[IMAGE_FILES_GET] = "get",
	[IMAGE_FILES_PUT] = "put",
};

int image_files(struct image_store *store, const struct image_files *files, struct error *err)
{
	const struct idmap_range range = { 0, rootfs_slot_uid(files->slot), LAYER_UID_COUNT };
	AUTO(fd_close) int userns_fd = -1;
	AUTO(free) char *path = wire_path_encode(files->path);
	int r = idmap_userns_new(&range, 1, &userns_fd);

	if (r < 0)
		return error_set(err, r, "user namespace of slot %u", files->slot);
	const struct helper helper = {
		.worker = store->worker,
		.action = actions[files->action],
		.stream_fd = files->stream_fd,
		.root_fd = files->root_fd,
		.extra_fd = userns_fd,
		.more_fd = -1,
		.cancel_fd = files->cancel_fd,
	};
	return helper_run(&helper,
			  json_pack("{s:s, s:b, s:b, s:b}", "path", path, "namespace",
				    files->is_namespace, "follow", files->follow, "keep_ids",
				    files->keep_ids),
			  NULL, err);
}
