#include "codec/oci_checkpoint.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"

enum { VERSION = 1, STDIO_COUNT = 3, STDIO_MAX = 100 };

static const char *const kinds[OCI_EXTERNAL_COUNT] = {
	[OCI_EXTERNAL_ROOT] = "root",
	[OCI_EXTERNAL_MOUNT] = "mount",
	[OCI_EXTERNAL_CGROUP] = "cgroup",
	[OCI_EXTERNAL_DEVICE] = "device",
};

void oci_checkpoint_add(struct oci_checkpoint *checkpoint, enum oci_external_kind kind,
			const char *of, const char *below)
{
	size_t count = checkpoint->external_count;
	struct oci_external *list = mem_new0_array(struct oci_external, count + 1);

	if (count)
		memcpy(list, checkpoint->externals, count * sizeof(*list));
	free(checkpoint->externals);
	checkpoint->externals = list;
	list[checkpoint->external_count++] =
		(struct oci_external){ kind, mem_strdup(of), mem_strdup(below) };
}

void oci_checkpoint_done(struct oci_checkpoint *checkpoint)
{
	for (size_t i = 0; i < checkpoint->external_count; i++) {
		free(checkpoint->externals[i].of);
		free(checkpoint->externals[i].below);
	}
	free(checkpoint->externals);
	strv_free(checkpoint->stdio);
	*checkpoint = (struct oci_checkpoint){};
}

char *oci_checkpoint_encode(const struct oci_checkpoint *checkpoint)
{
	AUTO(json_decref) json_t *object = json_object();
	json_t *list = json_array();

	for (size_t i = 0; i < checkpoint->external_count; i++) {
		const struct oci_external *one = &checkpoint->externals[i];
		json_t *item = json_object();

		json_put_string(item, "kind", kinds[one->kind]);
		json_put_string(item, "of", one->of);
		json_put_string(item, "below", one->below);
		json_array_append_new(list, item);
	}
	json_object_set_new(object, "version", json_integer(VERSION));
	json_object_set_new(object, "externals", list);
	json_put_strv(object, "stdio", checkpoint->stdio);
	return json_text(object);
}

/* Relative, and nowhere up. */
static bool path_good(const char *path)
{
	if (path[0] == '/' || strlen(path) >= PATH_MAX)
		return false;
	for (const char *at = path; *at; at += strspn(at, "/")) {
		size_t size = strcspn(at, "/");

		if (size == 2 && at[0] == '.' && at[1] == '.')
			return false;
		at += size;
	}
	return true;
}

static int check(const struct oci_external *one, struct error *err)
{
	char type;
	dev_t dev;

	if (!path_good(one->below))
		return error_say(err, -EINVAL, "below: \"%.64s\" is not a path inside", one->below);
	if (one->kind == OCI_EXTERNAL_DEVICE && oci_external_device(one->of, &type, &dev) < 0)
		return error_say(err, -EINVAL, "of: \"%.64s\" is not a device like c:1:3", one->of);
	if (one->kind != OCI_EXTERNAL_MOUNT && strchr(one->of, '/'))
		return error_say(err, -EINVAL, "of: \"%.64s\" must not have a / in it", one->of);
	return 0;
}

static int read_external(const json_t *item, struct oci_checkpoint *to, struct error *err)
{
	struct json_reader in = { .err = err, .where = "" };
	AUTO(free) char *kind = NULL;
	AUTO(free) char *of = NULL;
	AUTO(free) char *below = NULL;
	size_t number = 0;
	int r;

	if (!json_is_object(item))
		return error_say(err, -EINVAL, "is not an object");
	json_read_string(&in, item, "kind", &kind);
	json_read_string(&in, item, "of", &of);
	json_read_string(&in, item, "below", &below);
	r = json_reader_finish(&in, item);
	if (r < 0)
		return r;
	while (number < OCI_EXTERNAL_COUNT && (!kind || strcmp(kind, kinds[number]) != 0))
		number++;
	if (number == OCI_EXTERNAL_COUNT)
		return error_say(err, -EINVAL, "kind: \"%.64s\" is not known", kind ? kind : "");
	oci_checkpoint_add(to, (enum oci_external_kind) number, of ? of : "", below ? below : "");
	return check(&to->externals[to->external_count - 1], err);
}

static int check_stdio(char *const *stdio, struct error *err)
{
	size_t count = strv_count(stdio);

	if (count > STDIO_COUNT)
		return error_say(err, -EINVAL, "stdio: %zu names, at most three", count);
	for (size_t i = 0; i < count; i++)
		if (strlen(stdio[i]) > STDIO_MAX)
			return error_say(err, -EINVAL, "stdio: a name is too long");
	return 0;
}

int oci_checkpoint_decode(const char *text, size_t size, struct oci_checkpoint *ret,
			  struct error *err)
{
	AUTO(oci_checkpoint_done) struct oci_checkpoint checkpoint = {};
	AUTO(json_decref) json_t *object = NULL;
	struct json_reader in = { .err = err, .where = "" };
	json_t *list = NULL;
	int64_t version = 0;
	int r = json_parse(text, size, OCI_CHECKPOINT_MAX, &object, err);

	if (r < 0)
		return r;
	json_read_int(&in, object, "version", 0, INT32_MAX, &version);
	json_read_array(&in, object, "externals", &list);
	json_read_strv(&in, object, "stdio", &checkpoint.stdio);
	if (in.result == 0 && version != VERSION)
		return error_say(err, -EPROTONOSUPPORT, "version: %lld is not known, only %d",
				 (long long) version, VERSION);
	r = json_reader_finish(&in, object);
	if (r < 0)
		return r;
	if (json_array_size(list) > OCI_EXTERNALS_MAX)
		return error_say(err, -EFBIG, "externals: more than %d", OCI_EXTERNALS_MAX);
	for (size_t i = 0; i < json_array_size(list); i++) {
		r = read_external(json_array_get(list, i), &checkpoint, err);
		if (r < 0)
			return error_wrap(err, r, "externals[%zu]", i);
	}
	r = check_stdio(checkpoint.stdio, err);
	if (r < 0)
		return r;
	*ret = checkpoint;
	checkpoint = (struct oci_checkpoint){};
	return 0;
}

static int take_number(const char **at, unsigned int *ret)
{
	char *end;
	unsigned long value;

	if ((*at)[0] != ':' || (*at)[1] < '0' || (*at)[1] > '9')
		return -EINVAL;
	errno = 0;
	value = strtoul(*at + 1, &end, 10);
	if (errno || value > UINT32_MAX)
		return -EINVAL;
	*at = end;
	*ret = (unsigned int) value;
	return 0;
}

int oci_external_device(const char *of, char *ret_type, dev_t *ret)
{
	unsigned int major, minor;
	const char *at = of + 1;

	if ((of[0] != 'c' && of[0] != 'b') || take_number(&at, &major) < 0 ||
	    take_number(&at, &minor) < 0 || *at)
		return -EINVAL;
	*ret_type = of[0];
	*ret = makedev(major, minor);
	return 0;
}
