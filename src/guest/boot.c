#include "guest/boot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "codec/guest_config.h"
#include "kern/mount.h"

enum { ORDER_MAX = 64 << 10, SERIAL_MAX = 64, WHY_SIZE = 128 };
enum { SYSLOG_CONSOLE_LEVEL = 8, LEVEL_INFO = 7 }; /* of syslog(2) */

#define CONSOLE_MODULE "virtio_console"

static int mount_early(const char *type, const char *target, struct error *err)
{
	if (mkdir(target, 0755) < 0 && errno != EEXIST)
		return error_set(err, -errno, "make %s", target);
	/* The kernel may have mounted devtmpfs by itself. */
	if (mount(type, target, type, MS_NOSUID, NULL) < 0 && errno != EBUSY)
		return error_set(err, -errno, "mount %s", type);
	return 0;
}

int boot_mounts(struct error *err)
{
	int r = mount_early("proc", "/proc", err), fd;

	if (r == 0)
		r = mount_early("sysfs", "/sys", err);
	if (r == 0)
		r = mount_early("devtmpfs", "/dev", err);
	fd = open("/dev/console", O_RDWR | O_NOCTTY);
	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	for (int i = 0; i < 3 && fd >= 0; i++)
		if (i != fd)
			dup2(fd, i);
	if (fd > 2)
		close(fd);
	return r;
}

static int load_module(const char *name, struct error *err)
{
	AUTO(free) char *path = mem_printf("/modules/%s", name);
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_set(err, -errno, "open %s", path);
	if (syscall(SYS_finit_module, fd, "", 0) == 0 || errno == EEXIST || errno == ENODEV)
		return 0;
	return error_set(err, -errno, "load %s", name);
}

/*
 * Before hvc0 there may be a console on which each letter is dear, so the kernel may have been told
 * to be quiet.  A console that comes is given everything from the beginning.
 */
static void let_the_kernel_speak(void)
{
	(void) klogctl(SYSLOG_CONSOLE_LEVEL, NULL, LEVEL_INFO);
}

int boot_modules(struct error *err)
{
	AUTO(free) char *order = NULL;
	char *rest, *name;
	int r = file_read(AT_FDCWD, "/modules/order", ORDER_MAX, &order, NULL);

	/* A kernel that has everything built in. */
	if (r == -ENOENT) {
		let_the_kernel_speak();
		return 0;
	}
	if (r < 0)
		return error_set(err, r, "read /modules/order");
	rest = order;
	while ((name = strsep(&rest, "\n"))) {
		struct error why = {};

		if (strncmp(name, CONSOLE_MODULE, strlen(CONSOLE_MODULE)) == 0)
			let_the_kernel_speak();
		/* One that does not load is missed where it is needed, with a better reason. */
		if (name[0] && load_module(name, &why) < 0)
			fprintf(stderr, "brume-init: %s\n", why.msg);
	}
	let_the_kernel_speak();
	return 0;
}

int boot_config(struct guest_config *ret, struct error *err)
{
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, GUEST_CONFIG_PATH, GUEST_CONFIG_MAX, &text, &size);

	if (r < 0)
		return error_set(err, r, "read %s", GUEST_CONFIG_PATH);
	return guest_config_decode(text, size, ret, err);
}

/* -- disks ------------------------------------------------------------------------------------ */

static bool has_serial(const char *disk, const char *serial)
{
	AUTO(free) char *path = mem_printf("/sys/block/%s/serial", disk);
	AUTO(free) char *text = NULL;

	if (file_read(AT_FDCWD, path, SERIAL_MAX, &text, NULL) < 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	return strcmp(text, serial) == 0;
}

/* "/dev/vda", or NULL. */
static char *find_disk(const char *serial)
{
	DIR *dir = opendir("/sys/block");
	struct dirent *entry;
	char *found = NULL;

	while (dir && !found && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && has_serial(entry->d_name, serial))
			found = mem_printf("/dev/%s", entry->d_name);
	if (dir)
		closedir(dir);
	return found;
}

/* The kernel tells of new devices here. */
static int open_uevents(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			NETLINK_KOBJECT_UEVENT);

	if (fd >= 0 && bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int wait_disk(const char *serial, char **ret, struct error *err)
{
	uint64_t until = clock_monotonic_us(clock_system()) + BOOT_DISK_WAIT_MS * 1000ull;
	AUTO(fd_close) int uevents_fd = open_uevents();
	char buffer[4096];

	for (;;) {
		uint64_t now = clock_monotonic_us(clock_system());
		struct pollfd poll_fd = { .fd = uevents_fd, .events = POLLIN };

		*ret = find_disk(serial);
		if (*ret)
			return 0;
		if (now >= until || uevents_fd < 0)
			return error_say(err, -ENODEV, "there is no disk with the serial number %s",
					 serial);
		poll(&poll_fd, 1, (int) ((until - now) / 1000) + 1);
		while (recv(uevents_fd, buffer, sizeof(buffer), 0) > 0)
			;
	}
}

static int mount_disk(const char *device, const char *const *types, bool read_only,
		      const char *target, struct error *err)
{
	int r = 0;

	for (size_t i = 0; types[i]; i++) {
		if (mount(device, target, types[i], read_only ? MS_RDONLY : MS_NOATIME, NULL) == 0)
			return 0;
		/* The first reason is the one that counts, unless it only was the wrong type. */
		if (r == 0 || r == -ENODEV || r == -EINVAL)
			r = -errno;
	}
	return error_set(err, r, "mount %s on %s", device, target);
}

static int mount_upper(const struct guest_config *config, struct error *err)
{
	static const char *const types[] = { "ext4", NULL };
	AUTO(free) char *device = NULL;
	int r;

	if (!config->upper || !config->upper[0]) {
		if (mount("tmpfs", "/upper", "tmpfs", 0, "mode=0755") < 0)
			return error_set(err, -errno, "mount tmpfs");
		return 0;
	}
	r = wait_disk(config->upper, &device, err);
	return r < 0 ? r : mount_disk(device, types, false, "/upper", err);
}

int boot_root(const struct guest_config *config, int *ret_root_fd, int *ret_upper_fd,
	      struct error *err)
{
	static const char *const types[] = { "erofs", "ext4", NULL };
	static const char *const folders[] = { "/lower", "/upper", "/root" };
	AUTO(free) char *device = NULL;
	int r;

	for (size_t i = 0; i < ARRAY_COUNT(folders); i++)
		if (mkdir(folders[i], 0755) < 0 && errno != EEXIST)
			return error_set(err, -errno, "make %s", folders[i]);
	r = wait_disk(config->lower, &device, err);
	if (r == 0)
		r = mount_disk(device, types, true, "/lower", err);
	if (r == 0)
		r = mount_upper(config, err);
	if (r < 0)
		return r;
	if ((mkdir("/upper/upper", 0755) < 0 || mkdir("/upper/work", 0700) < 0) && errno != EEXIST)
		return error_set(err, -errno, "make the folders of the changes");
	if (mount("overlay", "/root", "overlay", MS_NOATIME,
		  "lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work") < 0)
		return error_set(err, -errno, "mount the root (overlay)");
	*ret_root_fd = open("/root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	*ret_upper_fd = open("/upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret_root_fd < 0 || *ret_upper_fd < 0 ? error_set(err, -errno, "open the root") : 0;
}

int boot_switch(int root_fd, struct error *err)
{
	/* They stand in memory, and nobody can reach them any more.  `brume` is mounted from. */
	static const char *const leftovers[] = { "init", "modules" };
	AUTO(fd_close) int old_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (size_t i = 0; i < ARRAY_COUNT(leftovers); i++)
		(void) file_remove_tree(old_fd, leftovers[i]);
	if (fchdir(root_fd) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		return error_set(err, -errno, "change to the root of the image");
	return 0;
}
