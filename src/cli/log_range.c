#include "cli/log_range.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/number.h"
#include "cli/when.h"

enum { TAIL_MAX = 1000000000 };

int log_range_query(const struct log_range *range, struct clock *clock, char **ret,
		    struct error *err)
{
	AUTO(strbuf_done) struct strbuf query = {};
	int64_t tail = -1, ms = 0;
	int r = 0;

	if (range->tail && strcmp(range->tail, "all") != 0)
		r = number_parse(range->tail, "--tail", 0, TAIL_MAX, &tail, err);
	strbuf_printf(&query, "&tail=%lld", (long long) tail);
	if (r == 0 && range->since) {
		r = when_parse(range->since, "--since", clock_realtime_ms(clock), &ms, err);
		strbuf_printf(&query, "&since_ms=%lld", (long long) ms);
	}
	if (r == 0 && range->until) {
		r = when_parse(range->until, "--until", clock_realtime_ms(clock), &ms, err);
		strbuf_printf(&query, "&until_ms=%lld", (long long) ms);
	}
	if (r == 0)
		*ret = strbuf_take(&query);
	return r;
}

char *log_range_rest(const char *query, const char *cursor)
{
	const char *until = strstr(query, "&until_ms=");

	return cursor ? mem_printf("&cursor=%s%s", cursor, until ? until : "") : mem_strdup(query);
}
