/*
 * Layers and blobs are renamed to their names before their bytes are on the disk, because waiting
 * for the disk would double the time of a pull.  Until the file system was synchronized each has a
 * mark in fresh/: a symbolic link HEX -> boot id, which a journal writes no later than the rename
 * that follows it.  A mark of another boot means: the machine stopped before the bytes were safe.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/store_internal.h"

int store_mark_fresh(struct image_store *store, const struct digest *digest)
{
	char hex[DIGEST_TEXT_SIZE];

	digest_hex(digest, hex);
	AUTO(free) char *name = mem_printf("fresh/%s", hex);
	if (symlinkat(store->boot_id, store->dir_fd, name) == 0)
		return 0;
	return errno == EEXIST ? 0 : -errno;
}

static int list_marks(struct image_store *store, char ***ret)
{
	int fd = openat(store->dir_fd, "fresh", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		int r = -errno;
		fd_close(fd);
		return r;
	}
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			strv_append(ret, entry->d_name);
	closedir(dir);
	return 0;
}

static void drop_content(struct image_store *store, const char *hex)
{
	static const char *const homes[] = { "layers", "blobs/sha256", "blobs/sha512" };

	for (size_t i = 0; i < ARRAY_COUNT(homes); i++) {
		AUTO(free) char *name = mem_printf("%s/%s", homes[i], hex);
		int r = file_remove_tree(store->dir_fd, name);

		if (r < 0)
			log_warning("image store: %s may be damaged and cannot be removed: %s",
				    name, strerror(-r));
	}
}

int store_drop_unsettled(struct image_store *store, struct error *err)
{
	AUTO(strv_free) char **marks = NULL;
	int r = list_marks(store, &marks);

	if (r < 0)
		return error_set(err, r, "%s/fresh", store->dir);
	for (char **mark = marks; mark && *mark; mark++) {
		AUTO(free) char *name = mem_printf("fresh/%s", *mark);
		char boot[sizeof(store->boot_id)] = "";
		ssize_t n = readlinkat(store->dir_fd, name, boot, sizeof(boot) - 1);

		if (n > 0 && strcmp(boot, store->boot_id) == 0) {
			store->settle_wanted = true;
			continue;
		}
		drop_content(store, *mark);
		unlinkat(store->dir_fd, name, 0);
	}
	return 0;
}

static void settle(struct image_store *store)
{
	AUTO(strv_free) char **marks = NULL;

	/* What is marked later is the next round's business. */
	if (list_marks(store, &marks) < 0 || !marks)
		return;
	if (syncfs(store->dir_fd) < 0) {
		log_warning("image store: cannot synchronize %s, will try again with the next "
			    "image: %s",
			    store->dir, strerror(errno));
		return;
	}
	for (char **mark = marks; *mark; mark++) {
		AUTO(free) char *name = mem_printf("fresh/%s", *mark);

		unlinkat(store->dir_fd, name, 0);
	}
}

static void *settler_main(void *data)
{
	struct image_store *store = data;

	pthread_mutex_lock(&store->lock);
	while (!store->stopping) {
		if (!store->settle_wanted) {
			pthread_cond_wait(&store->settle, &store->lock);
			continue;
		}
		store->settle_wanted = false;
		pthread_mutex_unlock(&store->lock);
		settle(store);
		pthread_mutex_lock(&store->lock);
	}
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

void store_settle(struct image_store *store)
{
	store->settle_wanted = true;
	pthread_cond_signal(&store->settle);
}

int store_settler_start(struct image_store *store, struct error *err)
{
	int r = -pthread_create(&store->settler, NULL, settler_main, store);

	if (r < 0)
		return error_set(err, r, "image store: thread");
	store->settler_runs = true;
	return 0;
}

void store_settler_stop(struct image_store *store)
{
	if (!store->settler_runs)
		return;
	pthread_mutex_lock(&store->lock);
	store->stopping = true;
	pthread_cond_signal(&store->settle);
	pthread_mutex_unlock(&store->lock);
	pthread_join(store->settler, NULL);
	store->settler_runs = false;
}
