#include "net/count.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "kern/count_bpf.h"
#include "kern/netlink.h"
#include "kern/qdisc.h"
#include "net/address.h"
#include "net/count_internal.h"
#include "net/node_internal.h"

/* Of what is counted and how: another version's programs are replaced. */
#define COUNT_NAME "brume-count-1"

/*
 * The bridge holds the programs, and by them the counts, as filters of a protocol that no frame
 * has (IEEE 802 local experimental): they never run.
 */
enum { WAYS = 2, ANCHOR_PROTOCOL = 0x88b6 };

static const enum filter_way ways[WAYS] = { FILTER_ARRIVING, FILTER_LEAVING };

static struct filter_place anchor_of(int bridge_index, int way)
{
	return (struct filter_place){ .link_index = bridge_index,
				      .way = FILTER_ARRIVING,
				      .priority = FILTER_PRIORITY_COUNT,
				      .protocol = ANCHOR_PROTOCOL,
				      .handle = (uint32_t) way + 1 };
}

static struct filter_place counter_of(int port_index, int way)
{
	return (struct filter_place){ .link_index = port_index,
				      .way = ways[way],
				      .priority = FILTER_PRIORITY_COUNT,
				      .protocol = ETH_P_ALL,
				      .handle = 1 };
}

/* What a network counts with, as far as it is there. */
struct counting {
	struct filter anchors[WAYS], counters[WAYS];
	uint32_t ids[WAYS]; /* of programs that are loaded and ours; 0 = to be loaded */
	int program_fds[WAYS];
	int map_fd;
};

static void counting_done(struct counting *counting)
{
	for (int i = 0; i < WAYS; i++)
		fd_close(counting->program_fds[i]);
	fd_close(counting->map_fd);
}
static inline void counting_done_autop(struct counting *counting)
{
	counting_done(counting);
}

static int find(struct net *net, const struct filter_place *place, struct filter *ret)
{
	int r = filter_find(net->nl, place, ret);

	return r == -ENOENT ? 0 : r;
}

/* The map of a program, if that is still loaded. */
static void find_map(struct counting *counting, uint32_t program_id)
{
	AUTO(fd_close) int fd = -1;

	if (counting->map_fd < 0 && program_id > 0 && count_bpf_open(program_id, &fd) == 0)
		(void) count_bpf_map_of(fd, &counting->map_fd);
}

static uint32_t own_program(const struct filter *filter)
{
	return strcmp(filter->name, COUNT_NAME) == 0 ? filter->program_id : 0;
}

/* `port_index` may be 0.  Somebody may have deleted the bridge: then its ports still know. */
static int look(struct net *net, int bridge_index, int port_index, struct counting *counting)
{
	int r = 0;

	for (int i = 0; i < WAYS && r == 0; i++) {
		struct filter_place anchor = anchor_of(bridge_index, i);
		struct filter_place counter = counter_of(port_index, i);

		r = find(net, &anchor, &counting->anchors[i]);
		if (r == 0 && port_index > 0)
			r = find(net, &counter, &counting->counters[i]);
		counting->ids[i] = own_program(&counting->anchors[i]);
		if (counting->ids[i] == 0)
			counting->ids[i] = own_program(&counting->counters[i]);
	}
	for (int i = 0; i < WAYS && r == 0; i++) {
		find_map(counting, counting->anchors[i].program_id);
		find_map(counting, counting->counters[i].program_id);
	}
	return r;
}

static void put_mask(const struct route_ip *subnet, uint8_t *net, uint8_t *mask)
{
	memcpy(net, subnet->bytes, route_ip_size(subnet));
	for (unsigned int bit = 0; bit < subnet->prefix; bit++)
		mask[bit / 8] = (uint8_t) (mask[bit / 8] | 0x80U >> (bit % 8));
}

static int load(const struct network_plan *network, struct counting *counting)
{
	struct count_bpf_inside inside = { .ipv4 = network->subnet4.family != 0,
					   .ipv6 = network->subnet6.family != 0 };
	int r = counting->map_fd < 0 ? count_bpf_map_new(&counting->map_fd) : 0;

	if (inside.ipv4)
		put_mask(&network->subnet4, inside.net4, inside.mask4);
	if (inside.ipv6)
		put_mask(&network->subnet6, inside.net6, inside.mask6);
	for (int i = 0; i < WAYS && r == 0; i++) {
		if (counting->ids[i] > 0)
			r = count_bpf_open(counting->ids[i], &counting->program_fds[i]);
		else
			r = count_bpf_load(&inside, ways[i], counting->map_fd,
					   &counting->program_fds[i]);
	}
	return r;
}

/* Puts the programs where they are not yet. */
static int put_filters(struct net *net, struct counting *counting, int link_index, bool anchors)
{
	bool place_is_there = false;
	int r = 0;

	for (int i = 0; i < WAYS && r == 0; i++) {
		const struct filter *found =
			anchors ? &counting->anchors[i] : &counting->counters[i];
		struct filter_place place =
			anchors ? anchor_of(link_index, i) : counter_of(link_index, i);

		if (counting->ids[i] > 0 && own_program(found) == counting->ids[i])
			continue;
		if (!place_is_there)
			r = qdisc_add_clsact(net->nl, link_index);
		place_is_there = true;
		if (r == 0)
			r = filter_set_program(net->nl, &place, COUNT_NAME,
					       counting->program_fds[i]);
	}
	return r;
}

static bool is_of(const struct count_bpf_entry *entry, const char *uid)
{
	return strncmp(entry->owner, uid, sizeof(entry->owner)) == 0;
}

/* The entries of one port, but that of its present interface. */
struct earlier {
	const char *uid;
	int link_index;
	bool found;
	int index;
	struct count_bpf_entry entry;
};

static void take_earlier(int link_index, const struct count_bpf_entry *entry, void *data)
{
	struct earlier *earlier = data;

	if (link_index == earlier->link_index || !is_of(entry, earlier->uid))
		return;
	earlier->found = true;
	earlier->index = link_index;
	earlier->entry = *entry;
}

/*
 * An interface that somebody deleted leaves counts that nobody has put down: they go on.  A crash
 * before the old entry is deleted leaves two, with one serial.
 */
static int ensure_entry(int map_fd, int link_index, const char *uid)
{
	struct earlier earlier = { .uid = uid, .link_index = link_index };
	struct count_bpf_entry entry = {};
	int r = count_bpf_get(map_fd, link_index, &entry);

	if (r == 0 && is_of(&entry, uid))
		return 0;
	if (r == 0)
		r = count_bpf_delete(map_fd, link_index);
	if (r < 0 && r != -ENOENT)
		return r;
	r = count_bpf_list(map_fd, take_earlier, &earlier);
	if (r < 0)
		return r;
	entry = earlier.entry;
	if (!earlier.found) {
		memcpy(entry.owner, uid, strnlen(uid, sizeof(entry.owner)));
		while (entry.serial == 0)
			rng_system()->fill(rng_system(), &entry.serial, sizeof(entry.serial));
	}
	r = count_bpf_add(map_fd, link_index, &entry);
	return r == 0 && earlier.found ? count_bpf_delete(map_fd, earlier.index) : r;
}

int count_ensure(struct net *net, const struct network_plan *network, const struct link *bridge,
		 const struct link *port, const char *uid, struct error *err)
{
	AUTO(counting_done)
	struct counting counting = { .program_fds = { -1, -1 }, .map_fd = -1 };
	int r = look(net, bridge->index, port->index, &counting);

	if (r == 0)
		r = load(network, &counting);
	if (r == 0)
		r = put_filters(net, &counting, bridge->index, true);
	if (r == 0)
		r = ensure_entry(counting.map_fd, port->index, uid);
	if (r == 0)
		r = put_filters(net, &counting, port->index, false);
	if (r == -ENOENT || r == -ENOSYS || r == -EPERM)
		return error_say(err, -EOPNOTSUPP,
				 "this kernel cannot count (BPF_SYSCALL, NET_SCH_INGRESS, "
				 "NET_CLS_BPF)");
	return r < 0 ? error_set(err, r, "cannot count what port %s carries%s", uid,
				 net_detail(net->nl))
		     : 0;
}

/* ---- what was counted ---- */

/* -ENOENT: there is none, or no such bridge. */
static int open_map(struct net *net, const char *network_uid, int *ret_fd)
{
	AUTO(counting_done)
	struct counting counting = { .program_fds = { -1, -1 }, .map_fd = -1 };
	char name[IF_NAMESIZE];
	struct link bridge;
	int r;

	name_bridge(net->prefix, network_uid, name);
	r = link_find(net->nl, name, &bridge);
	if (r == 0)
		r = look(net, bridge.index, 0, &counting);
	if (r == -ENODEV || (r == 0 && counting.map_fd < 0))
		return -ENOENT;
	if (r == 0)
		*ret_fd = TAKE_FD(counting.map_fd);
	return r;
}

struct walk {
	count_fn fn;
	void *data;
};

static struct count_way way_of(const struct count_bpf_way *way)
{
	return (struct count_way){ .inside = { way->inside.bytes, way->inside.packets },
				   .outside = { way->outside.bytes, way->outside.packets } };
}

static void take_entry(int link_index, const struct count_bpf_entry *entry, void *data)
{
	const struct walk *walk = data;
	struct count count = { .serial = entry->serial,
			       .in = way_of(&entry->leaving),
			       .out = way_of(&entry->arriving) };
	char uid[COUNT_BPF_OWNER_SIZE + 1] = "";

	(void) link_index;
	memcpy(uid, entry->owner, sizeof(entry->owner));
	walk->fn(uid, &count, walk->data);
}

int count_each_locked(struct net *net, const char *network_uid, count_fn fn, void *data,
		      struct error *err)
{
	struct walk walk = { .fn = fn, .data = data };
	AUTO(fd_close) int fd = -1;
	int r = open_map(net, network_uid, &fd);

	if (r == 0)
		r = count_bpf_list(fd, take_entry, &walk);
	return r < 0 && r != -ENOENT
		       ? error_set(err, r, "cannot read the counts of network %s", network_uid)
		       : 0;
}

int count_each(struct net *net, const char *network_uid, count_fn fn, void *data, struct error *err)
{
	NET_LOCKED(net);

	return count_each_locked(net, network_uid, fn, data, err);
}

bool count_refused(struct net *net)
{
	NET_LOCKED(net);

	return net->count_refused;
}

/* A port may have two, after a crash. */
int count_forget_locked(struct net *net, const char *network_uid, const char *port_uid,
			struct error *err)
{
	struct earlier earlier = { .uid = port_uid };
	AUTO(fd_close) int fd = -1;
	int r = open_map(net, network_uid, &fd);

	while (r == 0) {
		earlier.found = false;
		r = count_bpf_list(fd, take_earlier, &earlier);
		if (r < 0 || !earlier.found)
			break;
		r = count_bpf_delete(fd, earlier.index);
	}
	return r < 0 && r != -ENOENT
		       ? error_set(err, r, "cannot forget the counts of port %s", port_uid)
		       : 0;
}

int count_forget(struct net *net, const char *network_uid, const char *port_uid, struct error *err)
{
	NET_LOCKED(net);

	return count_forget_locked(net, network_uid, port_uid, err);
}
