#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "container/cli_internal.h"
#include "container/oom.h"
#include "container/record.h"
#include "container/stats.h"

struct watch {
	const struct record *record;
	struct cgroup_host *host;
	struct cgroup *cgroup;
	int init;
	struct oom oom;
};

static inline void watch_done_autop(struct watch *watch)
{
	oom_done(&watch->oom);
	fd_close(watch->init);
	cgroup_free(watch->cgroup);
	cgroup_host_free(watch->host);
}

static double unit_ms(const char *text, size_t size)
{
	static const struct {
		const char *name;
		double ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };

	for (size_t i = 0; i < ARRAY_COUNT(units); i++)
		if (strlen(units[i].name) == size && strncmp(units[i].name, text, size) == 0)
			return units[i].ms;
	return 0;
}

/* "5s", "500ms", "1m30s": as Go writes a duration.  In milliseconds, or -EINVAL. */
static int64_t read_duration(const char *text)
{
	double total = 0;

	do {
		size_t size = strspn(text, "0123456789.");
		char *end;
		double value = strtod(text, &end), unit;

		if (size == 0 || end != text + size)
			return -EINVAL;
		size = strspn(end, "hms");
		unit = unit_ms(end, size);
		if (unit == 0)
			return -EINVAL;
		total += value * unit;
		text = end + size;
	} while (*text);
	return total >= 1 && total <= 24 * 3600000.0 ? (int64_t) total : -EINVAL;
}

/* One document on one line; readers at a pipe get it at once.  False: nobody reads any more. */
static bool emit(const char *type, const char *id, json_t *data)
{
	AUTO(json_decref) json_t *event = json_pack("{s:s,s:s}", "type", type, "id", id);
	AUTO(free) char *text = NULL;

	if (data)
		json_object_set_new(event, "data", data);
	text = json_dumps(event, JSON_COMPACT);
	puts(text ? text : "");
	return fflush(stdout) == 0;
}

static bool emit_stats(const struct watch *watch)
{
	const struct oci_state *state = watch->record->state;

	return emit("stats", state->id, stats_read(watch->cgroup, state->pid));
}

static int64_t now_ms(struct clock *clock)
{
	return (int64_t) (clock_monotonic_us(clock) / 1000);
}

/* Until the container ends, or the reader does. */
static int follow(struct watch *watch, int64_t interval_ms, struct error *err)
{
	struct clock *clock = clock_system();
	int64_t next = now_ms(clock) + interval_ms;

	for (;;) {
		int64_t left = next - now_ms(clock);
		struct pollfd fds[] = {
			{ .fd = watch->init, .events = POLLIN },
			{ .fd = watch->oom.fd, .events = watch->oom.events },
			{ .fd = STDOUT_FILENO, .events = 0 },
		};

		if (poll(fds, ARRAY_COUNT(fds), left > 0 ? (int) left : 0) < 0 && errno != EINTR)
			return error_set(err, -errno, "waiting");
		/* First: a container that dies of it still gets its event. */
		if (fds[1].revents && oom_happened(&watch->oom) &&
		    !emit("oom", watch->record->state->id, NULL))
			return 0;
		if (fds[0].revents || (fds[2].revents & (POLLERR | POLLHUP | POLLNVAL)))
			return 0;
		if (now_ms(clock) < next)
			continue;
		next += interval_ms;
		if (!emit_stats(watch))
			return 0;
	}
}

static int open_watch(const struct runtime_options *options, const char *id, struct watch *watch,
		      struct record **ret_record, struct error *err)
{
	int r = record_open(options->root, id, false, ret_record, err);

	if (r < 0)
		return r;
	watch->record = *ret_record;
	watch->init = record_open_init(watch->record);
	if (watch->init < 0)
		return error_say(err, -ESRCH, "container \"%s\" is not running", id);
	r = watch->record->state->cgroup ? cgroup_host_read(&watch->host) : -ENOENT;
	if (r == 0)
		r = cgroup_open(watch->host, watch->record->state->cgroup, false, &watch->cgroup);
	return r < 0 ? error_set(err, r, "control group of container \"%s\"", id) : 0;
}

static int events(const struct runtime_options *options, int argc, char **argv)
{
	static const struct option longs[] = { { "stats", no_argument, NULL, 's' },
					       { "interval", required_argument, NULL, 'i' },
					       {} };
	AUTO(record_free) struct record *record = NULL;
	AUTO(watch_done)
	struct watch watch = { .init = -1, .oom = { .fd = -1, .control_fd = -1 } };
	struct error err = {};
	int64_t interval_ms = 5000;
	bool once = false;
	const char *id;
	int c, r;

	while ((c = cli_option(options, argc, argv, "+", longs)) != -1) {
		if (c == 's')
			once = true;
		else if (c != 'i')
			return CLI_USAGE;
		else if ((interval_ms = read_duration(optarg)) < 0)
			return cli_usage(
				options,
				"events: --interval: \"%s\" is not a time like 5s or 500ms",
				optarg);
	}
	id = cli_only_word(options, argc, argv, "container id");
	if (!id)
		return CLI_USAGE;
	r = open_watch(options, id, &watch, &record, &err);
	if (r == 0 && once)
		emit_stats(&watch);
	if (r == 0 && !once)
		r = oom_init(&watch.oom, watch.cgroup, &err);
	if (r == 0 && !once)
		r = follow(&watch, interval_ms, &err);
	return r < 0 ? cli_fail(options, &err) : CLI_OK;
}

const struct cli_verb cli_events = {
	.name = "events",
	.usage = "[--stats] [--interval TIME] ID",
	.help = "print what a container uses, and when it runs out of memory, as lines of JSON",
	.examples = "brume-oci events --stats box\n"
		    "brume-oci events --interval 1s box",
	.run = events,
};
