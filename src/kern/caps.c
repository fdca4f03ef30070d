#include "kern/caps.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* prctl() is the only question about the bounding set that needs no /proc. */
static int in_bounding(unsigned int number)
{
	return prctl(PR_CAPBSET_READ, number, 0, 0, 0);
}

uint64_t caps_all(void)
{
	uint64_t all = 0;

	for (unsigned int i = 0; i < 64 && in_bounding(i) >= 0; i++)
		all |= 1ULL << i;
	return all;
}

int caps_get_basic(struct caps *ret)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {};

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	ret->effective = data[0].effective | (uint64_t) data[1].effective << 32;
	ret->permitted = data[0].permitted | (uint64_t) data[1].permitted << 32;
	ret->inheritable = data[0].inheritable | (uint64_t) data[1].inheritable << 32;
	return 0;
}

int caps_get(struct caps *ret)
{
	struct caps caps = {};
	int r = caps_get_basic(&caps);

	if (r < 0)
		return r;
	for (unsigned int i = 0; i < 64; i++) {
		int bounding = in_bounding(i);

		if (bounding < 0)
			break;
		if (bounding > 0)
			caps.bounding |= 1ULL << i;
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) > 0)
			caps.ambient |= 1ULL << i;
	}
	*ret = caps;
	return 0;
}

int caps_drop_bounding(uint64_t keep)
{
	for (unsigned int i = 0; i < 64; i++) {
		if (keep & 1ULL << i)
			continue;
		if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) == 0)
			continue;
		if (errno == EINVAL)
			return 0; /* above the kernel's last one */
		if (errno != EPERM || in_bounding(i) != 0)
			return -errno;
	}
	return 0;
}

int caps_set(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ (uint32_t) effective, (uint32_t) permitted, (uint32_t) inheritable },
		{ (uint32_t) (effective >> 32), (uint32_t) (permitted >> 32),
		  (uint32_t) (inheritable >> 32) },
	};

	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int caps_set_ambient(uint64_t ambient)
{
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	for (unsigned int i = 0; i < 64; i++)
		if (ambient & 1ULL << i && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
			return -errno;
	return 0;
}
