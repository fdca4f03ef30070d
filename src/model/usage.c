#include "model/usage.h"

#include <stddef.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

double usage_cpu_percent(const struct usage *before, const struct usage *now, uint64_t elapsed_us)
{
	if (elapsed_us == 0 || now->cpu_ns < before->cpu_ns)
		return USAGE_PERCENT_UNKNOWN;
	return (double) (now->cpu_ns - before->cpu_ns) / ((double) elapsed_us * 10);
}

static void put(struct strbuf *out, const char *name, uint64_t value)
{
	strbuf_printf(out, "\"%s\":%llu,", name, (unsigned long long) value);
}

/* The last of an object: no comma behind it. */
static void put_last(struct strbuf *out, const char *name, uint64_t value)
{
	strbuf_printf(out, "\"%s\":%llu}", name, (unsigned long long) value);
}

static const struct {
	const char *name;
	size_t offset;
} traffic_members[] = {
	{ "rx_bytes", offsetof(struct usage_traffic, rx_bytes) },
	{ "rx_packets", offsetof(struct usage_traffic, rx_packets) },
	{ "rx_dropped", offsetof(struct usage_traffic, rx_dropped) },
	{ "tx_bytes", offsetof(struct usage_traffic, tx_bytes) },
	{ "tx_packets", offsetof(struct usage_traffic, tx_packets) },
	{ "tx_dropped", offsetof(struct usage_traffic, tx_dropped) },
};

static uint64_t *traffic_member(const struct usage_traffic *traffic, size_t i)
{
	return (uint64_t *) (void *) ((char *) traffic + traffic_members[i].offset);
}

void usage_add_traffic(struct usage *usage, const struct usage_traffic *traffic)
{
	usage->networked = true;
	for (size_t i = 0; i < ARRAY_COUNT(traffic_members); i++)
		*traffic_member(&usage->traffic, i) += *traffic_member(traffic, i);
}

/* More members follow. */
static void put_traffic(struct strbuf *out, const struct usage_traffic *traffic)
{
	for (size_t i = 0; i < ARRAY_COUNT(traffic_members); i++)
		put(out, traffic_members[i].name, *traffic_member(traffic, i));
}

static void put_network(struct strbuf *out, const struct usage *usage,
			const struct usage_port *ports, size_t port_count)
{
	const char *before = "";

	strbuf_puts(out, ",\"network\":{");
	put_traffic(out, &usage->traffic);
	strbuf_puts(out, "\"interfaces\":[");
	for (size_t i = 0; i < port_count; i++) {
		if (!ports[i].there)
			continue;
		strbuf_printf(out, "%s{", before);
		put_traffic(out, &ports[i].traffic);
		strbuf_printf(out, "\"interface\":\"%s\",\"network\":\"%s\"}", ports[i].interface,
			      ports[i].network);
		before = ",";
	}
	strbuf_puts(out, "]}");
}

void usage_put(struct strbuf *out, const char *name, const char *uid, const struct usage *usage,
	       const struct usage_port *ports, size_t port_count, double cpu_percent)
{
	char time[CLOCK_RFC3339_SIZE];

	clock_format_rfc3339(usage->time_ms, time);
	strbuf_printf(out, "{\"name\":\"%s\",\"uid\":\"%s\",\"time\":\"%s\",\"cpu\":{", name, uid,
		      time);
	if (cpu_percent >= 0)
		strbuf_printf(out, "\"percent\":%.2f,", cpu_percent);
	put(out, "usage_ns", usage->cpu_ns);
	put(out, "user_ns", usage->cpu_user_ns);
	put(out, "system_ns", usage->cpu_system_ns);
	put(out, "periods", usage->cpu_periods);
	put(out, "throttled_periods", usage->cpu_throttled_periods);
	put_last(out, "throttled_ns", usage->cpu_throttled_ns);
	strbuf_puts(out, ",\"memory\":{");
	if (usage->memory_limit_bytes > 0) {
		put(out, "limit_bytes", usage->memory_limit_bytes);
		strbuf_printf(out, "\"percent\":%.2f,",
			      100.0 * (double) usage->memory_bytes /
				      (double) usage->memory_limit_bytes);
	}
	if (usage->guest_memory_total_bytes > 0) {
		put(out, "guest_usage_bytes", usage->guest_memory_bytes);
		put(out, "guest_total_bytes", usage->guest_memory_total_bytes);
	}
	if (usage->ballooned)
		put(out, "balloon_bytes", usage->balloon_bytes);
	if (usage->counts_given_back)
		put(out, "given_back_bytes", usage->given_back_bytes);
	put_last(out, "usage_bytes", usage->memory_bytes);
	strbuf_puts(out, ",\"io\":{");
	put(out, "read_bytes", usage->read_bytes);
	put(out, "write_bytes", usage->write_bytes);
	put(out, "read_ops", usage->read_ops);
	put_last(out, "write_ops", usage->write_ops);
	strbuf_puts(out, ",\"pids\":{");
	if (usage->pids_limit > 0)
		put(out, "limit", usage->pids_limit);
	put_last(out, "current", usage->pids);
	if (usage->networked)
		put_network(out, usage, ports, port_count);
	strbuf_puts(out, "}");
}
