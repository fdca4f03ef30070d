#include "machine/seed.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"

enum { IMAGE_BYTES_MAX = 1 << 20, FILE_MODE = 0444 };

static void archive_release(struct archive *archive)
{
	archive_write_free(archive);
}
DEFINE_AUTO(struct archive *, archive_release)

static void entry_release(struct archive_entry *entry)
{
	archive_entry_free(entry);
}
DEFINE_AUTO(struct archive_entry *, entry_release)

static json_t *strings(char *const *strv)
{
	json_t *array = json_array();

	for (; strv && *strv; strv++)
		json_array_append_new(array, json_string(*strv));
	return array;
}

static json_t *meta_data(const struct seed *seed)
{
	return json_pack("{s:s, s:s, s:o}", "instance-id", seed->instance_id, "local-hostname",
			 seed->hostname, "public-keys", strings(seed->ssh_keys));
}

/*
 * Named in both ways: cloud-init's writers for networkd and ifcfg find the port by its name only.
 * IPv6's way out stands as gateway6, because as a route to ::/0 it becomes ::/64 in
 * cloud-init 22.4.
 */
static json_t *nic(const struct seed *seed, const struct seed_nic *from, const char *name)
{
	const char *gateway6 = NULL;
	const uint8_t *mac = from->mac;
	json_t *routes = json_array();
	char text[18];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	for (char *const *gateway = from->gateways; gateway && *gateway; gateway++) {
		if (strchr(*gateway, ':'))
			gateway6 = *gateway;
		else
			json_array_append_new(routes, json_pack("{s:s, s:s}", "to", "0.0.0.0/0",
								"via", *gateway));
	}
	json_t *object = json_pack("{s:{s:s}, s:s, s:o, s:o, s:{s:o, s:o}}", "match", "macaddress",
				   text, "set-name", name, "addresses", strings(from->addresses),
				   "routes", routes, "nameservers", "addresses",
				   strings(seed->nameservers), "search", strings(seed->search));
	json_put_string(object, "gateway6", gateway6);
	if (from->mtu > 0)
		json_object_set_new(object, "mtu", json_integer(from->mtu));
	return object;
}

static json_t *network_config(const struct seed *seed)
{
	json_t *nics = json_object();

	for (unsigned int i = 0; i < seed->nic_count; i++) {
		const char *given = seed->nics[i].name;
		char name[16];

		snprintf(name, sizeof(name), "eth%u", i);
		json_object_set_new(nics, given ? given : name,
				    nic(seed, &seed->nics[i], given ? given : name));
	}
	return json_pack("{s:i, s:o}", "version", 2, "ethernets", nics);
}

static int add_file(struct archive *archive, const char *name, const char *text, struct error *err)
{
	AUTO(entry_release) struct archive_entry *entry = archive_entry_new();
	size_t size = strlen(text);

	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, FILE_MODE);
	archive_entry_set_size(entry, (la_int64_t) size);
	if (archive_write_header(archive, entry) != ARCHIVE_OK ||
	    (size > 0 && archive_write_data(archive, text, size) != (la_ssize_t) size))
		return error_say(err, -EIO, "seed disk: %s: %s", name,
				 archive_error_string(archive));
	return 0;
}

/* Steals `value`. */
static int add_json(struct archive *archive, const char *name, json_t *value, struct error *err)
{
	AUTO(json_decref) json_t *owned = value;
	AUTO(free) char *text = owned ? json_text(owned) : NULL;

	if (!text)
		return error_say(err, -EINVAL, "seed disk: %s is not UTF-8", name);
	return add_file(archive, name, text, err);
}

static int write_image(const struct seed *seed, void *buffer, size_t *ret_size, struct error *err)
{
	AUTO(archive_release) struct archive *archive = archive_write_new();
	int r;

	if (!archive || archive_write_set_format_iso9660(archive) != ARCHIVE_OK ||
	    archive_write_set_options(archive, "volume-id=cidata") != ARCHIVE_OK ||
	    archive_write_open_memory(archive, buffer, IMAGE_BYTES_MAX, ret_size) != ARCHIVE_OK)
		return error_say(err, -EIO, "seed disk: %s",
				 archive ? archive_error_string(archive) : "no memory");
	r = add_file(archive, "user-data",
		     seed->user_data && seed->user_data[0] ? seed->user_data
							   : "#cloud-config\n{}\n",
		     err);
	if (r == 0)
		r = add_json(archive, "meta-data", meta_data(seed), err);
	if (r == 0 && seed->nic_count > 0)
		r = add_json(archive, "network-config", network_config(seed), err);
	if (r == 0 && archive_write_close(archive) != ARCHIVE_OK)
		r = error_say(err, -EIO, "seed disk: %s", archive_error_string(archive));
	return r;
}

int seed_make(const struct seed *seed, struct error *err)
{
	AUTO(free) char *buffer = mem_zalloc(IMAGE_BYTES_MAX);
	size_t size = 0;
	char path[32];
	int r;

	if (seed->user_data && strlen(seed->user_data) > SEED_USER_DATA_MAX)
		return error_say(err, -E2BIG, "user data: at most %d KiB",
				 SEED_USER_DATA_MAX / 1024);
	r = write_image(seed, buffer, &size, err);
	if (r < 0)
		return r;
	AUTO(fd_close) int fd = memfd_create("seed", MFD_CLOEXEC);
	if (fd < 0)
		return error_set(err, -errno, "seed disk");
	r = file_write_all(fd, buffer, size);
	if (r < 0)
		return error_set(err, r, "seed disk");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int read_fd = open(path, O_RDONLY | O_CLOEXEC);
	return read_fd < 0 ? error_set(err, -errno, "seed disk") : read_fd;
}
