#include "model_test.h"

#include "model/trace_live.h"

/* Whether the kernel did what was expected, and who did what was not. */

#define UID "0123456789abcdef0123456789abcdef"

#define STEP_GROUP                                                                                 \
	"{'place':'node','family':'inet','table':'brume','chain':'g-3-" UID                        \
	"','verdict':'accept','comment':'2'}"
#define STEP_DENY                                                                                  \
	"{'place':'node','family':'inet','table':'brume','chain':'c-4','verdict':'drop',"          \
	"'expression':'drop'}"
#define STEP_OUT "{'place':'node','family':'inet','table':'brume','chain':'e-4','verdict':'drop'}"
#define STEP_GUARD                                                                                 \
	"{'place':'node','family':'bridge','table':'brume','chain':'from4','verdict':'drop'}"
#define STEP_WALL                                                                                  \
	"{'place':'node','family':'inet','table':'brume','chain':'walls','verdict':'drop'}"
#define STEP_ROUTER                                                                                \
	"{'place':'router','family':'inet','table':'brume','chain':'guard','verdict':'drop'}"
#define STEP_FOREIGN                                                                               \
	"{'place':'node','family':'ip','table':'filter','chain':'FORWARD','verdict':'drop',"       \
	"'expression':'\\u001b[2Jcounter drop'}"

static struct trace_hop passing = {
	.kind = TRACE_GROUP,
	.verdict = TRACE_PASSES,
	.ingress = true,
	.rule = 2,
	.rule_there = 2,
	.group = (char *) "web",
	.group_uid = UID,
};

static struct trace expect(enum trace_verdict verdict, struct trace_hop *hops, size_t count)
{
	struct trace trace = { .verdict = verdict,
			       .hops = hops,
			       .hop_count = count,
			       .prefix = "brume",
			       .port_uid = UID };

	trace.sent.protocol = TRACE_TCP;
	trace.sent.port = 80;
	assert_int_equal(ip_parse("10.90.0.5", &trace.sent.source), 0);
	assert_int_equal(ip_parse("10.90.0.6", &trace.sent.destination), 0);
	return trace;
}

struct expectation {
	const char *answer;
	bool agrees;
	const char *words;
};

static void check(const struct trace *trace, const struct expectation *expected)
{
	AUTO(json_decref) json_t *answer = parse(expected->answer);
	struct error err = {};
	const char *text;

	if (trace_live_judge(trace, answer, &err) < 0)
		fail_msg("%s: %s", expected->answer, err.msg);
	text = json_string_value(json_object_get(answer, "text"));
	if (json_is_true(json_object_get(answer, "agrees")) != expected->agrees ||
	    !strstr(text, expected->words))
		fail_msg("%s:\n%d %s", expected->answer,
			 json_is_true(json_object_get(answer, "agrees")), text);
}

static void what_arrives(void **state)
{
	static const struct expectation cases[] = {
		{ "{'sent':true,'answer':'connected','steps':[" STEP_GROUP "]}", true,
		  "connected" },
		{ "{'sent':true,'answer':'refused','steps':[]}", true, "nobody listens there" },
		{ "{'sent':true,'answer':'reply','steps':[]}", true, "it was answered" },
		{ "{'sent':true,'answer':'unreachable','answer_from':'10.90.0.6','steps':[]}", true,
		  "said 10.90.0.6" },
		{ "{'sent':true,'answer':'unreachable','answer_from':'10.90.0.1','steps':[]}",
		  false, "said 10.90.0.1" },
		{ "{'sent':true,'answer':'none','steps':[]}", false, "nobody answered" },
		{ "{'sent':false,'answer':'none','steps':[]}", false, "could not be sent" },
		{ "{'sent':true,'answer':'none','steps':[" STEP_FOREIGN "],'dropped_by':0}", false,
		  "table ip filter, chain FORWARD, \\x1b[2Jcounter drop (not brume's)" },
		{ "{'sent':true,'answer':'none','steps':[" STEP_GROUP "," STEP_GUARD
		  "],'dropped_by':1}",
		  false, "chain from4 (brume's)" },
		{ "{'sent':true,'answer':'none','steps':[],'answer_dropped_by':" STEP_FOREIGN "}",
		  false,
		  "nobody answered: the answer was dropped on its way back: table ip filter" },
		{ "{'sent':true,'answer':'connected','steps':[{'place':'node','family':'inet',"
		  "'table':'brume','chain':'g-3-" UID "','verdict':'accept','comment':'1'}]}",
		  false, "rule 1 of group web let it pass, not rule 2" },
		/* Another group's, another table's. */
		{ "{'sent':true,'answer':'connected','steps':[{'place':'node','family':'inet',"
		  "'table':'other','chain':'g-3-" UID "','verdict':'accept','comment':'1'}]}",
		  true, "connected" },
	};
	struct trace trace = expect(TRACE_DELIVERED, &passing, 1);

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		check(&trace, &cases[i]);
	trace.sent.protocol = TRACE_UDP;
	check(&trace, &(struct expectation){ cases[5].answer, true, "nobody answered" });
}

static void what_is_dropped(void **state)
{
	static const struct {
		enum trace_hop_kind kind;
		bool ingress;
		struct expectation expected;
	} cases[] = {
#define DROPPED(step) "{'sent':true,'answer':'none','steps':[" step "],'dropped_by':0}"
		{ TRACE_GROUP, true, { DROPPED(STEP_DENY), true, "there, too: table inet brume" } },
		{ TRACE_GROUP, true, { DROPPED(STEP_OUT), false, "elsewhere" } },
		{ TRACE_GROUP, false, { DROPPED(STEP_OUT), true, "there, too" } },
		{ TRACE_GROUP, true, { DROPPED(STEP_FOREIGN), false, "elsewhere" } },
		{ TRACE_GUARD, false, { DROPPED(STEP_GUARD), true, "there, too" } },
		{ TRACE_GUARD, false, { DROPPED(STEP_WALL), false, "elsewhere" } },
		{ TRACE_WALL, false, { DROPPED(STEP_WALL), true, "there, too" } },
		{ TRACE_ROUTER, false, { DROPPED(STEP_ROUTER), true, "a router's table inet" } },
		{ TRACE_GROUP,
		  true,
		  { "{'sent':true,'answer':'connected','steps':[" STEP_GROUP "]}", false,
		    "no rule dropped it" } },
		{ TRACE_GROUP,
		  true,
		  { "{'sent':true,'answer':'none','steps':[]}", false, "nobody answered" } },
		{ TRACE_BRIDGE,
		  false,
		  { "{'sent':true,'answer':'none','steps':[]}", true, "nobody answered" } },
		{ TRACE_BRIDGE,
		  false,
		  { "{'sent':true,'answer':'connected','steps':[]}", false, "connected" } },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct trace_hop hop = { .kind = cases[i].kind,
					 .verdict = TRACE_HOP_DROPPED,
					 .ingress = cases[i].ingress };
		struct trace trace = expect(TRACE_DROPPED, &hop, 1);

		check(&trace, &cases[i].expected);
	}
}

static void what_leaves(void **state)
{
	static const struct expectation cases[] = {
		{ "{'sent':true,'answer':'none','steps':[]}", true, "nobody answered" },
		{ "{'sent':true,'answer':'connected','steps':[]}", true, "connected" },
		{ "{'sent':true,'answer':'none','steps':[" STEP_FOREIGN "],'dropped_by':0}", false,
		  "not brume's" },
	};
	struct trace trace = expect(TRACE_LEAVES, NULL, 0);

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		check(&trace, &cases[i]);
	/* Without a bridge of ours the tables are not known: nobody's are brume's. */
	trace.prefix[0] = '\0';
	check(&trace, &(struct expectation){ "{'sent':true,'answer':'none','steps':[" STEP_DENY
					     "],'dropped_by':0}",
					     false, "not brume's" });
}

static void what_is_no_answer(void **state)
{
	static const char *const cases[] = {
		"[]",
		"{}",
		"{'sent':true,'answer':'none'}",
		"{'sent':true,'answer':'none','steps':{}}",
		"{'sent':true,'answer':'maybe','steps':[]}",
		"{'sent':true,'answer':1,'steps':[]}",
	};
	/* Odd ones that are answers. */
	static const struct expectation odd[] = {
		{ "{'sent':true,'answer':'none','steps':[1,null,{'chain':'g'},{'chain':'g-'}],"
		  "'dropped_by':9}",
		  false, "nobody answered" },
		{ "{'sent':true,'answer':'none','steps':[{}],'dropped_by':0}", false,
		  "not brume's" },
		{ "{'sent':true,'answer':'none','steps':[],'dropped_by':-1}", false,
		  "nobody answered" },
		{ "{'sent':1,'answer':'none','steps':[]}", false, "could not" },
	};
	struct trace trace = expect(TRACE_DELIVERED, &passing, 1);

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		AUTO(json_decref) json_t *answer = parse(cases[i]);
		struct error err = {};

		assert_int_equal(trace_live_judge(&trace, answer, &err), -EPROTO);
	}
	for (size_t i = 0; i < ARRAY_COUNT(odd); i++)
		check(&trace, &odd[i]);
}

static void what_is_asked(void **state)
{
	struct trace trace = expect(TRACE_DELIVERED, NULL, 0);
	AUTO(json_decref) json_t *question = trace_live_question(&trace, "0123");
	AUTO(json_decref)
	json_t *expected =
		parse("{'kind':'trace','uid':'0123','port':'" UID
		      "','protocol':'tcp','source':'10.90.0.5','destination':'10.90.0.6',"
		      "'destination_port':80,'timeout_ms':2000}");

	(void) state;
	assert_json_equal(question, expected);
	trace.sent = (struct trace_packet){};
	assert_null(trace_live_question(&trace, "0123"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_arrives),  cmocka_unit_test(what_is_dropped),
		cmocka_unit_test(what_leaves),   cmocka_unit_test(what_is_no_answer),
		cmocka_unit_test(what_is_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
