#include "model_test.h"

#include "model/request.h"

static void test_launch(void **state)
{
	AUTO(json_decref)
	json_t *doc =
		parse("{'name':'a','labels':{'k':'v'},'type':'container','image':'web','restart':"
		      "{'policy':'no'},'stop_timeout_s':10,'start':false,'pull':'always','insecure'"
		      ":true,'platform':'linux/arm64'}");
	AUTO(launch_request_free) struct launch_request *request = NULL;

	(void) state;
	assert_int_equal(launch_request_decode(doc, &request, NULL), 0);
	assert_false(request->start);
	assert_int_equal(request->pull, PULL_ALWAYS);
	AUTO(json_decref) json_t *encoded = launch_request_encode(request);
	assert_json_equal(doc, encoded);
}

static void test_launch_refusals(void **state)
{
	static const struct {
		const char *text, *word;
	} bad[] = {
		{ "{}", "image: must name" },
		{ "{'image':'a','name':'A'}", "name: \"A\" is not a name" },
		{ "{'image':'a','pull':'sometimes'}", "pull: must be one of" },
		{ "{'image':'a','node':'n'}", "node: is not known" }, /* not for users to say */
		{ "{'image':'a','target':'running'}", "target: is not known" },
		{ "{'image':'a','limits':{'cpus':null}, 'labels':{'-':''}}", "labels:" },
		{ "[]", "must be an object" },
	};
	struct launch_request *request = NULL;
	struct error err;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		AUTO(json_decref) json_t *doc = parse(bad[i].text);

		if (launch_request_decode(doc, &request, &err) != -EINVAL ||
		    !strstr(err.msg, bad[i].word))
			fail_msg("%s: %s", bad[i].text, err.msg);
	}
}

static void test_action(void **state)
{
	AUTO(json_decref) json_t *doc = parse("{'action':'stop','timeout_s':3,'force':true}");
	AUTO(json_decref) json_t *none = parse("{}");
	AUTO(json_decref) json_t *bad = parse("{'action':'explode'}");
	struct action_request request;
	struct error err;

	(void) state;
	assert_int_equal(action_request_decode(doc, &request, NULL), 0);
	assert_int_equal(request.action, INSTANCE_STOP);
	AUTO(json_decref) json_t *encoded = action_request_encode(&request);
	assert_json_equal(doc, encoded);
	assert_int_equal(action_request_decode(none, &request, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "action: is missing"));
	assert_int_equal(action_request_decode(bad, &request, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "\"restart\""));
}

static void test_pull(void **state)
{
	AUTO(json_decref)
	json_t *doc = parse("{'reference':'web','platform':'linux/arm64','insecure':"
			    "true,'username':'u','password':'p'}");
	AUTO(json_decref) json_t *bad = parse("{'reference':''}");
	AUTO(pull_request_free) struct pull_request *request = NULL;
	struct pull_request *none = NULL;

	(void) state;
	assert_int_equal(pull_request_decode(doc, &request, NULL), 0);
	AUTO(json_decref) json_t *encoded = pull_request_encode(request);
	assert_json_equal(doc, encoded);
	assert_int_equal(pull_request_decode(bad, &none, NULL), -EINVAL);
}

static void test_network(void **state)
{
	AUTO(json_decref)
	json_t *doc = parse(
		"{'name':'blue','labels':{'k':'v'},'driver':'bridge','ipv4':'10.1.0.0/24','nat':"
		"true,'dns_domain':'brume.internal','mtu':1400}");
	AUTO(json_decref) json_t *bad = parse("{'ipv4':'10.1.0.0/24'}");
	AUTO(network_request_free) struct network_request *request = NULL;
	struct network_request *none = NULL;

	(void) state;
	assert_int_equal(network_request_decode(doc, &request, NULL), 0);
	AUTO(json_decref) json_t *encoded = network_request_encode(request);
	assert_json_equal(doc, encoded);
	assert_int_equal(network_request_decode(bad, &none, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_launch),  cmocka_unit_test(test_launch_refusals),
		cmocka_unit_test(test_action),  cmocka_unit_test(test_pull),
		cmocka_unit_test(test_network),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
