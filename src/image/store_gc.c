/*
 * Mark and sweep.  The roots are the records, the claims of running jobs, and the layers that the
 * caller says are in use; all of it happens under the store's lock, so that no job can begin to use
 * what is being swept.  Layers are renamed to trash/ under the lock and removed after it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/store_internal.h"

enum { RECORD_MAX = 8 << 20 };

struct mark {
	char hex[DIGEST_TEXT_SIZE];
	UT_hash_handle hh;
};

struct marks {
	struct mark *layers, *blobs;
};

static void mark(struct mark **set, const char *hex)
{
	struct mark *one;

	HASH_FIND_STR(*set, hex, one);
	if (one)
		return;
	one = mem_new0(struct mark);
	snprintf(one->hex, sizeof(one->hex), "%s", hex);
	HASH_ADD_STR(*set, hex, one);
}

static void mark_digest(struct mark **set, const struct digest *digest)
{
	char hex[DIGEST_TEXT_SIZE];

	digest_hex(digest, hex);
	mark(set, hex);
}

static bool is_marked(struct mark *set, const char *hex)
{
	struct mark *one;

	HASH_FIND_STR(set, hex, one);
	return one;
}

static void marks_free(struct mark *set)
{
	struct mark *one, *next;

	HASH_ITER(hh, set, one, next)
	{
		HASH_DEL(set, one);
		free(one);
	}
}

/* Opens a folder of the store for reading its names. */
static DIR *open_folder(struct image_store *store, const char *name)
{
	int fd = openat(store->dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir)
		fd_close(fd);
	return dir;
}

static void mark_info(struct marks *marks, const struct image_info *info)
{
	mark_digest(&marks->blobs, &info->top);
	mark_digest(&marks->blobs, &info->manifest);
	mark_digest(&marks->blobs, &info->config_digest);
	for (size_t i = 0; i < info->layer_count; i++) {
		mark_digest(&marks->blobs, &info->layers[i].digest);
		mark_digest(&marks->layers, &info->layers[i].diff_id);
	}
}

/*
 * A record that cannot be read marks nothing and is as good as none; but an I/O error is no reason
 * to throw away what the record may name.
 */
static int mark_record(struct image_store *store, const char *name, struct marks *marks,
		       struct error *err)
{
	AUTO(image_info_done) struct image_info info = {};
	AUTO(free) char *path = mem_printf("records/%s", name);
	AUTO(free) char *text = NULL;
	AUTO(json_decref) json_t *object = NULL;
	size_t size;
	int r = file_read(store->dir_fd, path, RECORD_MAX, &text, &size);

	if (r < 0 && r != -ENOENT)
		return error_set(err, r, "%s/%s", store->dir, path);
	if (r == 0 && json_parse(text, size, RECORD_MAX, &object, NULL) == 0 &&
	    image_info_read(object, &info, NULL) == 0)
		mark_info(marks, &info);
	return 0;
}

static int mark_roots(struct image_store *store, char *const *live_layers, struct marks *marks,
		      struct error *err)
{
	DIR *dir = open_folder(store, "records");
	struct dirent *entry;
	int r = 0;

	if (!dir)
		return error_set(err, -errno, "%s/records", store->dir);
	while (r == 0 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			r = mark_record(store, entry->d_name, marks, err);
	closedir(dir);
	if (r < 0)
		return r;

	for (const struct claim *claim = store->claims; claim; claim = claim->next) {
		for (char **hex = claim->layers; hex && *hex; hex++)
			mark(&marks->layers, *hex);
		for (char **blob = claim->blobs; blob && *blob; blob++)
			mark(&marks->blobs, strchr(*blob, ':') + 1);
	}
	for (; live_layers && *live_layers; live_layers++) {
		struct digest digest;

		r = digest_parse(*live_layers, &digest, err);
		if (r < 0)
			return error_wrap(err, r, "layers in use");
		mark_digest(&marks->layers, &digest);
		/* The only layer of a disk's image is a blob. */
		mark_digest(&marks->blobs, &digest);
	}
	return 0;
}

static void unmark_fresh(struct image_store *store, const char *hex)
{
	AUTO(free) char *name = mem_printf("fresh/%s", hex);

	unlinkat(store->dir_fd, name, 0);
}

static void sweep_layers(struct image_store *store, struct marks *marks,
			 struct image_gc_result *result)
{
	DIR *dir = open_folder(store, "layers");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || is_marked(marks->layers, entry->d_name))
			continue;
		AUTO(free) char *from = mem_printf("layers/%s", entry->d_name);
		AUTO(free) char *to = mem_printf("trash/%s.%lu", entry->d_name, store->serial++);
		if (renameat(store->dir_fd, from, store->dir_fd, to) < 0)
			continue;
		if (!is_marked(marks->blobs, entry->d_name))
			unmark_fresh(store, entry->d_name);
		result->layers++;
	}
	if (dir)
		closedir(dir);
}

static void sweep_files(struct image_store *store, const char *folder, struct mark *keep,
			struct image_gc_result *result)
{
	DIR *dir = open_folder(store, folder);
	struct dirent *entry;
	struct stat st;

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || is_marked(keep, entry->d_name) ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    unlinkat(dirfd(dir), entry->d_name, 0) < 0)
			continue;
		result->freed_bytes += (uint64_t) st.st_size;
		result->blobs++;
	}
	if (dir)
		closedir(dir);
}

/* Without the lock: nobody looks here. */
static void empty_trash(struct image_store *store)
{
	DIR *dir = open_folder(store, "trash");
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			file_remove_tree(dirfd(dir), entry->d_name);
	if (dir)
		closedir(dir);
}

int image_store_gc(struct image_store *store, char *const *live_layers, struct image_gc_result *ret,
		   struct error *err)
{
	struct image_gc_result result = {};
	struct marks marks = {};
	int r;

	pthread_mutex_lock(&store->lock);
	r = mark_roots(store, live_layers, &marks, err);
	if (r == 0) {
		sweep_layers(store, &marks, &result);
		sweep_files(store, "blobs/sha256", marks.blobs, &result);
		sweep_files(store, "blobs/sha512", marks.blobs, &result);
		sweep_files(store, "disks", marks.blobs, &result);
		/* Beginnings that a job goes on with are in the job's folder. */
		sweep_files(store, "partial", NULL, &result);
	}
	pthread_mutex_unlock(&store->lock);
	marks_free(marks.layers);
	marks_free(marks.blobs);
	if (r < 0)
		return r;
	empty_trash(store);
	if (ret)
		*ret = result;
	return 0;
}
