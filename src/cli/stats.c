#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/resource.h"
#include "cli/stats_machine.h"
#include "cli/stream.h"
#include "cli/terminal.h"
#include "cli/verb.h"
#include "client/client.h"
#include "codec/uri.h"

enum {
	STATS_ONCE_INTERVAL_MS = 500,
	HTTP_REFUSED = 400,
	HTTP_TROUBLE = 500,
};

struct stats_options {
	const char *interval;
	bool machine, no_stream, wide;
};

#define STATS(member) offsetof(struct stats_options, member)

static const struct option_def stats_options[] = {
	{ 0, "no-stream", NULL, OPTION_FLAG, STATS(no_stream), "show it once and end" },
	{ 'i', "interval", "SECONDS", OPTION_STRING, STATS(interval),
	  "time between two samples, from 0.1 (1)" },
	{ 0, "machine", NULL, OPTION_FLAG, STATS(machine),
	  "what a virtual machine's monitor counts: exits, requests, interrupts" },
	{ 'w', "wide", NULL, OPTION_FLAG, STATS(wide), "packets, throttling and balloons, too" },
	{},
};

static const struct column stats_columns[] = {
	{ .title = "NAME", .elastic = true },
	{ .title = "CPU %", .right = true },
	{ .title = "CPU TIME", .right = true },
	{ .title = "THROTTLED", .right = true, .wide = true },
	{ .title = "MEMORY", .right = true },
	{ .title = "LIMIT", .right = true },
	{ .title = "MEM %", .right = true },
	{ .title = "IN GUEST", .right = true },
	{ .title = "BALLOON", .right = true, .wide = true },
	{ .title = "GIVEN BACK", .right = true, .wide = true },
	{ .title = "RX", .right = true },
	{ .title = "TX", .right = true },
	{ .title = "RX PACKETS", .right = true, .wide = true },
	{ .title = "TX PACKETS", .right = true, .wide = true },
	{ .title = "READ", .right = true },
	{ .title = "WRITTEN", .right = true },
	{ .title = "PIDS", .right = true },
	{},
};

/* What a column shows, and how: numbers as they are for csv and plain. */
enum stats_unit { STATS_PLAIN, STATS_PERCENT, STATS_BYTES, STATS_TIME };

static const struct stats_cell {
	const char *path;
	enum stats_unit unit;
} stats_cells[] = {
	{ "cpu.percent", STATS_PERCENT },
	{ "cpu.usage_ns", STATS_TIME },
	{ "cpu.throttled_ns", STATS_TIME },
	{ "memory.usage_bytes", STATS_BYTES },
	{ "memory.limit_bytes", STATS_BYTES },
	{ "memory.percent", STATS_PERCENT },
	{ "memory.guest_usage_bytes", STATS_BYTES },
	{ "memory.balloon_bytes", STATS_BYTES },
	{ "memory.given_back_bytes", STATS_BYTES },
	{ "network.rx_bytes", STATS_BYTES },
	{ "network.tx_bytes", STATS_BYTES },
	{ "network.rx_packets", STATS_PLAIN },
	{ "network.tx_packets", STATS_PLAIN },
	{ "io.read_bytes", STATS_BYTES },
	{ "io.write_bytes", STATS_BYTES },
	{ "pids.current", STATS_PLAIN },
};

struct stats {
	struct cli *cli;
	bool redraw;   /* the terminal shows one table, again and again */
	bool once;     /* the second round is the answer: only then rates are known */
	json_t *round; /* the samples of this round so far */
	unsigned int rounds;
	int exit_code;
};

static void stats_cell(const struct stats *stats, struct table *table, const json_t *sample,
		       const struct stats_cell *cell)
{
	const json_t *value = resource_at(sample, cell->path);
	double number = json_number_value(value);
	bool people = stats->cli->style.format == FORMAT_TABLE;
	AUTO(free) char *text = NULL;
	char human[HUMAN_SIZE];

	if (!json_is_number(value)) {
		table_cell(table, NULL);
		return;
	}
	if (cell->unit == STATS_PERCENT)
		text = mem_printf("%.2f", number);
	else if (cell->unit == STATS_BYTES && people)
		human_bytes((uint64_t) number, human);
	else if (cell->unit == STATS_TIME && people && number < 60e9)
		text = mem_printf("%.2fs", number / 1e9);
	else if (cell->unit == STATS_TIME && people)
		human_duration((int64_t) (number / 1e6), human);
	else
		text = mem_printf("%.0f", number);
	table_cell(table, text ? text : human);
}

/* Rows that fit the terminal under the titles: a table that scrolls cannot be watched. */
static size_t stats_rows(const struct stats *stats)
{
	size_t count = json_array_size(stats->round);
	unsigned int width, height;

	if (!stats->redraw)
		return count;
	terminal_size(fileno(stats->cli->out), &width, &height);
	return height < 4 || count <= height - 2 ? count : height - 3;
}

static void stats_print_table(struct stats *stats)
{
	AUTO(table_free) struct table *table = table_new(stats_columns);
	size_t i, rows = stats_rows(stats), count = json_array_size(stats->round);
	struct cli *cli = stats->cli;
	const json_t *sample;

	json_array_foreach(stats->round, i, sample)
	{
		if (i == rows)
			break;
		table_cell(table, resource_text(sample, "name"));
		for (size_t c = 0; c < ARRAY_COUNT(stats_cells); c++)
			stats_cell(stats, table, sample, &stats_cells[c]);
	}
	if (stats->redraw)
		fputs("\033[H\033[J", cli->out);
	table_print(table, cli->out, &cli->style);
	if (rows < count)
		fprintf(cli->out, "and %zu more\n", count - rows);
	/* The next rounds of a csv file are rows only. */
	if (cli->style.format == FORMAT_CSV)
		cli->style.untitled = true;
}

static int by_name(const void *a, const void *b)
{
	const char *x = resource_text(*(json_t *const *) a, "name");
	const char *y = resource_text(*(json_t *const *) b, "name");

	return strcmp(x ? x : "", y ? y : "");
}

static void stats_sort(struct stats *stats)
{
	size_t count = json_array_size(stats->round);
	AUTO(free) json_t **list = mem_new0_array(json_t *, count + 1);
	json_t *sorted = json_array();

	for (size_t i = 0; i < count; i++)
		list[i] = json_array_get(stats->round, i);
	qsort(list, count, sizeof(*list), by_name);
	for (size_t i = 0; i < count; i++)
		json_array_append(sorted, list[i]);
	json_decref(stats->round);
	stats->round = sorted;
}

static void stats_print(struct stats *stats)
{
	const json_t *sample;
	size_t i;

	stats_sort(stats);
	if (stats->cli->style.format != FORMAT_JSON)
		stats_print_table(stats);
	else
		json_array_foreach(stats->round, i, sample)
		{
			AUTO(free) char *line = json_text(sample);

			fprintf(stats->cli->out, "%s\n", line);
		}
	fflush(stats->cli->out);
}

static int stats_message(void *userdata, bool text, const char *data, size_t size,
			 struct error *err)
{
	struct stats *stats = userdata;
	AUTO(json_decref) json_t *message = NULL;
	json_t *samples;
	int r;

	if (!text)
		return 0;
	r = json_parse(data, size, WEBSOCKET_MESSAGE_MAX, &message, err);
	if (r < 0)
		return error_wrap(err, r, "the server's message is not understood");
	samples = json_object_get(message, "samples");
	if (!json_is_array(samples))
		return stream_control(data, size, &stats->exit_code, err);
	json_array_extend(stats->round, samples);
	if (json_is_true(json_object_get(message, "more")))
		return 0;
	stats->rounds++;
	if (!stats->once || stats->rounds > 1)
		stats_print(stats);
	json_array_clear(stats->round);
	return stats->once && stats->rounds > 1 ? -ECANCELED : 0;
}

static int stats_interval(struct cli *cli, const struct stats_options *options, uint32_t *ret_ms,
			  struct error *err)
{
	char *end = NULL;
	double seconds = options->interval ? strtod(options->interval, &end) : 1;

	if (options->interval && (end == options->interval || *end || !isfinite(seconds) ||
				  seconds < 0.1 || seconds > 3600))
		return cli_usage(cli, err, "--interval '%s': must be seconds from 0.1 to 3600",
				 options->interval);
	*ret_ms = options->no_stream && !options->interval ? STATS_ONCE_INTERVAL_MS
							   : (uint32_t) lround(seconds * 1000);
	return 0;
}

static char *stats_path(const struct arguments *arguments, uint32_t interval_ms)
{
	AUTO(strbuf_done) struct strbuf path = {};

	strbuf_printf(&path, "/stats?interval_ms=%u", interval_ms);
	for (size_t i = 0; i < arguments->word_count; i++) {
		AUTO(free) char *name = uri_encode(arguments->words[i]);

		strbuf_printf(&path, "%s%s", i > 0 ? "," : "&instance=", name);
	}
	return strbuf_take(&path);
}

/* One connection's worth: 1 after Ctrl-C, 0 when it has ended, -ECANCELED when all was shown. */
static int stats_follow(struct stats *stats, struct client *client, const char *path,
			struct error *err)
{
	AUTO(websocket_free) struct websocket *websocket = NULL;
	int r = client_open_websocket(client, path, &websocket, err);

	if (r < 0)
		return cli_failed(stats->cli, "/instances", r);
	json_array_clear(stats->round);
	websocket_set_handler(websocket, stats_message, stats);
	return stream_follow(websocket, err);
}

/* The server, or the node's agent, is started again: a table that is watched goes on then. */
static int stats_watch(struct stats *stats, struct client *client, const char *path,
		       struct error *err)
{
	struct stream_retry retry = {};
	enum stream_again again;
	unsigned int seen = 0;

	for (;;) {
		int r = stats_follow(stats, client, path, err), status;
		bool refused;

		if (r > 0 || r == -ECANCELED)
			return 0;
		if (stats->rounds > seen)
			stream_retry_progress(&retry);
		seen = stats->rounds;
		status = r < 0 ? client_status(client) : 0;
		refused = status >= HTTP_REFUSED && status < HTTP_TROUBLE;
		again = stats->once || seen == 0 || refused ? STREAM_GIVE_UP
							    : stream_retry_pause(&retry);
		if (again == STREAM_INTERRUPTED)
			return 0;
		if (again == STREAM_GIVE_UP)
			return r < 0 ? r : error_say(err, -EIO, "the server ended the stream");
		stats->cli->hint[0] = '\0';
	}
}

static int stats_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		     struct error *err)
{
	const struct stats_options *options = userdata;
	struct stats stats = { .cli = cli, .once = options->no_stream };
	struct client *client = NULL;
	uint32_t interval_ms = 0;
	int r = stats_interval(cli, options, &interval_ms, err);

	if (r == 0 && options->machine) {
		if (arguments->word_count != 1)
			return cli_usage(cli, err, "--machine: goes with the name of one instance");
		return stats_machine(cli, arguments->words[0], err);
	}
	if (r == 0)
		r = cli_connect(cli, &client, err);
	if (r < 0)
		return r;
	AUTO(free) char *path = stats_path(arguments, interval_ms);
	cli->style.wide = options->wide || cli->style.format != FORMAT_TABLE;
	stats.redraw = !stats.once && cli->style.format == FORMAT_TABLE && isatty(fileno(cli->out));
	stats.round = json_array();
	r = stats_watch(&stats, client, path, err);
	json_decref(stats.round);
	return r;
}

const struct verb verb_stats = {
	.name = "stats",
	.synopsis = "[--no-stream] [-i SECONDS] [-w] [NAME...] | --machine NAME",
	.summary = "Show what running instances consume, again and again until Ctrl-C",
	.help = "Without names all running instances, also those that start meanwhile.  CPU % is "
		"100 for one\nprocessor.  MEMORY leaves out the page cache that the kernel takes "
		"back first.  With -f json\none object a line for each sample.  With --machine "
		"once what the monitor of a virtual\nmachine has counted: why its processors left "
		"the guest, what each device did, KVM's own\ncounters; and its balloon.  QEMU "
		"tells of its disks and processors, and of KVM where it uses it.\n\n"
		"Examples:\n  brume stats\n  brume stats --no-stream web db\n"
		"  brume stats --machine vm1\n"
		"  brume stats -i 10 -f json | jq '[.name, .memory.usage_bytes]'\n",
	.options = stats_options,
	.options_size = sizeof(struct stats_options),
	.words_max = VERB_WORDS_ANY,
	.completion = COMPLETE_INSTANCE,
	.run = stats_run,
};
