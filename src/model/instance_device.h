#pragma once
/*
 * model/instance_device.h - device nodes of the node that an instance may use.
 *
 * Shared by the command line, the API and the agent; whether the node gives a device away is
 * decided by agent/policy.h.  No state, thread-safe.
 */
#include <jansson.h>
#include <stddef.h>

struct error;
struct json_reader;

enum { INSTANCE_DEVICES_MAX = 32, DEVICE_ACCESS_SIZE = 4 };

struct instance_device {
	char *source;                    /* on the node, below /dev */
	char *target;                    /* inside, below /dev */
	char access[DEVICE_ACCESS_SIZE]; /* of "rwm" */
};

/* "/dev/fuse[:/dev/other][:rwm]" */
int instance_device_parse(const char *text, struct instance_device *ret, struct error *err);

/* Letters of "rwm", each once, at least one. */
int instance_device_access_check(const char *access);

int instance_devices_read(struct json_reader *in, const json_t *object, const char *name,
			  struct instance_device **ret, size_t *ret_count);
json_t *instance_devices_encode(const struct instance_device *list, size_t count);
struct instance_device *instance_devices_copy(const struct instance_device *list, size_t count);
int instance_devices_check(const struct instance_device *list, size_t count, struct error *err);
void instance_device_done(struct instance_device *device);
void instance_devices_free(struct instance_device *list, size_t count);
