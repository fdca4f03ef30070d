#include "model/instance_device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/instance_mount.h"
#include "model/member.h"

int instance_device_access_check(const char *access)
{
	size_t size = strlen(access);

	if (size < 1 || size >= DEVICE_ACCESS_SIZE || strspn(access, "rwm") != size)
		return -EINVAL;
	for (size_t i = 1; i < size; i++)
		if (memchr(access, access[i], i))
			return -EINVAL;
	return 0;
}

static const char *device_path_problem(const char *path)
{
	const char *problem = instance_path_problem(path);

	if (problem)
		return problem;
	return strncmp(path, "/dev/", 5) == 0 ? NULL : "must lie in /dev";
}

static int check_one(const struct instance_device *device, const char *what, struct error *err)
{
	const char *problem = device_path_problem(device->source);

	if (problem)
		return error_say(err, -EINVAL, "%.200s: the device %s", what, problem);
	problem = device_path_problem(device->target);
	if (problem)
		return error_say(err, -EINVAL, "%.200s: the path inside %s", what, problem);
	if (instance_device_access_check(device->access) < 0)
		return error_say(err, -EINVAL, "%.200s: the access must be letters of \"rwm\"",
				 what);
	return 0;
}

int instance_devices_check(const struct instance_device *list, size_t count, struct error *err)
{
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < i; k++)
			if (strcmp(list[i].target, list[k].target) == 0)
				return error_say(err, -EINVAL, "device \"%.200s\" is given twice",
						 list[i].target);
	return 0;
}

int instance_device_parse(const char *text, struct instance_device *ret, struct error *err)
{
	struct instance_device device = {};
	AUTO(free) char *copy = mem_strdup(text);
	char *rest = copy;
	const char *source = strsep(&rest, ":");
	const char *target = rest && rest[0] == '/' ? strsep(&rest, ":") : source;
	const char *access = rest ? rest : "rwm";
	int r;

	device.source = mem_strdup(source);
	device.target = mem_strdup(target);
	snprintf(device.access, sizeof(device.access), "%s",
		 strlen(access) < DEVICE_ACCESS_SIZE ? access : "");
	r = check_one(&device, text, err);
	if (r < 0) {
		instance_device_done(&device);
		return r;
	}
	*ret = device;
	return 0;
}

static int decode_one(const json_t *object, const char *where, struct instance_device *device,
		      struct error *err)
{
	struct json_reader in = { .err = err, .where = where };
	AUTO(free) char *access = NULL;

	json_read_string(&in, object, "source", &device->source);
	json_read_string(&in, object, "target", &device->target);
	json_read_string(&in, object, "access", &access);
	if (json_reader_finish(&in, object) < 0)
		return in.result;
	if (!device->source)
		return error_say(err, -EINVAL, "%s.source: must name a device of the node", where);
	if (!device->target)
		device->target = mem_strdup(device->source);
	snprintf(device->access, sizeof(device->access), "%s",
		 !access                               ? "rwm"
		 : strlen(access) < DEVICE_ACCESS_SIZE ? access
						       : "");
	return check_one(device, where, err);
}

int instance_devices_read(struct json_reader *in, const json_t *object, const char *name,
			  struct instance_device **ret, size_t *ret_count)
{
	char path[MEMBER_PATH_MAX], item_path[MEMBER_PATH_MAX + 32];
	struct instance_device *list;
	json_t *array = NULL, *item;
	size_t i, count = 0;
	int r = 0;

	json_read_array(in, object, name, &array);
	if (in->result < 0 || !array)
		return in->result;
	if (json_array_size(array) > INSTANCE_DEVICES_MAX)
		return member_fail(in, name, "at most %d devices are allowed",
				   INSTANCE_DEVICES_MAX);
	member_path(path, in->where, name);
	list = mem_new0_array(struct instance_device, json_array_size(array) + 1);
	json_array_foreach(array, i, item)
	{
		snprintf(item_path, sizeof(item_path), "%s[%zu]", path, i);
		count = i + 1;
		r = decode_one(item, item_path, &list[i], in->err);
		if (r < 0)
			break;
	}
	if (r == 0)
		r = instance_devices_check(list, count, in->err);
	if (r < 0) {
		instance_devices_free(list, count);
		in->result = r;
		return r;
	}
	instance_devices_free(*ret, *ret_count);
	*ret = list;
	*ret_count = count;
	return 0;
}

json_t *instance_devices_encode(const struct instance_device *list, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++) {
		json_t *item = json_object();

		json_put_string(item, "source", list[i].source);
		json_put_string(item, "target", list[i].target);
		json_put_string(item, "access", list[i].access);
		json_array_append_new(array, item);
	}
	return array;
}

struct instance_device *instance_devices_copy(const struct instance_device *list, size_t count)
{
	struct instance_device *copy;

	if (count == 0)
		return NULL;
	copy = mem_new0_array(struct instance_device, count);
	for (size_t i = 0; i < count; i++) {
		copy[i] = list[i];
		copy[i].source = mem_strdup(list[i].source);
		copy[i].target = mem_strdup(list[i].target);
	}
	return copy;
}

void instance_device_done(struct instance_device *device)
{
	free(device->source);
	free(device->target);
	*device = (struct instance_device){};
}

void instance_devices_free(struct instance_device *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		instance_device_done(&list[i]);
	free(list);
}
