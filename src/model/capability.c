#include "model/capability.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "base/capname.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/strbuf.h"

enum { PREFIX_SIZE = 4, NEAR_MAX = 3, DIFFERENT_MAX = 2 };

/* Are the letters of `part` in `whole`, in this order? */
static bool is_within(const char *part, const char *whole)
{
	for (; *part; part++, whole++) {
		while (*whole && strncasecmp(part, whole, 1) != 0)
			whole++;
		if (!*whole)
			return false;
	}
	return true;
}

/* Letters left out, letters too many, or a few wrong ones. */
static bool looks_like(const char *text, const char *name)
{
	unsigned int different = 0;
	size_t size = strlen(text);

	if (size < 2)
		return false;
	if (size != strlen(name))
		return is_within(text, name) || is_within(name, text);
	for (size_t i = 0; i < size; i++)
		different += strncasecmp(text + i, name + i, 1) != 0;
	return different <= DIFFERENT_MAX;
}

static int refuse(const char *text, const char *word, struct error *err)
{
	AUTO(strbuf_done) struct strbuf near = {};
	unsigned int found = 0;

	for (unsigned int i = 0; i < CAPNAME_COUNT && found < NEAR_MAX; i++) {
		const char *name = capname(i) + PREFIX_SIZE;

		if (looks_like(word, name))
			strbuf_printf(&near, "%s%s", found++ ? ", " : "", name);
	}
	if (found == 0)
		return error_say(err, -EINVAL,
				 "\"%.40s\" is not a capability; an example is NET_ADMIN", text);
	return error_say(err, -EINVAL, "\"%.40s\" is not a capability; near: %s", text,
			 strbuf_str(&near));
}

int capability_parse(const char *text, const char **ret, struct error *err)
{
	const char *word = strncasecmp(text, "CAP_", PREFIX_SIZE) == 0 ? text + PREFIX_SIZE : text;
	int number = capname_number(text);

	if (strcasecmp(text, "ALL") == 0) {
		*ret = "ALL";
		return 0;
	}
	if (number >= 0) {
		*ret = capname((unsigned int) number);
		return 0;
	}
	return refuse(text, word, err);
}
