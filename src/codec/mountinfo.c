#include "codec/mountinfo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/mem.h"

/* The next word of a line, a new string in which \040 and its like are what they stand for. */
static char *take_word(const char **at)
{
	const char *from = *at + strspn(*at, " ");
	size_t size = strcspn(from, " \n");
	char *word = size ? mem_new0_array(char, size + 1) : NULL;
	size_t n = 0;

	*at = from + size;
	for (size_t i = 0; i < size; i++) {
		const char *c = from + i;

		if (c[0] == '\\' && size - i > 3 && strspn(c + 1, "01234567") >= 3 && c[1] < '4') {
			word[n++] = (char) ((c[1] - '0') << 6 | (c[2] - '0') << 3 | (c[3] - '0'));
			i += 3;
		} else {
			word[n++] = *c;
		}
	}
	return word;
}

static int take_number(const char **at, int *ret)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(*at, &end, 10);
	if (errno || end == *at || *end != ' ' || value < 0 || value > 0x7fffffff)
		return -EBADMSG;
	*at = end;
	*ret = (int) value;
	return 0;
}

static void skip_word(const char **at)
{
	*at += strspn(*at, " ");
	*at += strcspn(*at, " \n");
}

/* "98:0" */
static int take_device(const char **at, dev_t *ret)
{
	char *end;
	unsigned long major, minor;

	*at += strspn(*at, " ");
	if (**at < '0' || **at > '9')
		return -EBADMSG;
	major = strtoul(*at, &end, 10);
	if (*end != ':' || end[1] < '0' || end[1] > '9')
		return -EBADMSG;
	minor = strtoul(end + 1, &end, 10);
	*at = end;
	*ret = makedev((unsigned int) major, (unsigned int) minor);
	return 0;
}

/* "36 35 98:0 /root /place options optional... - type source options" */
static int parse_line(const char *at, struct mountinfo_entry *entry)
{
	const char *dash;

	if (take_number(&at, &entry->id) < 0 || take_number(&at, &entry->parent) < 0 ||
	    take_device(&at, &entry->dev) < 0)
		return -EBADMSG;
	entry->root = take_word(&at);
	entry->place = take_word(&at);
	skip_word(&at);
	dash = entry->place ? strstr(at, " - ") : NULL;
	if (!dash || dash > at + strcspn(at, "\n"))
		return -EBADMSG;
	at = dash + strlen(" - ");
	entry->type = take_word(&at);
	return entry->type ? 0 : -EBADMSG;
}

int mountinfo_parse(const char *text, struct mountinfo *ret)
{
	AUTO(mountinfo_done) struct mountinfo info = {};
	size_t lines = 0;

	for (const char *at = text; *at; at++)
		lines += *at == '\n';
	info.list = mem_new0_array(struct mountinfo_entry, lines + 2);
	for (const char *at = text; *at;) {
		int r = parse_line(at, &info.list[info.count++]);

		if (r < 0)
			return r;
		at += strcspn(at, "\n");
		at += *at == '\n';
	}
	*ret = info;
	info = (struct mountinfo){};
	return 0;
}

void mountinfo_done(struct mountinfo *info)
{
	for (size_t i = 0; i < info->count; i++) {
		free(info->list[i].root);
		free(info->list[i].place);
		free(info->list[i].type);
	}
	free(info->list);
	*info = (struct mountinfo){};
}

const struct mountinfo_entry *mountinfo_find(const struct mountinfo *info, int id)
{
	for (size_t i = 0; i < info->count; i++)
		if (info->list[i].id == id)
			return &info->list[i];
	return NULL;
}

const char *mountinfo_below(const char *path, const char *folder)
{
	size_t size = strcmp(folder, "/") == 0 ? 0 : strlen(folder);

	if (strncmp(path, folder, size) != 0 || (path[size] && path[size] != '/'))
		return NULL;
	path += size;
	return path + strspn(path, "/");
}
