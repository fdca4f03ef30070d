/*
 * Attached to an instance: what it writes, as its log has it, and what it reads.
 *
 * Output comes from the log's files, so any number of readers, however slow, costs the instance
 * nothing and every one of them sees every byte; input goes straight into the terminal or the FIFO,
 * to which each has a descriptor of its own.  A stream of this kind ends with the run it was opened
 * for, or with the next one when nothing ran (`wait`).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/guest.h"
#include "agent/hold.h"
#include "agent/instance_actor.h"
#include "agent/logfeed.h"
#include "agent/outpipe.h"
#include "agent/stream.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/stream_control.h"

static const struct stream_ops attach_ops;

struct attach {
	struct logfeed feed;
	char job[KEEPER_JOB_MAX + 1];
	bool stdin_wanted, wait;
	bool tty, once; /* of the instance */
	bool machine;   /* its terminal is the guest's */
	bool detached;  /* the client leaves on purpose: its input does not end */
	bool ended;     /* the run is over, and what it wrote is in the log */
	int64_t exit_code;
	uint32_t width, height;
	struct inpipe in;
};

static void attach_free(void *data)
{
	struct attach *attach = data;

	inpipe_done(&attach->in);
	logfeed_done(&attach->feed);
	free(attach);
}

static void tell_size(const struct attach *attach)
{
	AUTO(json_decref) json_t *size = NULL;
	struct guest *guest = NULL;

	if (!attach->tty || attach->width == 0 || attach->height == 0 ||
	    instance_guest(attach->feed.agent, attach->feed.uid, &guest, NULL) <= 0)
		return;
	size = json_pack("{s:s, s:I, s:I}", "kind", "resize", "width", (json_int_t) attach->width,
			 "height", (json_int_t) attach->height);
	guest_tell(guest, size);
}

static void set_size(struct attach *attach)
{
	struct winsize size = { .ws_col = (unsigned short) attach->width,
				.ws_row = (unsigned short) attach->height };

	if (attach->machine) {
		tell_size(attach);
		return;
	}
	if (attach->tty && attach->in.fd >= 0 && attach->width > 0 && attach->height > 0)
		ioctl(attach->in.fd, TIOCSWINSZ, &size);
}

/* The terminal or the FIFO is there once the instance runs. */
static void open_input(struct attach *attach)
{
	struct error err = {};
	int fd;

	if (attach->in.fd >= 0 || attach->in.gone || (!attach->stdin_wanted && !attach->tty))
		return;
	fd = hold_open_input(attach->feed.agent, attach->job);
	if (fd < 0)
		return;
	if (inpipe_start(&attach->in, attach->feed.stream, fd, &err) < 0)
		log_error("attach %s: %s", attach->job, err.msg);
	set_size(attach);
}

static void at_end(void *data)
{
	struct attach *attach = data;
	struct error err = {};

	if (!attach->ended)
		return;
	if (attach->exit_code >= 0) {
		stream_close_code(attach->feed.stream, attach->exit_code);
		return;
	}
	error_say(&err, -ENODATA,
		  "the instance has ended while nobody watched: its exit code is not known");
	stream_close_error(attach->feed.stream, &err);
}

static void attach_writable(void *data)
{
	struct attach *attach = data;

	logfeed_pump(&attach->feed);
}

static void tell_signal(const struct attach *attach, int number)
{
	AUTO(free) char *text = mem_printf("%d", number);
	AUTO(json_decref)
	json_t *arguments = json_pack("{s:s, s:s}", "kind", "signal", "signal", text);
	struct guest *guest = NULL;

	if (instance_guest(attach->feed.agent, attach->feed.uid, &guest, NULL) > 0)
		guest_tell(guest, arguments);
}

static void send_signal(struct attach *attach, int number)
{
	struct keeper_client *keeper = agent_keeper(attach->feed.agent);

	if (attach->machine)
		tell_signal(attach, number);
	else if (keeper && !attach->ended)
		keeper_client_signal(keeper, attach->job, number);
}

static void close_input(void *data, void *argument)
{
	struct attach *attach = data;

	if (strcmp(attach->job, argument) == 0 && !attach->tty)
		inpipe_close(&attach->in);
}

/* Everything was written.  As long as one of us has the FIFO open, the instance sees no end. */
static void input_finished(void *data)
{
	struct attach *attach = data;

	stream_each(attach->feed.agent, &attach_ops, close_input, attach->job);
	hold_end_input(attach->feed.agent, attach->job);
}

/* A terminal has no end; its reader gets the character that says so. */
static void end_input(struct attach *attach)
{
	if (attach->tty)
		inpipe_write(&attach->in, "\4", 1);
	else if (attach->once)
		inpipe_finish(&attach->in);
}

static int control(struct attach *attach, const char *data, size_t size, struct error *err)
{
	AUTO(json_decref) json_t *message = NULL;
	struct stream_control control;
	int r = json_parse(data, size, FRAME_BODY_MAX, &message, err);

	if (r == 0)
		r = stream_control_decode(message, &control, err);
	if (r < 0)
		return r;
	attach->detached |= control.detach;
	if (control.width > 0) {
		attach->width = control.width;
		attach->height = control.height;
		set_size(attach);
	}
	if (control.signal > 0)
		send_signal(attach, control.signal);
	if (control.eof && attach->stdin_wanted)
		end_input(attach);
	return 0;
}

static int attach_received(void *data, enum frame_channel channel, const char *bytes, size_t size,
			   struct error *err)
{
	struct attach *attach = data;

	if (channel == FRAME_CHANNEL_CONTROL)
		return control(attach, bytes, size, err);
	if (channel != FRAME_CHANNEL_IN || !attach->stdin_wanted)
		return error_say(err, -EINVAL, "attach: was opened without input");
	open_input(attach);
	inpipe_write(&attach->in, bytes, size);
	return 0;
}

/* Gone without a word: that is the end of its input as well. */
static void attach_left(void *data)
{
	struct attach *attach = data;

	if (attach->stdin_wanted && attach->once && !attach->tty && !attach->detached &&
	    !attach->ended)
		input_finished(attach);
}

static const struct stream_ops attach_ops = { attach_received, attach_writable, attach_free,
					      attach_left };

static int read_arguments(struct attach *attach, const json_t *arguments, struct error *err)
{
	struct json_reader in = { .err = err, .where = "attach" };

	logfeed_read_arguments(&attach->feed, &in, arguments);
	json_read_bool(&in, arguments, "stdin", &attach->stdin_wanted);
	json_read_bool(&in, arguments, "wait", &attach->wait);
	json_read_uint32(&in, arguments, "width", UINT16_MAX, &attach->width);
	json_read_uint32(&in, arguments, "height", UINT16_MAX, &attach->height);
	return json_reader_finish(&in, arguments);
}

static int begin(struct attach *attach, const json_t *arguments, struct error *err)
{
	struct logfeed *feed = &attach->feed;
	struct instance_stdio stdio;
	int r = read_arguments(attach, arguments, err);

	if (r < 0)
		return r;
	r = instance_find_stdio(feed->agent, feed->uid, &stdio);
	if (r < 0)
		return error_say(err, -ENOENT, "the instance is not on this node (yet)");
	if (!stdio.running && !attach->wait)
		return error_say(err, -ESRCH, "the instance is not running; start it first");
	if (attach->stdin_wanted && !stdio.tty && !stdio.has_input)
		return error_say(err, -EINVAL,
				 "the instance has no input: it was not launched with -i or -t");
	attach->tty = stdio.tty;
	attach->once = stdio.once;
	attach->machine = stdio.machine;
	snprintf(attach->job, sizeof(attach->job), "i-%s", feed->uid);
	open_input(attach);
	logfeed_start(feed, agent_state_path(feed->agent, feed->uid, NULL), "log", true);
	return 0;
}

int attach_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
		void **ret_data, struct error *err)
{
	struct attach *attach = mem_new0(struct attach);
	int r;

	attach->feed = (struct logfeed){
		.stream = stream, .agent = stream_agent(stream), .at_end = at_end, .data = attach
	};
	attach->in = (struct inpipe){
		.stream = stream, .fd = -1, .finished = input_finished, .data = attach
	};
	r = begin(attach, arguments, err);
	if (r < 0) {
		attach_free(attach);
		return r;
	}
	*ret_ops = &attach_ops;
	*ret_data = attach;
	return 0;
}

struct news {
	const char *uid;
	bool ended;
	int64_t exit_code;
	const char *failure; /* or NULL */
};

static void tell(void *data, void *argument)
{
	const struct news *news = argument;
	struct attach *attach = data;
	struct error err = {};

	if (strcmp(attach->feed.uid, news->uid) != 0 || attach->ended)
		return;
	if (news->failure) {
		error_say(&err, -ECANCELED, "%s", news->failure);
		stream_close_error(attach->feed.stream, &err);
		return;
	}
	if (news->ended) {
		attach->ended = true;
		attach->exit_code = news->exit_code;
		if (!attach->feed.search)
			logreader_catch_up(&attach->feed.reader);
	} else {
		open_input(attach);
		/* Whoever waited for the run could not say it before. */
		if (attach->machine)
			tell_size(attach);
	}
	logfeed_go_on(&attach->feed);
}

void attach_instance_runs(struct agent *agent, const char *uid)
{
	struct news news = { .uid = uid };

	stream_each(agent, &attach_ops, tell, &news);
}

void attach_instance_ended(struct agent *agent, const char *uid, int64_t exit_code)
{
	struct news news = { .uid = uid, .ended = true, .exit_code = exit_code };

	stream_each(agent, &attach_ops, tell, &news);
}

void attach_instance_failed(struct agent *agent, const char *uid, const char *message)
{
	struct news news = { .uid = uid, .failure = message };

	stream_each(agent, &attach_ops, tell, &news);
}
