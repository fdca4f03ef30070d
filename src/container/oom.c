#include "container/oom.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "container/stats.h"

static int64_t read_kills(int fd)
{
	char text[512];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return stats_pair(text, "oom_kill");
}

static int init_v1(struct oom *oom, const struct cgroup *cgroup, struct error *err)
{
	char text[48];
	int r;

	oom->control_fd =
		openat(cgroup_fd(cgroup, "memory"), "memory.oom_control", O_RDONLY | O_CLOEXEC);
	oom->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	oom->events = POLLIN;
	if (oom->control_fd < 0 || oom->fd < 0)
		return error_set(err, -errno, "memory.oom_control");
	snprintf(text, sizeof(text), "%d %d", oom->fd, oom->control_fd);
	r = cgroup_write(cgroup, "memory", "cgroup.event_control", text);
	return r < 0 ? error_set(err, r, "cgroup.event_control") : 0;
}

int oom_init(struct oom *oom, const struct cgroup *cgroup, struct error *err)
{
	*oom = (struct oom){ .fd = -1, .control_fd = -1 };
	if (!cgroup_has(cgroup, "memory"))
		return 0;
	if (!cgroup_is_v2(cgroup, "memory"))
		return init_v1(oom, cgroup, err);
	oom->events = POLLPRI;
	oom->fd = openat(cgroup_fd(cgroup, "memory"), "memory.events", O_RDONLY | O_CLOEXEC);
	if (oom->fd < 0)
		return error_set(err, -errno, "memory.events");
	oom->kills = read_kills(oom->fd);
	return 0;
}

/* The kernel counts up once more when the group is removed: then its files answer no more. */
static bool happened_v1(const struct oom *oom)
{
	uint64_t count;
	char c;

	return read(oom->fd, &count, sizeof(count)) == sizeof(count) &&
	       pread(oom->control_fd, &c, 1, 0) == 1;
}

bool oom_happened(struct oom *oom)
{
	int64_t kills;

	if (oom->events == POLLIN)
		return happened_v1(oom);
	kills = read_kills(oom->fd);
	if (kills <= oom->kills)
		return false;
	oom->kills = kills;
	return true;
}

void oom_done(struct oom *oom)
{
	fd_close(oom->fd);
	fd_close(oom->control_fd);
	oom->fd = oom->control_fd = -1;
}
