#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/info_run.h"
#include "cli/listing.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "codec/uri.h"

static void info_fact_int(struct strbuf *out, const char *title, const json_t *resource,
			  const char *path, const char *unit)
{
	const json_t *value = resource_at(resource, path);
	AUTO(free) char *text = NULL;

	if (!json_is_number(value))
		return;
	text = mem_printf("%g%s", json_number_value(value), unit);
	listing_fact(out, title, text);
}

static void info_fact_words(struct strbuf *out, const char *title, const json_t *resource,
			    const char *path)
{
	AUTO(strbuf_done) struct strbuf words = {};

	resource_put_words(&words, resource_at(resource, path));
	listing_fact(out, title, strbuf_str(&words));
}

static void info_instance_state(struct strbuf *out, const json_t *instance)
{
	AUTO(strbuf_done) struct strbuf text = {};
	const char *state = resource_text(instance, "status.state");
	int64_t exit_code = resource_int(instance, "status.exit_code", -1);

	strbuf_puts(&text, state ? state : "?");
	if (exit_code >= 0 && state && strcmp(state, "running") != 0)
		strbuf_printf(&text, ", exit code %lld", (long long) exit_code);
	if (resource_int(instance, "status.restarts", 0) > 0)
		strbuf_printf(&text, ", %lld restarts",
			      (long long) resource_int(instance, "status.restarts", 0));
	listing_fact(out, "state", strbuf_str(&text));
	listing_fact(out, "error", resource_text(instance, "status.error"));
	info_fact_int(out, "process", instance, "status.pid", "");
	listing_fact_time(out, "created", instance, "meta.created");
	listing_fact_time(out, "started", instance, "status.started");
	listing_fact_time(out, "finished", instance, "status.finished");
}

static void info_instance_restart(struct strbuf *out, const json_t *instance)
{
	const char *policy = resource_text(instance, "spec.restart.policy");
	int64_t retries = resource_int(instance, "spec.restart.max_retries", 0);
	AUTO(free) char *text = NULL;

	if (!policy)
		return;
	text = retries > 0 ? mem_printf("%s, at most %lld times", policy, (long long) retries)
			   : mem_strdup(policy);
	listing_fact(out, "restart", text);
}

/* What a virtual machine runs on, and what its guest sees. */
static void info_machine(struct strbuf *out, const json_t *instance)
{
	const char *backend = resource_text(instance, "status.machine.backend");
	const char *why = resource_text(instance, "status.machine.why");
	AUTO(free) char *text = NULL;

	listing_fact_bytes(out, "its disk", instance, "spec.disk_bytes");
	if (!backend)
		return;
	text = why ? mem_printf("%s: %s", backend, why) : mem_strdup(backend);
	listing_fact(out, "machine", text);
	listing_fact(out, "its kernel", resource_text(instance, "status.machine.kernel"));
	listing_fact(out, "its firmware", resource_text(instance, "status.machine.firmware"));
	info_fact_int(out, "its processors", instance, "status.machine.cpus", "");
	listing_fact_bytes(out, "its memory", instance, "status.machine.memory_bytes");
	listing_fact(out, "at next start", resource_text(instance, "status.machine.pending"));
	listing_fact(out, "its guest lies", resource_text(instance, "status.machine.guest_error"));
}

static void info_health_log(struct strbuf *out, const json_t *instance)
{
	const json_t *result;
	size_t i;

	json_array_foreach(resource_at(instance, "status.health.log"), i, result)
	{
		const char *started = resource_text(result, "started");
		const char *output = resource_text(result, "output");
		int64_t code = resource_int(result, "exit_code", -1);
		AUTO(free)
		char *text = mem_printf("%s  %s%lld, %lld ms%s%s", started ? started : "?",
					code < 0 ? "failed " : "exit code ", (long long) code,
					(long long) resource_int(result, "duration_ms", 0),
					output ? ": " : "", output ? output : "");

		listing_fact(out, i == 0 ? "checks" : "", text);
	}
}

static void info_health(struct strbuf *out, const json_t *instance)
{
	const char *state = resource_text(instance, "status.health.state");
	int64_t streak = resource_int(instance, "status.health.failing_streak", 0);
	AUTO(free) char *text = NULL;

	if (!state)
		return;
	text = streak > 0 ? mem_printf("%s, %lld failures in a row", state, (long long) streak)
			  : mem_strdup(state);
	listing_fact(out, "health", text);
	info_health_log(out, instance);
}

/* "12 MiB of 64 MiB", or without the second when there is no limit. */
static void info_of(struct strbuf *out, const char *title, const json_t *usage, const char *used,
		    const char *limit, bool bytes)
{
	int64_t values[] = { resource_int(usage, used, -1), resource_int(usage, limit, -1) };
	AUTO(strbuf_done) struct strbuf text = {};
	char human[HUMAN_SIZE];

	if (values[0] < 0)
		return;
	for (size_t i = 0; i < ARRAY_COUNT(values) && values[i] >= 0; i++) {
		strbuf_puts(&text, i > 0 ? " of " : "");
		if (bytes)
			human_bytes((uint64_t) values[i], human);
		else
			snprintf(human, sizeof(human), "%lld", (long long) values[i]);
		strbuf_puts(&text, human);
	}
	listing_fact(out, title, strbuf_str(&text));
}

static void info_two(struct strbuf *out, const char *title, const json_t *usage, const char *in,
		     const char *in_words, const char *from, const char *from_words)
{
	AUTO(strbuf_done) struct strbuf text = {};
	char human[HUMAN_SIZE];

	if (!resource_at(usage, in))
		return;
	human_bytes((uint64_t) resource_int(usage, in, 0), human);
	strbuf_printf(&text, "%s %s, ", human, in_words);
	human_bytes((uint64_t) resource_int(usage, from, 0), human);
	strbuf_printf(&text, "%s %s", human, from_words);
	listing_fact(out, title, strbuf_str(&text));
}

/* The parts of the sum, when there are several. */
static void info_interfaces(struct strbuf *out, const json_t *interfaces)
{
	const json_t *one;
	size_t i;

	if (json_array_size(interfaces) < 2)
		return;
	json_array_foreach(interfaces, i, one)
	{
		const char *name = resource_text(one, "interface");
		AUTO(free) char *title = mem_printf("  %s", name ? name : "?");

		info_two(out, title, one, "rx_bytes", "received", "tx_bytes", "sent");
	}
}

/* What it consumes, when it runs; without an answer the rest is worth showing, too. */
static void info_instance_usage(struct cli *cli, struct strbuf *out, const json_t *instance)
{
	const char *state = resource_text(instance, "status.state");
	AUTO(free) char *escaped = uri_encode(resource_name(instance));
	AUTO(free) char *path = mem_printf("/instances/%s/stats", escaped);
	AUTO(json_decref) json_t *usage = NULL;
	AUTO(free) char *time = NULL;

	if (!state || (strcmp(state, "running") != 0 && strcmp(state, "paused") != 0) ||
	    cli_request(cli, "GET", path, NULL, &usage, NULL) < 0) {
		cli->hint[0] = '\0';
		return;
	}
	time = mem_printf("%.2f s, %.2f s throttled",
			  (double) resource_int(usage, "cpu.usage_ns", 0) / 1e9,
			  (double) resource_int(usage, "cpu.throttled_ns", 0) / 1e9);
	listing_fact(out, "cpu time", time);
	info_of(out, "memory in use", usage, "memory.usage_bytes", "memory.limit_bytes", true);
	info_of(out, "processes", usage, "pids.current", "pids.limit", false);
	info_two(out, "disk", usage, "io.read_bytes", "read", "io.write_bytes", "written");
	info_two(out, "traffic", usage, "network.rx_bytes", "received", "network.tx_bytes", "sent");
	info_interfaces(out, resource_at(usage, "network.interfaces"));
}

/* "  receives 50 Mbit/s" */
static void info_limit(struct strbuf *text, const json_t *port, const char *path, const char *what)
{
	double bps = json_number_value(resource_at(port, path));

	if (bps > 0)
		strbuf_printf(text, "  %s %.4g Mbit/s", what, bps / 1e6);
}

/* Those that somebody has named. */
static void put_groups(struct strbuf *text, const json_t *groups)
{
	const json_t *group;
	size_t i;

	json_array_foreach((json_t *) groups, i, group)
	{
		const char *name = json_string_value(group);

		strbuf_printf(text, "%s%s", i == 0 ? "  in " : ", ", name ? name : "?");
	}
}

/* "default  eth0  10.90.0.2, fd00::2, 02:62:0a:5a:00:02", one for each port. */
static void info_networks(struct strbuf *out, const json_t *instance)
{
	static const char *const members[] = { "ipv4", "ipv6", "mac" };
	const json_t *port;
	size_t i;

	json_array_foreach(resource_at(instance, "spec.ports"), i, port)
	{
		AUTO(strbuf_done) struct strbuf text = {};
		const char *network = resource_text(port, "network");
		const char *interface = resource_text(port, "interface");
		const char *before = "  ";

		strbuf_printf(&text, "%s  %s", network ? network : "?",
			      interface ? interface : "?");
		for (size_t k = 0; k < ARRAY_COUNT(members); k++) {
			const char *value = resource_text(port, members[k]);

			if (!value)
				continue;
			strbuf_printf(&text, "%s%s", before, value);
			before = ", ";
		}
		info_limit(&text, port, "limits.ingress_bps", "receives");
		info_limit(&text, port, "limits.egress_bps", "sends");
		put_groups(&text, resource_at(port, "groups"));
		if (json_is_true(resource_at(port, "spoofing")))
			strbuf_puts(&text, "  may send with any address");
		if (json_is_true(resource_at(port, "leaving")))
			strbuf_puts(&text, "  (is being detached)");
		listing_fact(out, i == 0 ? "networks" : "", strbuf_str(&text));
	}
	listing_fact(out, "network error", resource_text(instance, "status.ports_error"));
}

static void info_print_instance(struct cli *cli, const json_t *instance)
{
	AUTO(strbuf_done) struct strbuf out = {}, ports = {};

	listing_fact(&out, "name", resource_name(instance));
	listing_fact(&out, "type", resource_text(instance, "spec.type"));
	listing_fact(&out, "uid", resource_text(instance, "meta.uid"));
	listing_fact(&out, "project", resource_text(instance, "meta.project"));
	listing_fact(&out, "node", resource_text(instance, "spec.node"));
	info_instance_state(&out, instance);
	info_machine(&out, instance);
	info_health(&out, instance);
	info_instance_usage(cli, &out, instance);
	listing_fact(&out, "image", resource_text(instance, "spec.image"));
	listing_fact(&out, "digest", resource_text(instance, "status.image_digest"));
	info_fact_words(&out, "entrypoint", instance, "spec.entrypoint");
	info_fact_words(&out, "command", instance, "spec.command");
	listing_fact(&out, "workdir", resource_text(instance, "spec.workdir"));
	listing_fact(&out, "user", resource_text(instance, "spec.user"));
	listing_fact(&out, "hostname", resource_text(instance, "spec.hostname"));
	listing_fact_map(&out, "env", resource_at(instance, "spec.env"));
	listing_fact_map(&out, "labels", resource_at(instance, "meta.labels"));
	info_networks(&out, instance);
	resource_put_ports(&ports, instance);
	listing_fact(&out, "ports", strbuf_str(&ports));
	info_fact_int(&out, "cpus", instance, "spec.limits.cpus", "");
	listing_fact_bytes(&out, "memory", instance, "spec.limits.memory_bytes");
	info_fact_int(&out, "pids", instance, "spec.limits.pids", "");
	info_put_run(&out, instance);
	info_instance_restart(&out, instance);
	if (json_is_true(resource_at(instance, "spec.remove_on_exit")))
		listing_fact(&out, "when it ends", "it is deleted");
	listing_fact(&out, "stop signal", resource_text(instance, "spec.stop_signal"));
	info_fact_int(&out, "stop time-out", instance, "spec.stop_timeout_s", " s");
	listing_print_facts(cli, &out);
}

static void info_virtualization(struct strbuf *out, const json_t *node)
{
	const json_t *value = resource_at(node, "status.virtualization");
	static const char *const features[][2] = { { "nested_paging", "nested paging" },
						   { "apicv", "APICv/AVIC" },
						   { "iommu", "IOMMU" } };
	AUTO(strbuf_done) struct strbuf hardware = {}, speed = {}, verdict = {};
	const char *why = resource_text(value, "why");
	const char *backend = resource_text(value, "backend");

	if (!why)
		return;
	for (size_t i = 0; i < ARRAY_COUNT(features); i++)
		strbuf_printf(&hardware, "%s%s %s", i > 0 ? ", " : "", features[i][1],
			      json_is_true(resource_at(value, features[i][0])) ? "yes" : "no");
	strbuf_printf(&speed, "ring 0 %.1f, ring 3 %.1f million instructions a second",
		      json_number_value(resource_at(value, "ring0_mips")),
		      json_number_value(resource_at(value, "ring3_mips")));
	strbuf_printf(&verdict, "%s: %s", backend ? backend : "none", why);
	listing_fact(out, "machines", strbuf_str(&verdict));
	listing_fact(out, "hardware", strbuf_str(&hardware));
	listing_fact(out, "in a guest", strbuf_str(&speed));
}

static void info_print_node(struct strbuf *out, const json_t *node)
{
	strbuf_puts(out, "\n");
	listing_fact(out, "node", resource_name(node));
	listing_fact(out, "state", resource_text(node, "status.state"));
	listing_fact(out, "agent", resource_text(node, "status.version"));
	listing_fact(out, "kernel", resource_text(node, "status.kernel"));
	listing_fact(out, "cgroup", resource_text(node, "status.cgroup"));
	info_fact_int(out, "cpus", node, "status.cpus", "");
	listing_fact_bytes(out, "memory", node, "status.memory_bytes");
	info_virtualization(out, node);
}

/* Every scalar that the server tells about itself, so that a newer one is shown completely. */
static void info_print_scalars(struct strbuf *out, const json_t *server)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *) server, key, value)
	{
		if (json_is_string(value))
			listing_fact(out, key, json_string_value(value));
		else if (json_is_boolean(value))
			listing_fact(out, key, json_is_true(value) ? "yes" : "no");
		else if (json_is_number(value))
			info_fact_int(out, key, server, key, "");
		else if (json_is_array(value))
			info_fact_words(out, key, server, key);
		else if (json_is_object(value))
			info_print_scalars(out, value);
	}
}

static int info_server(struct cli *cli, struct error *err)
{
	AUTO(json_decref) json_t *server = NULL, *nodes = NULL;
	AUTO(strbuf_done) struct strbuf out = {};
	const json_t *node;
	size_t i;
	int r = cli_request(cli, "GET", "", NULL, &server, err);

	if (r == 0)
		r = cli_request(cli, "GET", "/nodes?recursion=1", NULL, &nodes, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON) {
		json_object_set(server, "nodes", nodes);
		cli_print_json(cli, server);
		return 0;
	}
	info_print_scalars(&out, server);
	json_array_foreach(nodes, i, node) info_print_node(&out, node);
	listing_print_facts(cli, &out);
	return 0;
}

static int info_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	AUTO(json_decref) json_t *instance = NULL;
	int r;

	(void) userdata;
	if (arguments->word_count == 0)
		return info_server(cli, err);
	r = listing_get(cli, "instances", arguments->words[0], &instance, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, instance);
	else
		info_print_instance(cli, instance);
	return 0;
}

const struct verb verb_info = {
	.name = "info",
	.synopsis = "[NAME]",
	.summary = "Show all about an instance, or about the server and its nodes",
	.help = "Examples:\n  brume info\n  brume info web\n"
		"  brume info web -f json | jq -r '.spec.ports[0].ipv4'\n",
	.words_max = 1,
	.completion = COMPLETE_INSTANCE,
	.run = info_run,
};
