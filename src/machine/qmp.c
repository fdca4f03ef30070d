#include "machine/qmp.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum { DISKS_MAX = 64, TEXT_MAX_BYTES = 512 };

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

static uint64_t member_count(const json_t *object, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(object, name));

	return value < 0 ? 0 : (uint64_t) value;
}

static char *version_text(const json_t *greeting)
{
	const json_t *version = json_object_get(json_object_get(greeting, "version"), "qemu");

	return mem_printf("%u.%u.%u", (unsigned int) member_count(version, "major"),
			  (unsigned int) member_count(version, "minor"),
			  (unsigned int) member_count(version, "micro"));
}

int qmp_decode(const char *line, size_t size, struct qmp_message *ret, struct error *err)
{
	AUTO(json_decref) json_t *object = NULL;
	json_t *part;

	if (json_parse(line, size, QMP_LINE_MAX, &object, NULL) < 0)
		return error_say(err, -EPROTO, "qemu: %zu bytes that are no JSON", size);
	*ret = (struct qmp_message){ .id = member_count(object, "id") };
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

void qmp_append_command(struct strbuf *out, const char *name, uint64_t id)
{
	strbuf_printf(out, "{\"execute\":\"%s\",\"id\":%llu}\n", name, (unsigned long long) id);
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

json_t *qmp_disk_metrics(const json_t *data)
{
	json_t *disks = json_array();
	const json_t *device;
	size_t i;

	json_array_foreach(data, i, device)
	{
		const json_t *stats = json_object_get(device, "stats");
		AUTO(free) char *id = member_text(device, "node-name");

		if (i >= DISKS_MAX)
			break;
		json_array_append_new(
			disks,
			json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "id", id, "reads",
				  (json_int_t) member_count(stats, "rd_operations"), "read_bytes",
				  (json_int_t) member_count(stats, "rd_bytes"), "writes",
				  (json_int_t) member_count(stats, "wr_operations"),
				  "written_bytes", (json_int_t) member_count(stats, "wr_bytes"),
				  "flushes", (json_int_t) member_count(stats, "flush_operations")));
	}
	return disks;
}
