#include "model/traffic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"

static struct port on_network(unsigned int number)
{
	struct port port = { .network = "net" };

	snprintf(port.network_uid, sizeof(port.network_uid), "%032x", number);
	return port;
}

static struct traffic counts(uint64_t in, uint64_t out)
{
	return (struct traffic){ .in.inside = { in, in / 10 }, .out.outside = { out, out / 10 } };
}

static uint64_t in_of(const struct traffic_record *record, const struct port *port)
{
	return traffic_record_find(record, port->network_uid)->sum.in.inside.bytes;
}

static bool add(struct traffic_record *record, const struct port *port, uint64_t serial,
		uint64_t in)
{
	struct traffic now = counts(in, 2 * in);

	return traffic_record_add(record, port, serial, &now);
}

static void sums_go_on(void **state)
{
	AUTO(traffic_record_done) struct traffic_record record = {};
	const struct port port = on_network(1), other = on_network(2);

	(void) state;
	assert_true(add(&record, &port, 7, 100));
	assert_false(add(&record, &port, 7, 100));
	assert_true(add(&record, &port, 7, 150));
	assert_int_equal(in_of(&record, &port), 150);
	/* A new run: its counts begin with 0. */
	assert_true(add(&record, &port, 8, 30));
	assert_int_equal(in_of(&record, &port), 180);
	/* One that was read earlier and comes later takes nothing back, and adds nothing. */
	assert_false(add(&record, &port, 8, 20));
	assert_int_equal(in_of(&record, &port), 180);
	assert_int_equal(traffic_record_find(&record, port.network_uid)->sum.out.outside.packets,
			 36);
	assert_true(add(&record, &other, 9, 5));
	assert_int_equal(in_of(&record, &other), 5);
	assert_int_equal(in_of(&record, &port), 180);
	assert_null(traffic_record_find(&record, "absent"));
}

static struct traffic_record read_back(const struct traffic_record *record)
{
	AUTO(json_decref) json_t *doc = traffic_record_encode(record);
	struct traffic_record copy = {};
	struct error err = {};

	assert_int_equal(traffic_record_decode(doc, &copy, &err), 0);
	return copy;
}

/*
 * The agent dies at each step of a run, and the next one goes on with what is on the disk and in
 * the kernel; the runs themselves never notice.
 */
static void nothing_is_lost_or_counted_twice(void **state)
{
	const struct port port = on_network(1);

	(void) state;
	for (unsigned int dies_at = 0; dies_at < 64; dies_at++) {
		struct traffic_record disk = {};
		uint64_t carried = 0, told = 0;

		for (uint64_t run = 1; run <= 4; run++) {
			uint64_t kernel = 0;

			for (unsigned int i = 0; i < 16; i++) {
				AUTO(traffic_record_done)
				struct traffic_record memory = read_back(&disk);

				kernel += 10 + i;
				carried += 10 + i;
				if (add(&memory, &port, run, kernel) &&
				    (run - 1) * 16 + i != dies_at) {
					traffic_record_done(&disk);
					disk = read_back(&memory);
				}
				if (disk.count > 0) {
					assert_true(in_of(&disk, &port) >= told);
					told = in_of(&disk, &port);
				}
			}
			/* Its end is put down, however often that is tried. */
			for (int i = 0; i < 2; i++)
				add(&disk, &port, run, kernel);
		}
		assert_int_equal(in_of(&disk, &port), carried);
		traffic_record_done(&disk);
	}
}

static void networks_left_long_ago_are_one(void **state)
{
	AUTO(traffic_record_done) struct traffic_record record = {};
	const struct port kept = on_network(0);
	uint64_t sum = 0;

	(void) state;
	add(&record, &kept, 1, 1000);
	for (unsigned int i = 1; i < 3 * TRAFFIC_PORTS_MAX; i++) {
		const struct port port = on_network(i);

		add(&record, &port, i + 1, i);
		traffic_record_trim(&record, &kept, 1);
	}
	assert_true(record.count <= TRAFFIC_PORTS_MAX);
	assert_int_equal(in_of(&record, &kept), 1000);
	for (size_t i = 0; i < record.count; i++)
		sum += record.ports[i].sum.in.inside.bytes;
	assert_int_equal(sum, 1000 + (3 * TRAFFIC_PORTS_MAX - 1) * (3 * TRAFFIC_PORTS_MAX) / 2);
	assert_non_null(traffic_record_find(&record, ""));
}

static void refuses(void **state)
{
	static const char *const bad[] = {
		"{\"ports\":5}",
		"{\"ports\":[5]}",
		"{\"ports\":[{\"sum\":{}}]}",
		"{\"ports\":[{\"network_uid\":\"x\"}]}",
		"{\"other\":[]}",
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		AUTO(json_decref) json_t *doc = NULL;
		struct traffic_record record = {};
		struct error err = {};

		assert_int_equal(json_parse(bad[i], strlen(bad[i]), 1000, &doc, NULL), 0);
		assert_true(traffic_record_decode(doc, &record, &err) < 0);
		assert_true(err.msg[0]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_go_on),
		cmocka_unit_test(nothing_is_lost_or_counted_twice),
		cmocka_unit_test(networks_left_long_ago_are_one),
		cmocka_unit_test(refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
