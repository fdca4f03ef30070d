/*
 * check_openapi FILE - fails when the OpenAPI document and the table of routes differ: in paths,
 * methods or query members.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/routes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

static unsigned int differences;

static void complain(const char *method, const char *path, const char *what, const char *name)
{
	fprintf(stderr, "%s %s: %s %s\n", method, path, what, name);
	differences++;
}

static bool has_word(const char *list, const char *word)
{
	size_t size = strlen(word);

	for (const char *p = list; p && *p; p += strspn(p, " ")) {
		size_t n = strcspn(p, " ");

		if (n == size && memcmp(p, word, n) == 0)
			return true;
		p += n;
	}
	return false;
}

/* True when a row of the table with this method and path knows the query member. */
static bool route_knows(const char *method, const char *path, const char *query, bool *ret_exists)
{
	size_t count = 0;
	const struct route *routes = routes_all(&count);
	bool known = strcmp(query, "project") == 0;

	*ret_exists = false;
	for (size_t i = 0; i < count; i++) {
		if (strcasecmp(routes[i].method, method) != 0 || strcmp(routes[i].path, path) != 0)
			continue;
		*ret_exists = true;
		known = known || has_word(routes[i].query, query);
	}
	return known;
}

static bool document_knows(const json_t *operation, const char *query)
{
	json_t *parameter;
	size_t i;

	json_array_foreach(json_object_get(operation, "parameters"), i, parameter)
	{
		const char *in = json_string_value(json_object_get(parameter, "in"));
		const char *name = json_string_value(json_object_get(parameter, "name"));

		if (in && name && strcmp(in, "query") == 0 && strcmp(name, query) == 0)
			return true;
	}
	return false;
}

static void check_document(const json_t *paths)
{
	const char *path, *method;
	json_t *methods, *operation, *parameter;
	bool exists;
	size_t i;

	json_object_foreach((json_t *) paths, path, methods)
	{
		json_object_foreach(methods, method, operation)
		{
			route_knows(method, path, "project", &exists);
			if (!exists)
				complain(method, path, "documented but there is no", "route");
			json_array_foreach(json_object_get(operation, "parameters"), i, parameter)
			{
				const char *in =
					json_string_value(json_object_get(parameter, "in"));
				const char *name =
					json_string_value(json_object_get(parameter, "name"));

				if (in && name && strcmp(in, "query") == 0 &&
				    !route_knows(method, path, name, &exists))
					complain(method, path, "documented but not known: ?", name);
			}
		}
	}
}

static void check_route(const struct route *route, const json_t *paths)
{
	const json_t *methods = json_object_get(paths, route->path);
	const json_t *operation = NULL;
	const char *method;
	json_t *value;

	json_object_foreach((json_t *) methods, method,
			    value) if (strcasecmp(method, route->method) == 0) operation = value;
	if (!operation) {
		complain(route->method, route->path, "not", "documented");
		return;
	}
	for (const char *p = route->query; p && *p; p += strspn(p, " ")) {
		size_t size = strcspn(p, " ");
		AUTO(free) char *name = strndup(p, size);

		if (!document_knows(operation, name))
			complain(route->method, route->path, "not documented: ?", name);
		p += size;
	}
}

int main(int argc, char **argv)
{
	AUTO(free) char *text = NULL;
	AUTO(json_decref) json_t *document = NULL;
	struct error err = {};
	size_t size = 0, count = 0;
	const struct route *routes = routes_all(&count);

	if (argc != 2 || file_read(AT_FDCWD, argv[1], 4 * 1024 * 1024, &text, &size) < 0) {
		fprintf(stderr, "usage: check_openapi FILE\n");
		return 2;
	}
	if (json_parse(text, size, size, &document, &err) < 0) {
		fprintf(stderr, "%s: %s\n", argv[1], err.msg);
		return 1;
	}
	const json_t *paths = json_object_get(document, "paths");
	check_document(paths);
	for (size_t i = 0; i < count; i++)
		check_route(&routes[i], paths);
	if (differences == 0)
		printf("%zu routes are documented\n", count);
	return differences > 0;
}
