#include "codec/users.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"

enum { FIELDS_MAX = 7, ID_MAX = 65535 };

/* One line of passwd or group, cut at the colons in place. */
struct line {
	char *fields[FIELDS_MAX];
	size_t count;
};

/* Takes the next line out of *text; false at the end. */
static bool next_line(char **text, struct line *ret)
{
	char *line = strsep(text, "\n");

	ret->count = 0;
	if (!line)
		return false;
	while (line && ret->count < FIELDS_MAX)
		ret->fields[ret->count++] = strsep(&line, ":");
	return true;
}

static bool parse_id(const char *text, uint32_t *ret)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (errno || *end || value > ID_MAX)
		return false;
	*ret = (uint32_t) value;
	return true;
}

static bool all_digits(const char *text)
{
	return text[0] && strspn(text, "0123456789") == strlen(text);
}

/* Finds by name, or by id when the name is a number; true when found. */
static bool find_user(const char *passwd, const char *name, struct users *users)
{
	AUTO(free) char *copy = mem_strdup(passwd ? passwd : "");
	char *text = copy;
	uint32_t wanted = 0;
	bool by_id = all_digits(name) && parse_id(name, &wanted);
	struct line line;

	while (next_line(&text, &line)) {
		uint32_t uid, gid;

		if (line.count < 6 || !parse_id(line.fields[2], &uid) ||
		    !parse_id(line.fields[3], &gid))
			continue;
		if (by_id ? uid != wanted : strcmp(line.fields[0], name) != 0)
			continue;
		users->uid = uid;
		users->gid = gid;
		if (line.fields[5][0] == '/' && strlen(line.fields[5]) < USERS_HOME_MAX)
			memcpy(users->home, line.fields[5], strlen(line.fields[5]) + 1);
		return true;
	}
	return false;
}

int users_name(const char *passwd, uint32_t uid, char *ret, size_t size)
{
	AUTO(free) char *copy = mem_strdup(passwd ? passwd : "");
	char *text = copy;
	struct line line;

	while (next_line(&text, &line)) {
		uint32_t id;

		if (line.count < 4 || !parse_id(line.fields[2], &id) || id != uid ||
		    strlen(line.fields[0]) >= size)
			continue;
		memcpy(ret, line.fields[0], strlen(line.fields[0]) + 1);
		return 0;
	}
	return -ENOENT;
}

static bool find_group(const char *group, const char *name, uint32_t *ret)
{
	AUTO(free) char *copy = mem_strdup(group ? group : "");
	char *text = copy;
	struct line line;

	while (next_line(&text, &line)) {
		if (line.count < 3 || strcmp(line.fields[0], name) != 0)
			continue;
		return parse_id(line.fields[2], ret);
	}
	return false;
}

static bool is_member(char *members, const char *name)
{
	char *member;

	while ((member = strsep(&members, ",")))
		if (strcmp(member, name) == 0)
			return true;
	return false;
}

static void add_memberships(const char *group, const char *name, struct users *users)
{
	AUTO(free) char *copy = mem_strdup(group ? group : "");
	char *text = copy;
	struct line line;

	while (users->group_count < USERS_GROUPS_MAX && next_line(&text, &line)) {
		uint32_t gid;

		if (line.count < 4 || !parse_id(line.fields[2], &gid) || gid == users->gid)
			continue;
		if (is_member(line.fields[3], name))
			users->groups[users->group_count++] = gid;
	}
}

int users_find(const char *passwd, const char *group, const char *spec, struct users *ret,
	       struct error *err)
{
	struct users users = { .home = "/" };
	AUTO(free) char *copy = mem_strdup(spec && spec[0] ? spec : "0");
	char *group_name = copy;
	char *user = strsep(&group_name, ":");
	char name[256];

	if (!user[0])
		user = (char *) "0";
	if (!find_user(passwd, user, &users) && !parse_id(user, &users.uid))
		return error_say(
			err, -EINVAL,
			"user: '%s' is neither in the image's /etc/passwd nor a number up to %d",
			user, ID_MAX);
	if (group_name && group_name[0]) {
		if (!find_group(group, group_name, &users.gid) && !parse_id(group_name, &users.gid))
			return error_say(
				err, -EINVAL,
				"user: group '%s' is neither in the image's /etc/group nor a "
				"number up to %d",
				group_name, ID_MAX);
	} else if (users_name(passwd, users.uid, name, sizeof(name)) == 0) {
		add_memberships(group, name, &users);
	}
	*ret = users;
	return 0;
}
