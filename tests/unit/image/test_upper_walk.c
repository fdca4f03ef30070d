#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "image/upper_internal.h"

/* An upper folder over two layers, `low` below `high`. */
struct world {
	char *folder;
	int fd, fds[2];
	struct upper upper;
	struct error err;
};

static int setup(void **state)
{
	static const char *const folders[] = { "upper", "high", "low" };
	struct world *world = mem_new0(struct world);

	world->folder = mem_strdup("/tmp/brume-upper-XXXXXX");
	assert_non_null(mkdtemp(world->folder));
	world->fd = open(world->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_COUNT(folders); i++)
		assert_int_equal(mkdirat(world->fd, folders[i], 0755), 0);
	for (size_t i = 0; i < 2; i++)
		world->fds[i] =
			openat(world->fd, folders[i + 1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	world->upper.upper_fd = openat(world->fd, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	world->upper.lower.fds = world->fds;
	world->upper.lower.count = 2;
	world->upper.err = &world->err;
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	close(world->upper.upper_fd);
	close(world->fds[0]);
	close(world->fds[1]);
	close(world->fd);
	file_remove_tree(AT_FDCWD, world->folder);
	strv_free(world->upper.mount_points);
	free(world->folder);
	free(world);
	return 0;
}

static void put(struct world *world, const char *path, const char *text)
{
	if (!text)
		assert_int_equal(mkdirat(world->fd, path, 0755), 0);
	else
		assert_int_equal(file_write_atomic(world->fd, path, text, strlen(text), 0644, 0),
				 0);
}

static void whiteout(struct world *world, const char *path)
{
	assert_int_equal(mknodat(world->fd, path, S_IFCHR, makedev(0, 0)), 0);
}

/* The mark needs rights that not everybody has who runs this test. */
static void opaque(struct world *world, const char *path)
{
	AUTO(free) char *whole = mem_printf("%s/%s", world->folder, path);

	if (setxattr(whole, "trusted.overlay.opaque", "y", 1, 0) < 0)
		skip();
}

static int visit(struct upper *upper, const struct upper_entry *entry, void *data)
{
	(void) upper;
	strbuf_printf(data, "%s%s%s%s ", entry->path[0] ? entry->path : "/",
		      entry->whiteout ? "!" : "", entry->has_lower ? "=" : "",
		      entry->opaque ? "O" : "");
	return 0;
}

static int leave(struct upper *upper, const struct upper_entry *entry, bool noise, void *data)
{
	(void) upper;
	(void) entry;
	if (noise)
		strbuf_puts(data, "(noise) ");
	return 0;
}

static int hidden(struct upper *upper, const char *path, void *data)
{
	(void) upper;
	strbuf_printf(data, "-%s ", path);
	return 0;
}

static void check(struct world *world, const char *wanted)
{
	static const struct upper_ops ops = { visit, leave, hidden };
	AUTO(strbuf_done) struct strbuf seen = {};

	assert_int_equal(upper_walk(&world->upper, &ops, &seen), 0);
	assert_string_equal(strbuf_str(&seen), wanted);
}

static void test_layers_are_seen_as_overlayfs_does(void **state)
{
	struct world *world = *state;

	put(world, "low/a", "1");
	put(world, "low/dir", NULL);
	put(world, "low/dir/deep", "1");
	put(world, "low/gone", "1");
	put(world, "low/was", NULL);
	put(world, "low/was/in", "1");
	whiteout(world, "high/gone");
	put(world, "high/b", "1");
	put(world, "high/was", "a file now");
	put(world, "upper/a", "2");
	put(world, "upper/b", "2");
	put(world, "upper/c", "2");
	put(world, "upper/dir", NULL);
	put(world, "upper/dir/deep", "2");
	put(world, "upper/dir/new", "2");
	put(world, "upper/gone", "2");
	put(world, "upper/was", NULL);
	put(world, "upper/was/in", "2");
	check(world, "/= /a= /b= /c /dir= /dir/deep= /dir/new /gone /was= /was/in ");
}

static void test_whiteouts(void **state)
{
	struct world *world = *state;

	put(world, "low/a", "1");
	put(world, "low/b", "1");
	whiteout(world, "high/b");
	whiteout(world, "upper/a");
	whiteout(world, "upper/b"); /* gone below already */
	whiteout(world, "upper/never");
	check(world, "/= /a!= ");
}

static void test_opaque_folders(void **state)
{
	struct world *world = *state;

	put(world, "low/dir", NULL);
	put(world, "low/dir/a", "1");
	put(world, "low/dir/b", "1");
	put(world, "low/dir/c", "1");
	put(world, "low/dir/sub", NULL);
	put(world, "low/dir/sub/x", "1");
	put(world, "high/dir", NULL);
	put(world, "high/dir/h", "1");
	whiteout(world, "high/dir/c");
	put(world, "upper/dir", NULL);
	put(world, "upper/dir/b", "2");
	put(world, "upper/dir/sub", NULL);
	opaque(world, "upper/dir");
	check(world, "/= /dir=O -/dir/h -/dir/a /dir/b= /dir/sub= -/dir/sub/x ");
	/* One in the layers hides what is below it. */
	opaque(world, "high/dir");
	check(world, "/= /dir=O -/dir/h /dir/b /dir/sub ");
}

static void test_places_to_mount_on(void **state)
{
	struct world *world = *state;

	strv_append(&world->upper.mount_points, "/proc");
	strv_append(&world->upper.mount_points, "/etc/hosts");
	strv_append(&world->upper.mount_points, "/a/b/c");
	put(world, "low/etc", NULL);
	put(world, "upper/proc", NULL);
	put(world, "upper/etc", NULL);
	put(world, "upper/etc/hosts", "");
	put(world, "upper/a", NULL);
	put(world, "upper/a/b", NULL);
	put(world, "upper/a/b/c", NULL);
	check(world, "/= /etc= (noise) (noise) ");
	/* What is not empty, or beside them, is somebody's. */
	put(world, "upper/proc/file", "x");
	put(world, "upper/etc/hosts", "x");
	put(world, "upper/a/b/d", NULL);
	check(world, "/= /a /a/b /a/b/d (noise) /etc= /etc/hosts /proc /proc/file ");
}

static void test_links_are_not_followed(void **state)
{
	struct world *world = *state;

	put(world, "low/dir", NULL);
	put(world, "low/dir/a", "1");
	assert_int_equal(symlinkat("/etc", world->upper.upper_fd, "dir"), 0);
	assert_int_equal(symlinkat("/etc", world->upper.upper_fd, "new"), 0);
	check(world, "/= /dir= /new ");
}

static void test_ids_in_attributes(void **state)
{
	static const uint8_t v3[24] = { 1, 0, 0, 3, 5, 0, 0, 0, 0, 0, 0, 0,
					0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40 };
	struct world *world = *state;
	AUTO(free) uint8_t *value = mem_zalloc(UPPER_XATTR_MAX);
	AUTO(free) char *names = NULL;
	AUTO(fd_close) int fd = -1;

	put(world, "upper/file", "x");
	fd = openat(world->upper.upper_fd, "file", O_RDONLY | O_CLOEXEC);
	if (fsetxattr(fd, "user.b", "1", 1, 0) < 0 || fsetxattr(fd, "user.a", "2", 1, 0) < 0 ||
	    fsetxattr(fd, "security.capability", v3, sizeof(v3), 0) < 0)
		skip();
	assert_int_equal(upper_xattr_names(fd, &names), 34);
	assert_memory_equal(names, "security.capability\0user.a\0user.b", 34);
	/* A root's own capability becomes one of the image's root; another root's stays. */
	assert_int_equal(upper_xattr(fd, "security.capability", 0x40000000, value), 20);
	assert_int_equal(value[3], 2);
	assert_int_equal(upper_xattr(fd, "security.capability", 0x40010000, value), 24);
	assert_int_equal(upper_xattr(fd, "user.none", 0, value), -ENODATA);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_layers_are_seen_as_overlayfs_does, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_whiteouts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_opaque_folders, setup, teardown),
		cmocka_unit_test_setup_teardown(test_places_to_mount_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links_are_not_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ids_in_attributes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
