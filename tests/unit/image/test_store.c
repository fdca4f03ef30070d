#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/store_internal.h"
#include "image/wire_internal.h"

#define HEX(c) c c c c c c c c c c c c c c c c
#define MANIFEST "sha256:" HEX("0123")
#define CONFIG "sha256:" HEX("4567")

struct fixture {
	char dir[64];
	struct image_store_config config;
	struct image_store *store;
};

static void open_store(struct fixture *fixture)
{
	struct error err = {};

	if (image_store_open(&fixture->config, &fixture->store, &err) < 0)
		fail_msg("%s", err.msg);
}

static int setup(void **state)
{
	struct fixture *fixture = mem_new0(struct fixture);

	strcpy(fixture->dir, "/tmp/brume-store-XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	fixture->config.dir = mem_printf("%s/images", fixture->dir);
	fixture->config.worker = "/nowhere";
	fixture->config.boot_id = "one";
	open_store(fixture);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	image_store_free(fixture->store);
	assert_int_equal(file_remove_tree(AT_FDCWD, fixture->dir), 0);
	free((char *) fixture->config.dir);
	free(fixture);
	return 0;
}

/* An image of layers that are named by one hex digit each. */
static void describe(struct image_info *info, const char *layers)
{
	assert_int_equal(digest_parse(MANIFEST, &info->manifest, NULL), 0);
	assert_int_equal(digest_parse(CONFIG, &info->config_digest, NULL), 0);
	info->top = info->manifest;
	info->reference = mem_strdup("r.example/x:1");
	info->platform = mem_strdup("linux/amd64");
	info->layer_count = strlen(layers);
	info->layers = mem_new0_array(struct image_info_layer, info->layer_count);
	for (size_t i = 0; i < info->layer_count; i++) {
		struct image_info_layer *layer = &info->layers[i];

		layer->digest.kind = layer->diff_id.kind = DIGEST_SHA256;
		memset(layer->digest.bytes, layers[i], 32);
		memset(layer->diff_id.bytes, layers[i] ^ 0x80, 32);
	}
}

static void make_file(struct fixture *fixture, const char *name)
{
	assert_int_equal(file_write_atomic(fixture->store->dir_fd, name, "x", 1, 0600, 0), 0);
}

static void make_contents(struct fixture *fixture, const struct image_info *info)
{
	char name[STORE_NAME_SIZE];

	store_blob_name(&info->manifest, name);
	make_file(fixture, name);
	store_blob_name(&info->config_digest, name);
	make_file(fixture, name);
	for (size_t i = 0; i < info->layer_count; i++) {
		store_blob_name(&info->layers[i].digest, name);
		make_file(fixture, name);
		store_layer_name(&info->layers[i].diff_id, name);
		assert_true(mkdirat(fixture->store->dir_fd, name, 0755) == 0 || errno == EEXIST);
	}
}

static void remembers_complete_images(void **state)
{
	struct fixture *fixture = *state;
	AUTO(image_info_done) struct image_info info = {}, found = {};
	AUTO(strv_free) char **uids = NULL, **none = NULL;
	char name[STORE_NAME_SIZE];

	describe(&info, "ab");
	make_contents(fixture, &info);
	assert_int_equal(store_put_record(fixture->store, "u1", &info, NULL), 0);
	assert_int_equal(image_store_lookup(fixture->store, "u1", &found, NULL), 0);
	assert_int_equal(found.layer_count, 2);
	assert_int_equal(image_store_list(fixture->store, &uids, NULL), 0);
	assert_string_equal(uids[0], "u1");
	assert_int_equal(image_store_lookup(fixture->store, "u2", &found, NULL), -ENOENT);
	assert_int_equal(image_store_lookup(fixture->store, "../u1", &found, NULL), -EINVAL);

	store_layer_name(&info.layers[1].diff_id, name);
	assert_int_equal(file_remove_tree(fixture->store->dir_fd, name), 0);
	assert_int_equal(image_store_lookup(fixture->store, "u1", &found, NULL), -ENOENT);
	assert_int_equal(image_store_list(fixture->store, &none, NULL), 0);
	assert_null(none[0]);
	assert_int_equal(image_store_remove(fixture->store, "u1", NULL), 0);
	assert_int_equal(image_store_remove(fixture->store, "u1", NULL), 0);
}

static void collects_what_nobody_reaches(void **state)
{
	struct fixture *fixture = *state;
	AUTO(image_info_done) struct image_info kept = {}, used = {}, live = {}, dead = {};
	AUTO(strv_free) char **layers = NULL;
	struct image_gc_result result;
	struct claim claim;
	unsigned int need[2];

	describe(&kept, "ab");
	describe(&used, "bc");
	describe(&live, "d");
	describe(&dead, "e");
	make_contents(fixture, &kept);
	make_contents(fixture, &used);
	make_contents(fixture, &live);
	make_contents(fixture, &dead);
	make_file(fixture, "partial/" MANIFEST);
	assert_int_equal(store_put_record(fixture->store, "u1", &kept, NULL), 0);
	assert_int_equal(store_claim_begin(fixture->store, &claim), 0);
	assert_int_equal(store_claim_image(fixture->store, &claim, &used, need), 0);
	assert_int_equal(need[0] | need[1], 0);
	layers = image_info_layers(&live);
	assert_int_equal(image_store_gc(fixture->store, layers, &result, NULL), 0);
	assert_int_equal(result.layers, 1); /* e */
	assert_int_equal(result.blobs, 3);  /* d, e, the beginning */
	assert_true(store_has_layer(fixture->store, &live.layers[0].diff_id));
	assert_true(store_has_layer(fixture->store, &used.layers[1].diff_id));
	assert_false(store_has_layer(fixture->store, &dead.layers[0].diff_id));

	store_claim_end(fixture->store, &claim);
	assert_int_equal(image_store_gc(fixture->store, NULL, &result, NULL), 0);
	assert_int_equal(result.layers, 2); /* c, d */
	assert_true(store_has_layer(fixture->store, &kept.layers[1].diff_id));
	strv_append(&layers, "nonsense");
	assert_int_equal(image_store_gc(fixture->store, layers, &result, NULL), -EINVAL);
}

static void lets_one_job_make_a_layer(void **state)
{
	struct fixture *fixture = *state;
	AUTO(image_info_done) struct image_info info = {}, other = {}, twice = {};
	struct claim first, second;
	struct pollfd wake = { .events = POLLIN };
	unsigned int need[3];

	describe(&info, "ab");
	describe(&other, "bc");
	describe(&twice, "xyx");
	assert_int_equal(store_claim_begin(fixture->store, &first), 0);
	assert_int_equal(store_claim_begin(fixture->store, &second), 0);
	assert_int_equal(store_claim_image(fixture->store, &first, &info, need), 0);
	assert_int_equal(need[0], WIRE_NEED_BLOB | WIRE_NEED_LAYER);
	assert_int_equal(store_claim_image(fixture->store, &second, &other, need), -EAGAIN);
	assert_int_equal(store_claim_image(fixture->store, &second, &twice, need), 0);
	assert_int_equal(need[0] & need[1], WIRE_NEED_BLOB | WIRE_NEED_LAYER);
	assert_int_equal(need[2], 0);
	wake.fd = second.wake_fd;
	assert_int_equal(poll(&wake, 1, 0), 0);
	store_claim_end(fixture->store, &first);
	assert_int_equal(poll(&wake, 1, 0), 1);
	assert_int_equal(store_claim_image(fixture->store, &second, &other, need), 0);
	store_claim_end(fixture->store, &second);
}

static void drops_what_a_crash_left(void **state)
{
	struct fixture *fixture = *state;
	AUTO(image_info_done) struct image_info info = {}, found = {};
	char hex[DIGEST_TEXT_SIZE];
	struct stat st;

	describe(&info, "ab");
	make_contents(fixture, &info);
	assert_int_equal(store_put_record(fixture->store, "u1", &info, NULL), 0);
	digest_hex(&info.layers[0].diff_id, hex);
	AUTO(free) char *mark = mem_printf("%s/fresh/%s", fixture->config.dir, hex);
	AUTO(free) char *job = mem_printf("%s/jobs/j/work/blobs", fixture->config.dir);
	AUTO(free) char *blob = mem_printf("%s/" MANIFEST, job);
	AUTO(free) char *odd = mem_printf("%s/odd", job);
	AUTO(free) char *partial = mem_printf("%s/partial/" MANIFEST, fixture->config.dir);
	AUTO(free) char *gone = mem_printf("%s/jobs/j", fixture->config.dir);
	image_store_free(TAKE_PTR(fixture->store));

	/* A worker was at work, and what was made is not known to be on the disk. */
	assert_int_equal(file_mkdir_all(job, 0700), 0);
	assert_int_equal(file_write_atomic(AT_FDCWD, blob, "begin", 5, 0600, 0), 0);
	assert_int_equal(file_write_atomic(AT_FDCWD, odd, "x", 1, 0600, 0), 0);
	assert_int_equal(symlink("one", mark), 0);
	open_store(fixture);
	assert_int_equal(stat(gone, &st), -1);
	assert_int_equal(stat(partial, &st), 0);
	assert_int_equal(st.st_size, 5);
	/* Only the program was restarted: all of it is still in the page cache. */
	assert_int_equal(image_store_lookup(fixture->store, "u1", &found, NULL), 0);
	image_store_free(TAKE_PTR(fixture->store));

	unlink(mark);
	assert_int_equal(symlink("one", mark), 0);
	fixture->config.boot_id = "two";
	open_store(fixture);
	assert_int_equal(image_store_lookup(fixture->store, "u1", &found, NULL), -ENOENT);
	assert_false(store_has_layer(fixture->store, &info.layers[0].diff_id));
	assert_true(store_has_layer(fixture->store, &info.layers[1].diff_id));
	assert_int_equal(lstat(mark, &st), -1);
}

static void is_open_once(void **state)
{
	struct fixture *fixture = *state;
	struct image_store *second = NULL;
	struct error err = {};

	assert_int_equal(image_store_open(&fixture->config, &second, &err), -EWOULDBLOCK);
	assert_non_null(strstr(err.msg, "another process"));
	assert_null(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(remembers_complete_images, setup, teardown),
		cmocka_unit_test_setup_teardown(collects_what_nobody_reaches, setup, teardown),
		cmocka_unit_test_setup_teardown(lets_one_job_make_a_layer, setup, teardown),
		cmocka_unit_test_setup_teardown(drops_what_a_crash_left, setup, teardown),
		cmocka_unit_test_setup_teardown(is_open_once, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
