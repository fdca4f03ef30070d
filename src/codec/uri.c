#include "codec/uri.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool is_utf8(const char *text)
{
	AUTO(json_decref) json_t *probe = json_string(text);

	return probe != NULL;
}

static int decode(const char *text, size_t size, bool in_query, char **ret, struct error *err)
{
	AUTO(strbuf_done) struct strbuf buf = {};

	for (size_t i = 0; i < size; i++) {
		char c = text[i];

		if (c == '+' && in_query)
			c = ' ';
		if (c == '%') {
			int high = i + 2 < size ? hex_value(text[i + 1]) : -1;
			int low = high >= 0 ? hex_value(text[i + 2]) : -1;

			if (low < 0)
				return error_say(err, -EINVAL,
						 "URL: '%%' must be followed by two hex digits");
			c = (char) (high << 4 | low);
			i += 2;
		}
		if ((unsigned char) c < 0x20 || c == 0x7f)
			return error_say(err, -EINVAL, "URL: control characters are not allowed");
		strbuf_append(&buf, &c, 1);
	}
	if (!is_utf8(strbuf_str(&buf)))
		return error_say(err, -EINVAL, "URL: must be UTF-8");
	*ret = strbuf_take(&buf);
	return 0;
}

static int parse_path(const char *path, size_t size, char ***ret, struct error *err)
{
	AUTO(strv_free) char **segments = mem_new0(char *);
	const char *end = path + size;
	int r;

	if (size == 0 || path[0] != '/')
		return error_say(err, -EINVAL, "URL: the path must start with '/'");
	for (const char *p = path + 1; p < end;) {
		const char *slash = memchr(p, '/', (size_t) (end - p));
		const char *stop = slash ? slash : end;
		char *segment = NULL;

		if (strv_count(segments) == URI_SEGMENTS_MAX)
			return error_say(err, -ENAMETOOLONG, "URL: more than %d path segments",
					 URI_SEGMENTS_MAX);
		r = decode(p, (size_t) (stop - p), false, &segment, err);
		if (r < 0)
			return r;
		strv_append_take(&segments, segment);
		if (!segment[0] || strcmp(segment, ".") == 0 || strcmp(segment, "..") == 0)
			return error_say(err, -EINVAL,
					 "URL: empty, '.' and '..' path segments are not allowed");
		p = stop + 1;
	}
	*ret = TAKE_PTR(segments);
	return 0;
}

static int parse_query(const char *query, char ***ret, struct error *err)
{
	AUTO(strv_free) char **members = mem_new0(char *);
	int r;

	while (*query) {
		size_t size = strcspn(query, "&");
		const char *equals = memchr(query, '=', size);
		size_t name_size = equals ? (size_t) (equals - query) : size;
		AUTO(free) char *name = NULL;
		AUTO(free) char *value = NULL;

		r = decode(query, name_size, true, &name, err);
		if (r == 0)
			r = equals ? decode(equals + 1, size - name_size - 1, true, &value, err)
				   : decode("", 0, true, &value, err);
		if (r < 0)
			return r;
		query += size + (query[size] == '&');
		if (size == 0)
			continue;
		if (!name[0] || strchr(name, '='))
			return error_say(err, -EINVAL, "URL: a query member has no name");
		if (strv_env_get(members, name))
			return error_say(err, -EINVAL, "URL: '%s' is given twice", name);
		if (strv_count(members) == URI_QUERY_MAX)
			return error_say(err, -ENAMETOOLONG, "URL: more than %d query members",
					 URI_QUERY_MAX);
		strv_env_set(&members, name, value);
	}
	*ret = TAKE_PTR(members);
	return 0;
}

int uri_parse(const char *target, struct uri *ret, struct error *err)
{
	AUTO(uri_done) struct uri uri = {};
	size_t size = strlen(target);
	size_t path_size = strcspn(target, "?");
	int r;

	if (size > URI_SIZE_MAX)
		return error_say(err, -ENAMETOOLONG, "URL: longer than %d bytes", URI_SIZE_MAX);
	r = parse_path(target, path_size, &uri.segments, err);
	if (r == 0)
		r = parse_query(target[path_size] ? target + path_size + 1 : "", &uri.query, err);
	if (r < 0)
		return r;
	*ret = uri;
	uri = (struct uri){};
	return 0;
}

const char *uri_query(const struct uri *uri, const char *name)
{
	return strv_env_get(uri->query, name);
}

char *uri_encode(const char *text)
{
	static const char digits[] = "0123456789ABCDEF";
	AUTO(strbuf_done) struct strbuf buf = {};

	for (const char *p = text; *p; p++) {
		unsigned char c = (unsigned char) *p;
		bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
			     (c >= '0' && c <= '9') || strchr("-._~", c);
		char escape[3] = { '%', digits[c >> 4], digits[c & 15] };

		if (plain)
			strbuf_append(&buf, p, 1);
		else
			strbuf_append(&buf, escape, 3);
	}
	return strbuf_take(&buf);
}

void uri_done(struct uri *uri)
{
	strv_free(uri->segments);
	strv_free(uri->query);
	*uri = (struct uri){};
}
