#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "client/tar.h"
#include "client/untar.h"
#include "codec/tar.h"

/* Two folders: `from` and `to`. */
struct world {
	char *folder;
	int fd, from_fd, to_fd;
};

static int setup(void **state)
{
	struct world *world = mem_new0(struct world);

	world->folder = mem_strdup("/tmp/brume-untar-XXXXXX");
	assert_non_null(mkdtemp(world->folder));
	world->fd = open(world->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	mkdirat(world->fd, "from", 0755);
	mkdirat(world->fd, "to", 0755);
	world->from_fd = openat(world->fd, "from", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	world->to_fd = openat(world->fd, "to", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	close(world->from_fd);
	close(world->to_fd);
	close(world->fd);
	file_remove_tree(AT_FDCWD, world->folder);
	free(world->folder);
	free(world);
	return 0;
}

static void put(int dir_fd, const char *name, const char *text, mode_t mode)
{
	assert_int_equal(file_write_atomic(dir_fd, name, text, strlen(text), mode, 0), 0);
}

static void check(int dir_fd, const char *name, const char *text)
{
	AUTO(free) char *found = NULL;

	assert_int_equal(file_read(dir_fd, name, 1 << 20, &found, NULL), 0);
	assert_string_equal(found, text);
}

/* Feeds the bytes in pieces of this size. */
static int unpack(const struct world *world, const char *name, const struct strbuf *tar,
		  size_t step, struct error *err)
{
	const struct untar_options options = { .dir_fd = world->to_fd, .name = name };
	AUTO(untar_free) struct untar *untar = untar_new(&options);
	int r = 0;

	for (size_t at = 0; r == 0 && at < tar->size; at += step)
		r = untar_feed(untar, tar->data + at, tar->size - at < step ? tar->size - at : step,
			       err);
	return r < 0 ? r : untar_end(untar, err);
}

static void pack(const char *path, const char *name, struct strbuf *out)
{
	AUTO(tar_free) struct tar *tar = NULL;
	struct error err = {};
	ssize_t n;

	assert_int_equal(tar_new_tree(path, name, false, &tar, &err), 0);
	while ((n = tar_read(tar, strbuf_reserve(out, 1000), 1000, &err)) > 0)
		strbuf_grown(out, (size_t) n);
	assert_int_equal(n, 0);
}

/* Everything that a tree may have survives the way through a tar. */
static void test_round_trip(void **state)
{
	const struct timespec times[] = { { 5, 0 }, { 1000000000, 123456789 } };
	struct world *world = *state;
	AUTO(strbuf_done) struct strbuf tar = {};
	AUTO(free) char *from = mem_printf("%s/from", world->folder);
	AUTO(free) char *big = mem_zalloc(300001);
	char target[64] = "", long_name[180];
	struct stat a, b;

	memset(long_name, 'n', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	memset(big, 'b', 300000);
	put(world->from_fd, "file", "text", 0640);
	put(world->from_fd, "empty", "", 0600);
	put(world->from_fd, "big", big, 0644);
	put(world->from_fd, long_name, "long", 0644);
	mkdirat(world->from_fd, "sub", 0750);
	put(world->from_fd, "sub/setuid", "s", 0755);
	assert_int_equal(fchmodat(world->from_fd, "sub/setuid", 04755, 0), 0);
	assert_int_equal(symlinkat("../nowhere", world->from_fd, "sub/link"), 0);
	assert_int_equal(symlinkat(long_name, world->from_fd, "sub/longlink"), 0);
	assert_int_equal(linkat(world->from_fd, "file", world->from_fd, "hard", 0), 0);
	mkfifoat(world->from_fd, "pipe", 0600);
	utimensat(world->from_fd, "file", times, 0);
	utimensat(world->from_fd, "sub", times, 0);

	for (size_t step = 1; step < 100000; step = step * 7 + 1) {
		AUTO(free) char *name = mem_printf("copy%zu", step);
		AUTO(fd_close) int fd = -1;
		struct error err = {};

		tar.size = 0;
		pack(from, "from", &tar);
		assert_int_equal(unpack(world, name, &tar, step, &err), 0);
		fd = openat(world->to_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		check(fd, "file", "text");
		check(fd, "empty", "");
		check(fd, "big", big);
		check(fd, long_name, "long");
		assert_int_equal(fstatat(fd, "file", &a, 0), 0);
		assert_int_equal(fstatat(fd, "hard", &b, 0), 0);
		assert_int_equal(a.st_ino, b.st_ino);
		assert_int_equal(a.st_mode & 07777, 0640);
		assert_int_equal(a.st_mtim.tv_sec, 1000000000);
		assert_int_equal(a.st_mtim.tv_nsec, 123456789);
		assert_int_equal(fstatat(fd, "sub", &a, 0), 0);
		assert_int_equal(a.st_mode & 07777, 0750);
		assert_int_equal(a.st_mtim.tv_sec, 1000000000);
		assert_int_equal(fstatat(fd, "sub/setuid", &a, 0), 0);
		assert_int_equal(a.st_mode & 07777, 0755);
		assert_int_equal(fstatat(fd, "pipe", &a, 0), 0);
		assert_true(S_ISFIFO(a.st_mode));
		assert_true(readlinkat(fd, "sub/link", target, sizeof(target)) > 0);
		assert_string_equal(target, "../nowhere");
		assert_int_equal(readlinkat(fd, "sub/longlink", big, 1000), 179);
		memset(big, 'b', 1000);
	}
}

/* Without a name the contents go into the folder itself. */
static void test_contents_only(void **state)
{
	struct world *world = *state;
	AUTO(strbuf_done) struct strbuf tar = {};
	AUTO(free) char *from = mem_printf("%s/from", world->folder);
	struct error err = {};

	put(world->from_fd, "file", "text", 0644);
	fchmod(world->to_fd, 0701);
	pack(from, ".", &tar);
	assert_int_equal(unpack(world, NULL, &tar, 512, &err), 0);
	check(world->to_fd, "file", "text");
	struct stat st;
	fstat(world->to_fd, &st);
	assert_int_equal(st.st_mode & 0777, 0701);
}

/* One entry of a hostile tar. */
static void add(struct strbuf *tar, const char *name, char type, const char *link, const char *data)
{
	char *block = strbuf_reserve(tar, TAR_BLOCK_SIZE);
	unsigned int sum = 0;

	memset(block, 0, TAR_BLOCK_SIZE);
	strcpy(block, name);
	strcpy(block + 100, "0000644");
	snprintf(block + 124, 12, "%011o", (unsigned int) strlen(data));
	block[156] = type;
	strcpy(block + 157, link);
	memcpy(block + 257, "ustar\00000", 8);
	memset(block + 148, ' ', 8);
	for (int i = 0; i < TAR_BLOCK_SIZE; i++)
		sum += (unsigned char) block[i];
	snprintf(block + 148, 8, "%06o", sum);
	strbuf_grown(tar, TAR_BLOCK_SIZE);
	if (!data[0])
		return;
	block = strbuf_reserve(tar, TAR_BLOCK_SIZE);
	memset(block, 0, TAR_BLOCK_SIZE);
	strcpy(block, data);
	strbuf_grown(tar, TAR_BLOCK_SIZE);
}

static void add_end(struct strbuf *tar)
{
	memset(strbuf_reserve(tar, 1024), 0, 1024);
	strbuf_grown(tar, 1024);
}

static void refused(struct world *world, struct strbuf *tar)
{
	struct error err = {};

	add_end(tar);
	assert_true(unpack(world, "copy", tar, 512, &err) < 0);
	assert_true(err.msg[0]);
	check(world->from_fd, "victim", "safe");
	assert_int_equal(faccessat(world->from_fd, "new", F_OK, 0), -1);
	tar->size = 0;
	file_remove_tree(world->to_fd, "copy");
}

static void test_nothing_leaves_the_folder(void **state)
{
	struct world *world = *state;
	AUTO(free) char *from = mem_printf("%s/from", world->folder);
	AUTO(strbuf_done) struct strbuf tar = {};

	put(world->from_fd, "victim", "safe", 0644);
	add(&tar, "a/../../../from/new", TAR_FILE, "", "x");
	refused(world, &tar);
	/* Through a link that the tar brings itself. */
	add(&tar, "a", TAR_FOLDER, "", "");
	add(&tar, "a/way", TAR_SYMLINK, from, "");
	add(&tar, "a/way/victim", TAR_FILE, "", "x");
	refused(world, &tar);
	add(&tar, "a", TAR_FOLDER, "", "");
	add(&tar, "a/way", TAR_SYMLINK, from, "");
	add(&tar, "a/way", TAR_FOLDER, "", "");
	refused(world, &tar);
	/* A folder is exchanged for a link while it is known as a parent. */
	add(&tar, "a/b", TAR_FILE, "", "x");
	add(&tar, "a/b", TAR_SYMLINK, from, "");
	add(&tar, "a/b/new", TAR_FILE, "", "x");
	refused(world, &tar);
	add(&tar, "a/way", TAR_SYMLINK, from, "");
	add(&tar, "a/hard", TAR_HARDLINK, "a/way/victim", "");
	refused(world, &tar);
	add(&tar, "a/hard", TAR_HARDLINK, "../../from/victim", "");
	refused(world, &tar);
	/* The first component is ours, whatever it is called. */
	assert_int_equal(symlinkat(from, world->to_fd, "copy"), 0);
	add(&tar, "a/new", TAR_FILE, "", "x");
	refused(world, &tar);
}

static void test_a_file_is_not_written_through_a_link(void **state)
{
	struct world *world = *state;
	AUTO(free) char *victim = mem_printf("%s/from/victim", world->folder);
	AUTO(strbuf_done) struct strbuf tar = {};
	struct error err = {};

	put(world->from_fd, "victim", "safe", 0644);
	assert_int_equal(symlinkat(victim, world->to_fd, "copy"), 0);
	add(&tar, "a", TAR_FILE, "", "new");
	add_end(&tar);
	assert_int_equal(unpack(world, "copy", &tar, 100, &err), 0);
	check(world->to_fd, "copy", "new");
	check(world->from_fd, "victim", "safe");
}

static void test_devices_are_left_out(void **state)
{
	struct world *world = *state;
	const struct untar_options options = { .dir_fd = world->to_fd, .name = "copy" };
	AUTO(untar_free) struct untar *untar = untar_new(&options);
	AUTO(strbuf_done) struct strbuf tar = {};
	struct error err = {};

	add(&tar, "a/disk", TAR_BLOCK_DEVICE, "", "");
	add(&tar, "a/null", TAR_CHAR, "", "");
	add(&tar, "a/file", TAR_FILE, "", "x");
	add_end(&tar);
	assert_int_equal(untar_feed(untar, tar.data, tar.size, &err), 0);
	assert_int_equal(untar_end(untar, &err), 0);
	assert_int_equal(untar_skipped(untar), 2);
	check(world->to_fd, "copy/file", "x");
	assert_int_equal(faccessat(world->to_fd, "copy/disk", F_OK, 0), -1);
}

static void test_a_cut_tar_is_an_error(void **state)
{
	struct world *world = *state;
	AUTO(strbuf_done) struct strbuf tar = {};
	AUTO(free) char *from = mem_printf("%s/from", world->folder);
	struct error err = {};

	put(world->from_fd, "file", "text", 0644);
	pack(from, "from", &tar);
	for (size_t size = 0; size < tar.size - 1024; size += 100) {
		struct strbuf part = { tar.data, size, size };

		assert_int_equal(unpack(world, "copy", &part, 333, &err), -EBADMSG);
	}
	assert_int_equal(unpack(world, "copy", &tar, 333, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_contents_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_leaves_the_folder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_file_is_not_written_through_a_link, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_devices_are_left_out, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_cut_tar_is_an_error, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
