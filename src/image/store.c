#include "image/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/store_internal.h"
#include "image/wire_internal.h"

enum { RECORD_MAX = 8 << 20, KNOWN_MAX = 16 };

void store_layer_name(const struct digest *diff_id, char ret[STORE_NAME_SIZE])
{
	memcpy(ret, "layers/", 7);
	digest_hex(diff_id, ret + 7);
}

void store_blob_name(const struct digest *digest, char ret[STORE_NAME_SIZE])
{
	memcpy(ret, digest->kind == DIGEST_SHA512 ? "blobs/sha512/" : "blobs/sha256/", 13);
	digest_hex(digest, ret + 13);
}

void store_partial_name(const struct digest *digest, char ret[STORE_NAME_SIZE])
{
	memcpy(ret, "partial/", 8);
	digest_format(digest, ret + 8);
}

bool store_has_layer(struct image_store *store, const struct digest *diff_id)
{
	char name[STORE_NAME_SIZE];

	store_layer_name(diff_id, name);
	return faccessat(store->dir_fd, name, F_OK, 0) == 0;
}

bool store_has_blob(struct image_store *store, const struct digest *digest)
{
	char name[STORE_NAME_SIZE];

	store_blob_name(digest, name);
	return faccessat(store->dir_fd, name, F_OK, 0) == 0;
}

/* A uid becomes a file name; ours are hex, but nothing depends on that. */
static int record_name(const char *uid, char ret[STORE_NAME_SIZE], struct error *err)
{
	size_t n = strspn(uid, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");

	if (n == 0 || n > 64 || uid[n])
		return error_say(err, -EINVAL, "bad uid of an image: '%.70s'", uid);
	snprintf(ret, STORE_NAME_SIZE, "records/%s.json", uid);
	return 0;
}

static int record_load(struct image_store *store, const char *name, struct image_info *ret,
		       struct error *err)
{
	AUTO(free) char *text = NULL;
	AUTO(json_decref) json_t *object = NULL;
	size_t size;
	int r = file_read(store->dir_fd, name, RECORD_MAX, &text, &size);

	if (r < 0)
		return error_set(err, r, "%s/%s", store->dir, name);
	r = json_parse(text, size, RECORD_MAX, &object, err);
	if (r == 0)
		r = image_info_read(object, ret, err);
	return r < 0 ? error_wrap(err, r, "%s/%s", store->dir, name) : 0;
}

/* Is everything there that the record names? */
static bool is_complete(struct image_store *store, const struct image_info *info)
{
	bool complete = store_has_blob(store, &info->manifest) &&
			store_has_blob(store, &info->config_digest);

	for (size_t i = 0; complete && i < info->layer_count; i++)
		complete = (info->disk != DISK_NONE ||
			    store_has_layer(store, &info->layers[i].diff_id)) &&
			   store_has_blob(store, &info->layers[i].digest);
	return complete;
}

static int list_folder(struct image_store *store, const char *name, char ***ret, struct error *err)
{
	int fd = openat(store->dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		int r = error_set(err, -errno, "%s/%s", store->dir, name);
		fd_close(fd);
		return r;
	}
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			strv_append(ret, entry->d_name);
	closedir(dir);
	return 0;
}

typedef void (*record_fn)(const char *uid, struct image_info *info, void *data);

/* Calls `fn` for every readable record; a damaged one is as good as none. */
static int each_record(struct image_store *store, record_fn fn, void *data, struct error *err)
{
	AUTO(strv_free) char **names = NULL;
	int r = list_folder(store, "records", &names, err);

	for (char **name = names; r == 0 && name && *name; name++) {
		AUTO(image_info_done) struct image_info info = {};
		AUTO(free) char *path = mem_printf("records/%s", *name);
		char *dot = strstr(*name, ".json");

		if (!dot || dot[5] || record_load(store, path, &info, NULL) < 0)
			continue;
		*dot = '\0';
		fn(*name, &info, data);
	}
	return r;
}

/* Empties jobs/ and trash/, and keeps beginnings of blobs: after a crash nothing of these runs. */
static int clean_after_crash(struct image_store *store, struct error *err)
{
	AUTO(strv_free) char **jobs = NULL;
	int r = list_folder(store, "jobs", &jobs, err);

	for (char **job = jobs; r == 0 && job && *job; job++) {
		AUTO(free) char *name = mem_printf("jobs/%s", *job);
		AUTO(free) char *blobs = mem_printf("jobs/%s/work/blobs", *job);
		AUTO(strv_free) char **files = NULL;
		AUTO(fd_close)
		int fd = openat(store->dir_fd, blobs,
				O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

		if (fd >= 0)
			list_folder(store, blobs, &files, NULL);
		for (char **file = files; file && *file; file++) {
			struct digest digest;

			if (digest_parse(*file, &digest, NULL) == 0)
				store_keep_partial(store, fd, *file, &digest);
		}
		r = file_remove_tree(store->dir_fd, name);
		if (r < 0)
			error_set(err, r, "%s/%s", store->dir, name);
	}
	if (r == 0)
		r = file_remove_tree(store->dir_fd, "trash");
	if (r == 0 && mkdirat(store->dir_fd, "trash", 0700) < 0)
		r = -errno;
	return r;
}

static void drop_incomplete(const char *uid, struct image_info *info, void *data)
{
	struct image_store *store = data;
	char name[STORE_NAME_SIZE];

	if (is_complete(store, info) || record_name(uid, name, NULL) < 0)
		return;
	log_warning("image %s: parts of it were lost, forgetting it", uid);
	unlinkat(store->dir_fd, name, 0);
}

static int make_folders(struct image_store *store, struct error *err)
{
	static const struct {
		const char *name;
		mode_t mode;
	} folders[] = {
		{ "records", 0700 },      { "blobs", 0700 },  { "blobs/sha256", 0700 },
		{ "blobs/sha512", 0700 }, { "layers", 0711 }, { "partial", 0700 },
		{ "jobs", 0700 },         { "fresh", 0700 },  { "trash", 0700 },
		{ "disks", 0700 },
	};

	if (mkdir(store->dir, 0711) < 0 && errno != EEXIST)
		return error_set(err, -errno, "%s", store->dir);
	store->dir_fd = open(store->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store->dir_fd < 0 || fchmod(store->dir_fd, 0711) < 0)
		return error_set(err, -errno, "%s", store->dir);
	for (size_t i = 0; i < ARRAY_COUNT(folders); i++)
		if ((mkdirat(store->dir_fd, folders[i].name, folders[i].mode) < 0 &&
		     errno != EEXIST) ||
		    fchmodat(store->dir_fd, folders[i].name, folders[i].mode, 0) < 0)
			return error_set(err, -errno, "%s/%s", store->dir, folders[i].name);
	return 0;
}

static int worker_path(const char *given, char **ret, struct error *err)
{
	char self[PATH_MAX];
	ssize_t n;

	if (given) {
		*ret = mem_strdup(given);
		return 0;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return error_set(err, -errno, "/proc/self/exe");
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	*ret = mem_printf("%s/brume-image-worker", self);
	return 0;
}

static int read_boot_id(struct image_store *store, struct error *err)
{
	AUTO(free) char *text = NULL;
	int r = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 128, &text, NULL);

	if (r < 0)
		return error_set(err, r, "/proc/sys/kernel/random/boot_id");
	text[strcspn(text, "\n")] = '\0';
	snprintf(store->boot_id, sizeof(store->boot_id), "%s", text);
	return 0;
}

int image_store_open(const struct image_store_config *config, struct image_store **ret,
		     struct error *err)
{
	AUTO(image_store_free) struct image_store *store = mem_new0(struct image_store);
	int r;

	store->dir = mem_strdup(config->dir);
	store->dir_fd = store->lock_fd = -1;
	pthread_mutex_init(&store->lock, NULL);
	pthread_cond_init(&store->settle, NULL);
	if (config->boot_id)
		snprintf(store->boot_id, sizeof(store->boot_id), "%s", config->boot_id);
	else if ((r = read_boot_id(store, err)) < 0)
		return r;

	r = worker_path(config->worker, &store->worker, err);
	if (r == 0)
		r = make_folders(store, err);
	if (r < 0)
		return r;
	store->lock_fd = openat(store->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (store->lock_fd < 0)
		return error_set(err, -errno, "%s/lock", store->dir);
	if (flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return error_say(err, -errno, "%s is used by another process", store->dir);
	r = clean_after_crash(store, err);
	if (r == 0)
		r = store_drop_unsettled(store, err);
	if (r == 0)
		r = each_record(store, drop_incomplete, store, err);
	if (r == 0)
		r = store_settler_start(store, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(store);
	return 0;
}

int image_store_lookup(struct image_store *store, const char *uid, struct image_info *ret,
		       struct error *err)
{
	AUTO(image_info_done) struct image_info info = {};
	char name[STORE_NAME_SIZE];
	int r = record_name(uid, name, err);

	if (r == 0)
		r = record_load(store, name, &info, err);
	if (r < 0)
		return r;
	if (!is_complete(store, &info))
		return error_say(err, -ENOENT, "image %s: parts of it are missing", uid);
	*ret = info;
	info = (struct image_info){};
	return 0;
}

struct list_state {
	struct image_store *store;
	char **uids;
};

static void list_one(const char *uid, struct image_info *info, void *data)
{
	struct list_state *state = data;

	if (is_complete(state->store, info))
		strv_append(&state->uids, uid);
}

int image_store_list(struct image_store *store, char ***ret_uids, struct error *err)
{
	struct list_state state = { .store = store };
	int r = each_record(store, list_one, &state, err);

	if (r < 0) {
		strv_free(state.uids);
		return r;
	}
	*ret_uids = state.uids ? state.uids : (char **) mem_new0(char *);
	return 0;
}

int image_store_remove(struct image_store *store, const char *uid, struct error *err)
{
	char name[STORE_NAME_SIZE];
	int r = record_name(uid, name, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&store->lock);
	r = unlinkat(store->dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
	pthread_mutex_unlock(&store->lock);
	return r < 0 ? error_set(err, r, "%s/%s", store->dir, name) : 0;
}

int store_claim_begin(struct image_store *store, struct claim *claim)
{
	*claim = (struct claim){ .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	if (claim->wake_fd < 0)
		return -errno;
	pthread_mutex_lock(&store->lock);
	claim->next = store->claims;
	store->claims = claim;
	claim->linked = true;
	pthread_mutex_unlock(&store->lock);
	return 0;
}

static void add_blob(struct claim *claim, const struct digest *digest)
{
	char text[DIGEST_TEXT_SIZE];

	digest_format(digest, text);
	strv_append(&claim->blobs, text);
}

static void add_image(struct claim *claim, const struct image_info *info)
{
	char hex[DIGEST_TEXT_SIZE];

	add_blob(claim, &info->top);
	add_blob(claim, &info->manifest);
	add_blob(claim, &info->config_digest);
	for (size_t i = 0; i < info->layer_count; i++) {
		add_blob(claim, &info->layers[i].digest);
		digest_hex(&info->layers[i].diff_id, hex);
		strv_append(&claim->layers, hex);
	}
}

void store_claim_contents(struct image_store *store, struct claim *claim,
			  const struct image_info *info)
{
	pthread_mutex_lock(&store->lock);
	add_image(claim, info);
	pthread_mutex_unlock(&store->lock);
}

struct known_state {
	struct image_store *store;
	struct claim *claim; /* NULL: only find */
	const char *reference, *platform;
	const struct digest *top;
	char **tops;
	struct image_info found;
};

static void known_one(const char *uid, struct image_info *info, void *data)
{
	struct known_state *state = data;
	char text[DIGEST_TEXT_SIZE];

	(void) uid;
	if (!info->reference || strcmp(info->reference, state->reference) != 0 || !info->platform ||
	    strcmp(info->platform, state->platform) != 0 || !is_complete(state->store, info))
		return;
	if (!state->claim) {
		if (digest_equal(&info->top, state->top) && !state->found.layers) {
			state->found = *info;
			*info = (struct image_info){};
		}
		return;
	}
	if (strv_count(state->tops) >= KNOWN_MAX)
		return;
	add_image(state->claim, info);
	digest_format(&info->top, text);
	strv_append(&state->tops, text);
}

int store_claim_known(struct image_store *store, struct claim *claim, const char *reference,
		      const char *platform, char ***ret_tops)
{
	struct known_state state = {
		.store = store, .claim = claim, .reference = reference, .platform = platform
	};

	pthread_mutex_lock(&store->lock);
	int r = each_record(store, known_one, &state, NULL);
	pthread_mutex_unlock(&store->lock);
	*ret_tops = state.tops;
	return r;
}

int store_find_known(struct image_store *store, const char *reference, const char *platform,
		     const struct digest *top, struct image_info *ret, struct error *err)
{
	struct known_state state = {
		.store = store, .reference = reference, .platform = platform, .top = top
	};
	int r = each_record(store, known_one, &state, err);

	if (r < 0)
		return r;
	if (!state.found.layers)
		return error_say(err, -ENOENT, "the image was removed meanwhile");
	*ret = state.found;
	return 0;
}

static bool is_made_elsewhere(struct image_store *store, const struct claim *claim, const char *hex)
{
	for (const struct claim *other = store->claims; other; other = other->next)
		if (other != claim && strv_contains(other->making, hex))
			return true;
	return false;
}

/* Bits of what is missing of layer `i`; what an earlier layer brings is not missing. */
static unsigned int missing(struct image_store *store, const struct image_info *info, size_t i)
{
	const struct image_info_layer *layer = &info->layers[i];
	unsigned int bits = 0;

	if (!store_has_blob(store, &layer->digest))
		bits |= WIRE_NEED_BLOB;
	if (info->disk == DISK_NONE && !store_has_layer(store, &layer->diff_id))
		bits |= WIRE_NEED_LAYER;
	for (size_t j = 0; j < i; j++) {
		if (digest_equal(&info->layers[j].digest, &layer->digest))
			bits &= ~(unsigned int) WIRE_NEED_BLOB;
		if (digest_equal(&info->layers[j].diff_id, &layer->diff_id))
			bits &= ~(unsigned int) WIRE_NEED_LAYER;
	}
	/* The layer is unpacked from its blob, even when that is here already. */
	return bits & WIRE_NEED_LAYER ? WIRE_NEED_BLOB | WIRE_NEED_LAYER : bits;
}

int store_claim_image(struct image_store *store, struct claim *claim, const struct image_info *info,
		      unsigned int *need)
{
	int r = 0;

	pthread_mutex_lock(&store->lock);
	for (size_t i = 0; i < info->layer_count && r == 0; i++) {
		char hex[DIGEST_TEXT_SIZE];

		digest_hex(&info->layers[i].diff_id, hex);
		need[i] = missing(store, info, i);
		if (need[i] && is_made_elsewhere(store, claim, hex))
			r = -EAGAIN;
	}
	if (r == 0) {
		add_image(claim, info);
		for (size_t i = 0; i < info->layer_count; i++) {
			char hex[DIGEST_TEXT_SIZE];

			digest_hex(&info->layers[i].diff_id, hex);
			if (need[i])
				strv_append(&claim->making, hex);
		}
	}
	pthread_mutex_unlock(&store->lock);
	return r;
}

int store_claim_record(struct image_store *store, struct claim *claim, const char *uid,
		       struct image_info *ret, struct error *err)
{
	int r;

	pthread_mutex_lock(&store->lock);
	r = image_store_lookup(store, uid, ret, err);
	if (r == 0)
		add_image(claim, ret);
	pthread_mutex_unlock(&store->lock);
	return r;
}

void store_claim_end(struct image_store *store, struct claim *claim)
{
	if (!claim->linked)
		return;
	pthread_mutex_lock(&store->lock);
	for (struct claim **link = &store->claims; *link; link = &(*link)->next) {
		if (*link == claim) {
			*link = claim->next;
			break;
		}
	}
	for (struct claim *other = store->claims; other; other = other->next)
		eventfd_write(other->wake_fd, 1);
	pthread_mutex_unlock(&store->lock);
	strv_free(claim->layers);
	strv_free(claim->blobs);
	strv_free(claim->making);
	fd_close(claim->wake_fd);
	*claim = (struct claim){ .wake_fd = -1 };
}

/* Renames into the store; what is there already is the same content and stays. */
static int put(struct image_store *store, int job_fd, const char *name, const char *target,
	       const struct digest *digest, struct error *err)
{
	int r = 0;

	pthread_mutex_lock(&store->lock);
	if (faccessat(store->dir_fd, target, F_OK, 0) < 0) {
		r = store_mark_fresh(store, digest);
		if (r == 0 && renameat(job_fd, name, store->dir_fd, target) < 0)
			r = -errno;
		store_settle(store);
	}
	pthread_mutex_unlock(&store->lock);
	return r < 0 ? error_set(err, r, "%s/%s", store->dir, target) : 0;
}

int store_put_layer(struct image_store *store, int job_fd, const char *name,
		    const struct digest *diff_id, struct error *err)
{
	char target[STORE_NAME_SIZE];

	store_layer_name(diff_id, target);
	return put(store, job_fd, name, target, diff_id, err);
}

int store_put_blob(struct image_store *store, int job_fd, const char *name,
		   const struct digest *digest, struct error *err)
{
	char target[STORE_NAME_SIZE];
	AUTO(fd_close)
	int fd = openat(job_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "blob %s", name);
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return error_say(err, -EINVAL, "blob %s is not a plain file", name);
	if (fchown(fd, 0, 0) < 0 || fchmod(fd, 0600) < 0)
		return error_set(err, -errno, "blob %s", name);
	store_blob_name(digest, target);
	return put(store, job_fd, name, target, digest, err);
}

int store_put_record(struct image_store *store, const char *uid, const struct image_info *info,
		     struct error *err)
{
	AUTO(json_decref) json_t *object = image_info_json(info);
	AUTO(free) char *text = json_text(object);
	char name[STORE_NAME_SIZE];
	int r = record_name(uid, name, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&store->lock);
	r = file_write_atomic(store->dir_fd, name, text, strlen(text), 0600, 0);
	pthread_mutex_unlock(&store->lock);
	return r < 0 ? error_set(err, r, "%s/%s", store->dir, name) : 0;
}

void store_take_blob(struct image_store *store, const struct digest *digest, int job_fd,
		     const char *name, unsigned int owner)
{
	char partial[STORE_NAME_SIZE], blob[STORE_NAME_SIZE];
	int r;

	store_partial_name(digest, partial);
	store_blob_name(digest, blob);
	pthread_mutex_lock(&store->lock);
	r = renameat(store->dir_fd, blob, job_fd, name);
	if (r < 0)
		r = renameat(store->dir_fd, partial, job_fd, name);
	pthread_mutex_unlock(&store->lock);
	if (r == 0 && (fchownat(job_fd, name, owner, owner, AT_SYMLINK_NOFOLLOW) < 0 ||
		       fchmodat(job_fd, name, 0600, 0) < 0))
		unlinkat(job_fd, name, 0);
}

void store_keep_partial(struct image_store *store, int job_fd, const char *name,
			const struct digest *digest)
{
	char partial[STORE_NAME_SIZE];
	struct stat st;

	if (fstatat(job_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_nlink != 1 || st.st_size == 0)
		return;
	store_partial_name(digest, partial);
	pthread_mutex_lock(&store->lock);
	renameat(job_fd, name, store->dir_fd, partial);
	pthread_mutex_unlock(&store->lock);
}

void image_store_free(struct image_store *store)
{
	if (!store)
		return;
	store_settler_stop(store);
	fd_close(store->lock_fd);
	fd_close(store->dir_fd);
	pthread_cond_destroy(&store->settle);
	pthread_mutex_destroy(&store->lock);
	free(store->dir);
	free(store->worker);
	free(store);
}
