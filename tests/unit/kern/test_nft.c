#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "kern/nft.h"
#include "kern/nft_flow.h"
#include "kern/nft_rule.h"
#include "own_netns.h"

enum { MANY = 3000 }; /* more than one message of a batch holds */

static const char table[] = "add table inet t\n"
			    "add map inet t m { type inet_proto . inet_service : ipv4_addr . "
			    "inet_service; }\n"
			    "add set inet t s { type ifname . ipv4_addr; flags interval; }\n";

static struct nft_element element(uint8_t protocol, uint16_t port, const char *comment)
{
	struct nft_element ret = {
		.set = "m", .key_size = 8, .value_size = 8, .key = { protocol }
	};
	uint16_t port_be = htons(port);

	memcpy(ret.key + 4, &port_be, 2);
	memcpy(ret.value, "\x0a\x00\x00\x05\x00\x50", 6);
	snprintf(ret.comment, sizeof(ret.comment), "%s", comment);
	return ret;
}

struct seen {
	size_t count;
	struct nft_element last;
};

static void count(const struct nft_element *found, void *data)
{
	struct seen *seen = data;

	seen->count++;
	seen->last = *found;
}

static void elements_come_and_go(void **state)
{
	AUTO(nft_free) struct nft *nft = NULL;
	AUTO(nft_batch_done) struct nft_batch many = {}, again = {}, fewer = {};
	struct seen seen = {};
	uint32_t before, after;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(nft_new(&nft), 0);
	assert_int_equal(nft_run(table, NULL), 0);
	assert_int_equal(nft_generation(nft, &before), 0);
	nft_batch_begin(nft, &many, "t");
	for (uint16_t i = 0; i < MANY; i++) {
		struct nft_element added = element(6, i + 1, "owner");

		nft_batch_add(nft, &many, &added);
	}
	assert_int_equal(nft_batch_commit(nft, &many), 0);
	assert_int_equal(nft_generation(nft, &after), 0);
	assert_int_equal(after, before + 1);
	assert_int_equal(nft_list(nft, NFPROTO_INET, "t", "m", count, &seen), 0);
	assert_int_equal(seen.count, MANY);
	assert_string_equal(seen.last.comment, "owner");
	assert_int_equal(seen.last.key_size, 8);
	assert_int_equal(seen.last.value_size, 8);
	assert_memory_equal(seen.last.value, "\x0a\x00\x00\x05\x00\x50\x00\x00", 8);

	/* All or nothing: the second of these exists. */
	nft_batch_begin(nft, &again, "t");
	for (uint16_t port = MANY + 1; port >= MANY; port--) {
		struct nft_element added = element(6, port, "");

		nft_batch_add(nft, &again, &added);
	}
	assert_int_equal(nft_batch_commit(nft, &again), -EEXIST);
	seen.count = 0;
	assert_int_equal(nft_list(nft, NFPROTO_INET, "t", "m", count, &seen), 0);
	assert_int_equal(seen.count, MANY);

	/* Delete and add the same key in one transaction. */
	nft_batch_begin(nft, &fewer, "t");
	for (uint16_t port = 1; port < MANY; port++) {
		struct nft_element gone = element(6, port, "");

		nft_batch_delete(nft, &fewer, &gone);
	}
	struct nft_element last = element(6, MANY, "");

	nft_batch_delete(nft, &fewer, &last);
	nft_batch_add(nft, &fewer, &last);
	assert_int_equal(nft_batch_commit(nft, &fewer), 0);
	seen.count = 0;
	assert_int_equal(nft_list(nft, NFPROTO_INET, "t", "m", count, &seen), 0);
	assert_int_equal(seen.count, 1);
	assert_string_equal(seen.last.comment, "");
	assert_int_equal(nft_delete_table(nft, NFPROTO_INET, "t"), 0);
	assert_int_equal(nft_delete_table(nft, NFPROTO_INET, "t"), 0);
	assert_int_equal(nft_list(nft, NFPROTO_INET, "t", "m", count, &seen), -ENOENT);
}

static void intervals_have_two_ends(void **state)
{
	AUTO(nft_free) struct nft *nft = NULL;
	AUTO(nft_batch_done) struct nft_batch add = {}, delete = {};
	struct nft_element subnet = { .set = "s", .key_size = 20, .has_end = true };
	struct seen seen = {};

	(void) state;
	NEED_OWN_NETNS();
	memcpy(subnet.key, "br0", 4);
	memcpy(subnet.end, "br0", 4);
	memcpy(subnet.key + 16, "\x0a\x00\x00\x00", 4);
	memcpy(subnet.end + 16, "\x0a\x00\x00\xff", 4);
	assert_int_equal(nft_new(&nft), 0);
	assert_int_equal(nft_run(table, NULL), 0);
	nft_batch_begin(nft, &add, "t");
	nft_batch_add(nft, &add, &subnet);
	assert_int_equal(nft_batch_commit(nft, &add), 0);
	assert_int_equal(nft_list(nft, NFPROTO_INET, "t", "s", count, &seen), 0);
	assert_int_equal(seen.count, 1);
	assert_true(seen.last.has_end);
	assert_memory_equal(seen.last.key, subnet.key, 20);
	assert_memory_equal(seen.last.end, subnet.end, 20);
	nft_batch_begin(nft, &delete, "t");
	nft_batch_delete(nft, &delete, &subnet);
	assert_int_equal(nft_batch_commit(nft, &delete), 0);
	seen.count = 0;
	assert_int_equal(nft_list(nft, NFPROTO_INET, "t", "s", count, &seen), 0);
	assert_int_equal(seen.count, 0);
	assert_int_equal(nft_delete_table(nft, NFPROTO_INET, "t"), 0);
}

struct seen_rules {
	size_t count;
	uint64_t last;
	char chains[64], comments[64];
};

static void see_rule(const struct nft_seen_rule *rule, void *data)
{
	struct seen_rules *seen = data;

	seen->count++;
	seen->last = rule->hash;
	strcat(seen->chains, rule->chain);
	strcat(seen->comments, rule->comment);
}

static void see_chain(const char *chain, void *data)
{
	strcat(data, chain);
}

static void rules_are_built_and_seen(void **state)
{
	AUTO(nft_free) struct nft *nft = NULL;
	AUTO(nft_batch_done) struct nft_batch batch = {}, gone = {};
	struct nft_element way = { .set = "v", .jump = "d", .key_size = 4, .key = { 7 } };
	struct seen_rules first = {}, second = {};
	struct seen seen = {};
	struct nft_rule rule;
	char chains[64] = "";
	const void *data;
	uint32_t number = 7;
	size_t size;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(nft_new(&nft), 0);
	assert_int_equal(nft_list_rules(nft, NFPROTO_INET, "t", NULL, see_rule, &first), -ENOENT);
	assert_int_equal(nft_run(table, NULL), 0);
	assert_int_equal(nft_run("add table bridge t\nadd chain inet t c\n"
				 "add map inet t v { type mark : verdict; }\n"
				 "add set inet t n { type mark . ifname; }\n"
				 "add set bridge t b { type ifname; }\n",
				 NULL),
			 0);
	nft_rule_init(&rule);
	nft_rule_meta(&rule, NFT_META_L4PROTO, NFT_REG_1);
	nft_rule_compare(&rule, NFT_REG_1, NFT_CMP_EQ, "\x06", 1);
	nft_rule_payload(&rule, NFT_PAYLOAD_NETWORK_HEADER, 12, 4, NFT_REG_1);
	nft_rule_mask(&rule, NFT_REG_1, "\xff\x00\x00\x00", 4);
	nft_rule_compare(&rule, NFT_REG_1, NFT_CMP_EQ, "\x0a\x00\x00\x00", 4);
	nft_rule_constant(&rule, &number, sizeof(number), NFT_REG32_00);
	nft_rule_meta(&rule, NFT_META_IIFNAME, NFT_REG32_01);
	nft_rule_lookup(&rule, "n", NFT_REG32_00, true);
	nft_rule_meta(&rule, NFT_META_MARK, NFT_REG_1);
	nft_rule_map(&rule, "v", NFT_REG_1, NFT_REG_VERDICT);
	data = nft_rule_data(&rule, &size);
	/* One transaction for both families. */
	nft_batch_begin(nft, &batch, "t");
	nft_batch_add_chain(nft, &batch, NFPROTO_INET, "d");
	nft_batch_add_rule(nft, &batch, NFPROTO_INET, "c", data, size, "1");
	nft_batch_add(nft, &batch, &way);
	nft_batch_add(nft, &batch,
		      &(struct nft_element){
			      .family = NFPROTO_BRIDGE, .set = "b", .key_size = 16, .key = "x" });
	assert_int_equal(nft_batch_commit(nft, &batch), 0);
	assert_int_equal(nft_list_chains(nft, NFPROTO_INET, "t", see_chain, chains), 0);
	assert_string_equal(chains, "cd");
	assert_int_equal(nft_list_rules(nft, NFPROTO_INET, "t", "c", see_rule, &first), 0);
	assert_int_equal(first.count, 1);
	assert_string_equal(first.chains, "c");
	assert_string_equal(first.comments, "1");
	assert_int_equal(nft_list(nft, NFPROTO_BRIDGE, "t", "b", count, &seen), 0);
	assert_int_equal(nft_list(nft, NFPROTO_INET, "t", "v", count, &seen), 0);
	assert_int_equal(seen.count, 2);
	/* Elements of sets change nothing, rules do. */
	assert_int_equal(nft_run("add element inet t n { 7 . \"y\" }", NULL), 0);
	assert_int_equal(nft_list_rules(nft, NFPROTO_INET, "t", NULL, see_rule, &second), 0);
	assert_int_equal(second.count, 1);
	assert_true(second.last == first.last);

	nft_batch_begin(nft, &gone, "t");
	nft_batch_delete(nft, &gone, &way);
	nft_batch_flush_chain(nft, &gone, NFPROTO_INET, "c");
	nft_batch_delete_chain(nft, &gone, NFPROTO_INET, "d");
	nft_batch_add_rule(nft, &gone, NFPROTO_INET, "c", data, size, "1");
	assert_int_equal(nft_batch_commit(nft, &gone), 0);
	second = (struct seen_rules){};
	assert_int_equal(nft_list_rules(nft, NFPROTO_INET, "t", NULL, see_rule, &second), 0);
	assert_int_equal(second.count, 1);
	assert_true(second.last != first.last);
	assert_int_equal(nft_delete_table(nft, NFPROTO_INET, "t"), 0);
	assert_int_equal(nft_delete_table(nft, NFPROTO_BRIDGE, "t"), 0);
}

static void watch_sees_every_change(void **state)
{
	AUTO(nft_free) struct nft *nft = NULL;
	uint32_t generation;
	char byte;

	(void) state;
	NEED_OWN_NETNS();
	AUTO(fd_close) int watch = nft_watch();

	assert_true(watch >= 0);
	assert_int_equal(nft_new(&nft), 0);
	assert_int_equal(nft_watch_read(watch), 0);
	assert_int_equal(nft_run(table, NULL), 0);
	assert_int_equal(nft_generation(nft, &generation), 0);
	assert_int_equal(nft_watch_read(watch), generation);
	assert_int_equal(nft_delete_table(nft, NFPROTO_INET, "t"), 0);
	assert_int_equal(nft_watch_read(watch), generation + 1);
	assert_int_equal(recv(watch, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

static void finds_a_firewall_that_drops(void **state)
{
	AUTO(nft_free) struct nft *nft = NULL;
	AUTO(free) char *words = NULL;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(nft_new(&nft), 0);
	assert_int_equal(nft_run("add table inet t\n"
				 "add chain inet t c { type filter hook forward priority 0; "
				 "policy drop; }\n"
				 "add table ip x\n"
				 "add chain ip x in { type filter hook input priority 0; "
				 "policy drop; }\n"
				 "add chain ip x out { type filter hook forward priority 0; "
				 "policy accept; }\n",
				 NULL),
			 0);
	assert_int_equal(nft_find_forward_drop(nft, "t", &words), 0);
	assert_int_equal(nft_run("add table ip filter\n"
				 "add chain ip filter FORWARD { type filter hook forward "
				 "priority 0; policy drop; }",
				 NULL),
			 0);
	assert_int_equal(nft_find_forward_drop(nft, "t", &words), 1);
	assert_string_equal(words, "table ip filter, chain FORWARD");
	assert_int_equal(
		nft_run("delete table ip filter\ndelete table ip x\ndelete table inet t", NULL), 0);
}

static void bad_script_says_why(void **state)
{
	struct error err = {};

	(void) state;
	NEED_OWN_NETNS();
	assert_true(nft_run("add nonsense", &err) < 0);
	assert_non_null(strstr(err.msg, "syntax error"));
	assert_null(strchr(err.msg, '\n'));
}

static void forgets_no_flow_without_complaint(void **state)
{
	AUTO(nft_free) struct nft *nft = NULL;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(nft_new(&nft), 0);
	assert_int_equal(nft_flow_forget(nft_netlink(nft), AF_INET, IPPROTO_UDP, 53), 0);
	assert_int_equal(nft_flow_forget(nft_netlink(nft), AF_INET6, IPPROTO_UDP, 53), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elements_come_and_go),
		cmocka_unit_test(intervals_have_two_ends),
		cmocka_unit_test(rules_are_built_and_seen),
		cmocka_unit_test(watch_sees_every_change),
		cmocka_unit_test(finds_a_firewall_that_drops),
		cmocka_unit_test(bad_script_says_why),
		cmocka_unit_test(forgets_no_flow_without_complaint),
	};

	return cmocka_run_group_tests(tests, enter_own_netns, NULL);
}
