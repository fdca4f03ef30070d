#include "codec/guest_config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "codec/oci_spec_internal.h"

enum {
	VERSION = 1,
	TMPFS_MODE = 01777,
	HOSTNAME_MAX = 64,
	SERIAL_MAX = 20,
	MTU_MAX = 65535,
	INTERFACE_MAX = 15,
};

/* -- encoding --------------------------------------------------------------------------------- */

static json_t *texts(const char *const *list, size_t count)
{
	AUTO(json_decref) json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		if (json_array_append_new(array, json_string(list[i])) < 0)
			return NULL;
	return TAKE_PTR(array);
}

static json_t *encode_nic(const struct guest_nic *nic)
{
	char mac[18];

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", nic->mac[0], nic->mac[1],
		 nic->mac[2], nic->mac[3], nic->mac[4], nic->mac[5]);
	return json_pack("{s:s, s:s*, s:o, s:o, s:I}", "mac", mac, "name", nic->name, "addresses",
			 texts(nic->addresses, nic->address_count), "gateways",
			 texts(nic->gateways, nic->gateway_count), "mtu", (json_int_t) nic->mtu);
}

int guest_nics_encode(const struct guest_nic *nics, size_t count, json_t **ret, struct error *err)
{
	AUTO(json_decref) json_t *network = json_array();

	for (size_t i = 0; i < count; i++)
		if (json_array_append_new(network, encode_nic(&nics[i])) < 0)
			return error_say(err, -EINVAL,
					 "an interface has a text that is not valid UTF-8");
	*ret = TAKE_PTR(network);
	return 0;
}

static json_t *encode_tmpfs(const struct guest_tmpfs *tmpfs)
{
	return json_pack("{s:s, s:I, s:I, s:s*}", "target", tmpfs->target, "size_bytes",
			 (json_int_t) tmpfs->size_bytes, "mode", (json_int_t) tmpfs->mode,
			 "options", tmpfs->options);
}

int guest_config_encode(const struct guest_config *config, json_t **ret, struct error *err)
{
	json_t *network = json_array(), *tmpfs = json_array(), *sysctls = json_object();
	json_t *object;
	bool complete = true;

	for (size_t i = 0; i < config->nic_count; i++)
		json_array_append_new(network, encode_nic(&config->nics[i]));
	for (size_t i = 0; i < config->tmpfs_count; i++)
		complete = json_array_append_new(tmpfs, encode_tmpfs(&config->tmpfs[i])) == 0 &&
			   complete;
	for (size_t i = 0; i < config->sysctl_count; i++)
		complete = json_object_set_new(sysctls, config->sysctls[i].name,
					       json_string(config->sysctls[i].value)) == 0 &&
			   complete;
	object = json_pack("{s:i, s:s, s:O, s:s*, s:b, s:s*, s:{s:s, s:s*, s:b}, s:o, s:o, s:o, "
			   "s:s*, s:o, s:o, s:b, s:I, s:I}",
			   "version", VERSION, "hostname", config->hostname, "process",
			   config->process_object, "user", config->user, "input", config->input,
			   "stop_signal", config->stop_signal, "root", "lower", config->lower,
			   "upper", config->upper, "read_only", config->read_only, "network",
			   network, "nameservers",
			   texts(config->nameservers, config->nameserver_count), "search",
			   texts(config->search, config->search_count), "hosts", config->hosts,
			   "tmpfs", tmpfs, "sysctls", sysctls, "reap", config->reap, "pids_max",
			   (json_int_t) config->pids_max, "time_ms", (json_int_t) config->time_ms);
	if (!object || !complete) {
		json_decref(object);
		return error_say(err, -EINVAL,
				 "what the guest is told has a text that is not valid UTF-8");
	}
	*ret = object;
	return 0;
}

/* -- decoding --------------------------------------------------------------------------------- */

static void read_list(struct guest_config *config, struct json_reader *in, const json_t *object,
		      const char *name, size_t max, const char **ret, size_t *ret_count)
{
	oci_strings list = NULL;
	size_t count = 0;

	oci_read_texts(config->owner, in, object, name, &list);
	while (in->result == 0 && list && list[count]) {
		if (count == max || !list[count][0]) {
			oci_fail(in, name, "must have at most %zu entries, none of them empty",
				 max);
			return;
		}
		ret[count] = list[count];
		count++;
	}
	*ret_count = count;
}

/* By hand: sscanf() weighs 80 KB in brume-init. */
static bool parse_mac(const char *text, uint8_t *ret)
{
	if (strlen(text) != 3 * GUEST_MAC_SIZE - 1)
		return false;
	for (size_t i = 0; i < GUEST_MAC_SIZE; i++) {
		const char *byte = text + 3 * i;

		if (!isxdigit((unsigned char) byte[0]) || !isxdigit((unsigned char) byte[1]) ||
		    (byte[2] != ':' && byte[2] != '\0'))
			return false;
		ret[i] = (uint8_t) strtoul(byte, NULL, 16);
	}
	return true;
}

static void read_mac(struct json_reader *in, const json_t *object, uint8_t *ret)
{
	const char *text = NULL;

	oci_read_text(in, object, "mac", &text);
	if (in->result == 0 && (!text || !parse_mac(text, ret)))
		oci_fail(in, "mac", "must be an address like 02:00:00:00:00:01");
}

static bool is_interface(const char *name)
{
	size_t size = strlen(name);

	return size > 0 && size <= INTERFACE_MAX && name[0] != '.' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-") == size;
}

static void decode_nic(struct guest_config *config, struct json_reader *in, const json_t *object,
		       void *ret)
{
	struct guest_nic *nic = ret;

	read_mac(in, object, nic->mac);
	oci_read_text(in, object, "name", &nic->name);
	if (in->result == 0 && nic->name && !is_interface(nic->name))
		oci_fail(in, "name", "must be an interface's name of at most %d characters",
			 INTERFACE_MAX);
	read_list(config, in, object, "addresses", GUEST_ADDRESSES_MAX, nic->addresses,
		  &nic->address_count);
	read_list(config, in, object, "gateways", GUEST_ADDRESSES_MAX, nic->gateways,
		  &nic->gateway_count);
	json_read_uint32(in, object, "mtu", MTU_MAX, &nic->mtu);
}

static void decode_tmpfs(struct guest_config *config, struct json_reader *in, const json_t *object,
			 void *ret)
{
	struct guest_tmpfs *tmpfs = ret;

	(void) config;
	tmpfs->mode = TMPFS_MODE;
	oci_read_text(in, object, "target", &tmpfs->target);
	json_read_uint64(in, object, "size_bytes", &tmpfs->size_bytes);
	json_read_uint32(in, object, "mode", 07777, &tmpfs->mode);
	oci_read_text(in, object, "options", &tmpfs->options);
	if (in->result == 0 && (!tmpfs->target || tmpfs->target[0] != '/'))
		oci_fail(in, "target", "must be an absolute path");
}

/* A list of objects into an array with room for `max` of `size` bytes each. */
static void read_objects(struct guest_config *config, struct json_reader *outer,
			 const json_t *object, const char *name, size_t max, size_t size,
			 void (*decode)(struct guest_config *config, struct json_reader *in,
					const json_t *object, void *ret),
			 void *ret, size_t *ret_count)
{
	json_t *array = NULL, *item;
	size_t i;

	json_read_array(outer, object, name, &array);
	if (outer->result < 0 || !array)
		return;
	if (json_array_size(array) > max) {
		oci_fail(outer, name, "has %zu entries, at most %zu are possible",
			 json_array_size(array), max);
		return;
	}
	json_array_foreach(array, i, item)
	{
		char where[64];
		struct json_reader in = { .err = outer->err, .where = where };

		snprintf(where, sizeof(where), "%s[%zu]", name, i);
		decode(config, &in, item, (char *) ret + i * size);
		if (json_reader_finish(&in, item) < 0) {
			outer->result = in.result < 0 ? in.result : -EINVAL;
			return;
		}
	}
	*ret_count = json_array_size(array);
}

static int decode_root(struct guest_config *config, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "root" };

	oci_read_text(&in, object, "lower", &config->lower);
	oci_read_text(&in, object, "upper", &config->upper);
	json_read_bool(&in, object, "read_only", &config->read_only);
	if (in.result == 0 &&
	    (!config->lower || !config->lower[0] || strlen(config->lower) > SERIAL_MAX))
		oci_fail(&in, "lower", "must be the serial number of a disk");
	if (in.result == 0 && config->upper && strlen(config->upper) > SERIAL_MAX)
		oci_fail(&in, "upper", "must be the serial number of a disk");
	return json_reader_finish(&in, object);
}

static int decode_members(struct guest_config *config, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "" };
	json_t *process = NULL, *root = NULL;
	int64_t version = 0;
	int r;

	json_read_int(&in, object, "version", 0, INT32_MAX, &version);
	if (in.result == 0 && version != VERSION)
		oci_fail(&in, "version", "is %lld; known is %d", (long long) version, VERSION);
	oci_read_text(&in, object, "hostname", &config->hostname);
	json_read_object(&in, object, "process", &process);
	json_read_object(&in, object, "root", &root);
	oci_read_text(&in, object, "user", &config->user);
	json_read_bool(&in, object, "input", &config->input);
	oci_read_text(&in, object, "stop_signal", &config->stop_signal);
	read_objects(config, &in, object, "network", GUEST_NICS_MAX, sizeof(config->nics[0]),
		     decode_nic, config->nics, &config->nic_count);
	read_list(config, &in, object, "nameservers", GUEST_NAMES_MAX, config->nameservers,
		  &config->nameserver_count);
	read_list(config, &in, object, "search", GUEST_NAMES_MAX, config->search,
		  &config->search_count);
	oci_read_text(&in, object, "hosts", &config->hosts);
	read_objects(config, &in, object, "tmpfs", GUEST_TMPFS_MAX, sizeof(config->tmpfs[0]),
		     decode_tmpfs, config->tmpfs, &config->tmpfs_count);
	oci_read_pairs(config->owner, &in, object, "sysctls", &config->sysctls,
		       &config->sysctl_count);
	json_read_bool(&in, object, "reap", &config->reap);
	json_read_uint64(&in, object, "pids_max", &config->pids_max);
	json_read_int(&in, object, "time_ms", 0, INT64_MAX, &config->time_ms);
	if (in.result == 0 &&
	    (!config->hostname || !config->hostname[0] || strlen(config->hostname) > HOSTNAME_MAX))
		oci_fail(&in, "hostname", "must have 1 to %d characters", HOSTNAME_MAX);
	if (in.result == 0 && !process)
		oci_fail(&in, "process", "is missing");
	if (in.result == 0 && !root)
		oci_fail(&in, "root", "is missing");
	r = json_reader_finish(&in, object);
	if (r == 0)
		r = decode_root(config, root, err);
	if (r == 0)
		r = oci_decode_process(config->owner, process, "process", err);
	config->process_object = process;
	config->process = config->owner->process;
	return r;
}

int guest_config_decode(const char *text, size_t size, struct guest_config *ret, struct error *err)
{
	AUTO(guest_config_done) struct guest_config config = {};
	int r;

	if (size > GUEST_CONFIG_MAX)
		return error_say(err, -EFBIG, "guest.json has %zu bytes, at most %d are allowed",
				 size, GUEST_CONFIG_MAX);
	config.owner = mem_new0(struct oci_spec);
	r = oci_parse(text, size, &config.owner->document, err);
	if (r == 0)
		r = decode_members(&config, config.owner->document, err);
	if (r < 0)
		return error_wrap(err, r, "guest.json");
	*ret = config;
	config = (struct guest_config){};
	return 0;
}

int guest_nics_decode(const json_t *array, struct guest_config *ret, struct error *err)
{
	AUTO(guest_config_done) struct guest_config config = {};
	struct json_reader in = { .err = err, .where = "" };

	if (!json_is_array(array))
		return error_say(err, -EINVAL, "network: must be a list of interfaces");
	config.owner = mem_new0(struct oci_spec);
	config.owner->document = json_pack("{s:O}", "network", array);
	read_objects(&config, &in, config.owner->document, "network", GUEST_NICS_MAX,
		     sizeof(config.nics[0]), decode_nic, config.nics, &config.nic_count);
	if (in.result < 0)
		return in.result;
	*ret = config;
	config = (struct guest_config){};
	return 0;
}

void guest_config_done(struct guest_config *config)
{
	oci_spec_free(config->owner);
	*config = (struct guest_config){};
}
