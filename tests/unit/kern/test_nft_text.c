#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "kern/nft_text.h"

static void take(size_t chain, uint64_t handle, const char *expression, const char *comment,
		 void *data)
{
	strbuf_printf(data, "%zu %llu [%s] [%s]\n", chain, (unsigned long long) handle, expression,
		      comment);
}

static void check(const char *written, const char *expected)
{
	AUTO(strbuf_done) struct strbuf found = {};
	AUTO(free) char *copy = mem_strdup(written);

	nft_text_parse(copy, 3, take, &found);
	assert_string_equal(strbuf_str(&found), expected);
}

static void rules_have_handles(void **state)
{
	(void) state;
	check("table inet brume { # handle 5\n"
	      "\tchain forward { # handle 12\n"
	      "\t\ttype filter hook forward priority filter; policy accept;\n"
	      "\t\tct state established,related accept # handle 55\n"
	      "\t\tip saddr 10.0.0.0/8 tcp dport 80 accept comment \"3\" # handle 56\n"
	      "\t}\n"
	      "}\n",
	      "3 55 [ct state established,related accept] []\n"
	      "3 56 [ip saddr 10.0.0.0/8 tcp dport 80 accept] [3]\n");
}

/* Sets are written on several lines. */
static void rules_of_several_lines(void **state)
{
	(void) state;
	check("\tchain a { # handle 1\n"
	      "\t\tcomment \"of the chain\"\n"
	      "\t\tip daddr { 10.0.0.1, 10.0.0.2,\n"
	      "\t\t\t     10.0.0.3 } drop # handle 8\n"
	      "\t\tdrop # handle 9\n"
	      "\t}\n",
	      "3 8 [ip daddr { 10.0.0.1, 10.0.0.2, 10.0.0.3 } drop] []\n3 9 [drop] []\n");
}

/* A comment is anybody's text. */
static void comments_do_not_lie(void **state)
{
	(void) state;
	check("\t\taccept comment \"x # handle 3\" # handle 4\n", "3 4 [accept] [x # handle 3]\n");
	check("\t\taccept comment \"say comment \"hi\" # handle 4\n",
	      "3 4 [accept comment \"say] [hi]\n");
	check("\t\taccept # handle x\n\t\tdrop # handle \n", "");
	check("\t\taccept # handle 0\n", "");
	check("", "");
	check("}\n\t\t\n", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_have_handles),
		cmocka_unit_test(rules_of_several_lines),
		cmocka_unit_test(comments_do_not_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
