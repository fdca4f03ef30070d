#include "model_test.h"

#include "model/group.h"
#include "model/request.h"

/* Rules of security groups: as people type them, as JSON, and how they change. */

static void texts(void **state)
{
	static const struct {
		const char *text, *words; /* NULL: it is good */
	} cases[] = {
		{ "tcp", NULL },
		{ "tcp:80", NULL },
		{ "udp:5000-5010", NULL },
		{ "icmp", NULL },
		{ "any", NULL },
		{ "tcp:1-65535", NULL },
		{ "tcp:90-80", "begins above its end, did you mean 80-90?" },
		{ "tcp:0", "must be a port from 1 to 65535" },
		{ "tcp:65536", "must be a port" },
		{ "tcp:", "must be a port" },
		{ "tcp:80-", "must be a port" },
		{ "tcp:-80", "must be a port" },
		{ "tcp:80x", "must be a port" },
		{ "tcp:+80", "must be a port" },
		{ "icmp:8", "icmp has no ports" },
		{ "any:80", "any has no ports" },
		{ "sctp", "is not known, use tcp" },
		{ "TCP", "is not known" },
		{ "", "is not known" },
		{ ":80", "is not known" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		char text[SECURITY_TEXT_SIZE];
		struct security_rule rule;
		struct error err = {};
		int r = security_rule_parse(cases[i].text, &rule, &err);

		if (r != (cases[i].words ? -EINVAL : 0))
			fail_msg("%s: %d", cases[i].text, r);
		if (r < 0 && !strstr(err.msg, cases[i].words))
			fail_msg("%s: %s", cases[i].text, err.msg);
		if (r < 0)
			continue;
		security_rule_format(&rule, text);
		assert_string_equal(text, cases[i].text);
	}
}

static void requests(void **state)
{
	static const struct {
		const char *json, *words; /* NULL: it is good, and written the same */
	} cases[] = {
		{ "{'name':'web','ingress':[]}", NULL },
		{ "{'name':'web','ingress':[{'protocol':'tcp','ports':'80','from':'10.0.0.0/8'},"
		  "{'protocol':'any','from':{'group':'self'}},{'protocol':'icmp'}],"
		  "'egress':[{'protocol':'udp','ports':'1-2','to':'fd00::/8'},"
		  "{'protocol':'any','to':{'group':'db'},'description':'x'}],'description':'d'}",
		  NULL },
		{ "{'name':'web','ingress':[],'egress':[]}", NULL },
		{ "{'ingress':[]}", "name: \"\" is not a name" },
		{ "{'name':'W'}", "is not a name" },
		{ "{'name':'web','inn':[]}", "inn: is not known" },
		{ "{'name':'web','ingress':{}}", "ingress: " },
		{ "{'name':'web','ingress':[7]}", "ingress[0]: must be an object" },
		{ "{'name':'web','ingress':[{'protocol':'gre'}]}", "ingress[0].protocol: " },
		{ "{'name':'web','ingress':[{'protocol':'icmp','ports':'8'}]}",
		  "ingress[0].ports: protocol icmp has none" },
		{ "{'name':'web','ingress':[{'ports':'8'}]}", "protocol any has none" },
		{ "{'name':'web','ingress':[{'protocol':'tcp','ports':80}]}",
		  "ingress[0].ports: " },
		{ "{'name':'web','ingress':[{'protocol':'tcp','ports':'9-8'}]}",
		  "ingress[0].ports: \"9-8\" begins above its end" },
		{ "{'name':'web','ingress':[{'from':'10.0.0.1/8'}]}",
		  "ingress[0].from: \"10.0.0.1/8\" has host bits set, did you mean 10.0.0.0/8?" },
		{ "{'name':'web','ingress':[{'from':'10.0.0.0'}]}", "ingress[0].from: " },
		{ "{'name':'web','ingress':[{'from':'10.0.0.0/33'}]}", "ingress[0].from: " },
		{ "{'name':'web','ingress':[{'from':'web'}]}", "ingress[0].from: " },
		{ "{'name':'web','ingress':[{'from':7}]}", "ingress[0].from: must be a range" },
		{ "{'name':'web','ingress':[{'from':{}}]}", "ingress[0].from.group: must name" },
		{ "{'name':'web','ingress':[{'from':{'group':'A'}}]}", "ingress[0].from.group: " },
		{ "{'name':'web','ingress':[{'from':{'group':'a','cidr':'10.0.0.0/8'}}]}",
		  "for addresses or for a group, not both" },
		{ "{'name':'web','ingress':[{'from':{'group':'a','uid':"
		  "'0123456789abcdef0123456789abcdef'}}]}",
		  "ingress[0].from.uid: is not known" },
		{ "{'name':'web','ingress':[{'to':'10.0.0.0/8'}]}",
		  "ingress[0].to: is not known for ingress rules, use \"from\"" },
		{ "{'name':'web','egress':[{'from':'10.0.0.0/8'}]}",
		  "egress[0].from: is not known for egress rules, use \"to\"" },
		{ "{'name':'web','egress':[{'x':1}]}", "egress[0].x: is not known" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		AUTO(json_decref) json_t *doc = parse(cases[i].json), *again = NULL;
		AUTO(group_request_free) struct group_request *request = NULL;
		struct error err = {};
		int r = group_request_decode(doc, &request, &err);

		if (r != (cases[i].words ? -EINVAL : 0))
			fail_msg("%s: %d %s", cases[i].json, r, err.msg);
		if (r < 0 && !strstr(err.msg, cases[i].words))
			fail_msg("%s: %s", cases[i].json, err.msg);
		if (r < 0)
			continue;
		again = group_request_encode(request);
		assert_json_equal(doc, again);
	}
}

static void too_many_rules(void **state)
{
	AUTO(json_decref) json_t *doc = parse("{'name':'web','ingress':[]}");
	AUTO(group_request_free) struct group_request *request = NULL;
	AUTO(json_decref) json_t *more = parse("{'way':'ingress'}");
	struct error err = {};

	(void) state;
	for (int i = 0; i < SECURITY_RULES_MAX; i++)
		json_array_append_new(json_object_get(doc, "ingress"), json_object());
	assert_int_equal(group_request_decode(doc, &request, &err), 0);
	assert_int_equal(security_group_change(&request->spec, SECURITY_GROUP_ADD, more, &err),
			 -EINVAL);
	assert_non_null(strstr(err.msg, "ingress: a group can have 256 rules at most"));
	json_array_append_new(json_object_get(doc, "ingress"), json_object());
	group_request_free(TAKE_PTR(request));
	assert_int_equal(group_request_decode(doc, &request, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "256 rules at most"));
}

/* A change, and the spec afterwards or the words that refuse it. */
static void expect(struct security_group_spec *spec, enum security_group_change change,
		   const char *body, const char *expected)
{
	AUTO(json_decref) json_t *doc = parse(body), *now = json_object(), *wanted = NULL;
	struct error err = {};

	if (security_group_change(spec, change, doc, &err) < 0) {
		if (!strstr(err.msg, expected))
			fail_msg("%s: %s", body, err.msg);
		return;
	}
	security_group_spec_put_user(now, spec);
	wanted = parse(expected);
	assert_json_equal(now, wanted);
}

static void changes(void **state)
{
	AUTO(security_group_spec_done) struct security_group_spec spec = {};

	(void) state;
	expect(&spec, SECURITY_GROUP_ADD, "{'way':'ingress','protocol':'tcp','ports':'80'}",
	       "{'ingress':[{'protocol':'tcp','ports':'80'}]}");
	expect(&spec, SECURITY_GROUP_ADD, "{'way':'egress','protocol':'udp'}",
	       "{'ingress':[{'protocol':'tcp','ports':'80'}],'egress':[{'protocol':'udp'}]}");
	expect(&spec, SECURITY_GROUP_ADD, "{'way':'ingress','from':{'group':'db'}}",
	       "{'ingress':[{'protocol':'tcp','ports':'80'},{'protocol':'any','from':{'group':'db'}"
	       "}],"
	       "'egress':[{'protocol':'udp'}]}");
	expect(&spec, SECURITY_GROUP_REMOVE, "{'number':4}",
	       "there is no rule 4, the last one is 3");
	expect(&spec, SECURITY_GROUP_REMOVE, "{'number':0}", "number: ");
	expect(&spec, SECURITY_GROUP_REMOVE, "{}", "number: says which rule");
	expect(&spec, SECURITY_GROUP_REMOVE, "{'number':3}",
	       "{'ingress':[{'protocol':'tcp','ports':'80'},{'protocol':'any','from':{'group':'db'}"
	       "}],"
	       "'egress':[]}");
	expect(&spec, SECURITY_GROUP_PATCH, "{'egress':null,'description':'x'}",
	       "{'ingress':[{'protocol':'tcp','ports':'80'},{'protocol':'any','from':{'group':'db'}"
	       "}],"
	       "'description':'x'}");
	expect(&spec, SECURITY_GROUP_REMOVE, "{'number':1}",
	       "{'ingress':[{'protocol':'any','from':{'group':'db'}}],'description':'x'}");
	expect(&spec, SECURITY_GROUP_REPLACE, "{'ingress':[{'protocol':'icmp'}]}",
	       "{'ingress':[{'protocol':'icmp'}]}");
	expect(&spec, SECURITY_GROUP_REMOVE, "{'number':1}", "{'ingress':[]}");
	expect(&spec, SECURITY_GROUP_REMOVE, "{'number':1}", "there is no rule 1, the group has 0");
	expect(&spec, SECURITY_GROUP_ADD, "{'protocol':'tcp'}", "way: must be ingress or egress");
	expect(&spec, SECURITY_GROUP_ADD, "{'way':'in'}", "way: ");
	expect(&spec, SECURITY_GROUP_ADD, "[]", "must be an object");
	expect(&spec, SECURITY_GROUP_PATCH, "[]", "must be an object");
	expect(&spec, SECURITY_GROUP_PATCH, "{'node':'x'}", "node: is not known");
}

static void stored_and_read_again(void **state)
{
	AUTO(json_decref)
	json_t *doc = parse(
		"{'kind':'group','meta':{'name':'web','project':'default','uid':"
		"'0123456789abcdef0123456789abcdef','generation':3},'spec':{'ingress':[{'protocol':"
		"'any','from':{'group':'web','uid':'0123456789abcdef0123456789abcdef'}}],"
		"'node':'local'},'status':{'generation':3,'state':'failed','error':'too much'}}");
	AUTO(security_group_free) struct security_group *group = NULL;
	AUTO(security_group_spec_done) struct security_group_spec copy = {};
	AUTO(json_decref) json_t *again = NULL, *first = NULL, *second = NULL;

	(void) state;
	assert_int_equal(security_group_decode(doc, &group, NULL), 0);
	assert_string_equal(group->spec.ingress.list[0].group_uid,
			    "0123456789abcdef0123456789abcdef");
	assert_false(group->spec.egress_limited);
	again = security_group_encode(group, ENCODE_STORE);
	assert_json_equal(doc, again);
	security_group_spec_copy(&copy, &group->spec);
	first = security_group_spec_encode(&group->spec);
	second = security_group_spec_encode(&copy);
	assert_json_equal(first, second);
	/* The agent gets no status. */
	json_decref(again);
	again = security_group_encode(group, ENCODE_ASSIGN);
	assert_null(json_object_get(again, "status"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts),
		cmocka_unit_test(requests),
		cmocka_unit_test(too_many_rules),
		cmocka_unit_test(changes),
		cmocka_unit_test(stored_and_read_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
