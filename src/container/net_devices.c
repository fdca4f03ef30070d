#include "container/net_devices.h"

#include <errno.h>
#include <stdio.h>

#include "base/error.h"
#include "kern/link_move.h"
#include "kern/ns.h"

int net_devices_move(const struct oci_spec *spec, pid_t pid, struct error *err)
{
	const struct oci_linux *linux_ = &spec->linux_;
	AUTO(fd_close) int netns = -1;
	char path[48];

	if (linux_->net_device_count == 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int) pid);
	netns = ns_open(path, CLONE_NEWNET);
	if (netns < 0)
		return error_set(err, netns, "linux.netDevices: %s", path);
	if (ns_differs(pid, CLONE_NEWNET) <= 0)
		return error_say(err, -EINVAL,
				 "linux.netDevices: the container's network namespace is the "
				 "runtime's own");
	for (size_t i = 0; i < linux_->net_device_count; i++) {
		const struct oci_pair *device = &linux_->net_devices[i];
		int r = link_move(device->name, netns, device->value);

		if (r < 0)
			return error_set(err, r, "linux.netDevices: moving %s as %s", device->name,
					 device->value);
	}
	return 0;
}
