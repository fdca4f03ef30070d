/*
 * Every decoder of model/ reads the same bytes: what is accepted must be encoded to something that
 * is accepted again and encoded to the same.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/signame.h"
#include "model/balancer.h"
#include "model/event.h"
#include "model/group.h"
#include "model/image.h"
#include "model/instance.h"
#include "model/instance_patch.h"
#include "model/network.h"
#include "model/node.h"
#include "model/operation.h"
#include "model/port.h"
#include "model/project.h"
#include "model/publish.h"
#include "model/request.h"
#include "model/router.h"
#include "model/stream_control.h"
#include "model/trace_live.h"

static void same(json_t *first, json_t *second)
{
	AUTO(json_decref) json_t *a = first;
	AUTO(json_decref) json_t *b = second;
	AUTO(free) char *x = json_text(a);
	AUTO(free) char *y = json_text(b);

	if (strcmp(x, y) != 0)
		abort();
}

#define ROUND_TRIP(noun, ...)                                                                      \
	static void try_##noun(const json_t *doc)                                                  \
	{                                                                                          \
		AUTO(noun##_free) struct noun *one = NULL;                                         \
		AUTO(noun##_free) struct noun *two = NULL;                                         \
		if (noun##_decode(doc, &one, NULL) < 0)                                            \
			return;                                                                    \
		AUTO(json_decref) json_t *encoded = noun##_encode(one, ##__VA_ARGS__);             \
		if (noun##_decode(encoded, &two, NULL) < 0)                                        \
			abort();                                                                   \
		same(json_incref(encoded), noun##_encode(two, ##__VA_ARGS__));                     \
	}

ROUND_TRIP(instance, ENCODE_STORE)
ROUND_TRIP(network, ENCODE_STORE)
ROUND_TRIP(balancer, ENCODE_STORE)
ROUND_TRIP(balancer_request)
ROUND_TRIP(image, ENCODE_STORE)
ROUND_TRIP(operation)
ROUND_TRIP(node)
ROUND_TRIP(project)
ROUND_TRIP(router, ENCODE_STORE)
ROUND_TRIP(event)
ROUND_TRIP(launch_request)
ROUND_TRIP(pull_request)
ROUND_TRIP(network_request)
ROUND_TRIP(security_group, ENCODE_STORE)
ROUND_TRIP(group_request)
ROUND_TRIP(trace_request)

/* A change that is accepted can be taken back. */
static void try_patch(const json_t *patch)
{
	AUTO(instance_free) struct instance *instance = mem_new0(struct instance);
	AUTO(json_decref) json_t *undo = NULL;
	json_t *before;

	instance_spec_init(&instance->spec);
	before = instance_encode(instance, ENCODE_STORE);
	undo = instance_patch_undo(instance, patch);
	if (instance_patch(instance, patch, NULL) == 0) {
		if (instance_patch(instance, undo, NULL) < 0)
			abort();
		same(json_incref(before), instance_encode(instance, ENCODE_STORE));
	}
	json_decref(before);
}

/* What a rule lets through is written as it is read. */
static void try_rule(const char *text)
{
	char first[SECURITY_TEXT_SIZE], second[SECURITY_TEXT_SIZE];
	struct security_rule rule;

	if (security_rule_parse(text, &rule, NULL) < 0)
		return;
	security_rule_format(&rule, first);
	if (security_rule_parse(first, &rule, NULL) < 0)
		abort();
	security_rule_format(&rule, second);
	if (strcmp(first, second) != 0)
		abort();
}

/* Every change keeps the group readable. */
static void try_group_change(const json_t *doc)
{
	for (int change = SECURITY_GROUP_REPLACE; change <= SECURITY_GROUP_REMOVE; change++) {
		AUTO(security_group_spec_done) struct security_group_spec spec = {};
		AUTO(security_group_spec_done) struct security_group_spec again = {};

		if (security_group_change(&spec, change, doc, NULL) < 0)
			continue;
		AUTO(json_decref) json_t *encoded = json_object();
		security_group_spec_put_user(encoded, &spec);
		if (security_group_change(&again, SECURITY_GROUP_REPLACE, encoded, NULL) < 0)
			abort();
		same(security_group_spec_encode(&spec), security_group_spec_encode(&again));
	}
}

static void try_router_patch(const json_t *patch)
{
	AUTO(router_free) struct router *router = mem_new0(struct router);
	AUTO(json_decref) json_t *undo = NULL;
	json_t *before;

	router_spec_init(&router->spec);
	before = router_spec_encode_user(&router->spec);
	undo = router_patch_undo(router, patch);
	if (router_patch(router, patch, NULL) == 0) {
		if (router_patch(router, undo, NULL) < 0)
			abort();
		same(json_incref(before), router_spec_encode_user(&router->spec));
	}
	json_decref(before);
}

/* What a user may say of a port is said the same way again. */
static void try_port(const json_t *doc)
{
	AUTO(port_done) struct port one = {};
	AUTO(port_done) struct port two = {};

	if (port_request_decode(doc, &one, NULL) < 0)
		return;
	AUTO(json_decref) json_t *encoded = port_encode(&one);
	if (port_request_decode(encoded, &two, NULL) < 0)
		abort();
	same(json_incref(encoded), port_encode(&two));
}

/* What the command line makes of two words, the server reads. */
static void try_trace_words(const char *text)
{
	AUTO(trace_request_free) struct trace_request *one = NULL, *two = NULL;
	AUTO(free) char *instance = NULL;

	if (trace_request_parse(text, text, NULL, &instance, &one, NULL) < 0)
		return;
	AUTO(json_decref) json_t *encoded = trace_request_encode(one);
	/* A name may be longer there than the server takes. */
	if (encoded && trace_request_decode(encoded, &two, NULL) == 0)
		same(json_incref(encoded), trace_request_encode(two));
}

/* An agent's answer about a packet. */
static void try_trace_answer(const json_t *doc)
{
	static struct trace_hop hop = { .kind = TRACE_GROUP,
					.ingress = true,
					.group = (char *) "web",
					.rule = 2,
					.group_uid = "0123456789abcdef0123456789abcdef",
					.rule_there = 2 };
	struct trace trace = { .hops = &hop, .hop_count = 1, .prefix = "brume" };
	AUTO(json_decref) json_t *answer = json_deep_copy(doc);

	if (trace_live_judge(&trace, answer, NULL) == 0 &&
	    !json_is_string(json_object_get(answer, "text")))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(free) char *text = mem_strndup((const char *) data, size);
	AUTO(json_decref) json_t *doc = NULL;
	struct stream_control control;
	struct publish publish;
	struct router_forward forward;
	struct port port;
	uint64_t bytes;

	if (port_parse(text, &port, NULL) == 0)
		port_done(&port);
	publish_parse(text, &publish, NULL);
	router_forward_parse(text, &forward, NULL);
	memory_parse(text, "memory", &bytes, NULL);
	signame_number(text);
	try_rule(text);
	try_trace_words(text);
	if (json_parse((const char *) data, size, 1024 * 1024, &doc, NULL) < 0)
		return 0;
	try_instance(doc);
	try_network(doc);
	try_balancer(doc);
	try_balancer_request(doc);
	try_image(doc);
	try_operation(doc);
	try_node(doc);
	try_project(doc);
	try_router(doc);
	try_router_patch(doc);
	try_event(doc);
	try_launch_request(doc);
	try_pull_request(doc);
	try_network_request(doc);
	try_security_group(doc);
	try_group_request(doc);
	try_group_change(doc);
	try_trace_request(doc);
	try_trace_answer(doc);
	try_patch(doc);
	try_port(doc);
	stream_control_decode(doc, &control, NULL);
	return 0;
}
