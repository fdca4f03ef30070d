#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>

#include "net/address.h"
#include "net/trace_internal.h"

static struct route_ip ip(const char *text)
{
	struct route_ip ret;

	assert_int_equal(address_parse(text, &ret), 0);
	return ret;
}

static struct nft_flow_ends ends(const char *source, uint16_t source_port, const char *destination,
				 uint16_t destination_port)
{
	return (struct nft_flow_ends){ .source = ip(source),
				       .destination = ip(destination),
				       .protocol = IPPROTO_TCP,
				       .source_port = source_port,
				       .destination_port = destination_port };
}

static struct nft_trace_event event(const char *table, const char *chain, uint32_t id)
{
	struct nft_trace_event ret = { .nsid = NFT_TRACE_HERE,
				       .kind = NFT_TRACE_RULE,
				       .family = NFPROTO_INET,
				       .id = id,
				       .handle = 1,
				       .verdict = NF_ACCEPT };

	snprintf(ret.table, sizeof(ret.table), "%s", table);
	snprintf(ret.chain, sizeof(ret.chain), "%s", chain);
	return ret;
}

static struct nft_trace_event with(struct nft_trace_event it, const struct nft_flow_ends *of)
{
	it.has_packet = true;
	it.packet = (struct nft_trace_packet){ .source = of->source,
					       .destination = of->destination,
					       .protocol = of->protocol,
					       .source_port = of->source_port,
					       .destination_port = of->destination_port,
					       .tcp_flags = TH_SYN };
	return it;
}

static void add(struct trace_path *path, int place, struct nft_trace_event it)
{
	trace_path_add(path, place, &it);
}

static const char table[] = "brume-t1";

static void begin(struct trace_path *path, const struct nft_flow_ends *probe)
{
	trace_path_init(path, table, probe);
	add(path, 0, with(event(table, TRACE_GATE, 1), probe));
}

/* Nothing before our own gate, nothing of others, and nothing that we know nothing of. */
static void others_are_left_aside(void **state)
{
	struct nft_flow_ends probe = ends("10.0.0.5", 4000, "10.0.0.6", 80);
	struct nft_flow_ends other = ends("10.0.0.5", 4001, "10.0.0.6", 80);
	struct nft_trace_event answer;
	struct trace_path path;

	(void) state;
	trace_path_init(&path, table, &probe);
	add(&path, 0, with(event("fw", "early", 1), &probe));
	assert_int_equal(path.step_count, 0);
	add(&path, 0, with(event(table, TRACE_GATE, 1), &probe));
	add(&path, 0, with(event("fw", "forward", 2), &other));
	add(&path, 0, event("fw", "forward", 2));
	add(&path, 0, event("fw", "forward", 3));
	assert_int_equal(path.step_count, 0);
	add(&path, 0, with(event("fw", "forward", 1), &probe));
	add(&path, 0, event("fw", "jumped", 1));
	assert_int_equal(path.step_count, 2);
	/* Another trace's own rules see this packet, too. */
	add(&path, 0, with(event("brume-t2", TRACE_ENTER, 1), &probe));
	assert_int_equal(path.step_count, 2);
	/* The same number elsewhere is another packet. */
	add(&path, 1, event("fw", "forward", 1));
	assert_int_equal(path.step_count, 2);
	/* The last part of a handshake has the same addresses. */
	answer = with(event("fw", "forward", 9), &probe);
	answer.packet.tcp_flags = TH_ACK;
	add(&path, 0, answer);
	assert_int_equal(path.step_count, 2);
	trace_path_done(&path);
}

/* Translated in one place, it is known in the next. */
static void it_is_followed_through_translation(void **state)
{
	struct nft_flow_ends probe = ends("10.1.0.5", 4000, "192.0.2.2", 80);
	struct nft_flow_ends after = ends("100.64.0.1", 4000, "192.0.2.2", 80);
	struct trace_path path;

	(void) state;
	begin(&path, &probe);
	add(&path, 1, with(event("brume", "guard", 7), &probe));
	add(&path, 1, with(event(table, TRACE_LEAVE, 7), &after));
	assert_int_equal(path.left_place, 1);
	assert_int_equal(path.left.source.bytes[0], 100);
	add(&path, 0, with(event("fw", "forward", 8), &after));
	assert_int_equal(path.step_count, 2);
	assert_int_equal(path.steps[1].place, 0);
	assert_int_equal(path.steps[1].ends.source.bytes[0], 100);
	assert_true(path.has_entered[1]);
	assert_int_equal(path.entered[1].source.bytes[0], 10);
	trace_path_done(&path);
}

static void the_last_word_counts(void **state)
{
	struct nft_flow_ends probe = ends("fd00::5", 4000, "fd00::6", 80);
	struct nft_trace_event drop, back;
	struct trace_path path;

	(void) state;
	begin(&path, &probe);
	drop = with(event("fw", "forward", 1), &probe);
	drop.verdict = NF_DROP;
	drop.kind = NFT_TRACE_POLICY;
	add(&path, 0, drop);
	assert_int_equal(path.dropped_by, 0);
	/* What is sent again tells the same once more. */
	add(&path, 0, with(event(table, TRACE_GATE, 5), &probe));
	add(&path, 0, with(event("fw", "forward", 5), &probe));
	assert_int_equal(path.step_count, 1);
	assert_int_equal(path.dropped_by, 0);
	trace_path_done(&path);
	/* A copy of it was dropped, another one went on. */
	begin(&path, &probe);
	add(&path, 0, drop);
	add(&path, 0, with(event(table, TRACE_LEAVE, 6), &probe));
	assert_int_equal(path.dropped_by, -1);
	/* The end of a chain is no verdict. */
	back = event("fw", "jumped", 6);
	back.kind = NFT_TRACE_RETURN;
	back.verdict = NF_DROP;
	add(&path, 0, back);
	assert_int_equal(path.dropped_by, -1);
	trace_path_done(&path);
}

static void an_answer_is_followed_to_its_end(void **state)
{
	struct nft_flow_ends probe = ends("10.1.0.5", 4000, "192.0.2.2", 80);
	struct nft_flow_ends after = ends("100.64.0.1", 4000, "192.0.2.2", 80);
	struct nft_flow_ends reply = ends("192.0.2.2", 80, "100.64.0.1", 4000);
	struct nft_flow_ends inner = ends("192.0.2.2", 80, "10.1.0.5", 4000);
	struct nft_trace_event it;
	struct trace_path path;

	(void) state;
	begin(&path, &probe);
	add(&path, 0, with(event(table, TRACE_LEAVE, 1), &after));
	it = with(event("fw", "prerouting", 7), &reply);
	it.packet.tcp_flags = TH_ACK; /* of a connection that is there already */
	it.verdict = NF_DROP;
	add(&path, 0, it);
	assert_false(path.answer_dropped);
	it.packet.tcp_flags = TH_SYN | TH_ACK;
	add(&path, 0, it);
	assert_true(path.answer_dropped);
	assert_string_equal(path.answer_step.event.table, "fw");
	/* Another one goes on, and is dropped later. */
	it.verdict = NF_ACCEPT;
	it.id = 8;
	add(&path, 0, it);
	assert_false(path.answer_dropped);
	it = with(event("fw", "forward", 8), &inner);
	it.packet.tcp_flags = TH_SYN | TH_ACK;
	add(&path, 0, it);
	it = event("fw", "jumped", 8);
	it.verdict = NF_DROP;
	add(&path, 0, it);
	assert_true(path.answer_dropped);
	assert_string_equal(path.answer_step.event.chain, "jumped");
	assert_int_equal(path.answer_step.ends.destination.bytes[0], 10);
	/* Of the probe itself nothing has changed. */
	assert_int_equal(path.step_count, 0);
	assert_int_equal(path.dropped_by, -1);
	trace_path_done(&path);
}

static void steps_are_bounded(void **state)
{
	struct nft_flow_ends probe = ends("10.0.0.5", 4000, "10.0.0.6", 80);
	struct trace_path path;

	(void) state;
	begin(&path, &probe);
	for (uint32_t i = 0; i < TRACE_STEPS_MAX; i++)
		add(&path, 0, with(event("fw", "forward", i), &probe));
	assert_int_equal(path.step_count, TRACE_STEPS_MAX);
	assert_false(path.truncated);
	add(&path, 0, with(event("fw", "forward", 1000000), &probe));
	assert_int_equal(path.step_count, TRACE_STEPS_MAX);
	assert_true(path.truncated);
	trace_path_done(&path);
}

static void a_machine_hears_one_kind_of_answer(void **state)
{
	struct nft_flow_ends probe = ends("10.0.0.5", 4000, "10.0.0.6", 80);
	struct nft_flow_ends reply = ends("10.0.0.6", 80, "10.0.0.5", 4000);
	struct nft_trace_event neighbour = with(event(table, TRACE_ANSWER, 2), &reply);
	struct trace_path path;

	(void) state;
	neighbour.packet.arp = true;
	trace_path_init(&path, table, &probe);
	add(&path, 0, neighbour);
	assert_false(path.answered);
	path.asking = true;
	add(&path, 0, with(event(table, TRACE_ANSWER, 2), &reply));
	assert_false(path.answered);
	add(&path, 0, neighbour);
	assert_true(path.answered);
	path.asking = path.answered = false;
	add(&path, 0, with(event(table, TRACE_ANSWER, 2), &reply));
	assert_true(path.answered);
	trace_path_done(&path);
}

/* ---- frames ---- */

static uint16_t sum_of(const uint8_t *bytes, size_t size, uint32_t sum)
{
	for (size_t i = 0; i < size; i++)
		sum += (uint32_t) bytes[i] << (i % 2 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) sum;
}

static const uint8_t guest_mac[] = { 2, 0x62, 10, 0, 0, 5 }, next_mac[] = { 2, 1, 2, 3, 4, 5 };

static struct trace_plan plan_of(uint8_t protocol, bool ipv6)
{
	struct trace_plan plan = {};

	plan.ends = ipv6 ? ends("fd00::5", 0xc001, "fd00::6", 80)
			 : ends("10.0.0.5", 0xc001, "10.0.0.6", 80);
	plan.ends.protocol = protocol;
	plan.next_hop = plan.ends.destination;
	memcpy(plan.mac, guest_mac, sizeof(guest_mac));
	return plan;
}

/* The sum over everything that it covers, itself included, is all ones. */
static void check_frame(uint8_t protocol, bool ipv6)
{
	struct trace_plan plan = plan_of(protocol, ipv6);
	uint8_t frame[TRACE_FRAME_MAX];
	size_t header = ipv6 ? 40 : 20, address = ipv6 ? 16 : 4;
	size_t size = trace_frame_probe(&plan, next_mac, frame), at = 14 + header;
	uint32_t sum = 0;

	assert_true(size > at && size <= TRACE_FRAME_MAX);
	assert_memory_equal(frame, next_mac, 6);
	assert_memory_equal(frame + 6, guest_mac, 6);
	if (!ipv6) {
		assert_int_equal(sum_of(frame + 14, 20, 0), 0xffff);
		assert_int_equal(frame[16] << 8 | frame[17], size - 14);
		assert_int_equal(frame[23], protocol);
	} else {
		assert_int_equal(frame[18] << 8 | frame[19], size - at);
		assert_int_equal(frame[20], protocol);
	}
	if (protocol != IPPROTO_ICMP) {
		sum = sum_of(plan.ends.source.bytes, address, 0);
		sum = sum_of(plan.ends.destination.bytes, address, sum);
		sum += protocol + (uint32_t) (size - at);
	}
	assert_int_equal(sum_of(frame + at, size - at, sum), 0xffff);
}

static void frames_are_whole(void **state)
{
	(void) state;
	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		check_frame(IPPROTO_TCP, ipv6);
		check_frame(IPPROTO_UDP, ipv6);
	}
	check_frame(IPPROTO_ICMP, false);
	check_frame(IPPROTO_ICMPV6, true);
}

static void questions_for_neighbours(void **state)
{
	struct trace_plan plan = plan_of(IPPROTO_TCP, false);
	uint8_t frame[TRACE_FRAME_MAX];
	uint32_t sum;

	(void) state;
	assert_int_equal(trace_frame_ask(&plan, frame), 42);
	assert_int_equal(frame[12] << 8 | frame[13], 0x0806);
	assert_int_equal(frame[21], 1);
	assert_memory_equal(frame + 22, guest_mac, 6);
	assert_memory_equal(frame + 28, plan.ends.source.bytes, 4);
	assert_memory_equal(frame + 38, plan.next_hop.bytes, 4);
	plan = plan_of(IPPROTO_TCP, true);
	assert_int_equal(trace_frame_ask(&plan, frame), 86);
	assert_int_equal(frame[0] << 8 | frame[1], 0x3333);
	assert_int_equal(frame[54], 135);
	assert_int_equal(frame[21], 255);
	sum = sum_of(frame + 22, 32, 58 + 32);
	assert_int_equal(sum_of(frame + 54, 32, sum), 0xffff);
}

static void answers_are_judged(void **state)
{
	struct trace_plan plan = plan_of(IPPROTO_UDP, false);
	struct nft_trace_packet packet = { .source = ip("10.0.0.6"), .protocol = IPPROTO_TCP };
	struct route_ip from = {};
	enum trace_answer answer;

	(void) state;
	packet.tcp_flags = TH_SYN | TH_ACK;
	trace_frame_judge(&plan, &packet, &answer, &from);
	assert_int_equal(answer, TRACE_ANSWER_CONNECTED);
	packet.tcp_flags = TH_RST | TH_ACK;
	trace_frame_judge(&plan, &packet, &answer, &from);
	assert_int_equal(answer, TRACE_ANSWER_REFUSED);
	assert_int_equal(from.family, 0);
	packet.protocol = IPPROTO_UDP;
	trace_frame_judge(&plan, &packet, &answer, &from);
	assert_int_equal(answer, TRACE_ANSWER_REPLY);
	packet.protocol = IPPROTO_ICMP;
	packet.icmp_type = 3;
	packet.icmp_code = 3;
	trace_frame_judge(&plan, &packet, &answer, &from);
	assert_int_equal(answer, TRACE_ANSWER_REFUSED);
	packet.icmp_code = 13;
	trace_frame_judge(&plan, &packet, &answer, &from);
	assert_int_equal(answer, TRACE_ANSWER_UNREACHABLE);
	packet.icmp_type = 0;
	packet.icmp_code = 0;
	trace_frame_judge(&plan, &packet, &answer, &from);
	assert_int_equal(answer, TRACE_ANSWER_REPLY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(others_are_left_aside),
		cmocka_unit_test(it_is_followed_through_translation),
		cmocka_unit_test(the_last_word_counts),
		cmocka_unit_test(an_answer_is_followed_to_its_end),
		cmocka_unit_test(steps_are_bounded),
		cmocka_unit_test(a_machine_hears_one_kind_of_answer),
		cmocka_unit_test(frames_are_whole),
		cmocka_unit_test(questions_for_neighbours),
		cmocka_unit_test(answers_are_judged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
