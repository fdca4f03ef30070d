#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/instance_ports.h"
#include "agent/instance_task.h"

/* Ports with these uids; a '-' in front: it is to leave. */
static void make(struct instance_spec *spec, const char *uids)
{
	instance_spec_init(spec);
	for (; *uids; uids++) {
		struct port port = { .leaving = *uids == '-' };

		uids += port.leaving;
		snprintf(port.uid, sizeof(port.uid), "%c", *uids);
		memcpy(port.interface, "eth0", 5);
		port.interface[3] = (char) ('0' + spec->port_count);
		ports_append(&spec->ports, &spec->port_count, &port);
	}
}

static bool same(const char *a, const char *b)
{
	struct instance_spec one, two;

	make(&one, a);
	make(&two, b);
	bool result = instance_ports_same(&one, &two);
	assert_int_equal(result, instance_ports_same(&two, &one));
	instance_spec_done(&one);
	instance_spec_done(&two);
	return result;
}

static void compares_what_is_to_be_there(void **state)
{
	(void) state;
	assert_true(same("", ""));
	assert_true(same("ab", "ab"));
	assert_false(same("ab", "a"));
	assert_false(same("ab", "ba"));
	assert_false(same("ab", "a-b"));
	assert_false(same("", "a"));
	/* One that leaves is as one that is gone. */
	assert_true(same("a-b", "a"));
	assert_true(same("-ab", "b"));
	assert_true(same("-a", ""));
}

static void the_first_with_a_gateway_leads_out(void **state)
{
	struct instance_networks networks = {};
	struct instance_task task = {};
	struct instance_names names;
	struct instance instance = {};

	(void) state;
	make(&instance.spec, "-abc");
	instance.meta.name = (char *) "web";
	task.instance = &instance;
	assert_int_equal(instance_networks_outlet(&instance.spec, &networks), -1);
	instance_networks_names(&instance.spec, &networks, &names);
	assert_string_equal(names.server4, "");
	strcpy(networks.list[0].args.gateway4, "10.0.0.1");
	strcpy(networks.list[2].args.gateway6, "fd00::1");
	assert_int_equal(instance_networks_outlet(&instance.spec, &networks), 2);
	networks.list[2].args.named = true;
	strcpy(networks.list[2].args.dns_domain, "brume.internal");
	strcpy(networks.list[2].args.zone, "n.p.internal");
	instance_networks_names(&instance.spec, &networks, &names);
	assert_string_equal(names.server6, "fd00::1");
	assert_string_equal(names.domain, "brume.internal");
	assert_string_equal(names.zone, "n.p.internal");
	/* One whose gateway is somebody else's may lead out; who knows the names is the node. */
	strcpy(networks.list[1].args.gateway4, "192.168.1.1");
	assert_int_equal(instance_networks_outlet(&instance.spec, &networks), 1);
	instance_networks_names(&instance.spec, &networks, &names);
	assert_string_equal(names.server6, "fd00::1");
	networks.list[1].args.gateway4[0] = '\0';
	task.networks = networks;
	for (size_t i = 1; i < 3; i++) {
		struct bridge_spec bridge = instance_bridge_spec(&networks.list[i].args);
		struct port_spec port = instance_port_spec(&task, i, &bridge);

		assert_int_equal(port.leads_out, i == 2);
		assert_string_equal(port.interface, i == 2 ? "eth2" : "eth1");
		assert_string_equal(port.name, "web");
	}
	instance_spec_done(&instance.spec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compares_what_is_to_be_there),
		cmocka_unit_test(the_first_with_a_gateway_leads_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
