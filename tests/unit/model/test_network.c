#include "model_test.h"

#include "base/json.h"
#include "model/network.h"

static const char base[] =
	"{'kind':'network','meta':{'name':'n','project':'default','uid':"
	"'0123456789abcdef0123456789abcdef','generation':1,'created':'2026-01-01T00:00:00Z'},"
	"'spec':{'driver':'bridge','ipv4':'10.1.0.0/24'}}";

static struct network *make(void)
{
	AUTO(json_decref) json_t *doc = parse(base);
	struct network *network = NULL;
	struct error err = {};

	if (network_decode(doc, &network, &err) < 0)
		fail_msg("%s", err.msg);
	return network;
}

/* Applies patches; gives what the tunnel is then, "" for none. */
static void expect(struct network *network, const char *patch, const char *want)
{
	AUTO(json_decref) json_t *change = parse(patch), *spec = NULL, *wanted = NULL;
	struct error err = {};

	if (network_patch(network, change, &err) < 0)
		fail_msg("%s: %s", patch, err.msg);
	spec = network_spec_encode(&network->spec);
	wanted = want[0] ? parse(want) : NULL;
	if (!wanted)
		assert_null(json_object_get(spec, "tunnel"));
	else if (!json_equal(json_object_get(spec, "tunnel"), wanted))
		fail_msg("%s", json_dumps(json_object_get(spec, "tunnel"), 0));
}

static void patches_add_and_take_away(void **state)
{
	AUTO(network_free) struct network *network = make();

	(void) state;
	expect(network, "{'tunnel':{'vni':7,'peers':{'192.0.2.1':{}}}}",
	       "{'vni':7,'peers':{'192.0.2.1':{}}}");
	expect(network, "{'tunnel':{'peers':{'192.0.2.2':{}}}}",
	       "{'vni':7,'peers':{'192.0.2.1':{},'192.0.2.2':{}}}");
	expect(network, "{}", "{'vni':7,'peers':{'192.0.2.1':{},'192.0.2.2':{}}}");
	expect(network, "{'tunnel':{'peers':{'192.0.2.1':null},'local':'192.0.2.9','port':4000}}",
	       "{'vni':7,'port':4000,'local':'192.0.2.9','peers':{'192.0.2.2':{}}}");
	expect(network, "{'tunnel':null}", "");
	expect(network, "{'tunnel':{'kind':'gre','key':4000000000,'peers':{'192.0.2.1':{}}}}",
	       "{'kind':'gre','key':4000000000,'peers':{'192.0.2.1':{}}}");
	expect(network, "{'tunnel':{'peers':{'192.0.2.2':{}}}}",
	       "{'kind':'gre','key':4000000000,'peers':{'192.0.2.1':{},'192.0.2.2':{}}}");
	expect(network, "{'tunnel':{'kind':'vxlan','key':null,'vni':7}}",
	       "{'vni':7,'peers':{'192.0.2.1':{},'192.0.2.2':{}}}");
}

static void a_routed_one_is_announced_or_not(void **state)
{
	static const struct {
		const char *patch;
		bool wanted;
	} steps[] = { { "{'advertise':true}", true },   { "{}", true },
		      { "{'tunnel':{'vni':7}}", true }, { "{'advertise':null}", false },
		      { "{'advertise':true}", true },   { "{'advertise':false}", false } };
	AUTO(network_free) struct network *network = make();

	(void) state;
	network->spec.nat = false;
	for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
		AUTO(json_decref) json_t *patch = parse(steps[i].patch);
		AUTO(json_decref) json_t *undo = network_patch_undo(network, patch);
		AUTO(json_decref) json_t *before = network_spec_encode(&network->spec);
		AUTO(network_free) struct network *changed = network_copy(network);
		AUTO(json_decref) json_t *back = NULL;

		assert_int_equal(network_patch(network, patch, NULL), 0);
		assert_int_equal(network->spec.advertise, steps[i].wanted);
		assert_int_equal(network_patch(changed, patch, NULL), 0);
		assert_int_equal(network_patch(changed, undo, NULL), 0);
		back = network_spec_encode(&changed->spec);
		assert_json_equal(before, back);
	}
}

static void full_names_have_a_zone(void **state)
{
	AUTO(network_free) struct network *network = make();
	char zone[NETWORK_ZONE_SIZE];

	(void) state;
	network_zone(network, zone);
	assert_string_equal(zone, "n.default.internal");
}

static void an_undo_gives_back(void **state)
{
	static const char *const patches[] = {
		"{'tunnel':{'vni':9}}", "{'tunnel':{'port':1,'local':'192.0.2.3'}}",
		"{'tunnel':{'peers':{'192.0.2.1':null,'192.0.2.7':{}}}}", "{'tunnel':null}", "{}"
	};
	AUTO(network_free) struct network *network = make();

	(void) state;
	for (int full = 0; full < 2; full++) {
		for (size_t i = 0; i < ARRAY_COUNT(patches); i++) {
			AUTO(json_decref) json_t *patch = parse(patches[i]);
			AUTO(json_decref) json_t *undo = network_patch_undo(network, patch);
			AUTO(json_decref) json_t *before = network_spec_encode(&network->spec);
			AUTO(json_decref) json_t *after = NULL;
			AUTO(network_free) struct network *changed = network_copy(network);

			/* Not every patch is possible without a tunnel. */
			if (network_patch(changed, patch, NULL) < 0)
				continue;
			assert_int_equal(network_patch(changed, undo, NULL), 0);
			after = network_spec_encode(&changed->spec);
			assert_true(json_equal(before, after));
		}
		expect(network, "{'tunnel':{'vni':7,'peers':{'192.0.2.1':{},'192.0.2.2':{}}}}",
		       "{'vni':7,'peers':{'192.0.2.1':{},'192.0.2.2':{}}}");
	}
}

static void says_what_is_wrong(void **state)
{
	static const struct {
		const char *patch, *words;
	} bad[] = {
		{ "{'tunnel':{'peers':{'192.0.2.1':{}}}}", "tunnel.vni" },
		{ "{'tunnel':{'vni':0}}", "tunnel.vni" },
		{ "{'tunnel':{'vni':16777216}}", "vni" },
		{ "{'tunnel':{'vni':'7'}}", "vni" },
		{ "{'tunnel':7}", "tunnel" },
		{ "{'tunnel':{'vni':7,'peers':['192.0.2.1']}}", "peers" },
		{ "{'tunnel':{'vni':7,'peers':{'node-b':{}}}}", "\"node-b\" is not an IP address" },
		{ "{'tunnel':{'vni':7,'peers':{'192.0.2.1':{'kind':'gre'}}}}", "must be {}" },
		{ "{'tunnel':{'vni':7,'peers':{'192.0.2.1':{},'2001:db8::1':{}}}}",
		  "all must be IPv4" },
		{ "{'tunnel':{'vni':7,'local':'eth0'}}", "\"eth0\" is not an IP address" },
		{ "{'tunnel':{'vni':7,'speed':1}}", "speed" },
		{ "{'nat':false}", "nat" },
		{ "{'advertise':true}", "advertise: a network with nat" },
		{ "{'advertise':1}", "advertise" },
		{ "{'flow_log':1}", "flow_log" },
		{ "{'tunnel':{'kind':'ipip','vni':7}}", "kind" },
		{ "{'tunnel':{'kind':'gre'}}", "tunnel.key: a gre tunnel needs one" },
		{ "{'tunnel':{'kind':'gre','key':0}}", "tunnel.key" },
		{ "{'tunnel':{'kind':'gre','key':4294967296}}", "tunnel.key" },
		{ "{'tunnel':{'kind':'gre','vni':7}}", "tunnel.vni: belongs to vxlan" },
		{ "{'tunnel':{'kind':'gre','key':7,'vni':7}}", "one kind of tunnel" },
		{ "{'tunnel':{'kind':'gre','key':7,'port':7}}", "tunnel.port: belongs to vxlan" },
		{ "{'tunnel':{'vni':7,'key':7}}", "tunnel.key: belongs to gre" },
		{ "{'tunnel':{'kind':'gre','key':7,'local':'192.0.2.1','peers':{'2001:db8::1':{}}}"
		  "}",
		  "all must be IPv4" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		AUTO(network_free) struct network *network = make();
		AUTO(json_decref) json_t *patch = parse(bad[i].patch);
		struct error err = {};

		if (network_patch(network, patch, &err) != -EINVAL ||
		    !strstr(err.msg, bad[i].words))
			fail_msg("%s: %s", bad[i].patch, err.msg);
	}
}

static void a_flow_log(void **state)
{
	AUTO(network_free) struct network *network = make();
	AUTO(json_decref)
	json_t *on = parse("{'flow_log':true}"), *off = parse("{'flow_log':null}");
	AUTO(json_decref) json_t *undo = network_patch_undo(network, on), *spec = NULL;

	(void) state;
	assert_int_equal(network_patch(network, on, NULL), 0);
	assert_true(network->spec.flow_log);
	spec = network_spec_encode(&network->spec);
	assert_true(json_is_true(json_object_get(spec, "flow_log")));
	expect(network, "{'tunnel':{'vni':7}}", "{'vni':7,'peers':{}}");
	assert_true(network->spec.flow_log);
	assert_int_equal(network_patch(network, undo, NULL), 0);
	assert_false(network->spec.flow_log);
	assert_int_equal(network_patch(network, on, NULL), 0);
	assert_int_equal(network_patch(network, off, NULL), 0);
	assert_false(network->spec.flow_log);
	expect(network, "{}", "{'vni':7,'peers':{}}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(patches_add_and_take_away),
		cmocka_unit_test(an_undo_gives_back),
		cmocka_unit_test(a_routed_one_is_announced_or_not),
		cmocka_unit_test(full_names_have_a_zone),
		cmocka_unit_test(says_what_is_wrong),
		cmocka_unit_test(a_flow_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
