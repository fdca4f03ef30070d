#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "keeper/keeper_internal.h"

static const int nothing[STDIO_KEPT] = { -1, -1, -1, -1 };

enum { RECORD_SIZE_MAX = 32 * 1024, RESUME_SIZE_MAX = 64 * 1024 * 1024 };

/* Borrows from the job. */
static struct keeper_msg make_record(const struct job *job)
{
	struct keeper_msg msg;

	job_describe(job, &msg);
	msg.type = KEEPER_RECORD;
	msg.phase = job->phase;
	msg.mode = job->mode;
	msg.stdio = job->stdio;
	msg.start_time = job->start_time;
	msg.pid_file = job->pid_file;
	msg.log = job->log.path;
	msg.log_max_bytes = job->log.max_bytes;
	msg.log_max_files = job->log.max_files;
	msg.input = job->input;
	return msg;
}

int record_save(struct keeper *keeper, const struct job *job)
{
	AUTO(strbuf_done) struct strbuf buffer = {};
	struct keeper_msg msg = make_record(job);
	int r = keeper_msg_encode(&msg, &buffer);

	if (r < 0)
		return r;
	return file_write_atomic(keeper->record_dir_fd, job->id, buffer.data, buffer.size, 0600, 0);
}

void record_remove(struct keeper *keeper, const struct job *job)
{
	unlinkat(keeper->record_dir_fd, job->id, 0);
}

static void adopt_file(struct keeper *keeper, const char *name)
{
	AUTO(free) char *data = NULL;
	struct keeper_msg msg;
	size_t size;
	int r;

	/* A name with a dot is a temporary file that a crash left. */
	if (!keeper_job_valid(name)) {
		unlinkat(keeper->record_dir_fd, name, 0);
		return;
	}
	if (job_find(keeper, name))
		return;
	r = file_read(keeper->record_dir_fd, name, RECORD_SIZE_MAX, &data, &size);
	if (r == 0)
		r = keeper_msg_decode(data, size, &msg);
	if (r == 0 && (msg.type != KEEPER_RECORD || strcmp(msg.job, name) != 0))
		r = -EBADMSG;
	if (r < 0) {
		log_error("job %s: its record cannot be read: %s, removing it", name, strerror(-r));
		unlinkat(keeper->record_dir_fd, name, 0);
		return;
	}
	log_info("job %s: adopting process %d", name, msg.pid);
	job_adopt(keeper, &msg, nothing);
}

/* FIFOs of jobs that nobody knows any more: a crash came between making them and the record. */
static void remove_stray_fifos(struct keeper *keeper)
{
	int fd = openat(keeper->fifo_dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		fd_close(fd);
		return;
	}
	while ((entry = readdir(dir))) {
		const char *dot = strchr(entry->d_name, '.');
		AUTO(free)
		char *id = mem_strndup(entry->d_name, dot ? (size_t) (dot - entry->d_name) : 0);

		if (id[0] && !job_find(keeper, id))
			unlinkat(keeper->fifo_dir_fd, entry->d_name, 0);
	}
	closedir(dir);
}

void record_adopt_all(struct keeper *keeper)
{
	int fd = openat(keeper->record_dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		fd_close(fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			adopt_file(keeper, entry->d_name);
	closedir(dir);
	remove_stray_fifos(keeper);
}

static void set_cloexec(int fd, bool on)
{
	if (fd >= 0)
		fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0);
}

static void keep_all_fds(struct keeper *keeper, bool keep)
{
	set_cloexec(keeper->listener.fd, !keep);
	set_cloexec(keeper->lock_fd, !keep);
	for (struct client *client = keeper->clients; client; client = client->next)
		set_cloexec(client->source.fd, !keep);
	for (struct job *job = keeper->jobs; job; job = job->next) {
		int fds[STDIO_KEPT];

		stdio_kept(job, fds);
		for (int i = 0; i < STDIO_KEPT; i++)
			set_cloexec(fds[i], !keep);
	}
}

static int append(struct strbuf *all, const struct keeper_msg *msg)
{
	AUTO(strbuf_done) struct strbuf one = {};
	int r = keeper_msg_encode(msg, &one);
	uint32_t size = (uint32_t) one.size;

	if (r < 0)
		return r;
	strbuf_append(all, &size, sizeof(size));
	strbuf_append(all, one.data, one.size);
	return 0;
}

static int write_state(struct keeper *keeper, struct strbuf *all)
{
	struct keeper_msg sockets = { .type = KEEPER_SOCKETS, .fd_count = 2 };
	int r;

	sockets.fds[0] = keeper->listener.fd;
	sockets.fds[1] = keeper->lock_fd;
	/* An agent with unsent events, or one too many, connects again and lists all jobs. */
	for (struct client *client = keeper->clients; client; client = client->next)
		if (!client->dead && client->pending_size == 0 && sockets.fd_count < KEEPER_FDS_MAX)
			sockets.fds[sockets.fd_count++] = client->source.fd;
		else
			set_cloexec(client->source.fd, true);
	r = append(all, &sockets);
	for (struct job *job = keeper->jobs; r == 0 && job; job = job->next) {
		struct keeper_msg msg = make_record(job);

		msg.fd_count = STDIO_KEPT;
		stdio_kept(job, msg.fds);
		r = append(all, &msg);
	}
	return r;
}

int record_reexec(struct keeper *keeper)
{
	AUTO(strbuf_done) struct strbuf all = {};
	AUTO(fd_close) int fd = memfd_create("brume-keeper", 0);
	char number[16];
	int r;

	if (fd < 0)
		return -errno;
	keep_all_fds(keeper, true);
	r = write_state(keeper, &all);
	if (r == 0)
		r = file_write_all(fd, all.data, all.size);
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	if (r == 0) {
		const struct keeper_options *options = keeper->options;
		snprintf(number, sizeof(number), "%d", fd);
		const char *argv[] = { options->self,   "--run", options->run,
				       "--state-fd",    number,  options->levels ? "--log" : NULL,
				       options->levels, NULL };
		execv(options->self, (char **) argv);
		r = -errno;
	}
	keep_all_fds(keeper, false);
	return r;
}

static void resume_sockets(struct keeper *keeper, const struct keeper_msg *msg)
{
	for (unsigned int i = 0; i < msg->fd_count; i++)
		set_cloexec(msg->fds[i], true);
	if (msg->fd_count < 2)
		return;
	keeper->listener.fd = msg->fds[0];
	keeper->lock_fd = msg->fds[1];
	for (unsigned int i = 2; i < msg->fd_count; i++)
		keeper_add_client(keeper, msg->fds[i]);
}

static void resume_one(struct keeper *keeper, const char *data, size_t size)
{
	struct keeper_msg msg;

	if (keeper_msg_decode(data, size, &msg) < 0) {
		log_error("a record of the keeper before is not understood, reading its file "
			  "instead");
		return;
	}
	if (msg.type == KEEPER_SOCKETS) {
		resume_sockets(keeper, &msg);
	} else if (msg.type == KEEPER_RECORD && !job_find(keeper, msg.job)) {
		int fds[STDIO_KEPT] = { -1, -1, -1, -1 };

		/* One of another version may have handed on fewer. */
		for (unsigned int i = 0; i < msg.fd_count && i < STDIO_KEPT; i++) {
			fds[i] = msg.fds[i];
			set_cloexec(fds[i], true);
		}
		job_adopt(keeper, &msg, fds);
	}
}

int record_resume(struct keeper *keeper, int state_fd, struct error *err)
{
	AUTO(free) char *data = NULL;
	size_t size;
	int r = file_read_fd(state_fd, RESUME_SIZE_MAX, &data, &size);

	close(state_fd);
	if (r < 0)
		return error_set(err, r, "read the state of the keeper before");
	for (const char *p = data; size >= sizeof(uint32_t);) {
		uint32_t part;

		memcpy(&part, p, sizeof(part));
		p += sizeof(part);
		size -= sizeof(part);
		if (part > size)
			break;
		resume_one(keeper, p, part);
		p += part;
		size -= part;
	}
	return 0;
}
