#include "model_test.h"

#include "base/json.h"
#include "base/mem.h"
#include "model/network.h"
#include "model/request.h"

/* A request's spec, and what it becomes when it is written and read again. */
static json_t *again(const char *text)
{
	AUTO(json_decref) json_t *doc = parse(text), *stored = NULL;
	AUTO(network_request_free) struct network_request *request = NULL;
	struct network_spec spec;
	struct error err = {};
	json_t *result;

	if (network_request_decode(doc, &request, &err) < 0)
		fail_msg("%s: %s", text, err.msg);
	stored = network_spec_encode(&request->spec);
	network_spec_init(&spec);
	if (network_spec_decode(stored, &spec, &err) < 0)
		fail_msg("%s: %s", text, err.msg);
	result = network_spec_encode(&spec);
	if (!json_equal(stored, result))
		fail_msg("%s: %s", json_dumps(stored, 0), json_dumps(result, 0));
	network_spec_done(&spec);
	return result;
}

static void expect(const char *text, const char *want)
{
	AUTO(json_decref) json_t *got = again(text), *wanted = parse(want);

	if (!json_equal(got, wanted))
		fail_msg("%s: %s", text, json_dumps(got, 0));
}

static void specs_live_through_the_store(void **state)
{
	(void) state;
	expect("{'name':'n','ipv4':'10.1.0.0/24'}",
	       "{'driver':'bridge','ipv4':'10.1.0.0/24','gateway4':'10.1.0.1','nat':true,"
	       "'dns_domain':'brume.internal'}");
	expect("{'name':'n','driver':'macvlan','uplink':'eth1','ipv4':'192.168.1.0/24'}",
	       "{'driver':'macvlan','mode':'bridge','uplink':'eth1','ipv4':'192.168.1.0/24',"
	       "'gateway4':'192.168.1.1','nat':false}");
	expect("{'name':'n','driver':'macvlan','mode':'vepa','uplink':'eth1.7','ipv4':"
	       "'192.168.1.0/24','gateway4':'192.168.1.254','range4':"
	       "'192.168.1.10-192.168.1.20','mtu':1400}",
	       "{'driver':'macvlan','mode':'vepa','uplink':'eth1.7','ipv4':'192.168.1.0/24',"
	       "'gateway4':'192.168.1.254','range4':'192.168.1.10-192.168.1.20','nat':false,"
	       "'mtu':1400}");
	expect("{'name':'n','driver':'bridged','uplink':'br0','ipv6':'fd00:5::/64','gateway6':"
	       "'none','range6':'fd00:5::10-fd00:5::1f'}",
	       "{'driver':'physical','uplink':'br0','ipv6':'fd00:5::/64','gateway6':'none',"
	       "'range6':'fd00:5::10-fd00:5::1f','nat':false}");
	expect("{'name':'n','driver':'ovs','uplink':'br-ex','ipv4':'10.7.0.0/16'}",
	       "{'driver':'ovs','uplink':'br-ex','ipv4':'10.7.0.0/16','gateway4':'10.7.0.1',"
	       "'nat':false}");
	/* In a bridge of Open vSwitch that is made for it nobody is the gateway. */
	expect("{'name':'n','driver':'ovs','ipv4':'10.7.0.0/16'}",
	       "{'driver':'ovs','ipv4':'10.7.0.0/16','gateway4':'none','nat':false}");
}

static void what_cannot_be_names_who_can(void **state)
{
	static const struct {
		const char *text, *words;
	} bad[] = {
		{ "'driver':'ipvlan'", "macvlan" },
		{ "'driver':'macvlan','ipv4':'10.1.0.0/24'", "uplink: driver macvlan needs one" },
		{ "'driver':'physical','ipv4':'10.1.0.0/24'", "a bridge of the node" },
		{ "'driver':'macvlan','uplink':'eth1'", "subnet of the LAN behind eth1" },
		{ "'driver':'ovs','uplink':'br0'", "subnet of the LAN behind br0" },
		{ "'driver':'macvlan','uplink':'../x','ipv4':'10.1.0.0/24'",
		  "not the name of an interface" },
		{ "'driver':'macvlan','uplink':'sixteen-letters-','ipv4':'10.1.0.0/24'",
		  "not the name of an interface" },
		{ "'driver':'macvlan','mode':'loud','uplink':'eth1','ipv4':'10.1.0.0/24'",
		  "passthru" },
		{ "'mode':'vepa'", "mode: only driver macvlan" },
		{ "'uplink':'eth1'", "uplink: driver bridge has none" },
		{ "'driver':'macvlan','uplink':'eth1','ipv4':'10.1.0.0/24','nat':true",
		  "nat: driver macvlan has no address translation; driver bridge has" },
		{ "'driver':'macvlan','uplink':'eth1','ipv4':'10.1.0.0/24','isolated':true",
		  "driver macvlan has no isolation; driver bridge has" },
		{ "'driver':'ovs','dns_domain':'x.y'", "driver ovs has no name server" },
		{ "'driver':'physical','uplink':'b','ipv4':'10.1.0.0/24','tunnel':{'vni':7}",
		  "driver physical has no tunnels; driver bridge has" },
		{ "'driver':'macvlan','uplink':'eth1','ipv4':'10.1.0.0/24','gateway4':'10.2.0.1'",
		  "gateway4: \"10.2.0.1\" is not an address of the subnet" },
		{ "'ipv4':'10.1.0.0/24','gateway4':'none'", "gateway4" },
		{ "'ipv4':'10.1.0.0/24','range4':'10.1.0.5'", "range4" },
		{ "'ipv4':'10.1.0.0/24','range4':'10.1.0.9-10.1.0.5'", "ends before it begins" },
		{ "'ipv4':'10.1.0.0/24','range4':'10.1.0.9-10.1.1.5'", "inside of 10.1.0.0/24" },
		{ "'ipv4':'10.1.0.0/24','range4':'10.1.0.9-10.1.0.255'", "inside of 10.1.0.0/24" },
		{ "'ipv4':'10.1.0.0/24','range4':'fd00::1-fd00::2'", "inside of 10.1.0.0/24" },
		{ "'range4':'10.1.0.5-10.1.0.9'", "the subnet that it is a part of" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		AUTO(free) char *text = mem_printf("{'name':'n',%s}", bad[i].text);
		AUTO(json_decref) json_t *doc = parse(text);
		AUTO(network_request_free) struct network_request *request = NULL;
		struct error err = {};

		if (network_request_decode(doc, &request, &err) != -EINVAL ||
		    !strstr(err.msg, bad[i].words) || strchr(err.msg, '\n'))
			fail_msg("%s: %s", text, err.msg);
	}
}

static void abilities(void **state)
{
	struct network_spec bridge = { .driver = NETWORK_DRIVER_BRIDGE };
	struct network_spec macvlan = { .driver = NETWORK_DRIVER_MACVLAN };
	struct network_spec ovs = { .driver = NETWORK_DRIVER_OVS };
	struct error err = {};

	(void) state;
	assert_true(network_can(&bridge, NETWORK_CAN_GROUPS));
	assert_false(network_can(&macvlan, NETWORK_CAN_LIMIT));
	assert_false(network_can(&ovs, NETWORK_CAN_LIMIT));
	assert_int_equal(network_require(&bridge, "n", NETWORK_CAN_PUBLISH, &err), 0);
	assert_int_equal(network_require(&macvlan, "n", NETWORK_CAN_PUBLISH, &err), -EINVAL);
	assert_string_equal(err.msg, "network \"n\" has driver macvlan, which has no published "
				     "ports; use one of driver bridge");
	assert_false(network_has_gateway(&macvlan));
	macvlan.gateway6.family = 6;
	assert_true(network_has_gateway(&macvlan));
	macvlan.isolated = true;
	assert_false(network_has_gateway(&macvlan));
}

static void a_patch_is_refused_likewise(void **state)
{
	AUTO(json_decref)
	json_t *doc =
		parse("{'kind':'network','meta':{'name':'lan','project':'default','uid':"
		      "'0123456789abcdef0123456789abcdef','generation':1,'created':"
		      "'2026-01-01T00:00:00Z'},'spec':{'driver':'macvlan','uplink':'eth1','ipv4':"
		      "'10.1.0.0/24'}}");
	AUTO(json_decref) json_t *patch = parse("{'tunnel':{'vni':7}}");
	AUTO(network_free) struct network *network = NULL;
	struct error err = {};

	(void) state;
	assert_int_equal(network_decode(doc, &network, &err), 0);
	assert_int_equal(network_patch(network, patch, &err), -EINVAL);
	assert_non_null(
		strstr(err.msg, "network \"lan\" has driver macvlan, which has no tunnels"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(specs_live_through_the_store),
		cmocka_unit_test(what_cannot_be_names_who_can),
		cmocka_unit_test(abilities),
		cmocka_unit_test(a_patch_is_refused_likewise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
