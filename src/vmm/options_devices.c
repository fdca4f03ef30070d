/*
 * --disk, --net, --vsock, --no-balloon.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/error.h"
#include "vmm/options_internal.h"

enum { SERIAL_MAX = 20, MTU_MIN = 68, CID_MIN = 3 };

static int parse_limit(const char *option, const char *name, const char *value, uint64_t *ops,
		       uint64_t *bytes, struct error *err)
{
	if (strcmp(name, "ops") == 0)
		return options_number(option, value, 1, UINT64_MAX, ops, err);
	return options_size(option, value, bytes, err);
}

static bool is_limit(const char *name, const char *value)
{
	return value && (strcmp(name, "ops") == 0 || strcmp(name, "bytes") == 0);
}

static int parse_queues(const char *option, const char *value, unsigned int limit,
			unsigned int *ret, struct error *err)
{
	uint64_t queues;
	int r = options_number(option, value, 1, limit, &queues, err);

	if (r == 0)
		*ret = (unsigned int) queues;
	return r;
}

static int parse_disk(struct options *options, const char *option, char *text, struct error *err)
{
	struct vm_disk disk = {};
	char *file, *name, *value;
	int r = 0;

	if (options->vm.disk_count == VM_DISKS_MAX)
		return error_say(err, -EINVAL, "there can be %d disks", VM_DISKS_MAX);
	file = text;
	text = strchr(text, ',');
	if (text)
		*text++ = '\0';
	while (r == 0 && options_word(&text, &name, &value)) {
		if (strcmp(name, "ro") == 0 && !value)
			disk.read_only = true;
		else if (strcmp(name, "id") == 0 && value)
			disk.id = value;
		else if (strcmp(name, "serial") == 0 && value && strlen(value) <= SERIAL_MAX)
			disk.serial = value;
		else if (strcmp(name, "queues") == 0 && value)
			r = parse_queues(option, value, VM_DISK_QUEUES_MAX, &disk.queues, err);
		else if (is_limit(name, value))
			r = parse_limit(option, name, value, &disk.ops_per_second,
					&disk.bytes_per_second, err);
		else
			r = error_say(
				err, -EINVAL,
				"%s: '%.40s' is not ro, id=NAME, serial=NAME (20 characters), "
				"queues=N, ops=N or bytes=N",
				option, name);
	}
	if (r < 0)
		return r;
	disk.fd = options_open(options, option, file, disk.read_only ? O_RDONLY : O_RDWR, err);
	if (disk.fd < 0)
		return disk.fd;
	options->vm.disks[options->vm.disk_count++] = disk;
	return 0;
}

static int open_tap(struct options *options, const char *option, const char *name,
		    unsigned int queues, struct error *err)
{
	struct ifreq request = { .ifr_flags = (short) (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
						       (queues > 1 ? IFF_MULTI_QUEUE : 0)) };
	int fd;

	if (strlen(name) >= sizeof(request.ifr_name))
		return error_say(err, -EINVAL, "%s: '%.40s' is not the name of an interface",
				 option, name);
	strcpy(request.ifr_name, name);
	fd = options_open(options, option, "/dev/net/tun", O_RDWR | O_NONBLOCK, err);
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) < 0)
		return errno == EINVAL && queues > 1
			       ? error_say(err, -EINVAL,
					   "%s tap=%s: for %u queues the tap device must be made "
					   "with multi_queue",
					   option, name, queues)
			       : error_set(err, -errno, "%s tap=%s", option, name);
	return fd;
}

/* The device itself: a descriptor for each pair of queues. */
static int open_taps(struct options *options, const char *option, const char *name,
		     unsigned int queues, struct vm_nic *nic, struct error *err)
{
	int fd = nic->fd = open_tap(options, option, name, queues, err);

	while (fd >= 0 && nic->more_count + 1 < queues) {
		fd = open_tap(options, option, name, queues, err);
		nic->more_fds[nic->more_count++] = fd;
	}
	return fd;
}

static int parse_net(struct options *options, const char *option, char *text, struct error *err)
{
	struct vm_nic nic = {};
	char *tap = text, *name, *value;
	unsigned int queues = 1;
	uint64_t mtu;
	int r = 0;

	if (options->vm.nic_count == VM_NICS_MAX)
		return error_say(err, -EINVAL, "there can be %d network cards", VM_NICS_MAX);
	text = strchr(text, ',');
	if (text)
		*text++ = '\0';
	while (r == 0 && options_word(&text, &name, &value)) {
		if (strcmp(name, "mac") == 0 && value) {
			r = vm_parse_mac(value, nic.mac, err);
			if (r < 0)
				error_wrap(err, r, "%s", option);
		} else if (strcmp(name, "id") == 0 && value) {
			nic.id = value;
		} else if (strcmp(name, "mtu") == 0 && value) {
			r = options_number(option, value, MTU_MIN, UINT16_MAX, &mtu, err);
			nic.mtu = r == 0 ? (uint16_t) mtu : 0;
		} else if (strcmp(name, "queues") == 0 && value) {
			r = parse_queues(option, value, VM_NIC_QUEUES_MAX, &queues, err);
		} else if (is_limit(name, value)) {
			r = parse_limit(option, name, value, &nic.ops_per_second,
					&nic.bytes_per_second, err);
		} else {
			r = error_say(err, -EINVAL,
				      "%s: unknown word '%.40s'; there are id=NAME, mac=M, mtu=N, "
				      "queues=N, ops=N and bytes=N",
				      option, name);
		}
	}
	if (r < 0)
		return r;
	if (strncmp(tap, "fd:", 3) == 0 && queues > 1)
		return error_say(err, -EINVAL,
				 "%s: a descriptor is one queue; queues=N goes with tap=NAME",
				 option);
	if (strncmp(tap, "tap=", 4) == 0)
		r = open_taps(options, option, tap + 4, queues, &nic, err);
	else if (strncmp(tap, "fd:", 3) == 0)
		r = nic.fd = options_open(options, option, tap, 0, err);
	else
		return error_say(err, -EINVAL, "%s: '%.40s' is neither tap=NAME nor fd:N", option,
				 tap);
	if (r < 0)
		return r;
	options->vm.nics[options->vm.nic_count++] = nic;
	return 0;
}

static int parse_vsock(struct options *options, char *text, struct error *err)
{
	char *name, *value;
	int r = 0;

	options->vm.vsock_cid = CID_MIN;
	while (r == 0 && options_word(&text, &name, &value)) {
		if (strcmp(name, "cid") == 0 && value)
			r = options_number("--vsock cid", value, CID_MIN, UINT32_MAX - 1,
					   &options->vm.vsock_cid, err);
		else if (strcmp(name, "path") == 0 && value && *value)
			options->vm.vsock_path = value;
		else
			r = error_say(err, -EINVAL,
				      "--vsock: unknown word '%.40s'; like cid=3,path=guest.sock",
				      name);
	}
	if (r == 0 && !options->vm.vsock_path)
		r = error_say(err, -EINVAL, "--vsock needs path=SOCKET");
	return r;
}

int options_device(struct options *options, enum options_kind kind, const char *option, char *text,
		   struct error *err)
{
	switch (kind) {
	case OPTIONS_DISK:
		return parse_disk(options, option, text, err);
	case OPTIONS_NET:
		return parse_net(options, option, text, err);
	case OPTIONS_VSOCK:
		return parse_vsock(options, text, err);
	default:
		options->vm.balloon = false;
		return 0;
	}
}
