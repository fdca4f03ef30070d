#include "kern/nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/mem.h"
#include "kern/netlink.h"

enum {
	/* Bytes of one list of elements: the length of an attribute has 16 bits. */
	LIST_SIZE_MAX = 48 * 1024,
	COMMENT_TYPE = 0, /* libnftnl's NFTNL_UDATA_SET_ELEM_COMMENT */
};

struct nft {
	struct netlink *nl;
};

int nft_new(struct nft **ret)
{
	AUTO(nft_free) struct nft *nft = mem_new0(struct nft);
	int r = netlink_open(NETLINK_NETFILTER, &nft->nl);

	if (r < 0)
		return r;
	*ret = TAKE_PTR(nft);
	return 0;
}

void nft_free(struct nft *nft)
{
	if (!nft)
		return;
	netlink_free(nft->nl);
	free(nft);
}

struct netlink *nft_netlink(struct nft *nft)
{
	return nft->nl;
}

static void context_free(struct nft_ctx *context)
{
	if (context)
		nft_ctx_free(context);
}
DEFINE_AUTO(struct nft_ctx *, context_free)

int nft_run(const char *script, struct error *err)
{
	AUTO(context_free) struct nft_ctx *context = nft_ctx_new(NFT_CTX_DEFAULT);
	const char *text;

	if (!context)
		return error_say(err, -EPROTONOSUPPORT,
				 "cannot open nftables: the kernel lacks it");
	nft_ctx_buffer_output(context);
	nft_ctx_buffer_error(context);
	errno = 0;
	if (nft_run_cmd_from_buffer(context, script) == 0)
		return 0;
	text = nft_ctx_get_error_buffer(context);
	return error_say(err, errno ? -errno : -EINVAL, "nftables refuses our rules: %.*s",
			 text ? (int) strcspn(text, "\n") : 0, text ? text : "");
}

static void put_header(struct nlmsghdr *message, uint8_t family, uint16_t resource)
{
	struct nfgenmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->nfgen_family = family;
	header->version = NFNETLINK_V0;
	header->res_id = htons(resource);
}

static struct nlmsghdr *begin(struct nft *nft, uint8_t family, uint8_t type, uint16_t flags)
{
	struct nlmsghdr *message =
		netlink_begin(nft->nl, (uint16_t) (NFNL_SUBSYS_NFTABLES << 8 | type), flags);

	put_header(message, family, 0);
	return message;
}

static bool is_type(const struct nlmsghdr *message, uint8_t type)
{
	return message->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8 | type) &&
	       message->nlmsg_len >= MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg);
}

static int take_generation(const struct nlmsghdr *message, void *data)
{
	const struct nlattr *attribute;

	if (!is_type(message, NFT_MSG_NEWGEN))
		return 0;
	mnl_attr_for_each(attribute, message,
			  sizeof(struct nfgenmsg)) if (mnl_attr_get_type(attribute) ==
							       NFTA_GEN_ID &&
						       mnl_attr_get_payload_len(attribute) >=
							       sizeof(uint32_t)) *
		(uint32_t *) data = ntohl(mnl_attr_get_u32(attribute));
	return 0;
}

int nft_generation(struct nft *nft, uint32_t *ret)
{
	uint32_t generation = 0;
	struct nlmsghdr *message = begin(nft, NFPROTO_UNSPEC, NFT_MSG_GETGEN, 0);
	int r = netlink_query(nft->nl, message, take_generation, &generation);

	if (r == 0)
		*ret = generation;
	return r;
}

/* FNV-1a: good enough against accidents, and nobody else may write to our table anyway. */
static uint64_t hash_message(const struct nlmsghdr *message)
{
	const uint8_t *bytes = mnl_nlmsg_get_payload(message);
	size_t size = mnl_nlmsg_get_payload_len(message);
	uint64_t hash = 0xcbf29ce484222325ULL;

	/* The header's res_id is the generation of the whole ruleset: not ours to compare. */
	for (size_t i = sizeof(struct nfgenmsg); i < size; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
	return hash;
}

/* User data is a list of {type, size, bytes}. */
static void copy_comment(const struct nlattr *attribute, char comment[NFT_COMMENT_MAX])
{
	const uint8_t *bytes = mnl_attr_get_payload(attribute);
	size_t size = mnl_attr_get_payload_len(attribute);

	while (size >= 2 && (size_t) bytes[1] + 2 <= size) {
		if (bytes[0] == COMMENT_TYPE)
			snprintf(comment, NFT_COMMENT_MAX, "%.*s", bytes[1],
				 (const char *) bytes + 2);
		size -= (size_t) bytes[1] + 2;
		bytes += (size_t) bytes[1] + 2;
	}
}

struct rule_walk {
	const char *table;
	void (*fn)(const struct nft_seen_rule *rule, void *data);
	void *data;
};

static int take_rule(const struct nlmsghdr *message, void *data)
{
	const struct rule_walk *walk = data;
	char comment[NFT_COMMENT_MAX] = "";
	struct nft_seen_rule rule = { .chain = "", .comment = comment };
	const char *table = "";
	const struct nlattr *attribute;

	if (!is_type(message, NFT_MSG_NEWRULE))
		return 0;
	mnl_attr_for_each(attribute, message, sizeof(struct nfgenmsg))
	{
		uint16_t type = mnl_attr_get_type(attribute);

		if (type == NFTA_RULE_USERDATA)
			copy_comment(attribute, comment);
		else if (type == NFTA_RULE_CHAIN &&
			 mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
			rule.chain = mnl_attr_get_str(attribute);
		else if (type == NFTA_RULE_TABLE &&
			 mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
			table = mnl_attr_get_str(attribute);
	}
	if (strcmp(table, walk->table) != 0)
		return 0;
	rule.hash = hash_message(message);
	walk->fn(&rule, walk->data);
	return 0;
}

static int find_table(struct nft *nft, uint8_t family, const char *table)
{
	struct nlmsghdr *message = begin(nft, family, NFT_MSG_GETTABLE, 0);

	mnl_attr_put_strz(message, NFTA_TABLE_NAME, table);
	return netlink_call(nft->nl, message);
}

int nft_list_rules(struct nft *nft, uint8_t family, const char *table, const char *chain,
		   void (*fn)(const struct nft_seen_rule *rule, void *data), void *data)
{
	struct rule_walk walk = { .table = table, .fn = fn, .data = data };
	int r = find_table(nft, family, table);
	struct nlmsghdr *message;

	if (r < 0)
		return r;
	message = begin(nft, family, NFT_MSG_GETRULE, NLM_F_DUMP);
	mnl_attr_put_strz(message, NFTA_RULE_TABLE, table);
	if (chain)
		mnl_attr_put_strz(message, NFTA_RULE_CHAIN, chain);
	return netlink_query(nft->nl, message, take_rule, &walk);
}

struct chain_walk {
	const char *table;
	void (*fn)(const char *chain, void *data);
	void *data;
};

static int take_chain(const struct nlmsghdr *message, void *data)
{
	const struct chain_walk *walk = data;
	const char *table = "", *chain = "";
	const struct nlattr *attribute;

	if (!is_type(message, NFT_MSG_NEWCHAIN))
		return 0;
	mnl_attr_for_each(attribute, message, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(attribute) == NFTA_CHAIN_TABLE)
			table = mnl_attr_get_str(attribute);
		else if (mnl_attr_get_type(attribute) == NFTA_CHAIN_NAME)
			chain = mnl_attr_get_str(attribute);
	}
	if (strcmp(table, walk->table) == 0)
		walk->fn(chain, walk->data);
	return 0;
}

int nft_list_chains(struct nft *nft, uint8_t family, const char *table,
		    void (*fn)(const char *chain, void *data), void *data)
{
	struct chain_walk walk = { .table = table, .fn = fn, .data = data };

	return netlink_query(nft->nl, begin(nft, family, NFT_MSG_GETCHAIN, NLM_F_DUMP), take_chain,
			     &walk);
}

/* Copies the bytes of a nested NFTA_DATA_VALUE. */
static uint8_t copy_value(const struct nlattr *nest, uint8_t *to, size_t size)
{
	const struct nlattr *attribute;

	mnl_attr_for_each_nested(attribute, nest)
	{
		size_t length = mnl_attr_get_payload_len(attribute);

		if (mnl_attr_get_type(attribute) == NFTA_DATA_VALUE && length <= size) {
			memcpy(to, mnl_attr_get_payload(attribute), length);
			return (uint8_t) length;
		}
	}
	return 0;
}

struct walk {
	void (*fn)(const struct nft_element *element, void *data);
	void *data;
};

static int take_elements(const struct nlmsghdr *message, void *data)
{
	const struct walk *walk = data;
	const struct nlattr *list, *item, *attribute;

	if (!is_type(message, NFT_MSG_NEWSETELEM))
		return 0;
	mnl_attr_for_each(list, message, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(list) != NFTA_SET_ELEM_LIST_ELEMENTS)
			continue;
		mnl_attr_for_each_nested(item, list)
		{
			struct nft_element element = {};

			mnl_attr_for_each_nested(attribute, item)
			{
				switch (mnl_attr_get_type(attribute)) {
				case NFTA_SET_ELEM_KEY:
					element.key_size = copy_value(attribute, element.key,
								      sizeof(element.key));
					break;
				case NFTA_SET_ELEM_KEY_END:
					element.has_end = copy_value(attribute, element.end,
								     sizeof(element.end)) > 0;
					break;
				case NFTA_SET_ELEM_DATA:
					element.value_size = copy_value(attribute, element.value,
									sizeof(element.value));
					break;
				case NFTA_SET_ELEM_USERDATA:
					copy_comment(attribute, element.comment);
					break;
				default:
					break;
				}
			}
			walk->fn(&element, walk->data);
		}
	}
	return 0;
}

int nft_list(struct nft *nft, uint8_t family, const char *table, const char *set,
	     void (*fn)(const struct nft_element *element, void *data), void *data)
{
	struct walk walk = { .fn = fn, .data = data };
	struct nlmsghdr *message = begin(nft, family, NFT_MSG_GETSETELEM, NLM_F_DUMP);

	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, table);
	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, set);
	return netlink_query(nft->nl, message, take_elements, &walk);
}

/* Reserves room for one message of the batch; it grows in place until batch_message_end(). */
static struct nlmsghdr *batch_message(struct nft *nft, struct nft_batch *batch, uint16_t type,
				      uint16_t flags)
{
	struct nlmsghdr *message =
		mnl_nlmsg_put_header(strbuf_reserve(&batch->data, NETLINK_MESSAGE_MAX));

	batch->last_seq = netlink_next_seq(nft->nl);
	message->nlmsg_type = type;
	message->nlmsg_flags = NLM_F_REQUEST | flags;
	message->nlmsg_seq = batch->last_seq;
	return message;
}

void nft_batch_begin(struct nft *nft, struct nft_batch *batch, const char *table)
{
	struct nlmsghdr *message;

	*batch = (struct nft_batch){ .table = table };
	message = batch_message(nft, batch, NFNL_MSG_BATCH_BEGIN, 0);
	put_header(message, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	strbuf_grown(&batch->data, message->nlmsg_len);
	batch->first_seq = batch->last_seq;
}

/* Messages of many elements are closed when the set changes or the list is full. */
static void close_list(struct nft_batch *batch)
{
	if (!batch->open_set)
		return;
	mnl_attr_nest_end((struct nlmsghdr *) (void *) (batch->data.data + batch->open_at),
			  (struct nlattr *) (void *) (batch->data.data + batch->list_at));
	batch->open_set = NULL;
}

static void open_list(struct nft *nft, struct nft_batch *batch, int type, uint8_t family,
		      const char *set)
{
	struct nlmsghdr *message;

	if (batch->open_set && batch->open_type == type && batch->open_family == family &&
	    strcmp(batch->open_set, set) == 0 && batch->data.size - batch->list_at < LIST_SIZE_MAX)
		return;
	close_list(batch);
	batch->open_at = batch->data.size;
	message = batch_message(nft, batch, (uint16_t) (NFNL_SUBSYS_NFTABLES << 8 | type),
				type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE | NLM_F_EXCL : 0);
	put_header(message, family, 0);
	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, batch->table);
	mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, set);
	batch->list_at = batch->open_at + message->nlmsg_len;
	(void) mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
	strbuf_grown(&batch->data, message->nlmsg_len);
	batch->open_set = set;
	batch->open_family = family;
	batch->open_type = type;
}

static void put_bytes(struct nlmsghdr *message, uint16_t type, const void *data, size_t size)
{
	struct nlattr *nest = mnl_attr_nest_start(message, type);

	mnl_attr_put(message, NFTA_DATA_VALUE, size, data);
	mnl_attr_nest_end(message, nest);
}

static void put_verdict(struct nlmsghdr *message, uint16_t type, const char *chain)
{
	struct nlattr *nest = mnl_attr_nest_start(message, type);
	struct nlattr *verdict = mnl_attr_nest_start(message, NFTA_DATA_VERDICT);

	mnl_attr_put_u32(message, NFTA_VERDICT_CODE, htonl((uint32_t) NFT_JUMP));
	mnl_attr_put_strz(message, NFTA_VERDICT_CHAIN, chain);
	mnl_attr_nest_end(message, verdict);
	mnl_attr_nest_end(message, nest);
}

/* A comment as user data. */
static void put_comment(struct nlmsghdr *message, uint16_t type, const char *comment)
{
	uint8_t user[NFT_COMMENT_MAX + 2] = { COMMENT_TYPE };
	size_t size = strnlen(comment, NFT_COMMENT_MAX - 1) + 1;

	user[1] = (uint8_t) size;
	memcpy(user + 2, comment, size - 1);
	mnl_attr_put(message, type, size + 2, user);
}

static void put_element(struct nft *nft, struct nft_batch *batch, int type,
			const struct nft_element *element)
{
	struct nlmsghdr *message;
	struct nlattr *item;
	uint32_t before;

	open_list(nft, batch, type, element->family ? element->family : NFPROTO_INET, element->set);
	(void) strbuf_reserve(&batch->data, NETLINK_MESSAGE_MAX);
	message = (struct nlmsghdr *) (void *) (batch->data.data + batch->open_at);
	before = message->nlmsg_len;
	item = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
	put_bytes(message, NFTA_SET_ELEM_KEY, element->key, element->key_size);
	if (element->has_end)
		put_bytes(message, NFTA_SET_ELEM_KEY_END, element->end, element->key_size);
	if (element->value_size && type == NFT_MSG_NEWSETELEM)
		put_bytes(message, NFTA_SET_ELEM_DATA, element->value, element->value_size);
	if (element->jump && type == NFT_MSG_NEWSETELEM)
		put_verdict(message, NFTA_SET_ELEM_DATA, element->jump);
	if (element->comment[0] && type == NFT_MSG_NEWSETELEM)
		put_comment(message, NFTA_SET_ELEM_USERDATA, element->comment);
	mnl_attr_nest_end(message, item);
	strbuf_grown(&batch->data, message->nlmsg_len - before);
	batch->count++;
}

void nft_batch_add(struct nft *nft, struct nft_batch *batch, const struct nft_element *element)
{
	put_element(nft, batch, NFT_MSG_NEWSETELEM, element);
}

void nft_batch_delete(struct nft *nft, struct nft_batch *batch, const struct nft_element *element)
{
	put_element(nft, batch, NFT_MSG_DELSETELEM, element);
}

/* One message about a chain or its rules; batch_end_message() closes it. */
static struct nlmsghdr *batch_begin_message(struct nft *nft, struct nft_batch *batch,
					    uint8_t family, int type, uint16_t flags)
{
	struct nlmsghdr *message;

	close_list(batch);
	batch->open_at = batch->data.size;
	message = batch_message(nft, batch, (uint16_t) (NFNL_SUBSYS_NFTABLES << 8 | type), flags);
	put_header(message, family, 0);
	return message;
}

static void batch_end_message(struct nft_batch *batch, const struct nlmsghdr *message)
{
	strbuf_grown(&batch->data, message->nlmsg_len);
	batch->count++;
}

void nft_batch_add_own_table(struct nft *nft, struct nft_batch *batch, uint8_t family)
{
	struct nlmsghdr *message = batch_begin_message(nft, batch, family, NFT_MSG_NEWTABLE,
						       NLM_F_CREATE | NLM_F_EXCL);

	mnl_attr_put_strz(message, NFTA_TABLE_NAME, batch->table);
	mnl_attr_put_u32(message, NFTA_TABLE_FLAGS, htonl(NFT_TABLE_F_OWNER));
	batch_end_message(batch, message);
}

void nft_batch_add_hook(struct nft *nft, struct nft_batch *batch, uint8_t family, const char *chain,
			const struct nft_place *place)
{
	struct nlmsghdr *message =
		batch_begin_message(nft, batch, family, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
	struct nlattr *nest;

	mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, batch->table);
	mnl_attr_put_strz(message, NFTA_CHAIN_NAME, chain);
	nest = mnl_attr_nest_start(message, NFTA_CHAIN_HOOK);
	mnl_attr_put_u32(message, NFTA_HOOK_HOOKNUM, htonl(place->hook));
	mnl_attr_put_u32(message, NFTA_HOOK_PRIORITY, htonl((uint32_t) place->priority));
	if (place->device)
		mnl_attr_put_strz(message, NFTA_HOOK_DEV, place->device);
	mnl_attr_nest_end(message, nest);
	mnl_attr_put_strz(message, NFTA_CHAIN_TYPE, "filter");
	batch_end_message(batch, message);
}

void nft_batch_add_chain(struct nft *nft, struct nft_batch *batch, uint8_t family,
			 const char *chain)
{
	struct nlmsghdr *message =
		batch_begin_message(nft, batch, family, NFT_MSG_NEWCHAIN, NLM_F_CREATE);

	mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, batch->table);
	mnl_attr_put_strz(message, NFTA_CHAIN_NAME, chain);
	batch_end_message(batch, message);
}

void nft_batch_flush_chain(struct nft *nft, struct nft_batch *batch, uint8_t family,
			   const char *chain)
{
	struct nlmsghdr *message = batch_begin_message(nft, batch, family, NFT_MSG_DELRULE, 0);

	mnl_attr_put_strz(message, NFTA_RULE_TABLE, batch->table);
	mnl_attr_put_strz(message, NFTA_RULE_CHAIN, chain);
	batch_end_message(batch, message);
}

void nft_batch_delete_chain(struct nft *nft, struct nft_batch *batch, uint8_t family,
			    const char *chain)
{
	struct nlmsghdr *message = batch_begin_message(nft, batch, family, NFT_MSG_DELCHAIN, 0);

	mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, batch->table);
	mnl_attr_put_strz(message, NFTA_CHAIN_NAME, chain);
	batch_end_message(batch, message);
}

void nft_batch_add_rule(struct nft *nft, struct nft_batch *batch, uint8_t family, const char *chain,
			const void *expressions, size_t size, const char *comment)
{
	struct nlmsghdr *message = batch_begin_message(nft, batch, family, NFT_MSG_NEWRULE,
						       NLM_F_CREATE | NLM_F_APPEND);

	mnl_attr_put_strz(message, NFTA_RULE_TABLE, batch->table);
	mnl_attr_put_strz(message, NFTA_RULE_CHAIN, chain);
	mnl_attr_put(message, NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, size, expressions);
	if (comment[0])
		put_comment(message, NFTA_RULE_USERDATA, comment);
	batch_end_message(batch, message);
}

int nft_batch_commit(struct nft *nft, struct nft_batch *batch)
{
	struct nlmsghdr *message;
	uint32_t acknowledged = batch->last_seq;

	if (batch->count == 0)
		return 0;
	close_list(batch);
	message = (struct nlmsghdr *) (void *) (batch->data.data + batch->open_at);
	message->nlmsg_flags |= NLM_F_ACK;
	message = batch_message(nft, batch, NFNL_MSG_BATCH_END, 0);
	put_header(message, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	strbuf_grown(&batch->data, message->nlmsg_len);
	return netlink_send_batch(nft->nl, batch->data.data, batch->data.size, batch->first_seq,
				  acknowledged);
}

void nft_batch_done(struct nft_batch *batch)
{
	strbuf_done(&batch->data);
}

int nft_delete_table(struct nft *nft, uint8_t family, const char *table)
{
	AUTO(nft_batch_done) struct nft_batch batch;
	struct nlmsghdr *message;
	int r;

	nft_batch_begin(nft, &batch, table);
	message = batch_begin_message(nft, &batch, family, NFT_MSG_DELTABLE, 0);
	mnl_attr_put_strz(message, NFTA_TABLE_NAME, table);
	batch_end_message(&batch, message);
	r = nft_batch_commit(nft, &batch);
	return r == -ENOENT ? 0 : r;
}

struct obstacle {
	const char *own_table;
	char *words;
};

static const char *family_name(uint8_t family)
{
	switch (family) {
	case NFPROTO_IPV4:
		return "ip";
	case NFPROTO_IPV6:
		return "ip6";
	case NFPROTO_INET:
		return "inet";
	default:
		return NULL; /* families that routed packets do not meet */
	}
}

static bool is_forward_hook(const struct nlattr *hook)
{
	const struct nlattr *attribute;

	mnl_attr_for_each_nested(
		attribute,
		hook) if (mnl_attr_get_type(attribute) == NFTA_HOOK_HOOKNUM &&
			  mnl_attr_get_payload_len(attribute) >=
				  sizeof(uint32_t)) return ntohl(mnl_attr_get_u32(attribute)) ==
		NF_INET_FORWARD;
	return false;
}

static int look_at_chain(const struct nlmsghdr *message, void *data)
{
	struct obstacle *obstacle = data;
	const struct nfgenmsg *header = mnl_nlmsg_get_payload(message);
	const char *table = "", *chain = "", *family;
	bool forward = false, drop = false;
	const struct nlattr *attribute;

	if (!is_type(message, NFT_MSG_NEWCHAIN))
		return 0;
	mnl_attr_for_each(attribute, message, sizeof(*header))
	{
		switch (mnl_attr_get_type(attribute)) {
		case NFTA_CHAIN_TABLE:
			table = mnl_attr_get_str(attribute);
			break;
		case NFTA_CHAIN_NAME:
			chain = mnl_attr_get_str(attribute);
			break;
		case NFTA_CHAIN_HOOK:
			forward = is_forward_hook(attribute);
			break;
		case NFTA_CHAIN_POLICY:
			drop = mnl_attr_get_payload_len(attribute) >= sizeof(uint32_t) &&
			       ntohl(mnl_attr_get_u32(attribute)) == NF_DROP;
			break;
		default:
			break;
		}
	}
	family = family_name(header->nfgen_family);
	if (forward && drop && family && strcmp(table, obstacle->own_table) != 0 &&
	    !obstacle->words)
		obstacle->words = mem_printf("table %s %s, chain %s", family, table, chain);
	return 0;
}

int nft_find_forward_drop(struct nft *nft, const char *table, char **ret)
{
	struct obstacle obstacle = { .own_table = table };
	/* Of all families. */
	struct nlmsghdr *message = begin(nft, NFPROTO_UNSPEC, NFT_MSG_GETCHAIN, NLM_F_DUMP);
	int r;

	r = netlink_query(nft->nl, message, look_at_chain, &obstacle);
	if (r < 0) {
		free(obstacle.words);
		return r;
	}
	if (!obstacle.words)
		return 0;
	*ret = obstacle.words;
	return 1;
}

/*
 * Of all that is told about a change only the last message, the new number, comes through:
 * thousands of elements must not wake us thousands of times.
 */
static int keep_generations_only(int fd)
{
	const uint16_t wanted = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN;
	struct sock_filter code[] = {
		/* nlmsg_type is in the order of the machine, the filter loads in network order. */
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(wanted), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = { .len = ARRAY_COUNT(code), .filter = code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno
											   : 0;
}

int nft_watch(void)
{
	AUTO(fd_close)
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
	struct sockaddr_nl address = { .nl_family = AF_NETLINK,
				       .nl_groups = 1U << (NFNLGRP_NFTABLES - 1) };
	int r;

	if (fd < 0)
		return -errno;
	r = keep_generations_only(fd);
	if (r < 0)
		return r;
	if (bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

uint32_t nft_watch_read(int watch_fd)
{
	_Alignas(8) char buffer[8192];
	uint32_t generation = 0;

	for (;;) {
		const struct nlmsghdr *message = (const void *) buffer;
		ssize_t size = recv(watch_fd, buffer, sizeof(buffer), 0);
		int left;

		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno == ENOBUFS) {
			generation = 0;
			continue;
		}
		if (size <= 0)
			return generation;
		for (left = (int) size; mnl_nlmsg_ok(message, left);
		     message = mnl_nlmsg_next(message, &left))
			(void) take_generation(message, &generation);
	}
}
