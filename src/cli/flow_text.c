#include "cli/flow_text.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/human.h"
#include "cli/resource.h"

static void put(struct strbuf *out, const char *text)
{
	human_text(out, text ? text : "?");
}

/* "10.90.0.2:8080", "[fd00::2]:8080", "10.90.0.2" of what has no ports. */
static void put_end(struct strbuf *out, const json_t *object, const char *name)
{
	AUTO(free) char *port_name = mem_printf("%s_port", name);
	const char *address = resource_text(object, name);
	int64_t port = resource_int(object, port_name, 0);
	bool brackets = port > 0 && address && strchr(address, ':');

	strbuf_puts(out, brackets ? "[" : "");
	put(out, address);
	strbuf_puts(out, brackets ? "]" : "");
	if (port > 0)
		strbuf_printf(out, ":%lld", (long long) port);
}

static void put_instance(struct strbuf *out, const json_t *line, const char *name)
{
	const char *instance = resource_text(line, name);

	if (!instance)
		return;
	strbuf_puts(out, " (");
	put(out, instance);
	strbuf_puts(out, ")");
}

/* "A => B" where it was translated. */
static void put_side(struct strbuf *out, const json_t *line, const char *name)
{
	AUTO(free) char *instance = mem_printf("%s_instance", name);
	const json_t *translated = resource_at(line, "translated");

	put_end(out, line, name);
	if (translated && json_object_get(translated, name)) {
		strbuf_puts(out, " => ");
		put_end(out, translated, name);
	}
	put_instance(out, line, instance);
}

static void put_count(struct strbuf *out, const json_t *line, const char *name)
{
	const json_t *count = resource_at(line, name);
	char bytes[HUMAN_SIZE];

	if (!count)
		return;
	human_bytes((uint64_t) resource_int(count, "bytes", 0), bytes);
	strbuf_printf(out, ", %s %s in %lld", name, bytes,
		      (long long) resource_int(count, "packets", 0));
}

static void put_time(struct strbuf *out, const json_t *line)
{
	const char *start = resource_text(line, "start"), *end = resource_text(line, "end");
	int64_t from_ms = 0, to_ms = 0;
	char text[HUMAN_SIZE];

	human_time(start, text);
	strbuf_printf(out, "%s  ", text);
	if (!start || !end || clock_parse_rfc3339(start, &from_ms) < 0 ||
	    clock_parse_rfc3339(end, &to_ms) < 0)
		return;
	human_duration(to_ms - from_ms, text);
	strbuf_printf(out, "%s  ", text);
}

/* What is not in the log. */
static bool put_missing(struct strbuf *out, const json_t *line)
{
	char from[HUMAN_SIZE], to[HUMAN_SIZE];

	if (resource_at(line, "gap")) {
		human_time(resource_text(line, "gap.from"), from);
		human_time(resource_text(line, "gap.to"), to);
		strbuf_printf(out, "-- what ended between %s and %s is missing\n", from, to);
	} else if (resource_at(line, "lost")) {
		strbuf_printf(out,
			      "-- %lld flows are missing: too many ended on the node at once\n",
			      (long long) resource_int(line, "lost", 0));
	} else if (resource_at(line, "left_out")) {
		strbuf_printf(out, "-- %lld more are open\n",
			      (long long) resource_int(line, "left_out", 0));
	} else {
		return false;
	}
	return true;
}

void flow_text(struct strbuf *out, const json_t *line)
{
	const char *router = resource_text(line, "router");
	bool open = json_is_true(json_object_get(line, "open"));

	if (put_missing(out, line))
		return;
	put_time(out, line);
	put(out, resource_text(line, "protocol"));
	strbuf_puts(out, "  ");
	put_side(out, line, "source");
	strbuf_puts(out, "  ->  ");
	put_side(out, line, "destination");
	if (router) {
		strbuf_puts(out, "  by router ");
		put(out, router);
	}
	strbuf_puts(out, "  ");
	put(out, open ? "open" : resource_text(line, "reason"));
	put_count(out, line, "sent");
	put_count(out, line, "received");
	strbuf_puts(out, "\n");
}

bool flow_concerns(const json_t *line, const char *instance)
{
	const char *from = resource_text(line, "source_instance");
	const char *to = resource_text(line, "destination_instance");

	if (!instance || !resource_at(line, "protocol"))
		return true;
	return (from && strcmp(from, instance) == 0) || (to && strcmp(to, instance) == 0);
}
