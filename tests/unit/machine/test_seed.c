#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "machine/seed.h"

enum { TEXT_MAX = 300 * 1024, LABEL_AT = 16 * 2048 + 40 };

/* The text of a file in the image; NULL when there is none. */
static char *file_of(int fd, const char *name)
{
	struct archive *archive = archive_read_new();
	struct archive_entry *entry;
	char *text = NULL;

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	archive_read_support_format_iso9660(archive);
	assert_int_equal(archive_read_open_fd(archive, fd, 2048), ARCHIVE_OK);
	while (!text && archive_read_next_header(archive, &entry) == ARCHIVE_OK) {
		if (strcmp(archive_entry_pathname(entry), name) != 0)
			continue;
		text = mem_zalloc(TEXT_MAX);
		assert_true(archive_read_data(archive, text, TEXT_MAX - 1) >= 0);
	}
	archive_read_free(archive);
	return text;
}

static void is_a_disk_for_cloud_init(void **state)
{
	char *keys[] = { "ssh-ed25519 AAAA you@here", NULL };
	char *addresses[] = { "10.90.0.2/24", "fd00::2/64", NULL };
	char *gateways[] = { "10.90.0.1", "fd00::1", NULL };
	char *nameservers[] = { "10.90.0.1", NULL };
	const struct seed seed = {
		.instance_id = "0123",
		.hostname = "web: {evil}",
		.ssh_keys = keys,
		.user_data = "#!/bin/sh\ntouch /done\n",
		.nics = { { { 2, 0, 0, 0, 0, 9 }, addresses, gateways, 1450 } },
		.nic_count = 1,
		.nameservers = nameservers,
	};
	AUTO(fd_close) int fd = seed_make(&seed, NULL);
	char label[7] = "";

	(void) state;
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(pread(fd, label, 6, LABEL_AT), 6);
	assert_true(strcasecmp(label, "cidata") == 0);
	AUTO(free) char *user = file_of(fd, "user-data");
	AUTO(free) char *meta = file_of(fd, "meta-data");
	AUTO(free) char *network = file_of(fd, "network-config");
	assert_string_equal(user, "#!/bin/sh\ntouch /done\n");
	assert_string_equal(meta, "{\"instance-id\":\"0123\",\"local-hostname\":\"web: {evil}\","
				  "\"public-keys\":[\"ssh-ed25519 AAAA you@here\"]}");
	assert_string_equal(
		network,
		"{\"ethernets\":{\"eth0\":{\"addresses\":[\"10.90.0.2/24\",\"fd00::2/64\"],"
		"\"gateway6\":\"fd00::1\",\"match\":{\"macaddress\":\"02:00:00:00:00:09\"},\"mtu\":"
		"1450,\"nameservers\":"
		"{\"addresses\":[\"10.90.0.1\"],\"search\":[]},\"routes\":[{\"to\":\"0.0.0.0/0\","
		"\"via\":\"10.90.0.1\"}],\"set-name\":\"eth0\"}},\"version\":2}");
}

static void the_least(void **state)
{
	const struct seed seed = { .instance_id = "1", .hostname = "h" };
	AUTO(fd_close) int fd = seed_make(&seed, NULL);

	(void) state;
	assert_true(fd >= 0);
	AUTO(free) char *user = file_of(fd, "user-data");
	AUTO(free) char *network = file_of(fd, "network-config");
	assert_string_equal(user, "#cloud-config\n{}\n");
	assert_null(network);
}

static void refuses_what_does_not_fit(void **state)
{
	AUTO(free) char *huge = mem_zalloc(SEED_USER_DATA_MAX + 2);
	struct seed seed = { .instance_id = "1", .hostname = "h", .user_data = huge };
	struct error err = {};

	(void) state;
	memset(huge, 'x', SEED_USER_DATA_MAX);
	AUTO(fd_close) int fd = seed_make(&seed, &err);
	assert_true(fd >= 0);
	huge[SEED_USER_DATA_MAX] = 'x';
	assert_int_equal(seed_make(&seed, &err), -E2BIG);
	seed.user_data = NULL;
	seed.hostname = "\xff";
	assert_int_equal(seed_make(&seed, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_a_disk_for_cloud_init),
		cmocka_unit_test(the_least),
		cmocka_unit_test(refuses_what_does_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
