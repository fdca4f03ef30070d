#include "cli/detach_keys.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"

/* The byte that a key sends, or -1. */
static int parse_key(const char *text, size_t size)
{
	if (size == 1 && (unsigned char) text[0] > ' ' && (unsigned char) text[0] < 127)
		return text[0];
	if (size != 6 || strncmp(text, "ctrl-", 5) != 0)
		return -1;
	if (isalpha((unsigned char) text[5]))
		return tolower((unsigned char) text[5]) - 'a' + 1;
	return text[5] && strchr("@[\\]^_", text[5]) ? text[5] - '@' : -1;
}

int detach_keys_parse(const char *text, struct detach_keys *ret, struct error *err)
{
	struct detach_keys keys = {};
	const char *p = text;

	while (*p) {
		size_t size = strcspn(p, ",");
		int key = parse_key(p, size);

		if (key < 0 || keys.count == DETACH_KEYS_MAX || (p[size] && !p[size + 1]))
			return error_say(err, -EINVAL,
					 "--detach-keys: '%.64s' must be up to %d keys like "
					 "ctrl-p,ctrl-q",
					 text, DETACH_KEYS_MAX);
		keys.keys[keys.count++] = (char) key;
		p += size + (p[size] == ',');
	}
	*ret = keys;
	return 0;
}

/* After a key that does not go on: the longest end of what was typed that is a beginning. */
static void fall_back(struct detach_keys *keys, struct strbuf *out)
{
	size_t skip = 1;

	while (skip < keys->held && memcmp(keys->keys, keys->keys + skip, keys->held - skip) != 0)
		skip++;
	strbuf_append(out, keys->keys, skip);
	keys->held -= skip;
}

bool detach_keys_feed(struct detach_keys *keys, const char *data, size_t size, struct strbuf *out)
{
	for (size_t i = 0; i < size; i++) {
		while (keys->held > 0 && data[i] != keys->keys[keys->held])
			fall_back(keys, out);
		if (keys->count > 0 && data[i] == keys->keys[keys->held])
			keys->held++;
		else
			strbuf_append(out, &data[i], 1);
		if (keys->count > 0 && keys->held == keys->count) {
			keys->held = 0;
			return true;
		}
	}
	return false;
}
