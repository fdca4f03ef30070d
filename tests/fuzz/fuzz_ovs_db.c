/*
 * tests/fuzz/fuzz_ovs_db.c - what stands at the other end of Open vSwitch's socket may say
 * anything.
 *
 * The input is a stream of messages, cut and decoded as if it came in two pieces.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "net/ovs_db_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at_rows(const json_t *results)
{
	for (size_t i = 0; i < json_array_size(results); i++) {
		const json_t *rows = ovs_db_rows(results, i), *row;
		size_t n;

		json_array_foreach(rows, n, row)
		{
			const char *uuid = ovs_db_uuid(row);

			(void) ovs_db_text(row, "name");
			(void) ovs_db_map_get(row, "external_ids", "brume-owner");
			(void) ovs_db_refers(row, "ports", uuid ? uuid : "");
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *) data;

	while (size > 0) {
		struct ovs_db_frame frame = {}, whole = {};
		struct error err = {};
		json_t *answer = NULL;
		long found = ovs_db_frame(&frame, text, size / 2);

		if (found == 0)
			found = ovs_db_frame(&frame, text, size);
		assert(found == ovs_db_frame(&whole, text, size));
		if (found <= 0)
			break;
		assert((size_t) found <= size);
		if (ovs_db_decode(text, (size_t) found, 1, &answer, &err) == 1)
			look_at_rows(answer);
		json_decref(answer);
		text += found;
		size -= (size_t) found;
	}
	return 0;
}
