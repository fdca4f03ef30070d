#include "cli/signals.h"

#include <errno.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/error.h"

int signals_begin(struct signals *signals, const int *list, struct error *err)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	for (; *list; list++)
		sigaddset(&set, *list);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return error_set(err, -errno, "cannot make a signalfd");
	sigprocmask(SIG_BLOCK, &set, &signals->before);
	signals->fd = fd;
	return 0;
}

int signals_take(struct signals *signals)
{
	struct signalfd_siginfo info;

	return read(signals->fd, &info, sizeof(info)) == sizeof(info) ? (int) info.ssi_signo : 0;
}

void signals_end(struct signals *signals)
{
	if (signals->fd < 0)
		return;
	fd_close(TAKE_FD(signals->fd));
	sigprocmask(SIG_SETMASK, &signals->before, NULL);
}
