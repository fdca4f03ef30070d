/*
 * What instances consume, over a stream: all of a project or some, once or again and again.
 *
 * One round at a time: the loop's thread says who runs, a worker reads, the loop sends.  The next
 * one waits until the peer has taken the last: counters lose nothing by that.  Rounds carry at most
 * ROUND_MESSAGE instances a message; all messages of a round but the last say "more".
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent_internal.h"
#include "agent/guest_poll.h"
#include "agent/instance_actor.h"
#include "agent/stream.h"
#include "agent/usage.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "kern/cgroup.h"
#include "machine/machine.h"
#include "model/instance.h"
#include "model/member.h"

enum {
	INTERVAL_MS = 1000,
	INTERVAL_MIN_MS = 100,
	INTERVAL_MAX_MS = 3600 * 1000,
	ROUND_MESSAGE = 64,
	NAME_SIZE = 64,
	MACHINE_TEXT_MAX = 256 << 10,
	MONITORS_MS = 1000, /* one that has not answered by then is left out */
};

struct sample {
	char uid[UID_SIZE];
	char name[NAME_SIZE];
	int result;
	uint64_t read_us; /* of the monotonic clock */
	struct usage usage;
	struct usage_port *ports;
	size_t port_count;
};

/* One reading of everybody; the worker's while it is read. */
struct round {
	struct stats *stats; /* NULL: the stream is gone */
	struct agent *agent;
	bool of_machine; /* the one sample has its monitor's counters, too */
	json_t *machine; /* those, or NULL */
	struct sample *list;
	size_t count, size;
	struct guest_memory *guests; /* of the machines among them, in the same order */
	char **monitors; /* run folders of those whose monitors answer; NULL: it is none */
};

struct stats {
	struct stream *stream;
	struct agent *agent;
	char *project;
	char **uids; /* NULL: all of the project */
	bool once;
	uint32_t interval_ms;
	struct round *reading;   /* on a worker, or waiting for guests */
	struct guest_poll *poll; /* the guests that are asked for it */
	struct round *last;      /* what was read before */
	struct strbuf text;      /* what is not sent yet: the answer of `once`, or messages */
	sd_event_source *timer;
};

static void round_free(struct round *round)
{
	if (!round)
		return;
	for (size_t i = 0; i < round->count; i++) {
		free(round->list[i].ports);
		if (round->monitors)
			free(round->monitors[i]);
	}
	free(round->monitors);
	free(round->list);
	free(round->guests);
	json_decref(round->machine);
	free(round);
}

static void stats_free(void *data)
{
	struct stats *stats = data;

	if (stats->poll) {
		guest_poll_cancel(stats->poll);
		round_free(stats->reading);
	} else if (stats->reading) {
		stats->reading->stats = NULL;
	}
	round_free(stats->last);
	sd_event_source_disable_unref(stats->timer);
	strbuf_done(&stats->text);
	strv_free(stats->uids);
	free(stats->project);
	free(stats);
}

static bool is_asked_for(const struct stats *stats, const struct instance *instance)
{
	if (strcmp(instance->meta.project, stats->project) != 0)
		return false;
	for (size_t i = 0; stats->uids && stats->uids[i]; i++)
		if (strcmp(stats->uids[i], instance->meta.uid) == 0)
			return true;
	return !stats->uids;
}

static void add_ports(struct sample *sample, const struct instance_spec *spec)
{
	sample->ports = mem_new0_array(struct usage_port, spec->port_count + 1);
	for (size_t i = 0; i < spec->port_count; i++) {
		const struct port *port = &spec->ports[i];
		struct usage_port *usage = &sample->ports[sample->port_count];

		if (port->leaving)
			continue;
		memcpy(usage->uid, port->uid, sizeof(usage->uid));
		memcpy(usage->interface, port->interface, sizeof(usage->interface));
		memcpy(usage->network, port->network, sizeof(usage->network));
		sample->port_count++;
	}
}

static void add_running(const struct instance *instance, pid_t pid, void *data)
{
	struct round *round = data;
	struct sample *sample;

	(void) pid;
	if (!is_asked_for(round->stats, instance))
		return;
	if (round->count == round->size) {
		round->size = round->size ? round->size * 2 : 16;
		round->list = mem_realloc(round->list, round->size, sizeof(*round->list));
	}
	sample = &round->list[round->count++];
	*sample = (struct sample){};
	memcpy(sample->uid, instance->meta.uid, sizeof(sample->uid));
	snprintf(sample->name, sizeof(sample->name), "%s", instance->meta.name);
	add_ports(sample, &instance->spec);
	round->of_machine = round->stats->once && instance->spec.type == INSTANCE_VM;
}

static void put_balloon(struct usage *usage, const json_t *answer)
{
	struct machine_balloon balloon;

	if (machine_balloon_read(answer, &balloon) < 0)
		return;
	usage->ballooned = true;
	usage->balloon_bytes = balloon.balloon_bytes;
	usage->counts_given_back = balloon.counts_given_back;
	usage->given_back_bytes = balloon.given_back_bytes;
	/* brume-init knows it of this moment; a system of its own tells only its balloon. */
	if (usage->guest_memory_total_bytes == 0 && balloon.total_bytes > 0) {
		usage->guest_memory_bytes = balloon.total_bytes - balloon.available_bytes;
		usage->guest_memory_total_bytes = balloon.total_bytes;
	}
}

/* On a worker. */
static void read_balloons(struct round *round)
{
	AUTO(free) json_t **answers = mem_new0_array(json_t *, round->count + 1);

	machine_ask_balloons(round->monitors, round->count, MONITORS_MS, answers);
	for (size_t i = 0; i < round->count; i++) {
		put_balloon(&round->list[i].usage, answers[i]);
		if (round->machine && answers[i])
			json_object_set(round->machine, "balloon", answers[i]);
		json_decref(answers[i]);
	}
}

/* On a worker. */
static void read_round(void *data)
{
	struct round *round = data;
	AUTO(cgroup_free) struct cgroup *all = NULL;
	int r = usage_open(round->agent, &all);

	for (size_t i = 0; i < round->count; i++) {
		struct sample *sample = &round->list[i];

		sample->read_us = clock_monotonic_us(clock_system());
		sample->result = r < 0 ? r : usage_read(all, sample->uid, &sample->usage);
		if (sample->result == 0)
			usage_read_ports(round->agent, sample->ports, sample->port_count,
					 &sample->usage);
		sample->usage.guest_memory_bytes = round->guests[i].used_bytes;
		sample->usage.guest_memory_total_bytes = round->guests[i].total_bytes;
	}
	/* A monitor that does not answer: what the kernel has counted is told all the same. */
	if (round->of_machine && round->list[0].result == 0 && round->monitors[0])
		(void) machine_metrics(round->monitors[0], &round->machine, NULL);
	read_balloons(round);
}

/* The same instance in the round before; both are in the same order, so the search is short. */
static const struct sample *find_before(const struct round *last, const char *uid, size_t *cursor)
{
	for (size_t i = 0; last && i < last->count; i++) {
		size_t at = (*cursor + i) % last->count;

		if (strcmp(last->list[at].uid, uid) != 0)
			continue;
		*cursor = at + 1;
		return last->list[at].result < 0 ? NULL : &last->list[at];
	}
	return NULL;
}

static void put_sample(struct strbuf *out, const struct sample *now, const struct sample *before)
{
	double percent = before ? usage_cpu_percent(&before->usage, &now->usage,
						    now->read_us - before->read_us)
				: USAGE_PERCENT_UNKNOWN;

	usage_put(out, now->name, now->uid, &now->usage, now->ports, now->port_count, percent);
}

/* Messages wait as {u32 size, text}: each is sent whole, readers get JSON and not pieces of it. */
static void queue_message(struct stats *stats, struct strbuf *message)
{
	uint32_t size = (uint32_t) message->size;

	strbuf_append(&stats->text, &size, sizeof(size));
	strbuf_append(&stats->text, message->data, message->size);
	strbuf_consume(message, message->size);
}

/* {"samples": [...], "more": true} */
static void queue_round(struct stats *stats, const struct round *round)
{
	AUTO(strbuf_done) struct strbuf out = {};
	size_t cursor = 0, in_message = 0;

	strbuf_puts(&out, "{\"samples\":[");
	for (size_t i = 0; i < round->count; i++) {
		const struct sample *sample = &round->list[i];

		/* It ended meanwhile. */
		if (sample->result < 0)
			continue;
		if (in_message == ROUND_MESSAGE) {
			strbuf_puts(&out, "],\"more\":true}");
			queue_message(stats, &out);
			strbuf_puts(&out, "{\"samples\":[");
			in_message = 0;
		}
		strbuf_puts(&out, in_message++ > 0 ? "," : "");
		put_sample(&out, sample, find_before(stats->last, sample->uid, &cursor));
	}
	strbuf_puts(&out, "]}");
	queue_message(stats, &out);
}

static void go_on(struct stats *stats)
{
	sd_event_source_set_time_relative(stats->timer, (uint64_t) stats->interval_ms * 1000);
	sd_event_source_set_enabled(stats->timer, SD_EVENT_ONESHOT);
}

/* Sends what the credit allows; the next round begins when all of this one has left. */
static void send_messages(struct stats *stats)
{
	uint32_t size;

	while (stats->text.size > 0) {
		memcpy(&size, stats->text.data, sizeof(size));
		if (size > stream_credit(stats->stream))
			return;
		stream_send(stats->stream, FRAME_CHANNEL_OUT, stats->text.data + sizeof(size),
			    size);
		strbuf_consume(&stats->text, sizeof(size) + size);
	}
	go_on(stats);
}

static void send_answer(struct stats *stats)
{
	if (stream_send_text(stats->stream, FRAME_CHANNEL_OUT, &stats->text))
		stream_close_code(stats->stream, 0);
}

/* One more member of the sample; what is too large for an answer is left out. */
static void put_machine(struct stats *stats, const json_t *machine)
{
	AUTO(free) char *text = machine ? json_text(machine) : NULL;

	if (!text || strlen(text) > MACHINE_TEXT_MAX || stats->text.size == 0)
		return;
	stats->text.size--; /* the sample's closing brace */
	strbuf_printf(&stats->text, ",\"machine\":%s}", text);
}

static void answer_once(struct stats *stats, const struct round *round)
{
	struct error err = {};

	if (round->count == 0 || round->list[0].result < 0) {
		error_say(&err, -EBUSY, "the instance does not run");
		stream_close_error(stats->stream, &err);
		return;
	}
	put_sample(&stats->text, &round->list[0], NULL);
	put_machine(stats, round->machine);
	send_answer(stats);
}

static void round_done(void *data)
{
	struct round *round = data;
	struct stats *stats = round->stats;

	if (!stats) {
		round_free(round);
		return;
	}
	stats->reading = NULL;
	if (stats->once) {
		answer_once(stats, round);
		round_free(round);
		return;
	}
	queue_round(stats, round);
	round_free(stats->last);
	stats->last = round;
	send_messages(stats);
}

static void read_counters(void *data)
{
	struct stats *stats = data;

	stats->poll = NULL;
	pool_submit(stats->agent->pool, read_round, round_done, stats->reading);
}

static void begin_round(struct stats *stats)
{
	struct round *round = mem_new0(struct round);
	AUTO(free) const char **uids = NULL;

	round->stats = stats;
	round->agent = stats->agent;
	instance_actors_each_running(stats->agent, add_running, round);
	stats->reading = round;
	round->guests = mem_new0_array(struct guest_memory, round->count + 1);
	uids = mem_new0_array(const char *, round->count + 1);
	round->monitors = mem_new0_array(char *, round->count + 1);
	for (size_t i = 0; i < round->count; i++) {
		uids[i] = round->list[i].uid;
		if (instance_monitor_answers(stats->agent, uids[i]))
			round->monitors[i] = agent_run_path(stats->agent, uids[i], "machine");
	}
	stats->poll = guest_poll_new(stats->agent, uids, round->count, round->guests, read_counters,
				     stats);
	if (!stats->poll)
		read_counters(stats);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void) source;
	(void) usec;
	begin_round(data);
	return 0;
}

static void stats_writable(void *data)
{
	struct stats *stats = data;

	/* Nothing waits before the first round and between two of them. */
	if (stats->reading || stats->text.size == 0)
		return;
	if (stats->once)
		send_answer(stats);
	else
		send_messages(stats);
}

static const struct stream_ops stats_ops = { NULL, stats_writable, stats_free };

static int read_arguments(struct stats *stats, const json_t *arguments, struct error *err)
{
	struct json_reader in = { .err = err, .where = "stats" };
	int r;

	stats->interval_ms = INTERVAL_MS;
	json_read_any(&in, arguments, "kind", NULL);
	json_read_string(&in, arguments, "project", &stats->project);
	json_read_strv(&in, arguments, "uids", &stats->uids);
	json_read_bool(&in, arguments, "once", &stats->once);
	json_read_uint32(&in, arguments, "interval_ms", INTERVAL_MAX_MS, &stats->interval_ms);
	r = json_reader_finish(&in, arguments);
	if (r == 0 && !stats->project)
		r = error_say(err, -EINVAL, "stats.project: is missing");
	if (r == 0 && stats->once && strv_count(stats->uids) != 1)
		r = error_say(err, -EINVAL, "stats.uids: must name the one instance");
	if (stats->interval_ms < INTERVAL_MIN_MS)
		stats->interval_ms = INTERVAL_MIN_MS;
	return r;
}

int stats_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	       void **ret_data, struct error *err)
{
	struct stats *stats = mem_new0(struct stats);
	int r;

	stats->stream = stream;
	stats->agent = stream_agent(stream);
	r = read_arguments(stats, arguments, err);
	if (r == 0) {
		r = sd_event_add_time_relative(stats->agent->event, &stats->timer, CLOCK_MONOTONIC,
					       0, 1000, on_timer, stats);
		r = r < 0 ? error_set(err, r, "timer") : 0;
	}
	if (r < 0) {
		stats_free(stats);
		return r;
	}
	*ret_ops = &stats_ops;
	*ret_data = stats;
	return 0;
}
