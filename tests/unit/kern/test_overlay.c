#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/overlay.h"

enum { DISK_UID = 0x70000000, SEEN_UID = 0x40000000, LAYERS = 500 };

typedef int (*overlay_fn)(const struct overlay_config *config, int *ret_fd, struct error *err);

static void make_layers(int base, size_t count, char ***ret)
{
	for (size_t i = 0; i < count; i++) {
		AUTO(free) char *name = mem_printf("%064zu", count - 1 - i);
		AUTO(free) char *file = mem_printf("%s/f%zu", name, i);

		assert_int_equal(mkdirat(base, name, 0755), 0);
		assert_int_equal(fchownat(base, name, DISK_UID, DISK_UID, 0), 0);
		AUTO(fd_close) int fd = openat(base, file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		assert_true(fd >= 0);
		assert_int_equal(fchown(fd, DISK_UID + 1, DISK_UID + 1), 0);
		strv_append(ret, name);
	}
}

static void stack(overlay_fn mount, size_t count)
{
	const struct idmap_range range = { DISK_UID, SEEN_UID, 65536 };
	char dir[] = "/var/tmp/brume-overlay-XXXXXX";
	AUTO(fd_close) int base = -1, userns = -1, root = -1, file = -1;
	AUTO(strv_free) char **names = NULL;
	struct error err = {};
	struct stat st;

	if (geteuid() != 0) {
		print_message("needs root: skipped\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	AUTO(free) char *layers = mem_printf("%s/layers", dir);
	AUTO(free) char *upper = mem_printf("%s/upper", dir);
	AUTO(free) char *work = mem_printf("%s/work", dir);
	assert_int_equal(mkdir(layers, 0711) | mkdir(upper, 0755) | mkdir(work, 0700), 0);
	base = open(layers, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_layers(base, count, &names);
	assert_int_equal(idmap_userns_new(&range, 1, &userns), 0);

	const struct overlay_config config = {
		.base_fd = base,
		.base_userns_fd = userns,
		.lower = (const char *const *) names,
		.lower_count = count,
		.upper = upper,
		.work = work,
	};
	if (mount(&config, &root, &err) < 0)
		fail_msg("%s", err.msg);
	for (size_t i = 0; i < count; i += count / 3 + 1) {
		AUTO(free) char *name = mem_printf("f%zu", i);

		assert_int_equal(fstatat(root, name, &st, 0), 0);
		assert_int_equal(st.st_uid, SEEN_UID + 1);
	}
	file = openat(root, "f0", O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(file, "x", 1), 1);
	AUTO(free) char *copied = mem_printf("%s/f0", upper);
	assert_int_equal(stat(copied, &st), 0);
	assert_int_equal(st.st_uid, SEEN_UID + 1);
	fd_close(TAKE_FD(file));
	fd_close(TAKE_FD(root));
	assert_int_equal(file_remove_tree(AT_FDCWD, dir), 0);
}

static void stacks_by_fsconfig(void **state)
{
	(void) state;
	stack(overlay_mount, 1);
	stack(overlay_mount, LAYERS);
}

static void stacks_the_classic_way(void **state)
{
	(void) state;
	stack(overlay_mount_classic, 1);
	stack(overlay_mount_classic, LAYERS);
}

static void refuses_what_cannot_be_stacked(void **state)
{
	const struct overlay_config none = { .base_fd = -1 };
	const struct overlay_config many = { .base_fd = -1, .lower_count = OVERLAY_LOWER_MAX + 1 };
	struct error err = {};
	int fd = -1;

	(void) state;
	assert_int_equal(overlay_mount(&many, &fd, &err), -E2BIG);
	assert_non_null(strstr(err.msg, "at most 500"));
	assert_int_equal(overlay_mount_classic(&none, &fd, &err), -EINVAL);
	assert_int_equal(fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stacks_by_fsconfig),
		cmocka_unit_test(stacks_the_classic_way),
		cmocka_unit_test(refuses_what_cannot_be_stacked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
