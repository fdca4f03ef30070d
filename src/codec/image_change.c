#include "codec/image_change.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"

enum { WORDS_MAX = 4096, PORT_MAX = 65535 };

struct change {
	json_t *config;
	bool cmd_set; /* by one of the changes: a new entrypoint does not drop it */
	const char *word;
	const char *text; /* behind the word */
	struct error *err;
};

static int refuse(const struct change *change, const char *right)
{
	return error_say(change->err, -EINVAL, "change '%s %.100s': %s", change->word, change->text,
			 right);
}

static int set_text(struct change *change, const char *name, const char *text)
{
	json_t *value = json_string(text);

	if (!value)
		return refuse(change, "is not valid UTF-8");
	json_object_set_new(change->config, name, value);
	return 0;
}

/* A JSON array of strings; *ret NULL when the text is no array. */
static int read_array(const struct change *change, json_t **ret)
{
	json_t *array, *item;
	size_t i;

	*ret = NULL;
	if (change->text[0] != '[')
		return 0;
	if (json_parse(change->text, strlen(change->text), IMAGE_CHANGE_TEXT_MAX, &array, NULL) < 0)
		return refuse(change, "is no JSON list like [\"a\", \"b\"]");
	json_array_foreach(array, i, item) if (!json_is_string(item))
	{
		json_decref(array);
		return refuse(change, "a list holds strings only");
	}
	*ret = array;
	return 0;
}

/* A list, or a line for a shell. */
static int set_command(struct change *change, const char *name)
{
	json_t *array = NULL;
	int r = read_array(change, &array);

	if (r < 0)
		return r;
	if (!array)
		array = json_pack("[s, s, s]", "/bin/sh", "-c", change->text);
	if (!array)
		return refuse(change, "is not valid UTF-8");
	json_object_set_new(change->config, name, array);
	return 0;
}

static int change_cmd(struct change *change)
{
	change->cmd_set = true;
	return set_command(change, "Cmd");
}

static int change_entrypoint(struct change *change)
{
	if (!change->cmd_set)
		json_object_del(change->config, "Cmd");
	return set_command(change, "Entrypoint");
}

/* Words with quotes and backslashes, as a strv. */
static int split_words(const struct change *change, char ***ret)
{
	AUTO(strv_free) char **words = NULL;
	const char *p = change->text;

	while (*(p += strspn(p, " \t"))) {
		AUTO(strbuf_done) struct strbuf word = {};
		char quote = '\0';

		for (; *p && (quote || !strchr(" \t", *p)); p++) {
			if (quote ? *p == quote : *p == '"' || *p == '\'')
				quote = quote ? '\0' : *p;
			else if (*p == '\\' && p[1] && quote != '\'')
				strbuf_append(&word, ++p, 1);
			else
				strbuf_append(&word, p, 1);
		}
		if (quote)
			return refuse(change, "a quotation mark is missing");
		if (strv_count(words) >= WORDS_MAX)
			return refuse(change, "has too many words");
		strv_append(&words, strbuf_str(&word));
	}
	*ret = TAKE_PTR(words);
	return 0;
}

/* Words, or a JSON list of them. */
static int read_words(const struct change *change, char ***ret)
{
	AUTO(json_decref) json_t *array = NULL;
	json_t *item;
	size_t i;
	int r = read_array(change, &array);

	if (r < 0 || !array)
		return r < 0 ? r : split_words(change, ret);
	json_array_foreach(array, i, item) strv_append(ret, json_string_value(item));
	return 0;
}

/* "A=b C=d", or the old form "A b with blanks". */
static int read_pairs(const struct change *change, char ***ret)
{
	const char *blank = strpbrk(change->text, " \t");
	const char *equals = strchr(change->text, '=');
	AUTO(strv_free) char **pairs = NULL;
	int r = 0;

	if (change->text[0] != '[' && (!equals || (blank && blank < equals))) {
		if (!blank)
			return refuse(change, "must be NAME=value");
		strv_append_take(&pairs, mem_printf("%.*s=%s", (int) (blank - change->text),
						    change->text, blank + strspn(blank, " \t")));
	} else {
		r = read_words(change, &pairs);
	}
	for (size_t i = 0; r == 0 && pairs && pairs[i]; i++)
		if (pairs[i][0] == '=' || !strchr(pairs[i], '='))
			r = refuse(change, "must be NAME=value");
	if (r == 0)
		*ret = TAKE_PTR(pairs);
	return r;
}

static int change_env(struct change *change)
{
	json_t *old = json_object_get(change->config, "Env"), *item;
	AUTO(strv_free) char **pairs = NULL;
	AUTO(strv_free) char **env = NULL;
	json_t *array = json_array();
	size_t i;
	int r = read_pairs(change, &pairs);

	json_array_foreach(old, i, item) if (json_is_string(item))
		strv_append(&env, json_string_value(item));
	for (char **pair = pairs; r == 0 && pair && *pair; pair++) {
		AUTO(free) char *name = mem_strndup(*pair, strcspn(*pair, "="));

		strv_env_set(&env, name, strchr(*pair, '=') + 1);
	}
	for (char **entry = env; r == 0 && entry && *entry; entry++)
		if (json_array_append_new(array, json_string(*entry)) < 0)
			r = refuse(change, "is not valid UTF-8");
	if (r < 0)
		json_decref(array);
	else
		json_object_set_new(change->config, "Env", array);
	return r;
}

/* The member as an object, made when it is not there (or null, as some write it). */
static json_t *member_object(struct change *change, const char *name)
{
	json_t *object = json_object_get(change->config, name);

	if (json_is_object(object))
		return object;
	json_object_set_new(change->config, name, json_object());
	return json_object_get(change->config, name);
}

static int change_label(struct change *change)
{
	json_t *labels = member_object(change, "Labels");
	AUTO(strv_free) char **pairs = NULL;
	int r = read_pairs(change, &pairs);

	for (char **pair = pairs; r == 0 && pair && *pair; pair++) {
		AUTO(free) char *name = mem_strndup(*pair, strcspn(*pair, "="));

		if (json_object_set_new(labels, name, json_string(strchr(*pair, '=') + 1)) < 0)
			r = refuse(change, "is not valid UTF-8");
	}
	return r;
}

static int change_expose(struct change *change)
{
	json_t *ports = member_object(change, "ExposedPorts");
	AUTO(strv_free) char **words = NULL;
	int r = read_words(change, &words);

	for (char **word = words; r == 0 && word && *word; word++) {
		char *end = NULL;
		long port = isdigit((unsigned char) **word) ? strtol(*word, &end, 10) : 0;

		if (port < 1 || port > PORT_MAX ||
		    (*end && strcmp(end, "/tcp") != 0 && strcmp(end, "/udp") != 0 &&
		     strcmp(end, "/sctp") != 0))
			return refuse(change, "must be ports like 80 or 53/udp");
		AUTO(free) char *name = mem_printf("%ld%s", port, *end ? end : "/tcp");
		json_object_set_new(ports, name, json_object());
	}
	return r;
}

static int change_volume(struct change *change)
{
	json_t *volumes = member_object(change, "Volumes");
	AUTO(strv_free) char **words = NULL;
	int r = read_words(change, &words);

	for (char **word = words; r == 0 && word && *word; word++)
		if ((*word)[0] != '/' || json_object_set_new(volumes, *word, json_object()) < 0)
			r = refuse(change, "must be absolute paths");
	return r;
}

static int change_user(struct change *change)
{
	return strpbrk(change->text, " \t") ? refuse(change, "must be USER or USER:GROUP")
					    : set_text(change, "User", change->text);
}

static int change_workdir(struct change *change)
{
	const char *old = json_string_value(json_object_get(change->config, "WorkingDir"));

	if (change->text[0] == '/')
		return set_text(change, "WorkingDir", change->text);
	AUTO(free)
	char *path = mem_printf("%s/%s", old && strcmp(old, "/") != 0 ? old : "", change->text);
	return set_text(change, "WorkingDir", path);
}

static int change_stopsignal(struct change *change)
{
	return strpbrk(change->text, " \t") ? refuse(change, "must be one signal, like SIGINT")
					    : set_text(change, "StopSignal", change->text);
}

static int change_onbuild(struct change *change)
{
	json_t *list = json_object_get(change->config, "OnBuild");

	if (!json_is_array(list)) {
		json_object_set_new(change->config, "OnBuild", json_array());
		list = json_object_get(change->config, "OnBuild");
	}
	return json_array_append_new(list, json_string(change->text)) < 0
		       ? refuse(change, "is not valid UTF-8")
		       : 0;
}

static int apply(struct change *change, const char *text)
{
	static const struct {
		const char *word;
		int (*apply)(struct change *change);
	} words[] = {
		{ "CMD", change_cmd },       { "ENTRYPOINT", change_entrypoint },
		{ "ENV", change_env },       { "EXPOSE", change_expose },
		{ "LABEL", change_label },   { "ONBUILD", change_onbuild },
		{ "USER", change_user },     { "STOPSIGNAL", change_stopsignal },
		{ "VOLUME", change_volume }, { "WORKDIR", change_workdir },
	};
	size_t size;

	text += strspn(text, " \t");
	size = strcspn(text, " \t=");
	for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
		if (strlen(words[i].word) != size || strncasecmp(text, words[i].word, size) != 0)
			continue;
		change->word = words[i].word;
		change->text = text + size + (text[size] != '\0');
		change->text += strspn(change->text, " \t");
		if (!change->text[0])
			return refuse(change, "says nothing");
		return words[i].apply(change);
	}
	return error_say(change->err, -EINVAL,
			 "change '%.100s': must begin with CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, "
			 "ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR",
			 text);
}

int image_changes_apply(json_t *config, char *const *changes, struct error *err)
{
	struct change change = { .config = config, .err = err };

	if (strv_count(changes) > IMAGE_CHANGES_MAX)
		return error_say(err, -E2BIG, "changes: at most %d are allowed", IMAGE_CHANGES_MAX);
	for (; changes && *changes; changes++) {
		int r;

		if (strlen(*changes) > IMAGE_CHANGE_TEXT_MAX || strchr(*changes, '\n'))
			return error_say(err, -EINVAL,
					 "change '%.100s': must be one line of at most %d bytes",
					 *changes, IMAGE_CHANGE_TEXT_MAX);
		r = apply(&change, *changes);
		if (r < 0)
			return r;
	}
	return 0;
}

int image_changes_check(char *const *changes, struct error *err)
{
	AUTO(json_decref) json_t *config = json_object();

	return image_changes_apply(config, changes, err);
}
