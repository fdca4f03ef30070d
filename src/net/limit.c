#include "net/limit.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "kern/filter.h"
#include "kern/module.h"
#include "kern/netlink.h"
#include "net/count_internal.h"
#include "net/limit_internal.h"
#include "net/node_internal.h"

enum {
	/* What the kernel sends at once when it is late. */
	BURST_PER_S = 50,
	BURST_MIN = 32 << 10,
	BURST_MAX = 16 << 20,
	/* What waits, behind the burst: TCP needs a little to keep the line full. */
	WAITING_PER_S = 20,
	WAITING_MIN = 64 << 10,
	WAITING_MAX = 64 << 20,
	TAG_SIZE = 4,
};

static uint32_t between(uint64_t value, uint32_t min, uint32_t max)
{
	return value < min ? min : value > max ? max : (uint32_t) value;
}

struct qdisc_tbf limit_plan(uint64_t bps, uint64_t burst_bytes, uint32_t mtu)
{
	uint64_t rate = bps / 8;
	uint32_t frame = mtu + ETH_HLEN + TAG_SIZE;
	uint32_t burst = burst_bytes > 0 ? between(burst_bytes, frame, WAITING_MAX)
					 : between(rate / BURST_PER_S, BURST_MIN, BURST_MAX);

	return (struct qdisc_tbf){ .rate_bytes_ps = rate,
				   .burst_bytes = burst < frame ? frame : burst,
				   .limit_bytes = burst + between(rate / WAITING_PER_S, WAITING_MIN,
								  WAITING_MAX) };
}

/* The burst stands in the limit, too. */
static int ensure_bucket(struct net *net, int link_index, const struct qdisc_tbf *wanted,
			 struct error *err)
{
	struct qdisc_tbf found;
	int r = qdisc_read_tbf(net->nl, link_index, &found);

	if (r == 0 && found.rate_bytes_ps == wanted->rate_bytes_ps &&
	    found.limit_bytes == wanted->limit_bytes)
		return 0;
	r = qdisc_set_tbf(net->nl, link_index, wanted);
	if (r == -ENOENT)
		return error_say(err, -EOPNOTSUPP,
				 "limits: this kernel has no token bucket (NET_SCH_TBF)");
	return r < 0 ? error_set(err, r, "cannot limit a port%s", net_detail(net->nl)) : 0;
}

static int set_ingress(struct net *net, const struct link *port, uint32_t mtu,
		       const struct limit_spec *spec, struct error *err)
{
	const struct qdisc_tbf wanted = limit_plan(spec->ingress_bps, spec->burst_bytes, mtu);
	struct qdisc_tbf found;
	int r;

	if (spec->ingress_bps > 0)
		return ensure_bucket(net, port->index, &wanted, err);
	if (qdisc_read_tbf(net->nl, port->index, &found) < 0)
		return 0;
	r = qdisc_delete_root(net->nl, port->index);
	return r < 0 ? error_set(err, r, "cannot end a port's limit%s", net_detail(net->nl)) : 0;
}

static struct filter_place detour_of(const struct link *port)
{
	return (struct filter_place){ .link_index = port->index,
				      .way = FILTER_ARRIVING,
				      .priority = FILTER_PRIORITY_LIMIT,
				      .protocol = ETH_P_ALL,
				      .handle = 1 };
}

/* Loading the module would leave two devices that nobody wants. */
static void load_ifb(void)
{
	if (access("/sys/module/ifb", F_OK) < 0)
		(void) module_load_with("ifb", "numifbs=0");
}

static int find_queue(struct net *net, const char *name, const char *uid, struct link *ret,
		      struct error *err)
{
	int r = link_find(net->nl, name, ret);

	if (r == 0 &&
	    (strcmp(ret->kind, "ifb") != 0 || (ret->alias[0] && strcmp(ret->alias, uid) != 0)))
		return error_say(err, -EEXIST, "interface %s exists and does not belong to port %s",
				 name, uid);
	if (r < 0 && r != -ENODEV)
		return error_set(err, r, "cannot look for interface %s%s", name,
				 net_detail(net->nl));
	return r;
}

static int make_queue(struct net *net, const char *name, const char *uid, struct link *ret,
		      struct error *err)
{
	int r = find_queue(net, name, uid, ret, err);

	if (r != -ENODEV)
		return r;
	load_ifb();
	r = qdisc_add_ifb(net->nl, name);
	if (r == -EOPNOTSUPP)
		return error_say(err, r, "limits: this kernel has no ifb devices (IFB)");
	if (r == 0)
		r = link_find(net->nl, name, ret);
	return r < 0 ? error_set(err, r, "cannot make the queue %s%s", name, net_detail(net->nl))
		     : 0;
}

/* First the queue, then the way to it. */
static int set_detour(struct net *net, const char *uid, const struct link *port, uint32_t mtu,
		      const struct limit_spec *spec, struct error *err)
{
	const struct qdisc_tbf bucket = limit_plan(spec->egress_bps, spec->burst_bytes, mtu);
	const struct filter_place place = detour_of(port);
	struct filter filter = {};
	char name[IF_NAMESIZE];
	struct link queue;
	int r;

	name_queue(net->prefix, uid, name);
	r = make_queue(net, name, uid, &queue, err);
	if (r == 0)
		r = ensure_bucket(net, queue.index, &bucket, err);
	if (r < 0)
		return r;
	if (!(queue.flags & IFF_UP) || !queue.alias[0])
		r = link_set(net->nl, queue.index,
			     &(struct link_change){
				     .alias = uid, .no_link_local = net->ipv6, .up = true });
	if (r == 0)
		r = qdisc_add_clsact(net->nl, port->index);
	if (r == 0 &&
	    (filter_find(net->nl, &place, &filter) < 0 || filter.redirect_index != queue.index))
		r = filter_set_redirect(net->nl, &place, queue.index);
	if (r == -ENOENT)
		return error_say(err, -EOPNOTSUPP,
				 "limits: this kernel cannot redirect what comes in "
				 "(NET_SCH_INGRESS, NET_CLS_BPF, NET_ACT_MIRRED)");
	return r < 0 ? error_set(err, r, "cannot lead port %s to its queue%s", uid,
				 net_detail(net->nl))
		     : 0;
}

static int remove_queue(struct net *net, const char *uid, struct error *err)
{
	char name[IF_NAMESIZE];
	struct link queue;
	int r;

	name_queue(net->prefix, uid, name);
	r = find_queue(net, name, uid, &queue, err);
	if (r == -ENODEV)
		return 0;
	if (r == 0)
		r = link_delete(net->nl, queue.index);
	return r < 0 && r != -ENODEV ? error_set(err, r, "cannot remove the queue %s%s", name,
						 net_detail(net->nl))
				     : 0;
}

static int end_detour(struct net *net, const char *uid, const struct link *port, struct error *err)
{
	const struct filter_place place = detour_of(port);
	int r = filter_delete(net->nl, &place);

	if (r < 0)
		return error_set(err, r, "cannot end the limit of port %s%s", uid,
				 net_detail(net->nl));
	return remove_queue(net, uid, err);
}

int limit_ensure(struct net *net, const char *uid, const struct link *port, uint32_t mtu,
		 const struct limit_spec *spec, struct error *err)
{
	int r = set_ingress(net, port, mtu, spec, err);

	if (r < 0)
		return r;
	return spec->egress_bps > 0 ? set_detour(net, uid, port, mtu, spec, err)
				    : end_detour(net, uid, port, err);
}

int limit_refuse(const struct limit_spec *spec, const char *driver, struct error *err)
{
	if (spec->ingress_bps == 0 && spec->egress_bps == 0)
		return 0;
	return error_say(err, -EOPNOTSUPP, "driver %s has no rate limits; driver bridge has",
			 driver);
}

int limit_remove(struct net *net, const char *uid, struct error *err)
{
	return remove_queue(net, uid, err);
}
