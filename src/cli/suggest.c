#include "cli/suggest.h"

#include <string.h>

enum { SUGGESTION_WORD_MAX = 31, SUGGESTION_FAR = 1000 };

static unsigned int smaller(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

unsigned int suggestion_distance(const char *a, const char *b)
{
	size_t m = strlen(a), n = strlen(b);
	unsigned int d[SUGGESTION_WORD_MAX + 1][SUGGESTION_WORD_MAX + 1];

	if (m > SUGGESTION_WORD_MAX || n > SUGGESTION_WORD_MAX)
		return SUGGESTION_FAR;
	for (size_t i = 0; i <= m; i++)
		d[i][0] = (unsigned int) i;
	for (size_t j = 0; j <= n; j++)
		d[0][j] = (unsigned int) j;
	for (size_t i = 1; i <= m; i++) {
		for (size_t j = 1; j <= n; j++) {
			unsigned int replace = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

			d[i][j] = smaller(replace, smaller(d[i - 1][j], d[i][j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				d[i][j] = smaller(d[i][j], d[i - 2][j - 2] + 1);
		}
	}
	return d[m][n];
}

void suggestion_offer(struct suggestion *best, const char *name)
{
	unsigned int distance = suggestion_distance(best->wanted, name);
	size_t size = strlen(best->wanted);

	/* A third of the letters may be wrong, and the beginning of a longer name is near it. */
	if (size >= 3 && strncmp(best->wanted, name, size) == 0)
		distance = 1;
	if (distance > (size + 2) / 3 || (best->name && distance >= best->distance))
		return;
	best->name = name;
	best->distance = distance;
}
