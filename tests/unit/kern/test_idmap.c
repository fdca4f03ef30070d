#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/mem.h"
#include "kern/idmap.h"

enum { DISK_UID = 0x70000000, SEEN_UID = 0x40000000 };

static void needs_root(void)
{
	if (geteuid() != 0) {
		print_message("needs root: skipped\n");
		skip();
	}
}

static void maps_owners_and_nothing_else(void **state)
{
	const struct idmap_range range = { DISK_UID, SEEN_UID, 65536 };
	char dir[] = "/tmp/brume-idmap-XXXXXX";
	AUTO(fd_close) int userns = -1, folder = -1, mount_fd = -1;
	struct stat st;

	(void) state;
	needs_root();
	assert_non_null(mkdtemp(dir));
	/* Its owner has no id behind the mapping, and so no rights. */
	assert_int_equal(chmod(dir, 0711), 0);
	folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(folder, "d", 0755), 0);
	assert_int_equal(fchownat(folder, "d", DISK_UID + 5, DISK_UID + 6, 0), 0);
	assert_int_equal(idmap_userns_new(&range, 1, &userns), 0);
	assert_int_equal(idmap_clone_mount(folder, userns, true, &mount_fd), 0);
	assert_int_equal(fstatat(mount_fd, "d", &st, 0), 0);
	assert_int_equal(st.st_uid, SEEN_UID + 5);
	assert_int_equal(st.st_gid, SEEN_UID + 6);
	assert_true(mkdirat(mount_fd, "e", 0755) < 0);
	assert_int_equal(fstatat(folder, "d", &st, 0), 0);
	assert_int_equal(st.st_uid, DISK_UID + 5);
	assert_int_equal(file_remove_tree(AT_FDCWD, dir), 0);
}

static void refuses_bad_ranges(void **state)
{
	const struct idmap_range ranges[] = { { 0, 0, 10 }, { 5, 100, 10 } };
	int fd = -1;

	(void) state;
	needs_root();
	assert_true(idmap_userns_new(ranges, 2, &fd) < 0);
	assert_int_equal(fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maps_owners_and_nothing_else),
		cmocka_unit_test(refuses_bad_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
