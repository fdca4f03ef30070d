#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/strv.h"
#include "cli/option.h"
#include "cli/suggest.h"
#include "cli/verb.h"

struct target {
	bool interactive, tty;
	const char *user;
	char **env;
};

struct common {
	bool quiet;
	const char *format;
};

static const struct option_def own_options[] = {
	{ 'i', "interactive", NULL, OPTION_FLAG, offsetof(struct target, interactive), "" },
	{ 't', "tty", NULL, OPTION_FLAG, offsetof(struct target, tty), "" },
	{ 'u', "user", "USER", OPTION_STRING, offsetof(struct target, user), "" },
	{ 'e', "env", "NAME=VALUE", OPTION_LIST, offsetof(struct target, env), "" },
	{},
};

static const struct option_def common_options[] = {
	{ 'q', "quiet", NULL, OPTION_FLAG, offsetof(struct common, quiet), "" },
	{ 't', "format", "F", OPTION_STRING, offsetof(struct common, format), "" },
	{},
};

struct parsed {
	struct target target;
	struct common common;
	struct arguments arguments;
	struct error err;
	int result;
};

static struct parsed parse(size_t words_max, bool has_command, char **argv)
{
	struct parsed p = {};
	struct option_set sets[] = { { own_options, &p.target },
				     { common_options, &p.common },
				     {} };

	p.result = option_parse(sets, argv, words_max, has_command, &p.arguments, &p.err);
	return p;
}

static void release(struct parsed *p)
{
	option_release(own_options, &p->target);
	arguments_done(&p->arguments);
}

#define PARSE(words, command, ...) parse(words, command, (char *[]){ __VA_ARGS__, NULL })

static void test_forms(void **state)
{
	struct parsed p = PARSE(2, false, "-it", "-uroot", "a", "--env=A=1", "-e", "B=2", "b",
				"--quiet", "--user", "me");

	(void) state;
	assert_int_equal(p.result, 0);
	assert_true(p.target.interactive && p.target.tty && p.common.quiet);
	assert_string_equal(p.target.user, "me");
	assert_int_equal(strv_count(p.target.env), 2);
	assert_string_equal(p.target.env[0], "A=1");
	assert_int_equal(p.arguments.word_count, 2);
	assert_string_equal(p.arguments.words[1], "b");
	assert_null(p.common.format); /* -t is the verb's own */
	release(&p);
}

static void test_command(void **state)
{
	struct parsed p = PARSE(1, true, "web", "-i", "ls", "-l", "-q", "--", "x");

	(void) state;
	assert_int_equal(p.result, 0);
	assert_true(p.target.interactive);
	assert_false(p.common.quiet);
	assert_string_equal(p.arguments.command[0], "ls");
	assert_string_equal(p.arguments.command[3], "--");
	release(&p);

	p = PARSE(2, true, "image", "--", "sleep", "1");
	assert_int_equal(p.arguments.word_count, 1);
	assert_string_equal(p.arguments.command[0], "sleep");
	release(&p);

	p = PARSE(1, true, "web", "--");
	assert_int_equal(p.result, 0);
	assert_null(p.arguments.command);
	release(&p);
}

static void test_only_words(void **state)
{
	struct parsed p = PARSE(3, false, "-", "--", "-i", "--user");

	(void) state;
	assert_int_equal(p.result, 0);
	assert_int_equal(p.arguments.word_count, 3);
	assert_string_equal(p.arguments.words[0], "-");
	assert_string_equal(p.arguments.words[1], "-i");
	assert_false(p.target.interactive);
	release(&p);
}

static void check_refused(struct parsed p, const char *words)
{
	assert_int_equal(p.result, -EINVAL);
	if (!strstr(p.err.msg, words))
		fail_msg("\"%s\" does not say \"%s\"", p.err.msg, words);
	release(&p);
}

static void test_refused(void **state)
{
	(void) state;
	check_refused(PARSE(1, false, "--usr", "x"), "did you mean \"--user\"?");
	check_refused(PARSE(1, false, "--xyzzy"), "unknown option \"--xyzzy\"");
	check_refused(PARSE(1, false, "-z"), "unknown option \"-z\"");
	check_refused(PARSE(1, false, "-iz"), "unknown option \"-z\"");
	check_refused(PARSE(1, false, "--user"), "needs a value");
	check_refused(PARSE(1, false, "-iu"), "needs a value");
	check_refused(PARSE(1, false, "--tty=yes"), "takes no value");
	check_refused(PARSE(1, false, "a", "b"), "\"b\" is one argument too many");
}

static void test_suggest(void **state)
{
	struct suggestion best = { .wanted = "lunch" };

	(void) state;
	suggestion_offer(&best, "list");
	assert_null(best.name);
	suggestion_offer(&best, "launch");
	assert_string_equal(best.name, "launch");
	assert_int_equal(suggestion_distance("", "abc"), 3);
	assert_int_equal(suggestion_distance("abc", "acb"), 1);
	assert_int_equal(suggestion_distance("kitten", "sitting"), 3);
	best = (struct suggestion){ .wanted = "xq" };
	suggestion_offer(&best, "ls");
	assert_null(best.name);
}

/* Every verb can be found, explains itself, and its own options do not contradict each other. */
static void check_verbs(const struct verb *const *table)
{
	for (; *table; table++) {
		const struct verb *v = *table;

		assert_non_null(v->synopsis);
		assert_non_null(v->summary);
		assert_true(v->summary[strlen(v->summary) - 1] != '.');
		assert_true((v->run != NULL) != (v->verbs != NULL));
		assert_true(v->words_min <= v->words_max);
		if (v->verbs)
			check_verbs(v->verbs);
		for (const struct option_def *o = v->options; o && o->name; o++) {
			assert_true(o->offset < v->options_size);
			assert_true((o->kind == OPTION_FLAG) == (o->argument == NULL));
			for (const struct option_def *other = v->options; other != o; other++) {
				assert_string_not_equal(other->name, o->name);
				assert_true(!o->letter || o->letter != other->letter);
			}
		}
	}
}

static void test_verbs(void **state)
{
	(void) state;
	check_verbs(verbs);
	assert_ptr_equal(verb_find(verbs, "rm"), &verb_delete);
	assert_ptr_equal(verb_find(verbs, "ls"), &verb_list);
	assert_null(verb_find(verbs, ""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),      cmocka_unit_test(test_command),
		cmocka_unit_test(test_only_words), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_suggest),    cmocka_unit_test(test_verbs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
