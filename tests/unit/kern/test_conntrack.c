#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <netinet/in.h>

#include "base/cleanup.h"
#include "kern/conntrack.h"

/* Ends of flows as Linux 6.18 has told them, in hex. */
static const char translated_tcp[] =
	"fc000000020100000000000000000000020000003400018014000180080001000a09000108000200"
	"0a0900011c000280050001000600000006000200da480000060003001f9000003400028014000180"
	"080001007f000001080002000a0900011c0002800500010006000000060002000050000006000300"
	"da48000008000c00361f5bc008000300000003ae1c0009800c00010000000000000000060c000200"
	"00000000000001441c000a800c00010000000000000000040c00020000000000000000dc1c001480"
	"0c00010018ea301fa6d408b80c00020018ea301fe276309f100004800c0001800500010007000000"
	"0c001b0018ea30203dc6a83a";

static const char refused_tcp[] =
	"04010000020100000000000000000000020000003400018014000180080001007f00000108000200"
	"7f0000011c0002800500010006000000060002008b2e000006000300005100003400028014000180"
	"080001007f000001080002007f0000011c0002800500010006000000060002000051000006000300"
	"8b2e000008000c002ea66194080003000000038808000700000000781c0009800c00010000000000"
	"000000010c000200000000000000003c1c000a800c00010000000000000000010c00020000000000"
	"000000281c0014800c00010018ea301fa6d7e07f0c00020018ea301fa6d7efc4100004800c000180"
	"05000100080000000c001b0018ea301fa6d7f15f";

static const char tcp6[] =
	"2c0100000201000000000000000000000a0000004c0001802c000180140003000000000000000000"
	"000000000000000114000400000000000000000000000000000000011c0002800500010006000000"
	"06000200a69a000006000300005000004c0002802c00018014000300000000000000000000000000"
	"0000000114000400000000000000000000000000000000011c000280050001000600000006000200"
	"0050000006000300a69a000008000c00a26ab2a3080003000000038e1c0009800c00010000000000"
	"000000060c00020000000000000001bc1c000a800c00010000000000000000040c00020000000000"
	"0000012c1c0014800c00010018ea301fa6d5d0a60c00020018ea301fe2785d66100004800c000180"
	"05000100070000000c001b0018ea30203dc8d50c";

static const char zoned_udp[] =
	"f4000000020100000000000000000000020000003400018014000180080001007f00000108000200"
	"7f0000011c000280050001001100000006000200c998000006000300006300003400028014000180"
	"080001007f000001080002007f0000011c0002800500010011000000060002000063000006000300"
	"c9980000060012000007000008000c00edbb97be08000300000003881c0009800c00010000000000"
	"000000010c000200000000000000001d1c000a800c00010000000000000000000c00020000000000"
	"000000001c0014800c00010018ea301fa6d757770c00020018ea301fe28dc8ce0c001b0018ea3020"
	"3dde4041";

static const char ping[] =
	"fc000000020100000000000000000000020000003c00018014000180080001007f00000108000200"
	"7f000001240002800500010001000000060004001234000005000500080000000500060000000000"
	"3c00028014000180080001007f000001080002007f00000124000280050001000100000006000400"
	"123400000500050000000000050006000000000008000c0033937377080003000000038a1c000980"
	"0c00010000000000000000010c00020000000000000000201c000a800c0001000000000000000001"
	"0c00020000000000000000201c0014800c00010018ea301fa6d945180c00020018ea301fe295dc0d"
	"0c001b0018ea30203da94ab4";

static const char open_tcp[] =
	"4c0100000001020001000000e77640f30a0000004c0001802c000180140003000000000000000000"
	"000000000000000114000400000000000000000000000000000000011c0002800500010006000000"
	"06000200a69a000006000300005000004c0002802c00018014000300000000000000000000000000"
	"0000000114000400000000000000000000000000000000011c000280050001000600000006000200"
	"0050000006000300a69a0000080003000000018e080008000000000008000c00a26ab2a308000b00"
	"000000010800070000000001300004802c0001800500010007000000050002000a00000005000300"
	"0a000000060004002700000006000500230000001c0009800c00010000000000000000060c000200"
	"00000000000001bc1c000a800c00010000000000000000040c000200000000000000012c10001480"
	"0c00010018ea301fa6d5d0a6";

enum { MESSAGE_MAX = 512 };

static size_t bytes_of(const char *hex, uint8_t *ret)
{
	size_t size = strlen(hex) / 2;
	unsigned int byte;

	assert_true(size <= MESSAGE_MAX);
	for (size_t i = 0; i < size; i++) {
		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		ret[i] = (uint8_t) byte;
	}
	return size;
}

static struct conntrack_flow decode(const char *hex)
{
	_Alignas(8) uint8_t message[MESSAGE_MAX];
	size_t size = bytes_of(hex, message);
	struct conntrack_flow flow;

	assert_int_equal(conntrack_decode(message, size, &flow), 0);
	return flow;
}

static void expect_way(int family, const struct conntrack_way *way, const char *source,
		       uint16_t source_port, const char *destination, uint16_t destination_port)
{
	char text[INET6_ADDRSTRLEN];

	assert_string_equal(inet_ntop(family, way->source, text, sizeof(text)), source);
	assert_string_equal(inet_ntop(family, way->destination, text, sizeof(text)), destination);
	assert_int_equal(way->source_port, source_port);
	assert_int_equal(way->destination_port, destination_port);
}

static void tcp_that_was_translated(void **state)
{
	struct conntrack_flow flow = decode(translated_tcp);

	(void) state;
	assert_int_equal(flow.family, AF_INET);
	assert_int_equal(flow.protocol, IPPROTO_TCP);
	assert_int_equal(flow.zone, 0);
	assert_true(flow.answered && flow.assured && flow.has_tcp_state);
	assert_int_equal(flow.tcp_state, TCP_CONNTRACK_TIME_WAIT);
	expect_way(AF_INET, &flow.there, "10.9.0.1", 0xda48, "10.9.0.1", 8080);
	expect_way(AF_INET, &flow.back, "127.0.0.1", 80, "10.9.0.1", 0xda48);
	assert_true(flow.there.counted && flow.back.counted);
	assert_int_equal(flow.there.packets, 6);
	assert_int_equal(flow.there.bytes, 0x144);
	assert_int_equal(flow.back.packets, 4);
	assert_int_equal(flow.back.bytes, 0xdc);
	assert_true(flow.start_ns == 0x18ea301fa6d408b8 && flow.stop_ns == 0x18ea301fe276309f);
	assert_int_equal(flow.left_s, 0);
}

static void others(void **state)
{
	struct conntrack_flow flow = decode(refused_tcp);

	(void) state;
	assert_int_equal(flow.tcp_state, TCP_CONNTRACK_CLOSE);
	assert_false(flow.answered || flow.assured);
	flow = decode(tcp6);
	assert_int_equal(flow.family, AF_INET6);
	expect_way(AF_INET6, &flow.there, "::1", 0xa69a, "::1", 80);
	flow = decode(zoned_udp);
	assert_int_equal(flow.protocol, IPPROTO_UDP);
	assert_int_equal(flow.zone, 7);
	assert_false(flow.answered || flow.has_tcp_state);
	assert_true(flow.back.counted && flow.back.packets == 0 && flow.there.bytes == 29);
	flow = decode(ping);
	assert_int_equal(flow.protocol, IPPROTO_ICMP);
	assert_int_equal(flow.icmp_type, 8);
	assert_int_equal(flow.icmp_code, 0);
	assert_int_equal(flow.there.icmp_id, 0x1234);
	expect_way(AF_INET, &flow.there, "127.0.0.1", 0, "127.0.0.1", 0);
	/* One that is there has no end. */
	flow = decode(open_tcp);
	assert_true(flow.start_ns > 0 && flow.stop_ns == 0 && flow.left_s > 0);
}

/* Cut anywhere, or longer than what was received. */
static void what_is_cut_is_refused(void **state)
{
	_Alignas(8) uint8_t message[MESSAGE_MAX];
	size_t size = bytes_of(translated_tcp, message);
	struct conntrack_flow flow;

	(void) state;
	for (size_t n = 0; n < size; n++) {
		AUTO(free) uint8_t *copy = malloc(n > 0 ? n : 1);

		assert_non_null(copy);
		memcpy(copy, message, n);
		assert_int_equal(conntrack_decode(copy, n, &flow), -EBADMSG);
	}
}

/* A length that says so itself; one that is not a multiple of four would be read beyond its end. */
static void what_ends_within_its_padding_is_refused(void **state)
{
	_Alignas(8) uint8_t message[MESSAGE_MAX];
	uint32_t size = (uint32_t) bytes_of(translated_tcp, message);
	struct conntrack_flow flow;

	(void) state;
	for (uint32_t n = 20; n <= size; n++) {
		AUTO(free) uint8_t *copy = malloc(n);
		int r;

		assert_non_null(copy);
		memcpy(copy, message, n);
		memcpy(copy, &n, sizeof(n));
		r = conntrack_decode(copy, n, &flow);
		if (n % 4 != 0)
			assert_int_equal(r, -EBADMSG);
	}
}

static void what_is_strange_is_refused(void **state)
{
	_Alignas(8) uint8_t message[MESSAGE_MAX], changed[MESSAGE_MAX];
	size_t size = bytes_of(translated_tcp, message);
	struct conntrack_flow flow;

	(void) state;
	memcpy(changed, message, size);
	changed[4] = 0; /* another type of message */
	changed[5] = 3;
	assert_int_equal(conntrack_decode(changed, size, &flow), -ENOMSG);
	memcpy(changed, message, size);
	changed[16] = AF_BRIDGE;
	assert_int_equal(conntrack_decode(changed, size, &flow), -ENOMSG);
	changed[16] = AF_INET6; /* with addresses of four bytes */
	assert_int_equal(conntrack_decode(changed, size, &flow), -EBADMSG);
	memcpy(changed, message, size);
	changed[22] = 0x7f; /* the first tuple is something else */
	assert_int_equal(conntrack_decode(changed, size, &flow), -EBADMSG);
	/* Any byte may be any other: nothing is read that is not there. */
	for (size_t i = 0; i < size; i++)
		for (unsigned int bit = 0; bit < 8; bit++) {
			AUTO(free) uint8_t *copy = malloc(size);

			assert_non_null(copy);
			memcpy(copy, message, size);
			copy[i] ^= (uint8_t) (1U << bit);
			(void) conntrack_decode(copy, size, &flow);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcp_that_was_translated),
		cmocka_unit_test(others),
		cmocka_unit_test(what_is_cut_is_refused),
		cmocka_unit_test(what_ends_within_its_padding_is_refused),
		cmocka_unit_test(what_is_strange_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
