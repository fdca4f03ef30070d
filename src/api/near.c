#include "api/near.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "base/strbuf.h"

static unsigned int min3(unsigned int a, unsigned int b, unsigned int c)
{
	unsigned int least = a < b ? a : b;

	return least < c ? least : c;
}

unsigned int near_distance(const char *a, const char *b)
{
	unsigned int row[NEAR_WORD_MAX + 1];
	size_t a_size = strlen(a);
	size_t b_size = strlen(b);

	if (a_size > NEAR_WORD_MAX || b_size > NEAR_WORD_MAX)
		return UINT_MAX;
	for (size_t j = 0; j <= b_size; j++)
		row[j] = (unsigned int) j;
	for (size_t i = 1; i <= a_size; i++) {
		unsigned int diagonal = row[0];

		row[0] = (unsigned int) i;
		for (size_t j = 1; j <= b_size; j++) {
			unsigned int above = row[j];

			row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[b_size];
}

void near_offer(struct near *near, const char *known)
{
	unsigned int distance = near_distance(near->wanted, known);
	size_t size = strlen(near->wanted);
	unsigned int far = size < 4 ? 1 : size < 8 ? 2 : (unsigned int) size / 3;
	int at = NEAR_SHOWN;

	if (size > 2 && strncmp(known, near->wanted, size) == 0)
		distance = 1;
	if (distance > far)
		return;
	for (int i = 0; i < NEAR_SHOWN; i++)
		if (near->best[i] && strcmp(near->best[i], known) == 0)
			return;
	while (at > 0 && (!near->best[at - 1] || distance < near->distance[at - 1]))
		at--;
	if (at == NEAR_SHOWN)
		return;
	for (int i = NEAR_SHOWN - 1; i > at; i--) {
		near->best[i] = near->best[i - 1];
		near->distance[i] = near->distance[i - 1];
	}
	near->best[at] = known;
	near->distance[at] = distance;
}

char *near_hint(const struct near *near)
{
	AUTO(strbuf_done) struct strbuf buf = {};

	if (!near->best[0])
		return NULL;
	strbuf_puts(&buf, "did you mean ");
	for (int i = 0; i < NEAR_SHOWN && near->best[i]; i++) {
		bool last = i + 1 == NEAR_SHOWN || !near->best[i + 1];

		strbuf_printf(&buf, "%s'%s'", i == 0 ? "" : last ? " or " : ", ", near->best[i]);
	}
	strbuf_puts(&buf, "?");
	return strbuf_take(&buf);
}
