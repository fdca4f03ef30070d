#include "base/strv.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

size_t strv_count(char *const *strv)
{
	size_t n = 0;

	while (strv && strv[n])
		n++;
	return n;
}

char **strv_copy(char *const *strv)
{
	char **copy = NULL;

	if (!strv)
		return NULL;
	copy = mem_new0(char *);
	for (size_t i = 0; strv[i]; i++)
		strv_append(&copy, strv[i]);
	return copy;
}

void strv_append_take(char ***strv, char *s)
{
	size_t n = strv_count(*strv);

	*strv = mem_realloc(*strv, n + 2, sizeof(char *));
	(*strv)[n] = s;
	(*strv)[n + 1] = NULL;
}

void strv_append(char ***strv, const char *s)
{
	strv_append_take(strv, mem_strdup(s));
}

int strv_contains(char *const *strv, const char *s)
{
	for (; strv && *strv; strv++)
		if (strcmp(*strv, s) == 0)
			return 1;
	return 0;
}

int strv_equal(char *const *a, char *const *b)
{
	size_t n = strv_count(a);

	if (n != strv_count(b))
		return 0;
	for (size_t i = 0; i < n; i++)
		if (strcmp(a[i], b[i]) != 0)
			return 0;
	return 1;
}

static size_t env_find(char *const *strv, const char *name)
{
	size_t len = strlen(name);
	size_t i;

	for (i = 0; strv && strv[i]; i++)
		if (strncmp(strv[i], name, len) == 0 && strv[i][len] == '=')
			break;
	return i;
}

const char *strv_env_get(char *const *strv, const char *name)
{
	size_t i = env_find(strv, name);

	return strv && strv[i] ? strv[i] + strlen(name) + 1 : NULL;
}

void strv_env_set(char ***strv, const char *name, const char *value)
{
	size_t i = env_find(*strv, name);
	char *entry = mem_printf("%s=%s", name, value);

	if (!*strv || !(*strv)[i]) {
		strv_append_take(strv, entry);
		return;
	}
	free((*strv)[i]);
	(*strv)[i] = entry;
}

void strv_env_unset(char ***strv, const char *name)
{
	size_t i = env_find(*strv, name);

	if (!*strv || !(*strv)[i])
		return;
	free((*strv)[i]);
	for (; (*strv)[i]; i++)
		(*strv)[i] = (*strv)[i + 1];
}

void strv_free(char **strv)
{
	for (size_t i = 0; strv && strv[i]; i++)
		free(strv[i]);
	free(strv);
}
