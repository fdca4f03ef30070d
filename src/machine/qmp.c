#include "machine/qmp.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum { DISKS_MAX = 64, CPUS_MAX = 64, COUNTERS_MAX = 128, TEXT_MAX_BYTES = 512 };

/* A member's text, printable and cut; "" when it is none. */
static char *member_text(const json_t *object, const char *name)
{
	AUTO(strbuf_done) struct strbuf text = {};
	const json_t *value = json_object_get(object, name);
	const char *raw = json_string_value(value);
	size_t size = json_string_length(value);

	if (raw)
		strbuf_put_printable(&text, raw, size < TEXT_MAX_BYTES ? size : TEXT_MAX_BYTES);
	return strbuf_take(&text);
}

uint64_t qmp_number(const json_t *object, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(object, name));

	return value < 0 ? 0 : (uint64_t) value;
}

static char *version_text(const json_t *greeting)
{
	const json_t *version = json_object_get(json_object_get(greeting, "version"), "qemu");

	return mem_printf("%u.%u.%u", (unsigned int) qmp_number(version, "major"),
			  (unsigned int) qmp_number(version, "minor"),
			  (unsigned int) qmp_number(version, "micro"));
}

/*
 * QEMU writes numbers of 64 bits without a sign, among them what a guest says, and all ones for
 * what is not known.  JSON's reader ends at 63 bits: what is larger becomes -1.
 */
static void put_small_numbers(struct strbuf *out, const char *line, size_t size)
{
	static const char largest[] = "9223372036854775807";
	const size_t digits_max = sizeof(largest) - 1;
	bool in_text = false;

	for (size_t i = 0, n; i < size; i += n) {
		for (n = 0; !in_text && i + n < size && line[i + n] >= '0' && line[i + n] <= '9';)
			n++;
		if (n > digits_max || (n == digits_max && memcmp(line + i, largest, n) > 0)) {
			strbuf_puts(out, i > 0 && line[i - 1] == '-' ? "1" : "-1");
			continue;
		}
		if (n == 0) {
			n = in_text && line[i] == '\\' && i + 1 < size ? 2 : 1;
			if (line[i] == '"')
				in_text = !in_text;
		}
		strbuf_append(out, line + i, n);
	}
}

int qmp_decode(const char *line, size_t size, struct qmp_message *ret, struct error *err)
{
	AUTO(json_decref) json_t *object = NULL;
	AUTO(strbuf_done) struct strbuf text = {};
	json_t *part;

	if (size <= QMP_LINE_MAX)
		put_small_numbers(&text, line, size);
	if (json_parse(strbuf_str(&text), text.size, QMP_LINE_MAX, &object, NULL) < 0)
		return error_say(err, -EPROTO, "qemu: %zu bytes that are no JSON", size);
	*ret = (struct qmp_message){ .id = qmp_number(object, "id") };
	if ((part = json_object_get(object, "return"))) {
		ret->kind = QMP_RETURN;
		ret->data = json_incref(part);
	} else if (json_is_object(part = json_object_get(object, "error"))) {
		ret->kind = QMP_ERROR;
		ret->text = member_text(part, "desc");
	} else if (json_is_string(json_object_get(object, "event"))) {
		part = json_object_get(object, "data");
		ret->kind = QMP_EVENT;
		ret->text = member_text(object, "event");
		ret->data = json_is_object(part) ? json_incref(part) : json_object();
	} else if (json_is_object(part = json_object_get(object, "QMP"))) {
		ret->kind = QMP_GREETING;
		ret->text = version_text(part);
	} else {
		return error_say(err, -EPROTO, "qemu: neither an answer nor an event");
	}
	return 0;
}

void qmp_message_done(struct qmp_message *message)
{
	free(message->text);
	json_decref(message->data);
	*message = (struct qmp_message){};
}

void qmp_append_command(struct strbuf *out, const char *name, const char *arguments, uint64_t id)
{
	strbuf_printf(out, "{\"execute\":\"%s\",", name);
	if (arguments)
		strbuf_printf(out, "\"arguments\":%s,", arguments);
	strbuf_printf(out, "\"id\":%llu}\n", (unsigned long long) id);
}

enum qmp_cause qmp_shutdown_cause(const json_t *data)
{
	static const struct {
		const char *reason;
		enum qmp_cause cause;
	} causes[] = {
		{ "guest-shutdown", QMP_CAUSE_POWEROFF },     { "guest-reset", QMP_CAUSE_RESET },
		{ "subsystem-reset", QMP_CAUSE_RESET },       { "guest-panic", QMP_CAUSE_PANIC },
		{ "host-qmp-quit", QMP_CAUSE_HOST },          { "host-signal", QMP_CAUSE_HOST },
		{ "host-qmp-system-reset", QMP_CAUSE_RESET },
	};
	const char *reason = json_string_value(json_object_get(data, "reason"));

	for (size_t i = 0; reason && i < ARRAY_COUNT(causes); i++)
		if (strcmp(reason, causes[i].reason) == 0)
			return causes[i].cause;
	return QMP_CAUSE_ERROR;
}

/* -- what QEMU counts ---------------------------------------------------------------------------
 */

/* A sum of what is not true may be larger than a number of JSON. */
static void put_number(json_t *object, const char *name, uint64_t value)
{
	json_object_set_new(object, name, json_integer((json_int_t) (value & INT64_MAX)));
}

json_t *qmp_disk_metrics(const json_t *data)
{
	static const char *const members[][2] = {
		{ "reads", "rd_operations" },         { "read_bytes", "rd_bytes" },
		{ "read_ns", "rd_total_time_ns" },    { "writes", "wr_operations" },
		{ "written_bytes", "wr_bytes" },      { "write_ns", "wr_total_time_ns" },
		{ "flushes", "flush_operations" },    { "discards", "unmap_operations" },
		{ "discarded_bytes", "unmap_bytes" },
	};
	static const char *const failures[] = {
		"failed_rd_operations",     "failed_wr_operations",    "failed_flush_operations",
		"failed_unmap_operations",  "invalid_rd_operations",   "invalid_wr_operations",
		"invalid_flush_operations", "invalid_unmap_operations"
	};
	json_t *disks = json_array();
	const json_t *device;
	size_t i;

	json_array_foreach(data, i, device)
	{
		const json_t *stats = json_object_get(device, "stats");
		AUTO(free) char *id = member_text(device, "node-name");
		json_t *disk = json_pack("{s:s}", "id", id);
		uint64_t errors = 0;

		if (i >= DISKS_MAX) {
			json_decref(disk);
			break;
		}
		for (size_t m = 0; m < ARRAY_COUNT(members); m++)
			put_number(disk, members[m][0], qmp_number(stats, members[m][1]));
		for (size_t f = 0; f < ARRAY_COUNT(failures); f++)
			errors += qmp_number(stats, failures[f]);
		put_number(disk, "errors", errors);
		json_array_append_new(disks, disk);
	}
	return disks;
}

json_t *qmp_guest_statistics(const json_t *data)
{
	static const char *const members[][2] = {
		{ "free_bytes", "stat-free-memory" },
		{ "total_bytes", "stat-total-memory" },
		{ "available_bytes", "stat-available-memory" },
		{ "cache_bytes", "stat-disk-caches" },
		{ "swap_in_bytes", "stat-swap-in" },
		{ "swap_out_bytes", "stat-swap-out" },
		{ "major_faults", "stat-major-faults" },
		{ "minor_faults", "stat-minor-faults" },
	};
	const json_t *stats = json_object_get(data, "stats");
	json_t *guest = json_object();

	for (size_t i = 0; i < ARRAY_COUNT(members); i++) {
		const json_t *value = json_object_get(stats, members[i][1]);

		/* -1: the guest does not say. */
		if (json_is_integer(value) && json_integer_value(value) >= 0)
			json_object_set(guest, members[i][0], (json_t *) (uintptr_t) value);
	}
	if (json_object_size(guest) > 0)
		put_number(guest, "updates", qmp_number(data, "last-update"));
	return guest;
}

static void add_counters(json_t *sum, const json_t *stats)
{
	const json_t *stat;
	size_t i;

	json_array_foreach(stats, i, stat)
	{
		const json_t *value = json_object_get(stat, "value");
		AUTO(free) char *name = member_text(stat, "name");
		const json_t *before = json_object_get(sum, name);

		/* Others are histograms. */
		if (!json_is_integer(value) || !name[0] ||
		    (!before && json_object_size(sum) >= COUNTERS_MAX))
			continue;
		put_number(sum, name,
			   qmp_number(stat, "value") + (uint64_t) json_integer_value(before));
	}
}

json_t *qmp_kvm_counters(const json_t *data)
{
	json_t *sum = json_object();
	const json_t *one;
	size_t i;

	json_array_foreach(data, i, one)
	{
		if (i >= CPUS_MAX)
			break;
		add_counters(sum, json_object_get(one, "stats"));
	}
	return sum;
}
