#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/digest_stream.h"
#include "image/layer_internal.h"

enum { TAR_MAX = 1 << 20 };

struct fixture {
	char dir[64], tar[TAR_MAX];
	size_t size;
	struct archive *writer;
	struct strbuf reported;
};

static int setup(void **state)
{
	struct fixture *fixture = mem_new0(struct fixture);

	strcpy(fixture->dir, "/tmp/brume-layer-XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	fixture->writer = archive_write_new();
	archive_write_set_format_pax_restricted(fixture->writer);
	archive_write_open_memory(fixture->writer, fixture->tar, TAR_MAX, &fixture->size);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	archive_write_free(fixture->writer);
	strbuf_done(&fixture->reported);
	assert_int_equal(file_remove_tree(AT_FDCWD, fixture->dir), 0);
	free(fixture);
	return 0;
}

/* Adds an entry that belongs to us, so that no privileges are needed. */
static void add(struct fixture *fixture, const char *name, mode_t type, const char *text)
{
	struct archive_entry *entry = archive_entry_new();

	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, type);
	archive_entry_set_perm(entry, 0755);
	archive_entry_set_mtime(entry, 1000, 0);
	archive_entry_set_uid(entry, geteuid());
	archive_entry_set_gid(entry, getegid());
	if (type == AE_IFLNK)
		archive_entry_set_symlink(entry, text);
	if (type == AE_IFCHR)
		archive_entry_set_rdev(entry, 0x103);
	archive_entry_set_size(entry, type == AE_IFREG ? (int64_t) strlen(text) : 0);
	assert_int_equal(archive_write_header(fixture->writer, entry), ARCHIVE_OK);
	if (type == AE_IFREG)
		archive_write_data(fixture->writer, text, strlen(text));
	archive_entry_free(entry);
}

static int report_node(void *data, const char *name, const struct untar_node *node)
{
	struct fixture *fixture = data;

	strbuf_printf(&fixture->reported, "node %s %u:%u\n", name, node->major, node->minor);
	return 0;
}

static int report_opaque(void *data, const char *name)
{
	struct fixture *fixture = data;

	strbuf_printf(&fixture->reported, "opaque '%s'\n", name);
	return 0;
}

/* Unpacks what was added, plus `cut` bytes less, and fills layer->result. */
static void unpack(struct fixture *fixture, struct layer *layer, size_t cut)
{
	static struct tree_limits limits;
	AUTO(fd_close) int blob = memfd_create("blob", MFD_CLOEXEC);
	AUTO(fd_close) int tree = open(fixture->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	archive_write_close(fixture->writer);
	limits = (struct tree_limits){ .bytes_max = 1 << 20, .inodes_max = 100 };
	layer->tree_fd = tree;
	layer->limits = &limits;
	layer->untar = (struct untar){ .report_node = report_node,
				       .report_opaque = report_opaque,
				       .data = fixture };
	spool_init(&layer->spool, blob, 0);
	assert_int_equal(layer_start(layer, NULL), 0);
	assert_int_equal(spool_append(&layer->spool, fixture->tar, fixture->size - cut), 0);
	spool_end(&layer->spool, 0);
	layer_join(layer);
	spool_done(&layer->spool);
}

static void unpacks_and_verifies(void **state)
{
	struct fixture *fixture = *state;
	struct layer layer = {};
	AUTO(free) char *file = mem_printf("%s/d/f", fixture->dir);
	AUTO(free) char *text = NULL;
	struct stat st;

	add(fixture, "d", AE_IFDIR, NULL);
	add(fixture, "d/f", AE_IFREG, "hello");
	add(fixture, "d/l", AE_IFLNK, "/etc/passwd");
	add(fixture, "d/null", AE_IFCHR, NULL);
	add(fixture, "d/.wh..wh..opq", AE_IFREG, "");
	add(fixture, "e/.wh..wh..opq", AE_IFREG, "");
	add(fixture, "d/.wh..wh.plnk", AE_IFREG, "");
	unpack(fixture, &layer, 0);
	if (layer.result < 0)
		fail_msg("%s", layer.err.msg);
	assert_string_equal(strbuf_str(&fixture->reported),
			    "node d/null 1:3\nopaque 'd'\nopaque 'e'\n");
	assert_int_equal(file_read(AT_FDCWD, file, 100, &text, NULL), 0);
	assert_string_equal(text, "hello");
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mtime, 1000);
	assert_int_equal(layer.meta.bytes, 5);
	assert_int_equal(layer.meta.inodes, 4);
	assert_false(layer.meta.has_root);

	struct digest digest;
	digest_compute(DIGEST_SHA256, fixture->tar, fixture->size, &digest);
	assert_true(digest_equal(&digest, &layer.real_digest));
	assert_true(digest_equal(&digest, &layer.real_diff_id));
}

static void says_digest_before_anything_else(void **state)
{
	struct fixture *fixture = *state;
	struct layer layer = { .digest = { .kind = DIGEST_SHA256 } };

	add(fixture, "f", AE_IFREG, "hello");
	unpack(fixture, &layer, fixture->size ? 700 : 0);
	assert_int_equal(layer.result, -EBADMSG);
	assert_non_null(strstr(layer.err.msg, "digest mismatch: the blob"));
}

static void refuses_another_diff_id(void **state)
{
	struct fixture *fixture = *state;
	struct layer layer = { .diff_id = { .kind = DIGEST_SHA256 } };

	add(fixture, "f", AE_IFREG, "hello");
	unpack(fixture, &layer, 0);
	assert_int_equal(layer.result, -EBADMSG);
	assert_non_null(strstr(layer.err.msg, "the unpacked layer"));
}

static void refuses_a_cut_tar(void **state)
{
	struct fixture *fixture = *state;
	struct layer layer = {};

	add(fixture, "f", AE_IFREG, "hello");
	add(fixture, "g", AE_IFREG, "hello");
	archive_write_close(fixture->writer);
	/* Without the end of the archive and half of the last file. */
	unpack(fixture, &layer, fixture->size - 1024 - 512 - 100);
	assert_int_equal(layer.result, -EBADMSG);
	assert_non_null(strstr(layer.err.msg, "damaged"));
}

static void names_the_entry_that_escapes(void **state)
{
	struct fixture *fixture = *state;
	struct layer layer = {};

	add(fixture, "way", AE_IFLNK, "/tmp");
	add(fixture, "way/brume-layer-escaped", AE_IFREG, "x");
	unpack(fixture, &layer, 0);
	assert_int_equal(layer.result, -EINVAL);
	assert_non_null(strstr(layer.err.msg, "'way/brume-layer-escaped'"));
	assert_int_equal(access("/tmp/brume-layer-escaped", F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(unpacks_and_verifies, setup, teardown),
		cmocka_unit_test_setup_teardown(says_digest_before_anything_else, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_another_diff_id, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_a_cut_tar, setup, teardown),
		cmocka_unit_test_setup_teardown(names_the_entry_that_escapes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
