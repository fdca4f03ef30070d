#include "model/traffic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/member.h"

enum { SERIAL_SIZE = 17, NAME_MAX_BYTES = PORT_NETWORK_SIZE - 1 };

static const struct {
	const char *way, *side, *unit;
	size_t offset;
} numbers[] = {
	{ "in", "inside", "bytes", offsetof(struct traffic, in.inside.bytes) },
	{ "in", "inside", "packets", offsetof(struct traffic, in.inside.packets) },
	{ "in", "outside", "bytes", offsetof(struct traffic, in.outside.bytes) },
	{ "in", "outside", "packets", offsetof(struct traffic, in.outside.packets) },
	{ "out", "inside", "bytes", offsetof(struct traffic, out.inside.bytes) },
	{ "out", "inside", "packets", offsetof(struct traffic, out.inside.packets) },
	{ "out", "outside", "bytes", offsetof(struct traffic, out.outside.bytes) },
	{ "out", "outside", "packets", offsetof(struct traffic, out.outside.packets) },
};

static uint64_t *number(const struct traffic *traffic, size_t i)
{
	return (uint64_t *) (void *) ((char *) traffic + numbers[i].offset);
}

/* ---- JSON ---- */

static json_t *child(json_t *object, const char *name)
{
	json_t *found = json_object_get(object, name);

	if (!found) {
		found = json_object();
		json_object_set_new(object, name, found);
	}
	return found;
}

json_t *traffic_encode(const struct traffic *traffic)
{
	json_t *object = json_object();

	for (size_t i = 0; i < ARRAY_COUNT(numbers); i++)
		json_object_set_new(child(child(object, numbers[i].way), numbers[i].side),
				    numbers[i].unit,
				    json_integer((json_int_t) *number(traffic, i)));
	return object;
}

static void read_traffic(struct json_reader *in, const json_t *object, const char *name,
			 struct traffic *ret)
{
	json_t *traffic = NULL;

	json_read_object(in, object, name, &traffic);
	for (size_t i = 0; i < ARRAY_COUNT(numbers) && in->result == 0; i++) {
		const json_t *way = json_object_get(traffic, numbers[i].way);
		const json_t *value =
			json_object_get(json_object_get(way, numbers[i].side), numbers[i].unit);

		if (!json_is_integer(value) || json_integer_value(value) < 0)
			member_fail(in, name, "%s.%s.%s must be a number", numbers[i].way,
				    numbers[i].side, numbers[i].unit);
		else
			*number(ret, i) = (uint64_t) json_integer_value(value);
	}
}

static void read_name(struct json_reader *in, const json_t *object, struct traffic_port *port)
{
	AUTO(free) char *name = NULL;

	member_read_text(in, object, "network", NAME_MAX_BYTES, &name);
	if (in->result == 0 && name)
		snprintf(port->network, sizeof(port->network), "%s", name);
}

static void read_serial(struct json_reader *in, const json_t *object, struct traffic_port *port)
{
	AUTO(free) char *serial = NULL;
	char *end = NULL;

	member_read_text(in, object, "serial", SERIAL_SIZE - 1, &serial);
	if (in->result < 0 || !serial)
		return;
	port->serial = strtoull(serial, &end, 16);
	if (!serial[0] || *end)
		member_fail(in, "serial", "must be hexadecimal");
}

static int read_port(const json_t *object, struct traffic_port *port, struct error *err)
{
	struct json_reader in = { .err = err, .where = "ports" };

	read_name(&in, object, port);
	member_read_uid(&in, object, "network_uid", port->network_uid);
	read_traffic(&in, object, "sum", &port->sum);
	read_serial(&in, object, port);
	read_traffic(&in, object, "included", &port->included);
	return json_reader_finish(&in, object);
}

int traffic_record_decode(const json_t *doc, struct traffic_record *ret, struct error *err)
{
	AUTO(traffic_record_done) struct traffic_record record = {};
	struct json_reader in = { .err = err, .where = "" };
	json_t *array = NULL, *item;
	size_t i;
	int r;

	json_read_array(&in, doc, "ports", &array);
	r = json_reader_finish(&in, doc);
	if (r < 0)
		return r;
	if (json_array_size(array) > TRAFFIC_PORTS_MAX + PORTS_MAX)
		return error_say(err, -E2BIG, "ports: too many");
	record.ports = mem_new0_array(struct traffic_port, json_array_size(array) + 1);
	json_array_foreach(array, i, item)
	{
		r = read_port(item, &record.ports[i], err);
		if (r < 0)
			return r;
		record.count++;
	}
	*ret = record;
	record = (struct traffic_record){};
	return 0;
}

json_t *traffic_record_encode(const struct traffic_record *record)
{
	json_t *array = json_array();

	for (size_t i = 0; i < record->count; i++) {
		const struct traffic_port *port = &record->ports[i];
		json_t *object = json_object();
		char serial[SERIAL_SIZE];

		snprintf(serial, sizeof(serial), "%llx", (unsigned long long) port->serial);
		json_put_string(object, "network", port->network);
		json_put_string(object, "network_uid", port->network_uid);
		json_object_set_new(object, "sum", traffic_encode(&port->sum));
		json_object_set_new(object, "serial", json_string(serial));
		json_object_set_new(object, "included", traffic_encode(&port->included));
		json_array_append_new(array, object);
	}
	return json_pack("{s:o}", "ports", array);
}

/* ---- sums ---- */

const struct traffic_port *traffic_record_find(const struct traffic_record *record,
					       const char *network_uid)
{
	for (size_t i = 0; i < record->count; i++)
		if (strcmp(record->ports[i].network_uid, network_uid) == 0)
			return &record->ports[i];
	return NULL;
}

static struct traffic_port *find_or_add(struct traffic_record *record, const char *network_uid,
					bool *ret_new)
{
	struct traffic_port *port =
		(struct traffic_port *) traffic_record_find(record, network_uid);

	*ret_new = !port;
	if (port)
		return port;
	record->ports = mem_realloc(record->ports, record->count + 1, sizeof(*record->ports));
	port = &record->ports[record->count++];
	*port = (struct traffic_port){};
	snprintf(port->network_uid, sizeof(port->network_uid), "%s", network_uid);
	return port;
}

bool traffic_record_add(struct traffic_record *record, const struct port *port, uint64_t serial,
			const struct traffic *now)
{
	bool changed;
	struct traffic_port *to = find_or_add(record, port->network_uid, &changed);

	memcpy(to->network, port->network, sizeof(to->network));
	if (to->serial != serial) {
		to->serial = serial;
		to->included = (struct traffic){};
	}
	for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
		uint64_t count = *number(now, i), *included = number(&to->included, i);

		/* Less than what is included was read before that. */
		if (count <= *included)
			continue;
		*number(&to->sum, i) += count - *included;
		*included = count;
		changed = true;
	}
	return changed;
}

static bool is_on(const struct port *ports, size_t count, const char *network_uid)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(ports[i].network_uid, network_uid) == 0)
			return true;
	return false;
}

static void remove_at(struct traffic_record *record, size_t at)
{
	record->count--;
	memmove(&record->ports[at], &record->ports[at + 1],
		(record->count - at) * sizeof(*record->ports));
}

void traffic_record_trim(struct traffic_record *record, const struct port *ports, size_t count)
{
	for (size_t i = 0; i < record->count && record->count > TRAFFIC_PORTS_MAX;) {
		const struct traffic_port port = record->ports[i];
		struct traffic_port *others;
		bool is_new;

		if (!port.network_uid[0] || is_on(ports, count, port.network_uid)) {
			i++;
			continue;
		}
		others = find_or_add(record, "", &is_new);
		for (size_t n = 0; n < ARRAY_COUNT(numbers); n++)
			*number(&others->sum, n) += *number(&port.sum, n);
		remove_at(record, i);
	}
}

void traffic_record_done(struct traffic_record *record)
{
	free(record->ports);
	*record = (struct traffic_record){};
}
