#include "vmm/ctl.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "codec/frame.h"
#include "kern/sock.h"
#include "vmm/options_internal.h"

enum {
	CALL_ID = 1,
	READ_BYTES = 4096,
	ANSWER_BYTES_MAX = 4 << 20,
	TIMEOUT_MAX_S = 600,
	INDENT = 1,
};

static const char help[] =
	"Usage: brume-vmm ctl SOCKET METHOD [ARGUMENT]\n"
	"\n"
	"Calls the machine that was started with --control SOCKET and prints its answer as JSON.\n"
	"\n"
	"  info, metrics                     what it is and has done\n"
	"  pause, resume, power_button, reset, quit\n"
	"  balloon [SIZE]                    the guest shall have SIZE of its memory, like 128M\n"
	"  add_disk FILE[,WORD...]           words as of --disk: ro, id=NAME, serial=NAME, "
	"queues=N,\n"
	"                                    ops=N, bytes=N\n"
	"  add_nic TAP[,WORD...]             as --net: tap=NAME or fd:N; id=NAME, mac=M, mtu=N, "
	"ops=N,\n"
	"                                    bytes=N\n"
	"  remove ID[,timeout=SECONDS]       takes a disk or a card out when the guest has let go "
	"of it\n"
	"                                    (default 10 seconds)\n"
	"\n"
	"Examples:\n"
	"  brume-vmm ctl control.sock info\n"
	"  brume-vmm ctl control.sock add_disk data.img,id=data\n"
	"  brume-vmm ctl control.sock remove data,timeout=30\n";

/* What is sent: arguments, and a descriptor that `options` keeps. */
struct call {
	const char *method;
	json_t *arguments;
	int fd;
	struct options options;
};

static void call_done(struct call *call)
{
	json_decref(call->arguments);
	options_done(&call->options);
}

static void call_done_autop(struct call *call)
{
	call_done(call);
}

static void put_number(json_t *object, const char *name, uint64_t value)
{
	if (value > 0)
		json_object_set_new(object, name, json_integer((json_int_t) value));
}

static int add_disk(struct call *call, char *text, struct error *err)
{
	int r = options_device(&call->options, OPTIONS_DISK, call->method, text, err);
	const struct vm_disk *disk = &call->options.vm.disks[0];

	if (r < 0)
		return r;
	json_put_string(call->arguments, "id", disk->id);
	json_put_string(call->arguments, "serial", disk->serial);
	json_object_set_new(call->arguments, "read_only", json_boolean(disk->read_only));
	put_number(call->arguments, "queues", disk->queues);
	put_number(call->arguments, "ops_per_second", disk->ops_per_second);
	put_number(call->arguments, "bytes_per_second", disk->bytes_per_second);
	call->fd = disk->fd;
	return 0;
}

static int add_nic(struct call *call, char *text, struct error *err)
{
	int r = options_device(&call->options, OPTIONS_NET, call->method, text, err);
	const struct vm_nic *nic = &call->options.vm.nics[0];
	const uint8_t *mac = nic->mac;
	char words[24] = "";

	if (r < 0)
		return r;
	if (nic->more_count > 0)
		return error_say(
			err, -EINVAL,
			"add_nic: one descriptor goes with a call, so a card that is added has "
			"one queue; leave queues=N out");
	if (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5])
		snprintf(words, sizeof(words), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
			 mac[2], mac[3], mac[4], mac[5]);
	json_put_string(call->arguments, "id", nic->id);
	json_put_string(call->arguments, "mac", words);
	put_number(call->arguments, "mtu", nic->mtu);
	put_number(call->arguments, "ops_per_second", nic->ops_per_second);
	put_number(call->arguments, "bytes_per_second", nic->bytes_per_second);
	call->fd = nic->fd;
	return 0;
}

static int remove_device(struct call *call, char *text, struct error *err)
{
	char *name, *value;
	uint64_t seconds;
	int r = 0;

	options_word(&text, &name, &value);
	if (value)
		return error_say(err, -EINVAL, "remove: the device's id comes first");
	json_object_set_new(call->arguments, "id", json_string(name));
	while (r == 0 && options_word(&text, &name, &value)) {
		if (strcmp(name, "timeout") != 0 || !value)
			return error_say(err, -EINVAL,
					 "remove: unknown word '%.40s'; there is timeout=SECONDS",
					 name);
		r = options_number("remove timeout", value, 0, TIMEOUT_MAX_S, &seconds, err);
		if (r == 0)
			json_object_set_new(call->arguments, "timeout_ms",
					    json_integer((json_int_t) seconds * 1000));
	}
	return r;
}

static int set_balloon(struct call *call, char *text, struct error *err)
{
	uint64_t bytes;
	int r = options_size("balloon", text, &bytes, err);

	if (r == 0)
		json_object_set_new(call->arguments, "target_bytes",
				    json_integer((json_int_t) bytes));
	return r;
}

static int make_call(int argc, char **argv, struct call *call, struct error *err)
{
	static const struct {
		const char *name;
		int (*fn)(struct call *call, char *text, struct error *err); /* NULL: none */
		bool optional;
	} methods[] = {
		{ "add_disk", add_disk },
		{ "add_nic", add_nic },
		{ "remove", remove_device },
		{ "balloon", set_balloon, true },
	};
	char *text = argc == 4 ? argv[3] : NULL;

	if (argc < 3 || argc > 4)
		return error_say(err, -EINVAL,
				 "ctl needs SOCKET, METHOD and at most one ARGUMENT; see ctl "
				 "--help");
	call->method = argv[2];
	for (size_t i = 0; i < ARRAY_COUNT(methods); i++) {
		if (strcmp(methods[i].name, call->method) != 0)
			continue;
		if (text)
			return methods[i].fn(call, text, err);
		return methods[i].optional
			       ? 0
			       : error_say(err, -EINVAL, "%s needs an ARGUMENT; see ctl --help",
					   call->method);
	}
	return text ? error_say(err, -EINVAL, "%.40s has no ARGUMENT; see ctl --help", call->method)
		    : 0;
}

static int receive(int fd, json_t **ret, struct error *err)
{
	AUTO(strbuf_done) struct strbuf in = {};
	struct pollfd ready = { fd, POLLIN, 0 };
	struct frame frame;
	size_t used;
	int r;

	while ((r = frame_decode(in.data, in.size, &frame, &used, err)) == 0) {
		ssize_t n;

		if (in.size > ANSWER_BYTES_MAX)
			return error_say(err, -EPROTO, "the machine's answer is too large");
		if (poll(&ready, 1, -1) < 0 && errno != EINTR)
			return error_set(err, -errno, "waiting for the machine");
		n = recv(fd, strbuf_reserve(&in, READ_BYTES), READ_BYTES, 0);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return error_say(err, -ECONNRESET, "the machine has ended");
		if (n > 0)
			strbuf_grown(&in, (size_t) n);
	}
	if (r < 0)
		return r;
	if (frame.type != FRAME_RETURN || frame.id != CALL_ID)
		return error_say(err, -EPROTO, "the machine answers something else");
	return frame_json(&frame, ret, err);
}

static int print_answer(const json_t *answer, FILE *out, struct error *err)
{
	const char *error = json_string_value(json_object_get(answer, "error"));
	const json_t *result = json_object_get(answer, "result");
	AUTO(strbuf_done) struct strbuf text = {};

	if (error) {
		strbuf_put_printable(&text, error, strlen(error));
		return error_say(err, -EIO, "%s", strbuf_str(&text));
	}
	if (!json_is_object(result))
		return error_say(err, -EPROTO, "the machine's answer has no result");
	if (json_object_size(result) == 0)
		return 0;
	json_dumpf(result, out, JSON_INDENT(INDENT) | JSON_PRESERVE_ORDER);
	return fputc('\n', out) == EOF ? error_set(err, -EIO, "standard output") : 0;
}

int ctl_run(int argc, char **argv, FILE *out, struct error *err)
{
	AUTO(call_done) struct call call = { .arguments = json_object(), .fd = -1 };
	AUTO(strbuf_done) struct strbuf bytes = {};
	AUTO(json_decref) json_t *body = NULL;
	AUTO(json_decref) json_t *answer = NULL;
	AUTO(fd_close) int fd = -1;
	int r;

	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		fputs(help, out);
		return 0;
	}
	r = make_call(argc, argv, &call, err);
	if (r < 0)
		return r;
	body = json_pack("{s:s, s:O}", "method", call.method, "arguments", call.arguments);
	r = body ? frame_append_json(&bytes, FRAME_CALL, CALL_ID, body) : -EINVAL;
	if (r < 0)
		return error_set(err, r, "ctl");
	fd = sock_connect(argv[1], SOCK_STREAM);
	if (fd < 0)
		return error_set(err, fd, "%s", argv[1]);
	r = sock_send(fd, bytes.data, bytes.size, &call.fd, call.fd >= 0 ? 1 : 0);
	if (r < 0)
		return error_set(err, r, "%s", argv[1]);
	r = receive(fd, &answer, err);
	return r == 0 ? print_answer(answer, out, err) : r;
}
