#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "kern/link.h"
#include "kern/netlink.h"
#include "kern/nft.h"
#include "kern/nft_rule.h"
#include "kern/nft_text.h"
#include "kern/nft_trace.h"
#include "own_netns.h"

enum { MESSAGE_SIZE = 1024 };

struct message {
	_Alignas(8) char bytes[MESSAGE_SIZE];
};

static struct nlmsghdr *begin(struct message *message, uint8_t family, uint32_t type)
{
	struct nlmsghdr *header = mnl_nlmsg_put_header(message->bytes);
	struct nfgenmsg *body;

	header->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_TRACE;
	body = mnl_nlmsg_put_extra_header(header, sizeof(*body));
	body->nfgen_family = family;
	mnl_attr_put_strz(header, NFTA_TRACE_TABLE, "fw");
	mnl_attr_put_strz(header, NFTA_TRACE_CHAIN, "forward");
	mnl_attr_put_u32(header, NFTA_TRACE_ID, htonl(0x1234));
	mnl_attr_put_u32(header, NFTA_TRACE_TYPE, htonl(type));
	return header;
}

static void put_verdict(struct nlmsghdr *header, int code, const char *chain)
{
	struct nlattr *nest = mnl_attr_nest_start(header, NFTA_TRACE_VERDICT);

	mnl_attr_put_u32(header, NFTA_VERDICT_CODE, htonl((uint32_t) code));
	if (chain)
		mnl_attr_put_strz(header, NFTA_VERDICT_CHAIN, chain);
	mnl_attr_nest_end(header, nest);
}

static const uint8_t ipv4[20] = { 0x45, 0, 0,  40, 0, 0, 0x40, 0, 64, IPPROTO_TCP,
				  0,    0, 10, 0,  0, 5, 10,   0, 0,  6 };
static const uint8_t tcp[20] = { 0x0f, 0xa0, 0, 80, [12] = 0x50, [13] = TH_SYN };
static const uint8_t ethernet[14] = { 2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 5, 8, 0 };

static int decode(const struct nlmsghdr *header, struct nft_trace_event *ret)
{
	return nft_trace_decode(header, header->nlmsg_len, ret);
}

static void rules_and_packets(void **state)
{
	struct nft_trace_event event;
	struct message message = {};
	struct nlmsghdr *header = begin(&message, NFPROTO_INET, NFT_TRACETYPE_RULE);
	uint32_t handle[2] = { htonl(1), htonl(7) };

	(void) state;
	put_verdict(header, NFT_JUMP, "to_port");
	mnl_attr_put(header, NFTA_TRACE_RULE_HANDLE, sizeof(handle), handle);
	mnl_attr_put_u32(header, NFTA_TRACE_IIF, htonl(3));
	mnl_attr_put_u32(header, NFTA_TRACE_OIF, htonl(4));
	mnl_attr_put_u32(header, NFTA_TRACE_MARK, htonl(9));
	mnl_attr_put(header, NFTA_TRACE_LL_HEADER, sizeof(ethernet), ethernet);
	mnl_attr_put(header, NFTA_TRACE_TRANSPORT_HEADER, sizeof(tcp), tcp);
	mnl_attr_put(header, NFTA_TRACE_NETWORK_HEADER, sizeof(ipv4), ipv4);
	assert_int_equal(decode(header, &event), 0);
	assert_int_equal(event.kind, NFT_TRACE_RULE);
	assert_int_equal(event.family, NFPROTO_INET);
	assert_string_equal(event.table, "fw");
	assert_string_equal(event.chain, "forward");
	assert_string_equal(event.to, "to_port");
	assert_int_equal(event.verdict, NFT_JUMP);
	assert_int_equal(event.id, 0x1234);
	assert_true(event.handle == ((uint64_t) 1 << 32 | 7));
	assert_int_equal(event.iif, 3);
	assert_int_equal(event.oif, 4);
	assert_int_equal(event.mark, 9);
	assert_true(event.has_packet && event.packet.has_mac);
	assert_int_equal(event.packet.source.family, AF_INET);
	assert_int_equal(event.packet.source.bytes[3], 5);
	assert_int_equal(event.packet.destination.bytes[3], 6);
	assert_int_equal(event.packet.protocol, IPPROTO_TCP);
	assert_int_equal(event.packet.source_port, 4000);
	assert_int_equal(event.packet.destination_port, 80);
	assert_int_equal(event.packet.tcp_flags, TH_SYN);
	assert_int_equal(event.packet.mac[5], 5);
}

/* An answer of ARP, as it is told of on its way out of an interface: without the frame's header. */
static void arp_says_whose_it_is(void **state)
{
	static const uint8_t arp[] = { 0,  1, 8, 0, 6, 4, 0, 2, 2, 0, 0,  0, 0, 9,
				       10, 0, 0, 6, 2, 0, 0, 0, 0, 5, 10, 0, 0, 5 };
	struct nft_trace_event event;
	struct message message = {};
	struct nlmsghdr *header = begin(&message, NFPROTO_NETDEV, NFT_TRACETYPE_RULE);

	(void) state;
	mnl_attr_put(header, NFTA_TRACE_NETWORK_HEADER, sizeof(arp), arp);
	assert_int_equal(decode(header, &event), 0);
	assert_true(event.packet.arp && event.packet.has_mac);
	assert_int_equal(event.packet.mac[5], 9);
	assert_int_equal(event.packet.source.bytes[3], 6);
}

static void policies_and_reasons(void **state)
{
	struct nft_trace_event event;
	struct message message = {};
	struct nlmsghdr *header = begin(&message, NFPROTO_BRIDGE, NFT_TRACETYPE_POLICY);

	(void) state;
	mnl_attr_put_u32(header, NFTA_TRACE_POLICY, htonl(NF_DROP));
	assert_int_equal(decode(header, &event), 0);
	assert_int_equal(event.kind, NFT_TRACE_POLICY);
	assert_int_equal(event.verdict, NF_DROP);
	assert_false(event.has_packet);
	header = begin(&message, NFPROTO_INET, NFT_TRACETYPE_RULE);
	put_verdict(header, 0x20000 | NF_QUEUE, NULL);
	assert_int_equal(decode(header, &event), 0);
	assert_int_equal(event.verdict, NF_QUEUE);
	header = begin(&message, NFPROTO_INET, NFT_TRACETYPE_RETURN);
	put_verdict(header, NFT_CONTINUE, NULL);
	assert_int_equal(decode(header, &event), 0);
	assert_int_equal(event.kind, NFT_TRACE_RETURN);
	assert_int_equal(event.verdict, NFT_CONTINUE);
	/* The end of a chain, as Linux 6.18 tells it. */
	header = begin(&message, NFPROTO_INET, NFT_TRACETYPE_RULE);
	put_verdict(header, NFT_CONTINUE, NULL);
	assert_int_equal(decode(header, &event), 0);
	assert_int_equal(event.kind, NFT_TRACE_RETURN);
}

static void other_packets(void **state)
{
	static const uint8_t arp[28] = { 0,  1, 8, 0, 6, 4, 0, 2, 2, 0, 0,  0, 0, 9,
					 10, 0, 0, 1, 2, 0, 0, 0, 0, 5, 10, 0, 0, 5 };
	static const uint8_t ipv6[40] = {
		0x60, [6] = IPPROTO_ICMPV6, 255, 0xfd, [23] = 5, [24] = 0xfd, [39] = 6
	};
	static const uint8_t echo[8] = { 128, 0, 0, 0, 0x12, 0x34 };
	uint8_t fragment[20];
	struct nft_trace_event event;
	struct message message = {};
	struct nlmsghdr *header = begin(&message, NFPROTO_BRIDGE, NFT_TRACETYPE_RULE);

	(void) state;
	mnl_attr_put(header, NFTA_TRACE_NETWORK_HEADER, sizeof(arp), arp);
	assert_int_equal(decode(header, &event), 0);
	assert_true(event.packet.arp);
	assert_int_equal(event.packet.source.bytes[3], 1);
	header = begin(&message, NFPROTO_BRIDGE, NFT_TRACETYPE_RULE);
	mnl_attr_put(header, NFTA_TRACE_NETWORK_HEADER, sizeof(ipv6), ipv6);
	mnl_attr_put(header, NFTA_TRACE_TRANSPORT_HEADER, sizeof(echo), echo);
	assert_int_equal(decode(header, &event), 0);
	assert_int_equal(event.packet.source.family, AF_INET6);
	assert_int_equal(event.packet.source.bytes[15], 5);
	assert_int_equal(event.packet.destination.bytes[15], 6);
	assert_int_equal(event.packet.icmp_type, 128);
	assert_int_equal(event.packet.source_port, 0x1234);
	/* Where ports would stand, there is data. */
	memcpy(fragment, ipv4, sizeof(ipv4));
	fragment[7] = 100;
	header = begin(&message, NFPROTO_INET, NFT_TRACETYPE_RULE);
	mnl_attr_put(header, NFTA_TRACE_NETWORK_HEADER, sizeof(fragment), fragment);
	mnl_attr_put(header, NFTA_TRACE_TRANSPORT_HEADER, sizeof(tcp), tcp);
	assert_int_equal(decode(header, &event), 0);
	assert_int_equal(event.packet.source_port, 0);
	/* Cut. */
	header = begin(&message, NFPROTO_INET, NFT_TRACETYPE_RULE);
	mnl_attr_put(header, NFTA_TRACE_NETWORK_HEADER, 19, ipv4);
	mnl_attr_put(header, NFTA_TRACE_TRANSPORT_HEADER, 3, tcp);
	assert_int_equal(decode(header, &event), 0);
	assert_int_equal(event.packet.source.family, 0);
	assert_int_equal(event.packet.source_port, 0);
}

static void broken_messages(void **state)
{
	struct nft_trace_event event;
	struct message message = {};
	struct nlmsghdr *header = begin(&message, NFPROTO_INET, NFT_TRACETYPE_RULE);
	uint32_t size = header->nlmsg_len;

	(void) state;
	for (uint32_t cut = 0; cut < size; cut++)
		assert_int_equal(nft_trace_decode(header, cut, &event), -EBADMSG);
	header->nlmsg_type++;
	assert_int_equal(decode(header, &event), -EBADMSG);
	header = begin(&message, NFPROTO_INET, 9);
	assert_int_equal(decode(header, &event), -EBADMSG);
	header = begin(&message, NFPROTO_INET, NFT_TRACETYPE_RULE);
	header->nlmsg_len -= 8; /* without its type */
	assert_int_equal(decode(header, &event), -EBADMSG);
}

/* ---- with the kernel ---- */

static const uint8_t on = 1;

/* Traces what goes to a UDP port on the loopback interface, in a table that lives no longer than
 * `nft`. */
static void trace_loopback(struct nft *nft, uint16_t port)
{
	AUTO(nft_batch_done) struct nft_batch batch = {};
	uint8_t udp = IPPROTO_UDP;
	uint16_t bytes = htons(port);
	struct nft_rule rule;
	const void *data;
	size_t size;

	nft_rule_init(&rule);
	nft_rule_meta(&rule, NFT_META_L4PROTO, NFT_REG_1);
	nft_rule_compare(&rule, NFT_REG_1, NFT_CMP_EQ, &udp, sizeof(udp));
	nft_rule_payload(&rule, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, NFT_REG_1);
	nft_rule_compare(&rule, NFT_REG_1, NFT_CMP_EQ, &bytes, sizeof(bytes));
	nft_rule_constant(&rule, &on, sizeof(on), NFT_REG_1);
	nft_rule_meta_set(&rule, NFT_META_NFTRACE, NFT_REG_1);
	data = nft_rule_data(&rule, &size);
	nft_batch_begin(nft, &batch, "own");
	nft_batch_add_own_table(nft, &batch, NFPROTO_INET);
	nft_batch_add_hook(nft, &batch, NFPROTO_INET, "enter",
			   &(struct nft_place){ .hook = NF_INET_PRE_ROUTING, .priority = -500 });
	nft_batch_add_rule(nft, &batch, NFPROTO_INET, "enter", data, size, "");
	assert_int_equal(nft_batch_commit(nft, &batch), 0);
}

static void send_to(uint16_t port)
{
	AUTO(fd_close) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *) &to, sizeof(to)), 1);
}

struct heard {
	struct nft_trace_event events[16];
	size_t count;
};

static void hear(const struct nft_trace_event *event, void *data)
{
	struct heard *heard = data;

	if (heard->count < ARRAY_COUNT(heard->events))
		heard->events[heard->count++] = *event;
}

static void take_hook(const struct nft_hook *hook, void *data)
{
	if (strcmp(hook->table, "fw") == 0 && strcmp(hook->chain, "input") == 0)
		*(const char **) data = nft_hook_name(hook->family, hook->hook);
}

static void take_text(size_t chain, uint64_t handle, const char *expression, const char *comment,
		      void *data)
{
	const struct nft_trace_event *event = data;

	assert_int_equal(chain, 1);
	if (handle != event->handle)
		return;
	assert_string_equal(expression, "udp dport 5353 drop");
	assert_string_equal(comment, "no names");
	((struct nft_trace_event *) data)->mark = 1;
}

static void the_kernel_tells(void **state)
{
	AUTO(nft_free) struct nft *nft = NULL;
	AUTO(netlink_free) struct netlink *nl = NULL;
	AUTO(fd_close)
	int fd = -1, netns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	struct nft_text_chain chains[2];
	struct error err = {};
	struct heard heard = {};
	struct nft_trace_event *last;
	const char *hook = "";
	int r;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(netlink_open(NETLINK_ROUTE, &nl), 0);
	assert_int_equal(link_set(nl, 1, &(struct link_change){ .up = true }), 0);
	r = nft_run("table inet fw {\nchain input {\n"
		    "type filter hook input priority 0; policy accept;\n"
		    "udp dport 5353 drop comment \"no names\"\n}\n}\n",
		    &err);
	if (r < 0) {
		print_message("skipped: %s\n", err.msg);
		skip();
	}
	assert_int_equal(nft_trace_open(&fd), 0);
	assert_int_equal(nft_new(&nft), 0);
	trace_loopback(nft, 5353);
	send_to(5354);
	send_to(5353);
	assert_int_equal(nft_trace_read(fd, hear, &heard), 0);
	assert_true(heard.count >= 3);
	last = &heard.events[heard.count - 1];
	assert_string_equal(heard.events[0].table, "own");
	assert_true(heard.events[0].has_packet);
	assert_int_equal(heard.events[0].packet.destination_port, 5353);
	assert_int_equal(heard.events[0].nsid, NFT_TRACE_HERE);
	assert_string_equal(last->table, "fw");
	assert_string_equal(last->chain, "input");
	assert_int_equal(last->kind, NFT_TRACE_RULE);
	assert_int_equal(last->verdict, NF_DROP);
	assert_int_equal(last->iif, 1);
	assert_int_equal(last->id, heard.events[0].id);
	assert_int_equal(nft_list_hooks(nft, take_hook, &hook), 0);
	assert_string_equal(hook, "input");
	/* A chain that is not there has no rules, and takes nothing from others. */
	chains[0] = (struct nft_text_chain){ netns_fd, "inet", "fw", "nothing" };
	chains[1] = (struct nft_text_chain){ netns_fd, "inet", "fw", "input" };
	assert_int_equal(nft_text_read(chains, 2, 5000, take_text, last), 0);
	assert_int_equal(last->mark, 1);
}

static void count_chain(const char *chain, void *data)
{
	(void) chain;
	++*(int *) data;
}

/* A rule that nft cannot write, and aborts at. */
static void add_odd_rule(struct nft *nft)
{
	AUTO(nft_batch_done) struct nft_batch batch = {};
	struct nft_rule rule;
	const void *data;
	size_t size;

	nft_rule_init(&rule);
	nft_rule_meta(&rule, NFT_META_MARK, NFT_REG_1);
	nft_rule_map(&rule, "numbers", NFT_REG_1, NFT_REG_1);
	nft_rule_map(&rule, "verdicts", NFT_REG_1, NFT_REG_VERDICT);
	data = nft_rule_data(&rule, &size);
	nft_batch_begin(nft, &batch, "strange");
	nft_batch_add_rule(nft, &batch, NFPROTO_INET, "odd", data, size, "");
	assert_int_equal(nft_batch_commit(nft, &batch), 0);
}

static void count_texts(size_t chain, uint64_t handle, const char *expression, const char *comment,
			void *data)
{
	(void) handle;
	(void) expression;
	(void) comment;
	((int *) data)[chain]++;
}

static void one_strange_rule_costs_its_chain_only(void **state)
{
	AUTO(nft_free) struct nft *nft = NULL;
	AUTO(fd_close) int netns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	struct nft_text_chain chains[3];
	int counts[3] = {};

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(nft_new(&nft), 0);
	if (nft_run("table inet strange {\nmap numbers { type mark : mark; }\n"
		    "map verdicts { type mark : verdict; }\nchain odd {\n}\n"
		    "chain plain {\nudp dport 1 accept\ndrop\n}\n}\n",
		    NULL) < 0)
		skip();
	add_odd_rule(nft);
	chains[0] = (struct nft_text_chain){ netns_fd, "inet", "strange", "plain" };
	chains[1] = (struct nft_text_chain){ netns_fd, "inet", "strange", "odd" };
	chains[2] = chains[0];
	assert_int_equal(nft_text_read(chains, 3, 10000, count_texts, counts), 0);
	assert_int_equal(counts[0], 2);
	assert_int_equal(counts[2], 2);
}

/* Nobody else can change it, and it ends with its socket. */
static void an_own_table_ends_with_its_socket(void **state)
{
	AUTO(nft_free) struct nft *nft = NULL, *other = NULL;
	int chains = 0;

	(void) state;
	NEED_OWN_NETNS();
	assert_int_equal(nft_new(&nft), 0);
	assert_int_equal(nft_new(&other), 0);
	trace_loopback(nft, 5353);
	assert_true(nft_delete_table(other, NFPROTO_INET, "own") < 0);
	assert_int_equal(nft_run("flush ruleset", NULL), 0);
	assert_int_equal(nft_list_chains(other, NFPROTO_INET, "own", count_chain, &chains), 0);
	assert_int_equal(chains, 1);
	nft_free(TAKE_PTR(nft));
	chains = 0;
	assert_int_equal(nft_list_chains(other, NFPROTO_INET, "own", count_chain, &chains), 0);
	assert_int_equal(chains, 0);
}

static void names_of_hooks(void **state)
{
	(void) state;
	assert_string_equal(nft_hook_name(NFPROTO_BRIDGE, NF_INET_POST_ROUTING), "postrouting");
	assert_string_equal(nft_hook_name(NFPROTO_NETDEV, NF_NETDEV_EGRESS), "egress");
	assert_string_equal(nft_hook_name(NFPROTO_ARP, 1), "output");
	assert_string_equal(nft_hook_name(NFPROTO_INET, 99), "?");
	assert_string_equal(nft_family_name(NFPROTO_BRIDGE), "bridge");
	assert_string_equal(nft_family_name(200), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_and_packets),
		cmocka_unit_test(arp_says_whose_it_is),
		cmocka_unit_test(policies_and_reasons),
		cmocka_unit_test(other_packets),
		cmocka_unit_test(broken_messages),
		cmocka_unit_test(the_kernel_tells),
		cmocka_unit_test(an_own_table_ends_with_its_socket),
		cmocka_unit_test(one_strange_rule_costs_its_chain_only),
		cmocka_unit_test(names_of_hooks),
	};

	return cmocka_run_group_tests(tests, enter_own_netns, NULL);
}
