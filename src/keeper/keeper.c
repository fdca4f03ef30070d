#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "keeper/keeper_internal.h"
#include "kern/sock.h"

/* An agent that does not read is disconnected before it costs memory; it lists all jobs anew. */
enum { PENDING_MAX = 512 * 1024 };

int source_watch(struct keeper *keeper, struct source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	if (epoll_ctl(keeper->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) == 0)
		return 0;
	if (errno == EEXIST && epoll_ctl(keeper->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) == 0)
		return 0;
	return -errno;
}

void source_close(struct keeper *keeper, struct source *source)
{
	(void) keeper;
	/* Closing takes it out of epoll: nobody else has these open files, children only
	 * transiently. */
	if (source->fd >= 0) {
		epoll_ctl(keeper->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
		close(source->fd);
	}
	source->fd = -1;
}

static void client_free(struct keeper *keeper, struct client *client)
{
	source_close(keeper, &client->source);
	free(client->pending);
	free(client);
}

static void sweep_clients(struct keeper *keeper)
{
	struct client **p = &keeper->clients;

	while (*p) {
		struct client *client = *p;

		if (!client->dead) {
			p = &client->next;
			continue;
		}
		*p = client->next;
		client_free(keeper, client);
	}
}

static void queue_for_client(struct keeper *keeper, struct client *client, const char *data,
			     size_t size)
{
	uint32_t size32 = (uint32_t) size;
	size_t total = client->pending_size + sizeof(size32) + size;

	if (total > PENDING_MAX) {
		log_warning("agent reads too slowly, disconnecting it");
		client->dead = true;
		return;
	}
	client->pending = mem_realloc(client->pending, total, 1);
	memcpy(client->pending + client->pending_size, &size32, sizeof(size32));
	memcpy(client->pending + client->pending_size + sizeof(size32), data, size);
	client->pending_size = total;
	source_watch(keeper, &client->source, EPOLLIN | EPOLLOUT);
}

/* An event of a job goes with its console, so that the agent can hold it as well. */
static int send_event(struct keeper *keeper, struct client *client, const char *data, size_t size)
{
	struct keeper_msg msg = {};
	struct job *job = NULL;

	if (keeper_msg_decode(data, size, &msg) == 0 &&
	    (msg.type == KEEPER_STARTING || msg.type == KEEPER_SPAWNED))
		job = job_find(keeper, msg.job);
	bool has_console = job && job->console.fd >= 0;
	return sock_send(client->source.fd, data, size, has_console ? &job->console.fd : NULL,
			 has_console);
}

static void send_pending(struct keeper *keeper, struct client *client)
{
	size_t done = 0;

	while (done < client->pending_size) {
		uint32_t size;
		int r;

		memcpy(&size, client->pending + done, sizeof(size));
		r = send_event(keeper, client, client->pending + done + sizeof(size), size);
		if (r == -EAGAIN)
			break;
		if (r < 0)
			client->dead = true;
		done += sizeof(size) + size;
	}
	client->pending_size -= done;
	memmove(client->pending, client->pending + done, client->pending_size);
	if (client->pending_size > 0)
		return;
	free(client->pending);
	client->pending = NULL;
	source_watch(keeper, &client->source, EPOLLIN);
}

static void send_to(struct keeper *keeper, struct client *client, const struct keeper_msg *msg)
{
	AUTO(strbuf_done) struct strbuf buffer = {};
	int r;

	if (client->dead || keeper_msg_encode(msg, &buffer) < 0)
		return;
	r = client->pending_size > 0 ? -EAGAIN
				     : send_event(keeper, client, buffer.data, buffer.size);
	if (r == -EAGAIN)
		queue_for_client(keeper, client, buffer.data, buffer.size);
	else if (r < 0)
		client->dead = true;
}

static void tell(struct keeper *keeper, struct client *client, const struct job *job)
{
	struct keeper_msg msg;

	job_describe(job, &msg);
	send_to(keeper, client, &msg);
}

void keeper_broadcast(struct keeper *keeper, const struct job *job)
{
	for (struct client *client = keeper->clients; client; client = client->next)
		tell(keeper, client, job);
}

static void refuse(struct keeper *keeper, struct client *client, const char *job, int code)
{
	struct keeper_msg msg = { .type = KEEPER_REFUSED, .message = strerror(-code) };

	memcpy(msg.job, job, strlen(job) + 1);
	send_to(keeper, client, &msg);
}

static void list_jobs(struct keeper *keeper, struct client *client)
{
	struct keeper_msg end = { .type = KEEPER_LISTED,
				  .pid = getpid(),
				  .message = BRUME_VERSION };

	for (struct job *job = keeper->jobs; job; job = job->next)
		tell(keeper, client, job);
	send_to(keeper, client, &end);
}

static void handle(struct keeper *keeper, struct client *client, const struct keeper_msg *msg,
		   int *fds, size_t fd_count)
{
	struct job *job = msg->job[0] ? job_find(keeper, msg->job) : NULL;
	int r = 0;

	switch (msg->type) {
	case KEEPER_SPAWN:
		if (job)
			tell(keeper, client, job);
		else if (fd_count != msg->fd_count)
			r = -EBADF;
		else
			job_start(keeper, msg, fds);
		break;
	case KEEPER_SIGNAL:
		r = job ? job_signal(job, msg->signal) : -ESRCH;
		break;
	case KEEPER_LIST:
		list_jobs(keeper, client);
		break;
	case KEEPER_FORGET:
		r = job ? job_forget(keeper, job) : 0;
		break;
	case KEEPER_END_INPUT:
		r = job ? stdio_end_input(keeper, job) : -ESRCH;
		break;
	case KEEPER_HOLD:
		r = !job ? 0 : fd_count != 1 ? -EBADF : stdio_hold(keeper, job, &fds[0]);
		break;
	case KEEPER_REEXEC:
		keeper->reexec = true;
		break;
	default:
		r = -EOPNOTSUPP;
	}
	if (r < 0)
		refuse(keeper, client, msg->job, r);
}

static void client_ready(struct keeper *keeper, void *owner, uint32_t revents)
{
	struct client *client = owner;
	struct keeper_msg msg;
	int fds[SOCK_FDS_MAX];
	size_t fd_count = 0;
	ssize_t n;

	if (revents & EPOLLOUT)
		send_pending(keeper, client);
	if (client->dead || !(revents & ~(uint32_t) EPOLLOUT))
		return;
	n = sock_recv(client->source.fd, keeper->message, sizeof(keeper->message), fds, &fd_count);
	if (n == -EAGAIN)
		return;
	if (n == -EMSGSIZE || (n > 0 && keeper_msg_decode(keeper->message, (size_t) n, &msg) < 0))
		refuse(keeper, client, "", -EBADMSG);
	else if (n <= 0)
		client->dead = true;
	else
		handle(keeper, client, &msg, fds, fd_count);
	while (fd_count > 0)
		fd_close(fds[--fd_count]);
}

void keeper_add_client(struct keeper *keeper, int fd)
{
	struct client *client = mem_new0(struct client);

	client->source = (struct source){ fd, client, client_ready };
	client->next = keeper->clients;
	keeper->clients = client;
	if (source_watch(keeper, &client->source, EPOLLIN) < 0)
		client->dead = true;
}

void keeper_listen_ready(struct keeper *keeper, void *owner, uint32_t revents)
{
	AUTO(fd_close) int fd = sock_accept(keeper->listener.fd);
	uid_t uid;
	pid_t pid;

	(void) owner;
	(void) revents;
	if (fd < 0)
		return;
	/* The socket's mode says the same; this also holds when somebody widens it. */
	if (sock_peer(fd, &uid, &pid) < 0 || (uid != 0 && uid != geteuid())) {
		log_warning("refused a connection of user %u (process %d): only root may connect",
			    uid, pid);
		return;
	}
	keeper_add_client(keeper, TAKE_FD(fd));
}

static void signals_ready(struct keeper *keeper, void *owner, uint32_t revents)
{
	struct signalfd_siginfo info;

	(void) owner;
	(void) revents;
	if (read(keeper->signals.fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD)
		job_reap_all(keeper);
	else if (info.ssi_signo == SIGHUP || info.ssi_signo == SIGUSR2)
		keeper->reexec = true;
	else
		keeper->stop = true;
}

static int watch_signals(struct keeper *keeper)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	keeper->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (keeper->signals.fd < 0)
		return -errno;
	return source_watch(keeper, &keeper->signals, EPOLLIN);
}

static int open_timer(struct keeper *keeper)
{
	keeper->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (keeper->timer.fd < 0)
		return -errno;
	return source_watch(keeper, &keeper->timer, EPOLLIN);
}

/* The spool of the keeper before is finished before anything of its jobs is read. */
static void open_spool(struct keeper *keeper)
{
	AUTO(free) char *path = mem_printf("%s/keeper.spool", keeper->options->run);

	spool_recover(path, keeper->log_buffer);
	keeper->spool = spool_new(path);
}

static int open_folder(const char *run, const char *name, int *ret_fd)
{
	AUTO(free) char *path = mem_printf("%s/%s", run, name);
	int r = file_mkdir_all(path, 0711);

	if (r < 0)
		return r;
	*ret_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return *ret_fd < 0 ? -errno : 0;
}

static int take_lock_and_listen(struct keeper *keeper, struct error *err)
{
	AUTO(free) char *lock = mem_printf("%s/keeper.lock", keeper->options->run);
	AUTO(free) char *path = mem_printf("%s/keeper.sock", keeper->options->run);

	keeper->lock_fd = file_lock_pid(lock);
	if (keeper->lock_fd == -EWOULDBLOCK)
		return error_say(err, -EWOULDBLOCK, "another brume-keeper runs with %s",
				 keeper->options->run);
	if (keeper->lock_fd < 0)
		return error_set(err, keeper->lock_fd, "lock %s", lock);
	keeper->listener.fd = sock_listen(path, SOCK_SEQPACKET, 0600);
	if (keeper->listener.fd < 0)
		return error_set(err, keeper->listener.fd, "listen on %s", path);
	return 0;
}

static int set_up(struct keeper *keeper, struct error *err)
{
	const char *run = keeper->options->run;
	int r;

	child_protect_self();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	keeper->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (keeper->epoll_fd < 0)
		return error_set(err, -errno, "epoll");
	r = open_folder(run, "keeper", &keeper->record_dir_fd);
	if (r == 0)
		r = open_folder(run, "fifo", &keeper->fifo_dir_fd);
	if (r < 0)
		return error_set(err, r, "prepare the folders below %s", run);
	r = watch_signals(keeper);
	if (r < 0)
		return error_set(err, r, "watch signals");
	r = open_timer(keeper);
	if (r < 0)
		return error_set(err, r, "make a timer");
	if (keeper->options->state_fd >= 0) {
		/* The lock came along, so the spool is ours. */
		open_spool(keeper);
		r = record_resume(keeper, keeper->options->state_fd, err);
		if (r < 0)
			log_error("%s: adopting the jobs from their records",
				  err ? err->msg : "resume");
	}
	if (keeper->listener.fd < 0) {
		r = take_lock_and_listen(keeper, err);
		if (r < 0)
			return r;
	}
	if (!keeper->spool)
		open_spool(keeper);
	r = source_watch(keeper, &keeper->listener, EPOLLIN);
	if (r < 0)
		return error_set(err, r, "watch the socket");
	record_adopt_all(keeper);
	job_reap_all(keeper);
	return 0;
}

static int loop(struct keeper *keeper, struct error *err)
{
	while (!keeper->stop) {
		struct epoll_event event;
		/* One at a time: handling one event may remove the source of another. */
		int n = epoll_wait(keeper->epoll_fd, &event, 1, -1);

		if (n < 0 && errno != EINTR)
			return error_set(err, -errno, "wait for events");
		if (n <= 0)
			continue;
		struct source *source = event.data.ptr;
		source->ready(keeper, source->owner, event.events);
		sweep_clients(keeper);
		if (keeper->reexec) {
			keeper->reexec = false;
			int r = record_reexec(keeper);
			log_error("cannot execute %s anew: %s, going on with the running one",
				  keeper->options->self, strerror(-r));
		}
	}
	return 0;
}

static void keeper_free(struct keeper *keeper)
{
	if (!keeper)
		return;
	while (keeper->jobs)
		job_free(keeper, keeper->jobs);
	for (struct client *client = keeper->clients; client; client = client->next)
		client->dead = true;
	sweep_clients(keeper);
	source_close(keeper, &keeper->listener);
	source_close(keeper, &keeper->signals);
	source_close(keeper, &keeper->timer);
	spool_free(keeper->spool);
	fd_close(keeper->fifo_dir_fd);
	fd_close(keeper->record_dir_fd);
	fd_close(keeper->lock_fd);
	fd_close(keeper->epoll_fd);
	free(keeper);
}
DEFINE_AUTO(struct keeper *, keeper_free)

int keeper_run(const struct keeper_options *options, struct error *err)
{
	AUTO(keeper_free) struct keeper *keeper = mem_new0(struct keeper);
	int r;

	keeper->options = options;
	keeper->epoll_fd = keeper->lock_fd = keeper->record_dir_fd = keeper->fifo_dir_fd = -1;
	keeper->listener = (struct source){ -1, keeper, keeper_listen_ready };
	keeper->signals = (struct source){ -1, keeper, signals_ready };
	keeper->timer = (struct source){ -1, keeper, stdio_timer_ready };
	r = set_up(keeper, err);
	if (r < 0)
		return r;
	return loop(keeper, err);
}
