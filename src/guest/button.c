#include "guest/button.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "guest/guest_internal.h"
#include "guest/poller.h"

enum { GRACE_MS = 10000, EVENTS_MAX = 16, BITS_PER_BYTE = 8 };

struct button {
	struct guest *guest;
	int fd;
	bool pressed;
};

static void press(struct button *button)
{
	fprintf(stderr, "brume-init: the power button was pressed\n");
	command_stop(button->guest, button->pressed ? 0 : GRACE_MS);
	button->pressed = true;
}

static void on_events(void *data)
{
	struct button *button = data;
	struct input_event events[EVENTS_MAX];
	ssize_t n;

	while ((n = read(button->fd, events, sizeof(events))) > 0)
		for (size_t i = 0; i < (size_t) n / sizeof(events[0]); i++)
			if (events[i].type == EV_KEY && events[i].code == KEY_POWER &&
			    events[i].value == 1)
				press(button);
}

static bool has_power_key(int fd)
{
	unsigned char keys[KEY_MAX / BITS_PER_BYTE + 1] = {};

	return ioctl(fd, EVIOCGBIT(EV_KEY, sizeof(keys)), keys) >= 0 &&
	       keys[KEY_POWER / BITS_PER_BYTE] & (1 << KEY_POWER % BITS_PER_BYTE);
}

static void watch(struct guest *guest, const char *name)
{
	AUTO(free) char *path = mem_printf("/dev/input/%s", name);
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct poller_watch *ignored;
	struct button *button;

	if (fd < 0 || !has_power_key(fd))
		return;
	button = mem_new0(struct button);
	button->guest = guest;
	button->fd = fd;
	/* For as long as the machine is there. */
	if (poller_watch_fd(guest->poller, fd, on_events, button, &ignored) < 0) {
		free(button);
		return;
	}
	(void) TAKE_FD(fd);
}

void button_watch(struct guest *guest)
{
	DIR *dir = opendir("/dev/input");
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (strncmp(entry->d_name, "event", strlen("event")) == 0)
			watch(guest, entry->d_name);
	if (dir)
		closedir(dir);
}
