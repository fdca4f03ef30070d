/*
 * The dispatcher's half of api/routes.h; the table itself is routes.c.
 */
#include <errno.h>
#include <string.h>

#include "api/near.h"
#include "api/routes.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"

/* True when the path fits; the segments that stand for variables go to args. */
static bool path_matches(const char *path, const struct uri *uri, const char *args[ROUTE_ARGS_MAX])
{
	unsigned int arg = 0;
	size_t i = 0;

	for (const char *p = path; *p == '/'; i++) {
		size_t size = strcspn(++p, "/");
		const char *segment = uri->segments[i];

		if (!segment)
			return false;
		if (*p == '{')
			args[arg++] = segment;
		else if (strlen(segment) != size || memcmp(segment, p, size) != 0)
			return false;
		p += size;
	}
	return uri->segments[i] == NULL;
}

static bool is_true(const char *value)
{
	return value && strcmp(value, "0") != 0 && strcmp(value, "false") != 0;
}

void route_find(const char *method, const struct uri *uri, struct route_match *ret)
{
	size_t count = 0;
	const struct route *routes = routes_all(&count);
	const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;

	*ret = (struct route_match){};
	for (size_t i = 0; i < count; i++) {
		const struct route *route = &routes[i];
		const char *args[ROUTE_ARGS_MAX] = {};

		if (!path_matches(route->path, uri, args))
			continue;
		ret->path_known = true;
		if (strcmp(route->method, wanted) != 0 ||
		    (route->selector && !is_true(uri_query(uri, route->selector))))
			continue;
		ret->route = route;
		memcpy(ret->args, args, sizeof(args));
		return;
	}
}

char *route_allowed_methods(const struct uri *uri)
{
	static const char *const methods[] = { "GET", "POST", "PUT", "PATCH", "DELETE" };
	AUTO(strbuf_done) struct strbuf buf = {};
	struct route_match match;

	for (size_t i = 0; i < ARRAY_COUNT(methods); i++) {
		route_find(methods[i], uri, &match);
		if (match.route)
			strbuf_printf(&buf, "%s, ", i == 0 ? "GET, HEAD" : methods[i]);
	}
	strbuf_puts(&buf, "OPTIONS");
	return strbuf_take(&buf);
}

/* The route's path with the variables filled in by what the client wrote in their place. */
static char *fill(const char *path, const struct uri *uri)
{
	AUTO(strbuf_done) struct strbuf buf = {};
	size_t count = strv_count(uri->segments);
	size_t i = 0;

	for (const char *p = path; *p == '/'; i++) {
		size_t size = strcspn(++p, "/");

		strbuf_puts(&buf, "/");
		if (*p == '{' && i < count) {
			AUTO(free) char *encoded = uri_encode(uri->segments[i]);
			strbuf_puts(&buf, encoded);
		} else {
			strbuf_append(&buf, p, size);
		}
		p += size;
	}
	return strbuf_take(&buf);
}

char *route_hint(const struct uri *uri)
{
	size_t count = 0;
	const struct route *routes = routes_all(&count);
	AUTO(strbuf_done) struct strbuf wanted = {};
	AUTO(strv_free) char **filled = mem_new0(char *);
	struct near near = {};

	for (size_t i = 0; uri->segments[i]; i++) {
		AUTO(free) char *encoded = uri_encode(uri->segments[i]);
		strbuf_printf(&wanted, "/%s", encoded);
	}
	near.wanted = strbuf_str(&wanted);
	for (size_t i = 0; i < count; i++)
		strv_append_take(&filled, fill(routes[i].path, uri));
	for (size_t i = 0; i < count; i++)
		near_offer(&near, filled[i]);
	return near_hint(&near);
}

static bool list_has(const char *list, const char *word, size_t size)
{
	while (list && *list) {
		size_t n = strcspn(list, " ");

		if (n == size && memcmp(list, word, n) == 0)
			return true;
		list += n + (list[n] == ' ');
	}
	return false;
}

int route_check_query(const struct route *route, const struct uri *uri, struct error *err)
{
	for (size_t i = 0; uri->query && uri->query[i]; i++) {
		const char *member = uri->query[i];
		size_t size = strcspn(member, "=");

		if (!list_has("project", member, size) && !list_has(route->query, member, size))
			return error_say(err, -EINVAL,
					 "?%.*s: is not known here; known are: project%s%s",
					 (int) size, member, route->query ? ", " : "",
					 route->query ? route->query : "");
	}
	return 0;
}
