#include "image/job_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "image/rootfs.h"
#include "image/worker.h"

enum { FIRST_SPARE_FD = 10, TEXT_MAX = 200 };

#define GIB ((uint64_t) 1 << 30)

char *job_native_platform(void)
{
	static const char *const names[][2] = {
		{ "x86_64", "amd64" }, { "aarch64", "arm64" },   { "armv7l", "arm/v7" },
		{ "i686", "386" },     { "ppc64le", "ppc64le" }, { "s390x", "s390x" },
	};
	struct utsname host;

	uname(&host);
	for (size_t i = 0; i < ARRAY_COUNT(names); i++)
		if (strcmp(host.machine, names[i][0]) == 0)
			return mem_printf("linux/%s", names[i][1]);
	return mem_printf("linux/%s", host.machine);
}

static void put_limit(json_t *request, const char *name, uint64_t value, uint64_t otherwise)
{
	json_object_set_new(request, name, json_integer((json_int_t) (value ? value : otherwise)));
}

void job_put_limits(json_t *request, const struct image_limits *limits)
{
	put_limit(request, "blob_bytes", limits->blob_bytes, 32 * GIB);
	put_limit(request, "unpacked_bytes", limits->unpacked_bytes, 128 * GIB);
	put_limit(request, "inodes", limits->inodes, 4 << 20);
}

static int make_folder(struct job *job, const char *name, uint32_t owner, int *ret_fd,
		       struct error *err)
{
	AUTO(free) char *path = mem_printf("%s%s", job->dir, name);
	int fd, r = 0;

	if (mkdirat(job->store->dir_fd, path, 0700) < 0)
		return error_set(err, -errno, "%s/%s", job->store->dir, path);
	fd = openat(job->store->dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || (owner && fchown(fd, owner, owner) < 0))
		r = error_set(err, -errno, "%s/%s", job->store->dir, path);
	if (r == 0 && ret_fd)
		*ret_fd = fd;
	else
		fd_close(fd);
	return r;
}

static int make_folders(struct job *job, struct error *err)
{
	char id[UID_SIZE];
	int r;

	rng_uid(rng_system(), id);
	job->dir = mem_printf("jobs/%s", id);
	r = make_folder(job, "", 0, &job->dir_fd, err);
	if (r == 0)
		r = make_folder(job, "/done", 0, NULL, err);
	if (r == 0)
		r = make_folder(job, "/work", LAYER_UID_BASE, &job->work_fd, err);
	if (r == 0)
		r = make_folder(job, "/work/blobs", LAYER_UID_BASE, &job->blobs_fd, err);
	if (r == 0)
		r = make_folder(job, "/work/layers", LAYER_UID_BASE, NULL, err);
	return r;
}

/* What the worker's libraries take from the environment, and nothing else. */
static char **worker_environment(void)
{
	static const char *const names[] = { "http_proxy", "https_proxy", "all_proxy",
					     "no_proxy",   "HTTP_PROXY",  "HTTPS_PROXY",
					     "ALL_PROXY",  "NO_PROXY",    "SSL_CERT_FILE" };
	char **env = NULL;

	strv_append(&env, "LC_ALL=C");
	for (size_t i = 0; i < ARRAY_COUNT(names); i++)
		if (getenv(names[i]))
			strv_env_set(&env, names[i], getenv(names[i]));
	/* libcurl ignores the upper-case one, which CGI programs must not trust; we are none. */
	if (!getenv("http_proxy") && getenv("HTTP_PROXY"))
		strv_env_set(&env, "http_proxy", getenv("HTTP_PROXY"));
	return env;
}

static int spawn_actions(posix_spawn_file_actions_t *actions, int wire_fd, int input_fd,
			 int work_fd)
{
	int r = posix_spawn_file_actions_adddup2(actions, wire_fd, WORKER_WIRE_FD);

	if (r == 0 && input_fd >= 0)
		r = posix_spawn_file_actions_adddup2(actions, input_fd, WORKER_INPUT_FD);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(actions, work_fd, WORKER_JOB_FD);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(actions, 1, "/dev/null", O_WRONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(actions, WORKER_JOB_FD + 1);
	return -r;
}

static int spawn(struct job *job, int child_fd, struct error *err)
{
	/* Above the numbers that they get, so that no one overwrites another. */
	AUTO(fd_close) int wire_fd = fcntl(child_fd, F_DUPFD_CLOEXEC, FIRST_SPARE_FD);
	AUTO(fd_close) int work_fd = fcntl(job->work_fd, F_DUPFD_CLOEXEC, FIRST_SPARE_FD);
	AUTO(fd_close)
	int input_fd =
		job->input_fd < 0 ? -1 : fcntl(job->input_fd, F_DUPFD_CLOEXEC, FIRST_SPARE_FD);
	char *argv[] = { "brume-image-worker", (char *) job->action, NULL };
	AUTO(strv_free) char **env = worker_environment();
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	if (wire_fd < 0 || work_fd < 0 || (job->input_fd >= 0 && input_fd < 0))
		return error_set(err, -errno, "image worker");
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	r = spawn_actions(&actions, wire_fd, input_fd, work_fd);
	if (r == 0)
		r = -posix_spawn(&job->pid, job->store->worker, &actions, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (r < 0) {
		job->pid = 0;
		return error_set(err, r, "start %s", job->store->worker);
	}
	return 0;
}

static int start(struct job *job, struct error *err)
{
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return error_set(err, -errno, "image worker");
	job->wire.fd = fds[0];
	r = spawn(job, fds[1], err);
	close(fds[1]);
	return r;
}

static int write_maps(struct job *job, struct error *err)
{
	static const char *const files[] = { "uid_map", "gid_map" };
	AUTO(free) char *map = mem_printf("0 %u %u\n", LAYER_UID_BASE, LAYER_UID_COUNT);

	for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
		AUTO(free) char *path = mem_printf("/proc/%d/%s", job->pid, files[i]);
		int r = file_write_kernel(AT_FDCWD, path, map);

		if (r < 0)
			return error_set(err, r, "image worker: %s", files[i]);
	}
	return 0;
}

/* Waits for the worker, or for `extra_fd`.  Returns 1 when the worker said something, 0 for extra.
 */
static int wait_for(struct job *job, int extra_fd, struct error *err)
{
	struct pollfd fds[] = {
		{ .fd = job->cancel_fd, .events = POLLIN },
		{ .fd = extra_fd, .events = POLLIN },
		{ .fd = job->wire.fd, .events = POLLIN },
	};

	while (poll(fds, ARRAY_COUNT(fds), -1) < 0)
		if (errno != EINTR)
			return error_set(err, -errno, "poll");
	if (fds[0].revents)
		return error_say(err, -ECANCELED, "cancelled");
	return fds[1].revents ? 0 : 1;
}

/* How it ended, when it ended without a last word. */
static int explain_end(struct job *job, struct error *err)
{
	int status = 0;

	kill(job->pid, SIGKILL);
	while (waitpid(job->pid, &status, 0) < 0 && errno == EINTR)
		;
	job->pid = 0;
	if (WIFSIGNALED(status))
		return error_say(err, -EPIPE, "the image worker was killed by signal %d",
				 WTERMSIG(status));
	return error_say(err, -EPIPE, "the image worker ended with status %d", WEXITSTATUS(status));
}

/* The next message; NULL never.  With `extra_fd` returns 1 when that is readable first. */
static int next_message(struct job *job, int extra_fd, json_t **ret, struct error *err)
{
	for (;;) {
		int r = wire_next(&job->wire, ret, err);

		if (r < 0)
			return error_wrap(err, r, "image worker");
		if (*ret)
			return 0;
		r = wait_for(job, extra_fd, err);
		if (r < 0)
			return r;
		if (r == 0)
			return 1;
		r = wire_fill(&job->wire);
		if (r == 0 || r == -ECONNRESET)
			return explain_end(job, err);
		if (r < 0)
			return error_set(err, r, "image worker");
	}
}

static int read_layer_index(struct job *job, struct json_reader *in, const json_t *message,
			    size_t *ret)
{
	int64_t index = -1;
	int64_t last = job->layers ? (int64_t) job->info.layer_count - 1 : OCI_LAYERS_MAX - 1;
	int r = json_read_int(in, message, "layer", 0, last, &index);

	if (r == 0 && index < 0)
		r = in->result = error_say(in->err, -EPROTO, "a message without a layer");
	*ret = (size_t) index;
	return r;
}

static struct job_node *add_node(struct job *job)
{
	if ((job->node_count & (job->node_count + 1)) == 0)
		job->nodes = mem_realloc(job->nodes, 2 * job->node_count + 2, sizeof(*job->nodes));
	job->nodes[job->node_count] = (struct job_node){};
	return &job->nodes[job->node_count++];
}

static int take_node(struct job *job, const json_t *message, bool opaque, struct error *err)
{
	struct json_reader in = { .err = err, .where = "node" };
	AUTO(free) char *path = NULL;
	struct job_node node = { .opaque = opaque };
	int r;

	if (opaque ? job->node_count - job->device_count >= WIRE_OPAQUE_MAX
		   : job->device_count >= WIRE_NODES_MAX)
		return error_say(err, -E2BIG, "the image has more than %d %s",
				 opaque ? WIRE_OPAQUE_MAX : WIRE_NODES_MAX,
				 opaque ? "opaque folders" : "devices");
	json_read_any(&in, message, "type", NULL);
	read_layer_index(job, &in, message, &node.layer);
	json_read_string(&in, message, "path", &path);
	if (!opaque) {
		json_read_uint32(&in, message, "mode", S_IFMT | 07777, &node.mode);
		json_read_uint32(&in, message, "uid", LAYER_UID_COUNT - 1, &node.uid);
		json_read_uint32(&in, message, "gid", LAYER_UID_COUNT - 1, &node.gid);
		json_read_uint32(&in, message, "major", 4095, &node.major);
		json_read_uint32(&in, message, "minor", 1048575, &node.minor);
	}
	r = json_reader_finish(&in, message);
	if (r < 0)
		return r;
	if (!path || wire_path_decode(path, &node.path) < 0)
		return error_say(err, -EPROTO, "node: bad path");
	if (!opaque && !S_ISCHR(node.mode) && !S_ISBLK(node.mode)) {
		free(node.path);
		return error_say(err, -EPROTO, "node: not a device");
	}
	job->device_count += !opaque;
	*add_node(job) = node;
	return 0;
}

/* The same bytes cannot be two different layers. */
static int check_layers(const struct image_info *info, struct error *err)
{
	for (size_t i = 0; i < info->layer_count; i++)
		for (size_t j = 0; j < i; j++)
			if (digest_equal(&info->layers[i].digest, &info->layers[j].digest) &&
			    !digest_equal(&info->layers[i].diff_id, &info->layers[j].diff_id))
				return error_say(err, -EINVAL,
						 "layers %zu and %zu are the same blob but have "
						 "different diff ids: the image is broken",
						 j + 1, i + 1);
	return 0;
}

/* Finds out what is needed; waits while another job is making some of it. */
static int claim_image(struct job *job, unsigned int *need, struct error *err)
{
	for (;;) {
		AUTO(json_decref) json_t *message = NULL;
		eventfd_t count;
		int r = store_claim_image(job->store, &job->claim, &job->info, need);

		if (r != -EAGAIN)
			return r;
		if (job->progress)
			job->progress(0, 0, "waiting for another pull of the same layers",
				      job->progress_data);
		/* The worker has nothing to say now, but it may end. */
		r = next_message(job, job->claim.wake_fd, &message, err);
		if (r < 0)
			return r;
		if (message)
			return error_say(err, -EPROTO, "image worker: it speaks out of turn");
		eventfd_read(job->claim.wake_fd, &count);
	}
}

static int take_layers(struct job *job, const json_t *message, struct error *err)
{
	AUTO(free) unsigned int *need = NULL;
	json_t *reply = json_array();
	int r;

	if (job->layers) {
		json_decref(reply);
		return error_say(err, -EPROTO, "image worker: two images");
	}
	r = image_info_read(json_object_get(message, "info"), &job->info, err);
	if (r == 0)
		r = check_layers(&job->info, err);
	if (r == 0) {
		need = mem_new0_array(unsigned int, job->info.layer_count);
		r = claim_image(job, need, err);
	}
	if (r < 0) {
		json_decref(reply);
		return r;
	}
	job->layers = mem_new0_array(struct job_layer, job->info.layer_count);
	for (size_t i = 0; i < job->info.layer_count; i++) {
		const struct digest *digest = &job->info.layers[i].digest;
		char name[DIGEST_TEXT_SIZE];

		job->layers[i].need = need[i];
		json_array_append_new(reply, json_integer(need[i]));
		digest_format(digest, name);
		if ((need[i] & WIRE_NEED_BLOB) && faccessat(job->blobs_fd, name, F_OK, 0) < 0)
			store_take_blob(job->store, digest, job->blobs_fd, name, LAYER_UID_BASE);
	}
	r = wire_send(job->wire.fd, json_pack("{s:o}", "need", reply));
	return r < 0 ? error_set(err, r, "image worker") : 0;
}

static int take_layer(struct job *job, json_t *message, struct error *err)
{
	struct json_reader in = { .err = err, .where = "layer" };
	struct layer_meta meta;
	size_t index;
	int r = read_layer_index(job, &in, message, &index);

	if (r < 0)
		return r;
	if (!job->layers)
		return error_say(err, -EPROTO, "image worker: a layer of no image");
	json_object_del(message, "type");
	json_object_del(message, "layer");
	r = layer_meta_read(message, &meta, err);
	if (r < 0)
		return r;
	job->layers[index].meta = meta;
	job->layers[index].done = true;
	return 0;
}

static void take_progress(struct job *job, const json_t *message)
{
	const char *text = json_string_value(json_object_get(message, "text"));
	json_int_t done = json_integer_value(json_object_get(message, "done"));
	json_int_t total = json_integer_value(json_object_get(message, "total"));

	if (job->progress && text && strlen(text) < TEXT_MAX && done >= 0 && total >= 0)
		job->progress((uint64_t) done, (uint64_t) total, text, job->progress_data);
}

/* The worker's last word when it failed: its code and message are checked, then taken. */
static int take_error(const json_t *message, struct error *err)
{
	const char *text = json_string_value(json_object_get(message, "message"));
	json_int_t code = json_integer_value(json_object_get(message, "code"));
	int r;

	r = error_say(err, code < 0 && code > -4096 ? (int) code : -EIO, "%s",
		      text && text[0] ? text : "the image worker failed without a word");
	/* One line without control characters, whatever an image's names hold. */
	for (char *p = err ? err->msg : NULL; p && *p; p++)
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			*p = '?';
	return r;
}

static int take_message(struct job *job, json_t *message, struct error *err)
{
	const char *type = json_string_value(json_object_get(message, "type"));

	if (!type)
		return error_say(err, -EPROTO, "image worker: a message without a type");
	if (strcmp(type, "progress") == 0) {
		take_progress(job, message);
		return 0;
	}
	if (strcmp(type, "ready") == 0)
		return error_say(err, -EPROTO, "image worker: it is ready twice");
	if (strcmp(type, "layers") == 0)
		return take_layers(job, message, err);
	if (strcmp(type, "node") == 0)
		return take_node(job, message, false, err);
	if (strcmp(type, "opaque") == 0)
		return take_node(job, message, true, err);
	if (strcmp(type, "layer") == 0)
		return take_layer(job, message, err);
	if (strcmp(type, "unchanged") == 0) {
		const char *top = json_string_value(json_object_get(message, "top"));

		return digest_parse(top ? top : "", &job->unchanged, err);
	}
	if (strcmp(type, "done") == 0) {
		job->done = true;
		return 0;
	}
	if (strcmp(type, "error") == 0)
		return take_error(message, err);
	return error_say(err, -EPROTO, "image worker: a message of type '%.40s'", type);
}

static int converse(struct job *job, json_t *request, struct error *err)
{
	AUTO(json_decref) json_t *own = request;
	AUTO(json_decref) json_t *ready = NULL;
	const char *type;
	int r = next_message(job, -1, &ready, err);

	if (r < 0)
		return r;
	type = json_string_value(json_object_get(ready, "type"));
	if (type && strcmp(type, "error") == 0)
		return take_error(ready, err);
	if (!type || strcmp(type, "ready") != 0)
		return error_say(err, -EPROTO, "image worker: it does not begin as it should");
	r = write_maps(job, err);
	if (r < 0)
		return r;
	r = wire_send(job->wire.fd, json_incref(request));
	if (r < 0)
		return error_set(err, r, "image worker");
	while (!job->done) {
		AUTO(json_decref) json_t *message = NULL;

		r = next_message(job, -1, &message, err);
		if (r == 0)
			r = take_message(job, message, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Afterwards nobody can change what the worker made. */
static void reap(struct job *job)
{
	if (job->pid <= 0)
		return;
	kill(job->pid, SIGKILL);
	while (waitpid(job->pid, NULL, 0) < 0 && errno == EINTR)
		;
	job->pid = 0;
}

int job_run(struct job *job, json_t *request, struct error *err)
{
	int r;

	job->dir_fd = job->work_fd = job->blobs_fd = job->wire.fd = -1;
	r = make_folders(job, err);
	if (r == 0)
		r = start(job, err);
	if (r < 0) {
		json_decref(request);
		return r;
	}
	r = converse(job, request, err);
	/* Its parting word said, it exits by itself; but it is not trusted to. */
	reap(job);
	if (r == 0 && job->unchanged.kind == DIGEST_NONE) {
		if (!job->layers)
			return error_say(err, -EPROTO, "image worker: it made nothing");
		r = job_store_all(job, err);
	}
	if (r < 0 && strcmp(job->action, "pull") == 0)
		job_keep_partials(job);
	return r;
}

void job_done(struct job *job)
{
	reap(job);
	fd_close(job->wire.fd);
	wire_done(&job->wire);
	fd_close(job->blobs_fd);
	fd_close(job->work_fd);
	fd_close(job->dir_fd);
	if (job->dir)
		file_remove_tree(job->store->dir_fd, job->dir);
	free(job->dir);
	store_claim_end(job->store, &job->claim);
	image_info_done(&job->info);
	for (size_t i = 0; i < job->node_count; i++)
		free(job->nodes[i].path);
	free(job->nodes);
	free(job->layers);
	*job = (struct job){ .dir_fd = -1 };
}
