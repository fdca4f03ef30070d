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

static int parse_disk(struct options *options, char *text, struct error *err)
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
		else if (strcmp(name, "serial") == 0 && value && strlen(value) <= SERIAL_MAX)
			disk.serial = value;
		else if (is_limit(name, value))
			r = parse_limit("--disk", name, value, &disk.ops_per_second,
					&disk.bytes_per_second, err);
		else
			r = error_say(
				err, -EINVAL,
				"--disk: '%.40s' is not ro, serial=NAME (20 characters), ops=N or "
				"bytes=N",
				name);
	}
	if (r < 0)
		return r;
	disk.fd = options_open(options, "--disk", file, disk.read_only ? O_RDONLY : O_RDWR, err);
	if (disk.fd < 0)
		return disk.fd;
	options->vm.disks[options->vm.disk_count++] = disk;
	return 0;
}

static int open_tap(struct options *options, const char *name, struct error *err)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd;

	if (strlen(name) >= sizeof(request.ifr_name))
		return error_say(err, -EINVAL, "--net: '%.40s' is not the name of an interface",
				 name);
	strcpy(request.ifr_name, name);
	fd = options_open(options, "--net", "/dev/net/tun", O_RDWR | O_NONBLOCK, err);
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) < 0)
		return error_set(err, -errno, "--net tap=%s", name);
	return fd;
}

static int parse_mac(const char *text, uint8_t mac[6], struct error *err)
{
	unsigned int bytes[6];
	char rest;

	if (strlen(text) != 17 ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &bytes[0], &bytes[1], &bytes[2], &bytes[3],
		   &bytes[4], &bytes[5], &rest) != 6 ||
	    bytes[0] & 1)
		return error_say(err, -EINVAL, "--net: '%.40s' is not a MAC address of one card",
				 text);
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t) bytes[i];
	return 0;
}

static int parse_net(struct options *options, char *text, struct error *err)
{
	struct vm_nic nic = { .mac = { 0x02, 0x62, 0x72, 0x75, 0x6d,
				       (uint8_t) options->vm.nic_count } };
	char *tap = text, *name, *value;
	uint64_t mtu;
	int r = 0;

	if (options->vm.nic_count == VM_NICS_MAX)
		return error_say(err, -EINVAL, "there can be %d network cards", VM_NICS_MAX);
	text = strchr(text, ',');
	if (text)
		*text++ = '\0';
	while (r == 0 && options_word(&text, &name, &value)) {
		if (strcmp(name, "mac") == 0 && value) {
			r = parse_mac(value, nic.mac, err);
		} else if (strcmp(name, "mtu") == 0 && value) {
			r = options_number("--net mtu", value, MTU_MIN, UINT16_MAX, &mtu, err);
			nic.mtu = r == 0 ? (uint16_t) mtu : 0;
		} else if (is_limit(name, value)) {
			r = parse_limit("--net", name, value, &nic.ops_per_second,
					&nic.bytes_per_second, err);
		} else {
			r = error_say(
				err, -EINVAL,
				"--net: unknown word '%.40s'; there are mac=M, mtu=N, ops=N and "
				"bytes=N",
				name);
		}
	}
	if (r < 0)
		return r;
	if (strncmp(tap, "tap=", 4) == 0)
		nic.fd = open_tap(options, tap + 4, err);
	else if (strncmp(tap, "fd:", 3) == 0)
		nic.fd = options_open(options, "--net", tap, 0, err);
	else
		return error_say(err, -EINVAL, "--net: '%.40s' is neither tap=NAME nor fd:N", tap);
	if (nic.fd < 0)
		return nic.fd;
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

int options_device(struct options *options, enum options_kind kind, char *text, struct error *err)
{
	switch (kind) {
	case OPTIONS_DISK:
		return parse_disk(options, text, err);
	case OPTIONS_NET:
		return parse_net(options, text, err);
	case OPTIONS_VSOCK:
		return parse_vsock(options, text, err);
	default:
		options->vm.balloon = false;
		return 0;
	}
}
