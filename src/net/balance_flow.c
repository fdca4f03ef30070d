#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uthash.h>

#include "base/error.h"
#include "base/mem.h"
#include "kern/netlink.h"
#include "kern/nft_flow.h"
#include "net/address.h"
#include "net/balance.h"

/* What the kernel tracks of a balancer's connections. */

struct member {
	uint8_t address[16];
	size_t index; /* in the spec */
	UT_hash_handle hh;
};

struct walk {
	const struct balance_spec *spec;
	const struct balance_listen *listen;
	struct member *members; /* of one family, by address */
	uint32_t *counts;       /* NULL: the flows are to be forgotten */
};

static void members_free(struct member **members)
{
	struct member *member, *next;

	HASH_ITER(hh, *members, member, next)
	{
		HASH_DEL(*members, member);
		free(member);
	}
}

static void members_read(const struct balance_spec *spec, int family, struct member **members)
{
	for (size_t i = 0; i < spec->member_count; i++) {
		const char *text =
			family == AF_INET ? spec->members[i].ipv4 : spec->members[i].ipv6;
		struct member *member, *other;
		struct route_ip ip;

		if (!text || !text[0] || address_parse(text, &ip) < 0 || ip.family != family)
			continue;
		member = mem_new0(struct member);
		memcpy(member->address, ip.bytes, sizeof(member->address));
		member->index = i;
		HASH_FIND(hh, *members, member->address, sizeof(member->address), other);
		if (other)
			free(member);
		else
			HASH_ADD(hh, *members, address, sizeof(member->address), member);
	}
}

static bool look(const struct nft_flow *flow, void *data)
{
	const struct walk *walk = data;
	struct member *member;

	/* What was sent to the member itself did not pass the balancer. */
	if (!flow->live || flow->from_port != walk->listen->target_port ||
	    memcmp(flow->to, flow->from, sizeof(flow->to)) == 0)
		return false;
	HASH_FIND(hh, walk->members, flow->from, sizeof(member->address), member);
	if (member && walk->counts)
		walk->counts[member->index]++;
	return member && !walk->counts;
}

/* Looks at the connections of both families; `udp_only` or of all listens. */
static int look_at_all(const struct balance_spec *spec, bool udp_only, uint32_t *counts,
		       struct error *err)
{
	static const int families[] = { AF_INET, AF_INET6 };
	AUTO(netlink_free) struct netlink *nl = NULL;
	int r = netlink_open(NETLINK_NETFILTER, &nl);

	for (size_t f = 0; r == 0 && f < ARRAY_COUNT(families); f++) {
		struct walk walk = { .spec = spec, .counts = counts };

		members_read(spec, families[f], &walk.members);
		for (size_t i = 0; r == 0 && walk.members && i < spec->listen_count; i++) {
			bool udp = strcmp(spec->listens[i].protocol, "udp") == 0;

			if (udp_only && !udp)
				continue;
			walk.listen = &spec->listens[i];
			r = nft_flow_each(nl, families[f], udp ? IPPROTO_UDP : IPPROTO_TCP,
					  walk.listen->port, look, &walk);
			/* Many come and go while they are listed; a few too few do no harm. */
			if (r == -EINTR)
				r = 0;
		}
		members_free(&walk.members);
	}
	return r < 0 ? error_set(err, r, "cannot look at the connections that the kernel tracks")
		     : 0;
}

int balance_count(const struct balance_spec *spec, uint32_t *ret, struct error *err)
{
	AUTO(free) uint32_t *counts = mem_new0_array(uint32_t, spec->member_count + 1);
	int r = look_at_all(spec, false, counts, err);

	if (r < 0)
		return r;
	memcpy(ret, counts, spec->member_count * sizeof(*counts));
	return 0;
}

int balance_forget(const struct balance_spec *spec, struct error *err)
{
	return look_at_all(spec, true, NULL, err);
}
