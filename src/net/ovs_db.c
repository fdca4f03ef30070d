#include "net/ovs_db_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/strbuf.h"

enum { READ_BYTES = 65536, MESSAGES_MAX = 64, DEPTH_MAX = 64, REQUEST_ID = 1, WORDS_MAX = 200 };

/* ---- decoding ---- */

long ovs_db_frame(struct ovs_db_frame *frame, const char *data, size_t size)
{
	if (frame->at == 0 && size > 0 && data[0] != '{')
		return -EBADMSG;
	while (frame->at < size) {
		char c = data[frame->at++];

		if (frame->string) {
			if (frame->escaped)
				frame->escaped = false;
			else if (c == '\\')
				frame->escaped = true;
			else if (c == '"')
				frame->string = false;
		} else if (c == '"') {
			frame->string = true;
		} else if (c == '{' || c == '[') {
			if (++frame->depth > DEPTH_MAX)
				return -EBADMSG;
		} else if ((c == '}' || c == ']') && --frame->depth == 0) {
			return (long) frame->at;
		}
	}
	return 0;
}

/* The daemon's own words, fit to be shown. */
static int say_failure(const json_t *failure, struct error *err)
{
	AUTO(strbuf_done) struct strbuf words = {};
	const char *error = json_string_value(json_object_get(failure, "error"));
	const char *details = json_string_value(json_object_get(failure, "details"));

	error = error ? error : "an error without words";
	strbuf_put_printable(&words, error, strnlen(error, WORDS_MAX));
	if (details && details[0]) {
		strbuf_puts(&words, ": ");
		strbuf_put_printable(&words, details, strnlen(details, WORDS_MAX));
	}
	if (strcmp(error, "timed out") == 0)
		return error_say(err, -ETIMEDOUT,
				 "Open vSwitch: ovs-vswitchd does not do what is written in its "
				 "database; does it run?");
	return error_say(err, -EIO, "Open vSwitch: %s", strbuf_str(&words));
}

static int decode_results(const json_t *message, size_t count, json_t **ret, struct error *err)
{
	const json_t *error = json_object_get(message, "error"), *one;
	json_t *results = json_object_get(message, "result");
	size_t i;

	if (error && !json_is_null(error)) {
		AUTO(json_decref) json_t *failure = json_is_object(error) ? NULL : json_object();

		if (failure)
			json_object_set(failure, "error", (json_t *) error);
		return say_failure(failure ? failure : error, err);
	}
	/* One that failed ends the list; what failed at the commit stands behind all. */
	json_array_foreach(results, i, one)
	{
		const json_t *failed = json_object_get(one, "error");

		if (failed && !json_is_null(failed))
			return say_failure(one, err);
	}
	if (!json_is_array(results) || json_array_size(results) < count)
		return error_say(err, -EBADMSG, "Open vSwitch's database answered with nonsense");
	*ret = json_incref(results);
	return 1;
}

int ovs_db_decode(const char *data, size_t size, size_t count, json_t **ret, struct error *err)
{
	AUTO(json_decref) json_t *message = NULL;
	const json_t *id;
	const char *method;
	int r = json_parse(data, size, OVS_DB_MESSAGE_MAX, &message, err);

	if (r < 0)
		return error_wrap(err, r, "Open vSwitch's database");
	id = json_object_get(message, "id");
	method = json_string_value(json_object_get(message, "method"));
	*ret = NULL;
	if (method) {
		const json_t *params = json_object_get(message, "params");

		/* It asks whether we live; everything else is news that we did not ask for. */
		if (strcmp(method, "echo") == 0 && id && json_is_array(params))
			*ret = json_pack("{s:O, s:n, s:O}", "result", params, "error", "id", id);
		return 0;
	}
	if (!json_is_integer(id) || json_integer_value(id) != REQUEST_ID)
		return 0;
	return decode_results(message, count, ret, err);
}

const char *ovs_db_text(const json_t *row, const char *column)
{
	return json_string_value(json_object_get(row, column));
}

/* ["uuid", "..."], else NULL. */
static const char *uuid_of(const json_t *value)
{
	const char *kind = json_string_value(json_array_get(value, 0));

	return kind && strcmp(kind, "uuid") == 0 ? json_string_value(json_array_get(value, 1))
						 : NULL;
}

/* The list in ["set", [...]] or ["map", [...]], else NULL. */
static const json_t *list_of(const json_t *value, const char *wanted)
{
	const char *kind = json_string_value(json_array_get(value, 0));
	const json_t *list = json_array_get(value, 1);

	return kind && strcmp(kind, wanted) == 0 && json_is_array(list) ? list : NULL;
}

const char *ovs_db_uuid(const json_t *row)
{
	return uuid_of(json_object_get(row, "_uuid"));
}

const char *ovs_db_map_get(const json_t *row, const char *column, const char *key)
{
	const json_t *list = list_of(json_object_get(row, column), "map"), *pair;
	size_t i;

	json_array_foreach(list, i, pair)
	{
		const char *name = json_string_value(json_array_get(pair, 0));

		if (name && strcmp(name, key) == 0)
			return json_string_value(json_array_get(pair, 1));
	}
	return NULL;
}

bool ovs_db_refers(const json_t *row, const char *column, const char *uuid)
{
	const json_t *value = json_object_get(row, column), *list = list_of(value, "set"), *one;
	const char *single = uuid_of(value);
	size_t i;

	if (single)
		return strcmp(single, uuid) == 0;
	json_array_foreach(list, i, one)
	{
		const char *text = uuid_of(one);

		if (text && strcmp(text, uuid) == 0)
			return true;
	}
	return false;
}

const json_t *ovs_db_rows(const json_t *results, size_t index)
{
	const json_t *rows = json_object_get(json_array_get(results, index), "rows");

	return json_is_array(rows) ? rows : NULL;
}

/* ---- the connection ---- */

static int64_t left_ms(uint64_t end_us)
{
	uint64_t now = clock_monotonic_us(clock_system());

	return now < end_us ? (int64_t) ((end_us - now + 999) / 1000) : 0;
}

static int await(int fd, short events, uint64_t end_us)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };
	int r;

	do
		r = poll(&poll_fd, 1, (int) left_ms(end_us));
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

static int connect_to(const char *path, struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	AUTO(fd_close)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_set(err, -errno, "cannot make a socket");
	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(err, -ENAMETOOLONG, "%s", path);
	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0)
		return TAKE_FD(fd);
	if (errno == ENOENT || errno == ECONNREFUSED)
		return error_say(err, -errno,
				 "Open vSwitch does not run here (nobody listens at %s); start it, "
				 "or use driver bridge",
				 path);
	return error_set(err, -errno, "cannot connect to %s", path);
}

static int send_message(int fd, const json_t *message, uint64_t end_us)
{
	AUTO(free) char *text = json_dumps(message, JSON_COMPACT);
	size_t size = text ? strlen(text) : 0, sent = 0;

	if (!text)
		return -ENOMEM;
	while (sent < size) {
		ssize_t n = send(fd, text + sent, size - sent, MSG_NOSIGNAL);
		int r = 0;

		if (n >= 0)
			sent += (size_t) n;
		else if (errno == EAGAIN)
			r = await(fd, POLLOUT, end_us);
		else if (errno != EINTR)
			r = -errno;
		if (r < 0)
			return r;
	}
	return 0;
}

/* One whole message stands at the beginning of `in` afterwards; its size, or -errno. */
static long receive_message(int fd, struct strbuf *in, uint64_t end_us)
{
	struct ovs_db_frame frame = {};

	for (;;) {
		long found = ovs_db_frame(&frame, in->data, in->size);
		ssize_t n;
		int r = 0;

		if (found != 0)
			return found;
		if (in->size > OVS_DB_MESSAGE_MAX)
			return -EMSGSIZE;
		n = recv(fd, strbuf_reserve(in, READ_BYTES), READ_BYTES, 0);
		if (n > 0)
			strbuf_grown(in, (size_t) n);
		else if (n == 0)
			r = -ECONNRESET;
		else if (errno == EAGAIN)
			r = await(fd, POLLIN, end_us);
		else if (errno != EINTR)
			r = -errno;
		if (r < 0)
			return r;
	}
}

static int exchange(int fd, const json_t *request, size_t count, json_t **ret, struct error *err)
{
	uint64_t end_us = clock_monotonic_us(clock_system()) + OVS_DB_PATIENCE_MS * UINT64_C(1000);
	AUTO(strbuf_done) struct strbuf in = {};
	long r = send_message(fd, request, end_us);

	for (int i = 0; r == 0 && i < MESSAGES_MAX; i++) {
		AUTO(json_decref) json_t *answer = NULL;
		int kind;

		r = receive_message(fd, &in, end_us);
		if (r < 0)
			break;
		kind = ovs_db_decode(in.data, (size_t) r, count, &answer, err);
		if (kind < 0)
			return kind;
		if (kind == 1) {
			*ret = TAKE_PTR(answer);
			return 0;
		}
		strbuf_consume(&in, (size_t) r);
		r = answer ? send_message(fd, answer, end_us) : 0;
	}
	return error_set(err, r < 0 ? (int) r : -EBADMSG, "Open vSwitch's database");
}

int ovs_db_transact(const char *socket, json_t *operations, json_t **ret_results, struct error *err)
{
	AUTO(json_decref) json_t *params = operations, *request = NULL;
	AUTO(fd_close) int fd = connect_to(socket, err);
	size_t count = json_array_size(operations);

	if (fd < 0)
		return fd;
	json_array_insert_new(params, 0, json_string("Open_vSwitch"));
	request = json_pack("{s:s, s:O, s:i}", "method", "transact", "params", params, "id",
			    REQUEST_ID);
	return exchange(fd, request, count, ret_results, err);
}
