#include "model_test.h"

#include "base/json.h"
#include "model/router.h"

static const char base[] =
	"{'kind':'router','meta':{'name':'r','project':'default','uid':"
	"'0123456789abcdef0123456789abcdef','generation':1,'created':'2026-01-01T00:00:00.000Z'},"
	"'spec':{'uplink':true,'nat':true,'advertise':true,'transit':'100.64.0.2','node':'local','"
	"networks':{'a':{"
	"'ipv4':'10.1.0.1','ipv6':'fd01::1','uid':'00000000000000000000000000000001'}},"
	"'routes':{'10.2.0.0/24':{'via':'10.1.0.9'}},'floating':{'192.0.2.9':{'instance':'web',"
	"'uid':'00000000000000000000000000000002','ipv4':'10.1.0.5'}},"
	"'forwards':{'8080/tcp':{'instance':'web','port':80},'192.0.2.9:53/udp':{'target':"
	"'10.1.0.6','port':53},'[2001:db8::1]:80/tcp':{'target':'fd01::5','port':80}}},"
	"'status':{'generation':1,'state':'ready','advertised':['192.0.2.9/32']}}";

static struct router *make(void)
{
	AUTO(json_decref) json_t *doc = parse(base);
	struct router *router = NULL;
	struct error err = {};

	if (router_decode(doc, &router, &err) < 0)
		fail_msg("%s", err.msg);
	return router;
}

static void a_router_survives_the_store(void **state)
{
	AUTO(json_decref) json_t *doc = parse(base);
	AUTO(router_free) struct router *router = make();
	AUTO(json_decref) json_t *again = router_encode(router, ENCODE_STORE);
	struct ip transit = router_transit(&router->spec);
	char text[IP_TEXT_SIZE];

	(void) state;
	assert_json_equal(doc, again);
	ip_format(&transit, text);
	assert_string_equal(text, "100.64.0.3");
	assert_ptr_equal(router_find_network(&router->spec, "00000000000000000000000000000001"),
			 router->spec.networks);
	assert_null(router_find_network(&router->spec, "0"));
}

static void patches_change_one_entry(void **state)
{
	static const struct {
		const char *patch, *member, *wanted;
	} cases[] = {
		{ "{'routes':{'10.3.0.0/24':{'via':'10.1.0.9'}}}", "routes",
		  "{'10.2.0.0/24':{'via':'10.1.0.9'},'10.3.0.0/24':{'via':'10.1.0.9'}}" },
		{ "{'routes':{'10.2.0.0/24':null}}", "routes", NULL },
		{ "{'networks':{'b':{'ipv4':'10.9.0.2'}}}", "networks",
		  "{'a':{'ipv4':'10.1.0.1','ipv6':'fd01::1'},'b':{'ipv4':'10.9.0.2'}}" },
		{ "{'floating':{'192.0.2.9':{'instance':null}},'nat':false}", "floating",
		  "{'192.0.2.9':{}}" },
		{ "{'uplink':false,'advertise':null,'floating':null,'forwards':null}", "forwards",
		  NULL },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		AUTO(router_free) struct router *router = make();
		AUTO(json_decref) json_t *before = router_spec_encode_user(&router->spec);
		AUTO(json_decref) json_t *patch = parse(cases[i].patch);
		AUTO(json_decref) json_t *undo = router_patch_undo(router, patch);
		AUTO(json_decref) json_t *after = NULL, *wanted = NULL, *back = NULL;
		struct error err = {};

		if (router_patch(router, patch, &err) < 0)
			fail_msg("%s: %s", cases[i].patch, err.msg);
		after = router_spec_encode_user(&router->spec);
		wanted = cases[i].wanted ? parse(cases[i].wanted) : NULL;
		if (!wanted)
			assert_null(json_object_get(after, cases[i].member));
		else
			assert_json_equal(json_object_get(after, cases[i].member), wanted);
		assert_int_equal(router->spec.transit.bytes[3], 2);
		assert_int_equal(router_patch(router, undo, NULL), 0);
		back = router_spec_encode_user(&router->spec);
		assert_json_equal(back, before);
	}
}

static void bad_patches_change_nothing(void **state)
{
	static const struct {
		const char *patch, *words;
	} cases[] = {
		{ "{'routes':{'10.3.0.1/24':{'via':'10.1.0.9'}}}", "host bits" },
		{ "{'routes':{'10.3.0.0/24':{}}}", "via" },
		{ "{'routes':{'10.3.0.0/24':{'via':'fd00::1'}}}", "IPv4" },
		{ "{'routes':{'10.3.0.0/024':{'via':'10.1.0.9'}}}", "must be written" },
		{ "{'routes':{'x':{'via':'10.1.0.9'}}}", "not a subnet" },
		{ "{'networks':{'B!':{}}}", "is not a name" },
		{ "{'networks':{'b':{'ipv4':'fd00::1'}}}", "IPv4" },
		{ "{'networks':{'b':{'uid':'00000000000000000000000000000001'}}}", "uid" },
		{ "{'networks':{'b':7}}", "object" },
		{ "{'floating':{'192.0.2.10':{'target':'fd00::1'}}}", "both" },
		{ "{'floating':{'2001:DB8::1':{}}}", "must be written \"2001:db8::1\"" },
		{ "{'floating':{'x':{}}}", "not an IP address" },
		{ "{'floating':{'192.0.2.10':{'network':'a'}}}", "there is none" },
		{ "{'floating':{'192.0.2.10':{'instance':'web','target':'10.1.0.5'}}}",
		  "not both" },
		{ "{'floating':{'192.0.2.10':{'ipv4':'10.1.0.5'}}}", "ipv4" },
		{ "{'forwards':{'80':{'instance':'web'}}}", "must be written \"80/tcp\"" },
		{ "{'forwards':{'0/tcp':{'instance':'web'}}}", "[ADDRESS:]PORT/tcp" },
		{ "{'forwards':{'70000/tcp':{'instance':'web'}}}", "[ADDRESS:]PORT/tcp" },
		{ "{'forwards':{'80/sctp':{'instance':'web'}}}", "[ADDRESS:]PORT/tcp" },
		{ "{'forwards':{'80/tcp':{}}}", "is missing" },
		{ "{'forwards':{'80/tcp':{'instance':'web','port':70000}}}", "port" },
		{ "{'uplink':false}", "no outside" },
		{ "{'transit':'100.64.0.4'}", "transit" },
		{ "{'nonsense':1}", "nonsense" },
	};
	AUTO(router_free) struct router *router = make();
	AUTO(json_decref) json_t *before = router_encode(router, ENCODE_STORE);

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		AUTO(json_decref) json_t *patch = parse(cases[i].patch), *after = NULL;
		struct error err = {};

		assert_int_equal(router_patch(router, patch, &err), -EINVAL);
		if (!strstr(err.msg, cases[i].words))
			fail_msg("%s: %s", cases[i].patch, err.msg);
		after = router_encode(router, ENCODE_STORE);
		assert_json_equal(before, after);
	}
}

static void lists_are_bounded(void **state)
{
	AUTO(router_free) struct router *router = make();
	AUTO(json_decref) json_t *patch = json_pack("{s:{}}", "networks");
	struct error err = {};

	(void) state;
	for (int i = 0; i < ROUTER_NETWORKS_MAX; i++) {
		AUTO(free) char *name = mem_printf("n%d", i);

		json_object_set_new(json_object_get(patch, "networks"), name, json_object());
	}
	assert_int_equal(router_patch(router, patch, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "at most 32"));
}

static void forwards_as_text(void **state)
{
	static const struct {
		const char *text, *key, *instance;
		unsigned int port;
	} good[] = {
		{ "8080:web:80", "8080/tcp", "web", 80 },
		{ "53:names:5353/udp", "53/udp", "names", 5353 },
		{ "192.0.2.9:80:web:81/tcp", "192.0.2.9:80/tcp", "web", 81 },
		{ "[2001:db8::1]:80:web:80", "[2001:db8::1]:80/tcp", "web", 80 },
		{ "80:10.1.0.5:80", "80/tcp", "", 80 },
		{ "80:[fd01::5]:80", "80/tcp", "", 80 },
	};
	static const char *const bad[] = {
		"",
		"80",
		"80:web",
		":web:80",
		"80::80",
		"x:web:80",
		"80:web:x",
		"80:Web!:80",
		"80:web:80/icmp",
		"1.2.3:80:web:80",
		"80:web:0",
		"65536:web:80",
		"[fd00::1:80:web:80",
		"fd00::1:80:web:80",
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
		struct router_forward forward, again;
		char key[ROUTER_KEY_SIZE];

		assert_int_equal(router_forward_parse(good[i].text, &forward, NULL), 0);
		router_forward_key(&forward, key);
		assert_string_equal(key, good[i].key);
		assert_string_equal(forward.target.instance, good[i].instance);
		assert_int_equal(forward.target_port, good[i].port);
		assert_int_equal(router_forward_key_parse(key, &again, NULL), 0);
		assert_int_equal(again.port, forward.port);
		assert_true(ip_equal(&again.address, &forward.address));
	}
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct router_forward forward;
		struct error err = {};

		if (router_forward_parse(bad[i], &forward, &err) != -EINVAL)
			fail_msg("%s is taken", bad[i]);
		assert_non_null(strstr(err.msg, "8080:web:80"));
	}
}

static void a_request_needs_a_name(void **state)
{
	AUTO(json_decref)
	json_t *good = parse("{'name':'r','labels':{'a':'b'},'networks':{'a':{}}}");
	AUTO(json_decref) json_t *bad = parse("{'networks':{'a':{}}}");
	AUTO(router_free) struct router *router = NULL;
	struct router *none = NULL;

	(void) state;
	assert_int_equal(router_request_decode(good, &router, NULL), 0);
	assert_true(router->spec.uplink && router->spec.nat);
	assert_string_equal(router->meta.labels[0], "a=b");
	assert_int_equal(router_request_decode(bad, &none, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_router_survives_the_store),
		cmocka_unit_test(patches_change_one_entry),
		cmocka_unit_test(bad_patches_change_nothing),
		cmocka_unit_test(lists_are_bounded),
		cmocka_unit_test(forwards_as_text),
		cmocka_unit_test(a_request_needs_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
