#include "cli/option.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "cli/suggest.h"

static const struct option_def *option_find(const struct option_set *sets, char letter,
					    const char *name, size_t name_size, void **ret_target)
{
	for (; sets->options; sets++) {
		for (const struct option_def *o = sets->options; o->name; o++) {
			if (letter ? o->letter != letter
				   : strlen(o->name) != name_size ||
					     strncmp(o->name, name, name_size) != 0)
				continue;
			*ret_target = sets->target;
			return o;
		}
	}
	return NULL;
}

static int option_unknown(const struct option_set *sets, const char *name, size_t name_size,
			  struct error *err)
{
	AUTO(free) char *wanted = mem_strndup(name, name_size);
	struct suggestion best = { .wanted = wanted };

	for (; sets->options; sets++)
		for (const struct option_def *o = sets->options; o->name; o++)
			suggestion_offer(&best, o->name);
	if (best.name)
		return error_say(err, -EINVAL, "unknown option \"--%s\", did you mean \"--%s\"?",
				 wanted, best.name);
	return error_say(err, -EINVAL, "unknown option \"--%s\"", wanted);
}

static void option_store(const struct option_def *option, void *target, const char *value)
{
	void *member = (char *) target + option->offset;

	switch (option->kind) {
	case OPTION_FLAG:
		*(bool *) member = true;
		break;
	case OPTION_STRING:
		*(const char **) member = value;
		break;
	case OPTION_LIST:
		strv_append(member, value);
		break;
	}
}

/* "--name", "--name=value"; *argv is the argument itself, moved on when the next one is its value.
 */
static int option_parse_long(const struct option_set *sets, char ***argv, struct error *err)
{
	const char *name = **argv + 2;
	size_t size = strcspn(name, "=");
	const char *value = name[size] ? name + size + 1 : NULL;
	void *target = NULL;
	const struct option_def *option = option_find(sets, 0, name, size, &target);

	if (!option)
		return option_unknown(sets, name, size, err);
	if (option->kind == OPTION_FLAG && value)
		return error_say(err, -EINVAL, "option \"--%s\" takes no value", option->name);
	if (option->kind != OPTION_FLAG && !value) {
		value = (*argv)[1];
		if (!value)
			return error_say(err, -EINVAL, "option \"--%s\" needs a value: --%s %s",
					 option->name, option->name, option->argument);
		(*argv)++;
	}
	option_store(option, target, value);
	return 0;
}

/* "-x", "-xyz", "-xVALUE", "-x VALUE". */
static int option_parse_letters(const struct option_set *sets, char ***argv, struct error *err)
{
	for (const char *p = **argv + 1; *p; p++) {
		void *target = NULL;
		const struct option_def *option = option_find(sets, *p, NULL, 0, &target);
		const char *value = NULL;

		if (!option)
			return error_say(err, -EINVAL, "unknown option \"-%c\"", *p);
		if (option->kind == OPTION_FLAG) {
			option_store(option, target, NULL);
			continue;
		}
		value = p[1] ? p + 1 : (*argv)[1];
		if (!value)
			return error_say(err, -EINVAL, "option \"-%c\" needs a value: -%c %s", *p,
					 *p, option->argument);
		if (!p[1])
			(*argv)++;
		option_store(option, target, value);
		return 0;
	}
	return 0;
}

int option_parse(const struct option_set *sets, char **argv, size_t words_max, bool has_command,
		 struct arguments *ret, struct error *err)
{
	AUTO(arguments_done) struct arguments arguments = {};
	bool only_words = false;
	int r;

	for (; *argv; argv++) {
		const char *argument = *argv;

		if (!only_words && strcmp(argument, "--") == 0) {
			if (has_command) {
				arguments.command = argv[1] ? argv + 1 : NULL;
				break;
			}
			only_words = true;
			continue;
		}
		if (!only_words && argument[0] == '-' && argument[1]) {
			r = argument[1] == '-' ? option_parse_long(sets, &argv, err)
					       : option_parse_letters(sets, &argv, err);
			if (r < 0)
				return r;
			continue;
		}
		if (arguments.word_count == words_max && has_command) {
			arguments.command = argv;
			break;
		}
		if (arguments.word_count == words_max || arguments.word_count == OPTION_WORDS_MAX)
			return error_say(err, -EINVAL, "\"%s\" is one argument too many", argument);
		arguments.words =
			mem_realloc(arguments.words, arguments.word_count + 2, sizeof(char *));
		arguments.words[arguments.word_count++] = *argv;
		arguments.words[arguments.word_count] = NULL;
	}
	*ret = arguments;
	arguments.words = NULL;
	return 0;
}

void option_release(const struct option_def *options, void *target)
{
	for (const struct option_def *o = options; o && o->name; o++) {
		char ***list = (char ***) ((char *) target + o->offset);

		if (o->kind != OPTION_LIST)
			continue;
		strv_free(*list);
		*list = NULL;
	}
}

void arguments_done(struct arguments *arguments)
{
	free(arguments->words);
	*arguments = (struct arguments){};
}
