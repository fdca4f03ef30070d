#include "agent/user.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

enum { FILE_MAX_BYTES = 1024 * 1024, FIELDS_MAX = 7, ID_MAX = 65535 };

/* The text of a regular file inside the root; "" when there is none. */
static int read_inside(int root_fd, const char *path, char **ret, struct error *err)
{
	/* Non-blocking: a fifo in place of the file must not hold us up. */
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	AUTO(fd_close) int fd = (int) syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
	struct stat st;
	int r;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
		*ret = mem_strdup("");
		return 0;
	}
	if (fd < 0)
		return error_set(err, -errno, "open %s of the image", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return error_say(err, -EINVAL, "%s of the image is not a regular file", path);
	r = file_read_fd(fd, FILE_MAX_BYTES, ret, NULL);
	return r < 0 ? error_set(err, r, "read %s of the image", path) : 0;
}

/* Splits "a:b:c" in place; missing fields are "". */
static void split_fields(char *line, char *fields[FIELDS_MAX])
{
	static char empty[] = "";

	for (size_t i = 0; i < FIELDS_MAX; i++) {
		fields[i] = line ? line : empty;
		if (line && (line = strchr(line, ':')))
			*line++ = '\0';
	}
}

static int parse_id(const char *text, uint32_t *ret)
{
	unsigned long value;
	char *end;

	if (!isdigit((unsigned char) text[0]))
		return -EINVAL;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (*end || errno || value > ID_MAX)
		return -ERANGE;
	*ret = (uint32_t) value;
	return 0;
}

/* Finds a line of /etc/passwd by name or by uid. */
static bool find_user(const char *passwd, const char *name, bool by_id, struct user *user)
{
	AUTO(free) char *copy = mem_strdup(passwd);
	char *save = NULL;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *fields[FIELDS_MAX];
		uint32_t uid, gid;

		split_fields(line, fields);
		if (parse_id(fields[2], &uid) < 0 || parse_id(fields[3], &gid) < 0)
			continue;
		if (by_id ? uid != user->uid : strcmp(fields[0], name) != 0)
			continue;
		user->uid = uid;
		user->gid = gid;
		if (fields[5][0] == '/')
			mem_replace(&user->home, fields[5]);
		return true;
	}
	return false;
}

static bool list_has(char *list, const char *name)
{
	char *save = NULL;

	for (char *item = strtok_r(list, ",", &save); item; item = strtok_r(NULL, ",", &save))
		if (strcmp(item, name) == 0)
			return true;
	return false;
}

static bool find_group(const char *group, const char *name, uint32_t *ret)
{
	AUTO(free) char *copy = mem_strdup(group);
	char *save = NULL;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *fields[FIELDS_MAX];

		split_fields(line, fields);
		if (strcmp(fields[0], name) == 0 && parse_id(fields[2], ret) == 0)
			return true;
	}
	return false;
}

/* The groups that list the user as a member. */
static void add_memberships(const char *group, const char *name, struct user *user)
{
	AUTO(free) char *copy = mem_strdup(group);
	char *save = NULL;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *fields[FIELDS_MAX];
		uint32_t gid;

		split_fields(line, fields);
		if (user->group_count < USER_GROUPS_MAX && parse_id(fields[2], &gid) == 0 &&
		    list_has(fields[3], name))
			user->groups[user->group_count++] = gid;
	}
}

static int resolve_group(int root_fd, const char *text, uint32_t *ret, struct error *err)
{
	AUTO(free) char *group = NULL;
	int r = parse_id(text, ret);

	if (r == 0)
		return 0;
	if (r == -ERANGE)
		return error_say(err, r, "group id '%s' is not between 0 and %d", text, ID_MAX);
	r = read_inside(root_fd, "etc/group", &group, err);
	if (r < 0)
		return r;
	if (!find_group(group, text, ret))
		return error_say(err, -ESRCH, "the image has no group '%s'", text);
	return 0;
}

static int resolve_user(int root_fd, const char *name, struct user *user, struct error *err)
{
	AUTO(free) char *passwd = NULL;
	AUTO(free) char *group = NULL;
	int r = parse_id(name, &user->uid);
	bool by_id = r == 0;

	if (r == -ERANGE)
		return error_say(err, r, "user id '%s' is not between 0 and %d", name, ID_MAX);
	r = read_inside(root_fd, "etc/passwd", &passwd, err);
	if (r < 0)
		return r;
	if (!find_user(passwd, name, by_id, user) && !by_id)
		return error_say(err, -ESRCH, "the image has no user '%s'", name);
	if (by_id)
		return 0;
	r = read_inside(root_fd, "etc/group", &group, err);
	if (r < 0)
		return r;
	add_memberships(group, name, user);
	return 0;
}

int user_resolve(int root_fd, const char *text, struct user *ret, struct error *err)
{
	AUTO(user_done) struct user user = { .home = mem_strdup("/") };
	AUTO(free) char *name = mem_strdup(text && text[0] ? text : "0");
	char *colon = strchr(name, ':');
	int r;

	if (colon)
		*colon++ = '\0';
	r = resolve_user(root_fd, name, &user, err);
	if (r == 0 && colon) {
		user.group_count = 0;
		r = resolve_group(root_fd, colon, &user.gid, err);
	}
	if (r < 0)
		return r;
	*ret = user;
	user.home = NULL;
	return 0;
}

void user_done(struct user *user)
{
	free(user->home);
	user->home = NULL;
}
