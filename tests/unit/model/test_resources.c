#include "model_test.h"

#include "model/event.h"
#include "model/image.h"
#include "model/instance.h"
#include "model/network.h"
#include "model/node.h"
#include "model/operation.h"
#include "model/project.h"

#define META                                                                                       \
	"'meta':{'name':'a','project':'default','uid':'0123456789abcdef0123456789abcdef',"         \
	"'generation':1,'created':'2026-11-21T01:30:00.123Z'}"

static void test_instance(void **state)
{
	AUTO(json_decref)
	json_t *doc = parse(
		"{'kind':'instance'," META ",'spec':{'type':'container','image':'web','image_name':"
		"'reg.test/web:latest','node':'local','target':'paused','start_seq':3,"
		"'entrypoint':[],'command':['sh','-c','x'],'env':{'A':'b=c'},'workdir':'/w',"
		"'user':'1:2','hostname':'h','restart':{'policy':'on-failure','max_retries':5},"
		"'limits':{'cpus':0.5,'memory_bytes':1073741824,'pids':10},'ports':["
		"{'network':'default','network_uid':'0123456789abcdef0123456789abcdee','ipv4':"
		"'10.90.0.2','ipv6':'fd00::2','mac':'02:62:0a:5a:00:02','interface':'eth0',"
		"'uid':'0123456789abcdef0123456789abcd01'},"
		"{'network':'back','network_uid':'0123456789abcdef0123456789abcdea','ipv4':"
		"'10.1.0.2','mac':'02:62:0a:01:00:02','interface':'eth1','leaving':true,"
		"'groups':['web'],'spoofing':true,'uid':'0123456789abcdef0123456789abcd02'}],"
		"'publish':[{'host_ip':'','host_port':8080,'port':80,'protocol':'tcp'}],"
		"'stop_signal':'TERM','stop_timeout_s':3,'stop_override_s':0},"
		"'status':{'generation':1,'state':'running','start_seq':3,'pid':5,"
		"'started':'2026-11-21T01:30:00.123Z','exit_code':0,'restarts':2,'error':'e','"
		"ports_error':'p',"
		"'image_digest':'sha256:1','node':'local'}}");
	AUTO(instance_free) struct instance *instance = NULL;
	AUTO(instance_free) struct instance *copy = NULL;

	(void) state;
	assert_int_equal(instance_decode(doc, &instance, NULL), 0);
	assert_int_equal(instance->spec.target, INSTANCE_TARGET_PAUSED);
	assert_non_null(instance->spec.entrypoint); /* empty is not absent */
	assert_string_equal(instance->spec.env[0], "A=b=c");
	assert_int_equal(instance_stop_timeout_s(&instance->spec), 0);
	copy = instance_copy(instance);
	AUTO(json_decref) json_t *encoded = instance_encode(copy, ENCODE_STORE);
	assert_json_equal(doc, encoded);
	AUTO(json_decref) json_t *assigned = instance_encode(copy, ENCODE_ASSIGN);
	assert_null(json_object_get(assigned, "status"));
}

static void test_instance_defaults(void **state)
{
	AUTO(json_decref)
	json_t *doc = parse("{'kind':'instance'," META ",'spec':{'image':'web'}}");
	AUTO(instance_free) struct instance *instance = NULL;

	(void) state;
	assert_int_equal(instance_decode(doc, &instance, NULL), 0);
	assert_null(instance->spec.entrypoint);
	assert_int_equal(instance_stop_timeout_s(&instance->spec), INSTANCE_STOP_TIMEOUT_S);
	assert_int_equal(instance->status.exit_code, -1);
	assert_int_equal(instance->status.state, INSTANCE_PENDING);
}

static void test_instance_refusals(void **state)
{
	static const struct {
		const char *spec, *word;
	} bad[] = {
		{ "{}", "spec.image: must name" },
		{ "{'image':''}", "spec.image: must name" },
		{ "{'image':'a','type':'pod'}", "spec.type: must be one of \"container\", \"vm\"" },
		{ "{'image':'a','typo':1}", "spec.typo: is not known" },
		{ "{'image':'a','command':'sh'}", "spec.command: must be a list" },
		{ "{'image':'a','command':['']}", "spec.command: must not start with an empty" },
		{ "{'image':'a','workdir':'w'}", "spec.workdir" },
		{ "{'image':'a','user':'a b'}", "spec.user" },
		{ "{'image':'a','hostname':'a b'}", "spec.hostname" },
		{ "{'image':'a','hostname':'-a'}", "spec.hostname" },
		{ "{'image':'a','restart':{'policy':'often'}}", "spec.restart.policy" },
		{ "{'image':'a','restart':{'policy':'no','max_retries':1}}",
		  "spec.restart.max_retries" },
		{ "{'image':'a','restart':{'x':1}}", "spec.restart.x: is not known" },
		{ "{'image':'a','limits':{'cpus':-1}}", "spec.limits.cpus" },
		{ "{'image':'a','limits':{'cpus':0.001}}", "spec.limits.cpus" },
		{ "{'image':'a','limits':{'cpus':0}}", "spec.limits.cpus" },
		{ "{'image':'a','limits':{'pids':0}}", "spec.limits.pids" },
		{ "{'image':'a','limits':{'memory_bytes':5}}", "spec.limits.memory_bytes" },
		{ "{'image':'a','limits':{'memory_bytes':1e30}}", "spec.limits.memory_bytes" },
		{ "{'image':'a','limits':{'pids':99999999}}", "spec.limits.pids" },
		{ "{'image':'a','limits':{'swap':1}}", "spec.limits.swap: is not known" },
		{ "{'image':'a','stop_signal':'BANG'}", "spec.stop_signal" },
		{ "{'image':'a','stop_timeout_s':-1}", "spec.stop_timeout_s" },
		{ "{'image':'a','remove_on_exit':true,'restart':{'policy':'always'}}",
		  "spec.remove_on_exit" },
		{ "{'image':'a','network':'default'}", "spec.network: has become a list" },
		{ "{'image':'a','ports':[{'network':'a'}]}",
		  "spec.ports[0].uid: uid, network_uid" },
		{ "{'image':'a','ports':[{'network':'a','ipv4':'fd00::1'}]}",
		  "spec.ports[0].ipv4" },
		{ "{'image':'a','ports':[{'network':'a','mac':'x'}]}", "spec.ports[0].mac" },
		{ "{'image':'a','ports':[{'network':'a','interface':'lo'}]}", ".interface" },
		{ "{'image':'a','target':'gone'}", "spec.target" },
		{ "{'image':'a','env':{'':'x'}}", "spec.env" },
	};
	struct instance_spec spec;
	struct error err;

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		AUTO(json_decref) json_t *doc = parse(bad[i].spec);

		instance_spec_init(&spec);
		if (instance_spec_decode(doc, "spec", &spec, &err) != -EINVAL ||
		    !strstr(err.msg, bad[i].word))
			fail_msg("%s: %s", bad[i].spec, err.msg);
		assert_null(strchr(err.msg, '\n'));
		instance_spec_done(&spec);
	}
}

static void test_network(void **state)
{
	static const struct {
		const char *spec, *word;
	} bad[] = {
		{ "{}", "spec.ipv4: a network needs" },
		{ "{'ipv4':'10.0.0.1/24'}", "did you mean" },
		{ "{'ipv4':'10.0.0.0/31'}", "spec.ipv4: must have a prefix of 8 to 30" },
		{ "{'ipv6':'10.0.0.0/24'}", "spec.ipv6" },
		{ "{'ipv4':'10.0.0.0/24','gateway4':'10.0.1.1'}", "spec.gateway4" },
		{ "{'ipv4':'10.0.0.0/24','mtu':100}", "spec.mtu" },
		{ "{'ipv4':'10.0.0.0/24','driver':'magic'}", "spec.driver" },
		{ "{'ipv4':'10.0.0.0/24','dns_domain':'a b'}", "spec.dns_domain" },
		{ "{'ipv4':'10.0.0.0/24','dns_domain':''}", "spec.dns_domain" },
		{ "{'ipv4':'10.0.0.0/24','dns_domain':'a..b'}", "spec.dns_domain" },
		{ "{'ipv4':'10.0.0.0/24','dns_domain':'.a'}", "spec.dns_domain" },
		{ "{'ipv4':'10.0.0.0/24','dns_domain':'a.'}", "spec.dns_domain" },
		{ "{'ipv4':'10.0.0.0/24','dns_domain':'a.-b'}", "spec.dns_domain" },
		{ "{'ipv4':'10.0.0.0/24','dns_domain':'a-.b'}", "spec.dns_domain" },
		{ "{'ipv4':'10.0.0.0/24','dns_domain':'"
		  "0123456789012345678901234567890123456789012345678901234567890123.b'}",
		  "1 to 63" },
		{ "{'ipv4':'10.0.0.0/24','dhcp':1}", "spec.dhcp" },
		{ "{'ipv4':'10.0.0.0/24','dhcp':true,'isolated':true,'nat':false}",
		  "spec.dhcp: the node has no address" },
		{ "{'ipv4':'10.0.0.0/24','advertise':1}", "spec.advertise" },
		{ "{'ipv4':'10.0.0.0/24','advertise':true}", "spec.advertise: a network with nat" },
		{ "{'ipv4':'10.0.0.0/24','advertise':true,'isolated':true,'nat':false}",
		  "spec.advertise: nothing leads into" },
		{ "{'ipv4':'10.0.0.0/24','advertise':true,'driver':'macvlan','uplink':'eth1'}",
		  "spec.advertise: the LAN" },
	};
	AUTO(json_decref)
	json_t *doc = parse(
		"{'kind':'network'," META ",'spec':{'driver':'bridge','ipv4':'10.90.0.0/24','ipv6':"
		"'fd00::/64','gateway4':'10.90.0.1','gateway6':'fd00::1','nat':false,'dns_domain':"
		"'x.internal','dhcp':true,'advertise':true,'mtu':1400,'node':'local'},'status':{'"
		"generation':1,'"
		"state':'ready',"
		"'bridge':'brume-1','advertised':['10.90.0.0/24','fd00::/64'],'error':'e'}}");
	AUTO(network_free) struct network *network = NULL;
	AUTO(network_free) struct network *copy = NULL;
	struct error err;

	(void) state;
	assert_int_equal(network_decode(doc, &network, NULL), 0);
	copy = network_copy(network);
	AUTO(json_decref) json_t *encoded = network_encode(copy, ENCODE_STORE);
	assert_json_equal(doc, encoded);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		AUTO(json_decref) json_t *spec_doc = parse(bad[i].spec);
		struct network_spec spec;

		network_spec_init(&spec);
		if (network_spec_decode(spec_doc, &spec, &err) != -EINVAL ||
		    !strstr(err.msg, bad[i].word))
			fail_msg("%s: %s", bad[i].spec, err.msg);
		network_spec_done(&spec);
	}
}

static void test_image(void **state)
{
	AUTO(json_decref)
	json_t *doc = parse(
		"{'kind':'image'," META ",'spec':{'source':'import','reference':'r','platform':"
		"'linux/"
		"amd64','insecure':true,'username':'u','password':'p','upload':'x','pull_seq':2,"
		"'node':'local','implicit':true},'status':{'generation':1,'pull_seq':2,'state':'"
		"ready',"
		"'digest':'sha256:1','size_bytes':9,'layers':[{'digest':'sha256:2','diff_id':'"
		"sha256:3',"
		"'size_bytes':4}],'architecture':'amd64','os':'linux','created':"
		"'2026-11-21T01:30:00.123Z','config':{'entrypoint':['e'],'command':['c'],'env':{'A'"
		":'b'},"
		"'workdir':'/','user':'1','exposed':['80/"
		"tcp'],'labels':{'l':'v'},'stop_signal':'TERM'},"
		"'progress':{'done_bytes':1,'total_bytes':2,'text':'t'},'error':'e'}}");
	AUTO(image_free) struct image *image = NULL;

	(void) state;
	assert_int_equal(image_decode(doc, &image, NULL), 0);
	AUTO(json_decref) json_t *encoded = image_encode(image, ENCODE_STORE);
	assert_json_equal(doc, encoded);
	AUTO(json_decref) json_t *shown = image_encode(image, ENCODE_SHOW);
	AUTO(free) char *text = json_text(shown);
	assert_null(strstr(text, "password"));
	assert_null(strstr(text, "username"));
	AUTO(json_decref) json_t *bad = parse("{'layers':[{'digest':1}]}");
	assert_int_equal(image_status_decode(bad, &image->status, NULL), -EINVAL);
	/* A status replaces lists instead of leaking or mixing them. */
	assert_int_equal(image_status_decode(json_object_get(doc, "status"), &image->status, NULL),
			 0);
	assert_int_equal(image->status.layer_count, 1);
}

static void test_operation(void **state)
{
	AUTO(json_decref)
	json_t *doc = parse("{'kind':'operation'," META
			    ",'spec':{'action':'prune','target':{'kind':'image','name':"
			    "'n','uid':'0123456789abcdef0123456789abcdef'},'generation':2,'seq':3,'"
			    "members':['x']},"
			    "'status':{'state':'running','ending':'failed','progress':{'text':'t','"
			    "done_bytes':1,"
			    "'total_bytes':2},'error':'e','result':{'a':1},'finished':'2026-11-"
			    "21T01:30:00.123Z'}}");
	AUTO(operation_free) struct operation *operation = NULL;

	(void) state;
	assert_int_equal(operation_decode(doc, &operation, NULL), 0);
	AUTO(json_decref) json_t *encoded = operation_encode(operation);
	assert_json_equal(doc, encoded);
}

static void test_node_and_project(void **state)
{
	AUTO(json_decref)
	json_t *node_doc = parse("{'kind':'node'," META
				 ",'status':{'version':'1','kernel':'6','cgroup':'v1','cpus':2,"
				 "'memory_bytes':3,'boot_id':'b','state':'online'}}");
	AUTO(json_decref)
	json_t *project_doc = parse("{'kind':'project'," META ",'spec':{'description':'d'}}");
	AUTO(project_free) struct project *project = NULL;
	AUTO(node_free) struct node *node = NULL;
	AUTO(free) char *name = NULL;
	struct node_facts facts = {};

	(void) state;
	assert_int_equal(node_decode(node_doc, &node, NULL), 0);
	AUTO(json_decref) json_t *encoded = node_encode(node);
	assert_json_equal(node_doc, encoded);
	AUTO(json_decref) json_t *hello = node_hello_encode("n1", &node->facts);
	assert_int_equal(node_hello_decode(hello, &name, &facts, NULL), 0);
	assert_string_equal(name, "n1");
	node_facts_done(&facts);
	json_object_set_new(hello, "node", json_string("no name"));
	assert_int_equal(node_hello_decode(hello, &name, &facts, NULL), -EINVAL);
	node_facts_done(&facts);
	assert_int_equal(project_decode(project_doc, &project, NULL), 0);
	AUTO(json_decref) json_t *project_encoded = project_encode(project);
	assert_json_equal(project_doc, project_encoded);
}

static void test_event(void **state)
{
	AUTO(json_decref)
	json_t *doc =
		parse("{'revision':5,'kind':'instance','action':'deleted','project':'p','name':'n',"
		      "'uid':'0123456789abcdef0123456789abcdef','resource':{'x':1}}");
	AUTO(event_free) struct event *event = NULL;

	(void) state;
	assert_int_equal(event_decode(doc, &event, NULL), 0);
	AUTO(json_decref) json_t *encoded = event_encode(event);
	assert_json_equal(doc, encoded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_instance),
		cmocka_unit_test(test_instance_defaults),
		cmocka_unit_test(test_instance_refusals),
		cmocka_unit_test(test_network),
		cmocka_unit_test(test_image),
		cmocka_unit_test(test_operation),
		cmocka_unit_test(test_node_and_project),
		cmocka_unit_test(test_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
