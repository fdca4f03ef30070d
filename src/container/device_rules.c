#include "container/device_rules.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

enum { ALL_ACCESS = CGROUP_DEVICE_MKNOD | CGROUP_DEVICE_READ | CGROUP_DEVICE_WRITE };

static bool same_key(const struct cgroup_device *a, const struct cgroup_device *b)
{
	return a->type == b->type && a->any_major == b->any_major && a->any_minor == b->any_minor &&
	       (a->any_major || a->major == b->major) && (a->any_minor || a->minor == b->minor);
}

static void add(struct device_policy *policy, const struct cgroup_device *device)
{
	for (size_t i = 0; i < policy->count; i++) {
		if (same_key(&policy->list[i], device)) {
			policy->list[i].access |= device->access;
			return;
		}
	}
	policy->list = mem_realloc(policy->list, policy->count + 1, sizeof(*policy->list));
	policy->list[policy->count++] = *device;
}

static void take(struct device_policy *policy, const struct cgroup_device *device)
{
	size_t left = 0;

	for (size_t i = 0; i < policy->count; i++) {
		if (same_key(&policy->list[i], device))
			policy->list[i].access &= ~device->access;
		if (policy->list[i].access)
			policy->list[left++] = policy->list[i];
	}
	policy->count = left;
}

static void change(struct device_policy *policy, bool allow, const struct cgroup_device *device)
{
	if (device->type == 'a' && device->any_major && device->any_minor &&
	    device->access == ALL_ACCESS) {
		policy->allow = allow;
		policy->count = 0;
		return;
	}
	/* Only the whole may be of type "all": version 1's files know no other. */
	if (device->type == 'a') {
		struct cgroup_device half = *device;

		half.type = 'b';
		change(policy, allow, &half);
		half.type = 'c';
		change(policy, allow, &half);
		return;
	}
	if (allow != policy->allow)
		add(policy, device);
	else
		take(policy, device);
}

static struct cgroup_device from_rule(const struct oci_device_rule *rule)
{
	struct cgroup_device device = {
		.type = rule->type,
		.any_major = !rule->major.set,
		.any_minor = !rule->minor.set,
		.major = rule->major.set ? (uint32_t) rule->major.value : 0,
		.minor = rule->minor.set ? (uint32_t) rule->minor.value : 0,
	};

	for (const char *p = rule->access; *p; p++)
		device.access |= *p == 'r'   ? CGROUP_DEVICE_READ
				 : *p == 'w' ? CGROUP_DEVICE_WRITE
					     : CGROUP_DEVICE_MKNOD;
	return device;
}

void device_policy_make(const struct oci_resources *resources, const struct oci_device *devices,
			size_t device_count, struct device_policy *ret)
{
	/* Making nodes is harmless; using them is what is asked about. */
	static const struct cgroup_device always[] = {
		{ 'c', true, true, 0, 0, CGROUP_DEVICE_MKNOD },
		{ 'b', true, true, 0, 0, CGROUP_DEVICE_MKNOD },
		{ 'c', false, false, 1, 3, ALL_ACCESS },  /* null */
		{ 'c', false, false, 1, 5, ALL_ACCESS },  /* zero */
		{ 'c', false, false, 1, 7, ALL_ACCESS },  /* full */
		{ 'c', false, false, 1, 8, ALL_ACCESS },  /* random */
		{ 'c', false, false, 1, 9, ALL_ACCESS },  /* urandom */
		{ 'c', false, false, 5, 0, ALL_ACCESS },  /* tty */
		{ 'c', false, false, 5, 1, ALL_ACCESS },  /* console */
		{ 'c', false, false, 5, 2, ALL_ACCESS },  /* ptmx */
		{ 'c', false, true, 136, 0, ALL_ACCESS }, /* pts */
	};
	struct device_policy policy = {};

	for (size_t i = 0; resources->device_count == 0 && i < device_count; i++) {
		struct cgroup_device device = {
			devices[i].type,  false,     false, devices[i].major,
			devices[i].minor, ALL_ACCESS
		};

		if (device.type != 'p')
			change(&policy, true, &device);
	}
	for (size_t i = 0; i < resources->device_count; i++) {
		struct cgroup_device device = from_rule(&resources->devices[i]);

		change(&policy, resources->devices[i].allow, &device);
	}
	for (size_t i = 0; i < ARRAY_COUNT(always); i++)
		change(&policy, true, &always[i]);
	*ret = policy;
}

void device_policy_done(struct device_policy *policy)
{
	free(policy->list);
	*policy = (struct device_policy){};
}

static void number(char *to, size_t size, bool any, uint32_t value)
{
	if (any)
		snprintf(to, size, "*");
	else
		snprintf(to, size, "%u", value);
}

static int apply_v1(const struct device_policy *policy, const struct cgroup *cgroup,
		    struct error *err)
{
	const char *file = policy->allow ? "devices.deny" : "devices.allow";
	int r = cgroup_write(cgroup, "devices", policy->allow ? "devices.allow" : "devices.deny",
			     "a");

	for (size_t i = 0; r == 0 && i < policy->count; i++) {
		const struct cgroup_device *device = &policy->list[i];
		char text[48], major[12], minor[12];

		number(major, sizeof(major), device->any_major, device->major);
		number(minor, sizeof(minor), device->any_minor, device->minor);
		snprintf(text, sizeof(text), "%c %s:%s %s%s%s", device->type, major, minor,
			 device->access & CGROUP_DEVICE_READ ? "r" : "",
			 device->access & CGROUP_DEVICE_WRITE ? "w" : "",
			 device->access & CGROUP_DEVICE_MKNOD ? "m" : "");
		r = cgroup_write(cgroup, "devices", file, text);
		if (r < 0)
			return error_set(err, r, "linux.resources.devices: writing \"%s\" to %s",
					 text, file);
	}
	return r < 0 ? error_set(err, r, "linux.resources.devices") : 0;
}

int device_rules_apply(const struct oci_resources *resources, const struct oci_device *devices,
		       size_t device_count, const struct cgroup *cgroup, struct error *err)
{
	struct device_policy policy;
	int r;

	if (!cgroup_has(cgroup, "devices") && cgroup_v2_fd(cgroup) < 0) {
		if (resources->device_count == 0)
			return 0;
		return error_say(err, -EOPNOTSUPP,
				 "linux.resources.devices: this machine has no control group "
				 "controller \"devices\"");
	}
	device_policy_make(resources, devices, device_count, &policy);
	if (cgroup_has(cgroup, "devices")) {
		r = apply_v1(&policy, cgroup, err);
	} else {
		struct cgroup_device_policy kernel = { policy.allow, policy.list, policy.count };

		r = cgroup_bpf_devices_attach(cgroup_v2_fd(cgroup), &kernel);
		if (r < 0)
			error_set(err, r, "linux.resources.devices: BPF program");
	}
	device_policy_done(&policy);
	return r;
}
