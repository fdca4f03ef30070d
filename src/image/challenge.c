#include "image/challenge_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/strbuf.h"

#define TOKEN_END "=, \t\""

static const char *skip_space(const char *p)
{
	return p + strspn(p, " \t,");
}

/* A token or a quoted string with backslashes; moves *p behind it. */
static char *parse_value(const char **p)
{
	struct strbuf value = {};

	if (**p != '"') {
		size_t n = strcspn(*p, ", \t");

		strbuf_append(&value, *p, n);
		*p += n;
		return strbuf_take(&value);
	}
	for ((*p)++; **p && **p != '"'; (*p)++) {
		if (**p == '\\' && (*p)[1])
			(*p)++;
		strbuf_append(&value, *p, 1);
	}
	if (**p)
		(*p)++;
	return strbuf_take(&value);
}

void challenge_parse(const char *header, struct challenge *ret)
{
	const char *p = skip_space(header);
	size_t n = strcspn(p, " \t");

	*ret = (struct challenge){};
	if (n == 5 && strncasecmp(p, "basic", 5) == 0)
		ret->kind = CHALLENGE_BASIC;
	else if (n == 6 && strncasecmp(p, "bearer", 6) == 0)
		ret->kind = CHALLENGE_BEARER;
	else
		return;
	for (p = skip_space(p + n); *p; p = skip_space(p)) {
		const char *name = p;
		size_t size = strcspn(p, TOKEN_END);
		char **target = NULL;

		p += size;
		if (*p != '=')
			break;
		p++;
		if (size == 5 && strncasecmp(name, "realm", 5) == 0)
			target = &ret->realm;
		else if (size == 7 && strncasecmp(name, "service", 7) == 0)
			target = &ret->service;
		else if (size == 5 && strncasecmp(name, "scope", 5) == 0)
			target = &ret->scope;
		AUTO(free) char *value = parse_value(&p);
		if (target)
			mem_replace(target, value);
	}
	if (ret->kind == CHALLENGE_BEARER && !ret->realm)
		challenge_done(ret);
}

void challenge_done(struct challenge *challenge)
{
	free(challenge->realm);
	free(challenge->service);
	free(challenge->scope);
	*challenge = (struct challenge){};
}
