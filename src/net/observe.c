#include "net/observe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/link.h"
#include "kern/netlink.h"
#include "net/advertise_internal.h"
#include "net/balance_internal.h"
#include "net/chains_internal.h"
#include "net/count_internal.h"
#include "net/dns_internal.h"
#include "net/group_internal.h"
#include "net/network_internal.h"
#include "net/node_internal.h"
#include "net/observe_internal.h"
#include "net/ovs_internal.h"
#include "net/router_internal.h"
#include "net/rules_internal.h"

enum { LIST_ATTEMPTS = 20 };

void net_observed_done(struct net_observed *observed)
{
	strv_free(observed->networks);
	strv_free(observed->routers);
	strv_free(observed->ports);
	strv_free(observed->names);
	strv_free(observed->published);
	strv_free(observed->guarded);
	strv_free(observed->counted);
	strv_free(observed->groups);
	strv_free(observed->balancers);
	*observed = (struct net_observed){};
}

static void dir_close(DIR *dir)
{
	if (dir)
		closedir(dir);
}
DEFINE_AUTO(DIR *, dir_close)

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Sorted and without repetitions. */
static void tidy(char **strv)
{
	size_t count = strv_count(strv), kept = 0;

	if (count == 0)
		return;
	qsort(strv, count, sizeof(strv[0]), compare);
	for (size_t i = 1; i < count; i++) {
		if (strcmp(strv[kept], strv[i]) == 0) {
			free(strv[i]);
			continue;
		}
		strv[++kept] = strv[i];
	}
	strv[kept + 1] = NULL;
}

static bool contains(char *const *sorted, const char *text)
{
	return sorted && bsearch(&text, sorted, strv_count(sorted), sizeof(sorted[0]), compare);
}

/* Interfaces of one kind that are ours: their names, and the uids that they belong to. */
struct links {
	const char *prefix;
	const char *(*part)(const char *prefix, const char *name);
	char **names, **uids;
};

static void links_done(struct links *links)
{
	strv_free(links->names);
	strv_free(links->uids);
}
static inline void links_done_autop(struct links *links)
{
	links_done(links);
}

static int take_link(const struct link *link, void *data)
{
	struct links *links = data;
	const char *part = links->part(links->prefix, link->name);

	/* One without an alias was left by a crash between its first and its second message. */
	if (!part || (link->alias[0] && !name_is_uid(link->alias)))
		return 0;
	strv_append(&links->names, link->name);
	strv_append(&links->uids, link->alias[0] ? link->alias : part);
	return 0;
}

static int list_links(struct net *net, const char *kind, struct links *links, struct error *err)
{
	int r = -EINTR;

	links->prefix = net->prefix;
	links->part = strcmp(kind, "bridge") == 0  ? name_of_bridge
		      : strcmp(kind, "vxlan") == 0 ? name_of_tunnel
		      : strcmp(kind, "gretap") == 0 || strcmp(kind, "ip6gretap") == 0 ? name_of_gre
		      : strcmp(kind, "ifb") == 0 ? name_of_queue
						 : name_of_veth;
	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		links_done(links);
		links->names = links->uids = NULL;
		r = link_list(net->nl, kind, take_link, links);
	}
	return r < 0 ? error_set(err, r, "cannot list interfaces%s", net_detail(net->nl)) : 0;
}

static int take_router_link(const struct link *link, void *data)
{
	struct links *links = data;

	if (name_is_of_router(links->prefix, link->name) && name_is_uid(link->alias)) {
		strv_append(&links->names, link->name);
		strv_append(&links->uids, link->alias);
	}
	return 0;
}

static int list_router_links(struct net *net, struct links *links, struct error *err)
{
	int r = -EINTR;

	links->prefix = net->prefix;
	for (int i = 0; i < LIST_ATTEMPTS && r == -EINTR; i++) {
		links_done(links);
		links->names = links->uids = NULL;
		r = link_list(net->nl, "veth", take_router_link, links);
	}
	return r < 0 ? error_set(err, r, "cannot list interfaces%s", net_detail(net->nl)) : 0;
}

/* The uids that name the entries of a folder below RUN/networks; a missing one is empty. */
static int list_folder(struct net *net, const char *path, char ***ret, struct error *err)
{
	AUTO(dir_close) DIR *dir = NULL;
	AUTO(fd_close)
	int fd = openat(net->networks_dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;

	if (fd < 0 && errno == ENOENT)
		return 0;
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir)
		return error_set(err, -errno, "cannot list %s/%s", net->networks_dir, path);
	TAKE_FD(fd);
	while ((entry = readdir(dir)))
		if (name_is_uid(entry->d_name))
			strv_append(ret, entry->d_name);
	return 0;
}

static void count_element(const char *owner, const struct rules_element *element, void *data)
{
	(void) owner;
	(void) element;
	++*(size_t *) data;
}

static void take_counted(const char *port_uid, const struct count *count, void *data)
{
	(void) count;
	strv_append(data, port_uid);
}

/*
 * Routers have elements as networks have; what is theirs has a folder, which is made first and goes
 * last.  A link of one whose folder has gone says by its alias whose it was.
 */
static int observe_routers(struct net *net, struct net_observed *ret, struct error *err)
{
	AUTO(links_done) struct links veths = {};
	int r = router_space_list(net, &ret->routers, err);

	if (r == 0)
		r = list_router_links(net, &veths, err);
	for (size_t i = 0; r == 0 && i < strv_count(veths.uids); i++)
		strv_append(&ret->routers, veths.uids[i]);
	tidy(ret->routers);
	return r;
}

static int observe_locked(struct net *net, struct net_observed *ret, struct error *err)
{
	AUTO(links_done) struct links bridges = {}, vxlans = {}, gres = {}, gres6 = {}, veths = {};
	AUTO(links_done) struct links taps = {};
	AUTO(links_done) struct links macvtaps = {}, queues = {};
	AUTO(strv_free) char **owners = rules_owners(net->rules, RULES_OF_NETWORK);
	int r = list_links(net, "bridge", &bridges, err);

	if (r == 0)
		r = list_links(net, "vxlan", &vxlans, err);
	if (r == 0)
		r = list_links(net, "gretap", &gres, err);
	if (r == 0)
		r = list_links(net, "ip6gretap", &gres6, err);
	if (r == 0)
		r = list_links(net, "veth", &veths, err);
	if (r == 0)
		r = list_links(net, "tun", &taps, err);
	if (r == 0)
		r = list_links(net, "macvtap", &macvtaps, err);
	if (r == 0)
		r = list_links(net, "ifb", &queues, err);
	if (r == 0)
		r = list_folder(net, ".", &ret->networks, err);
	if (r == 0)
		r = observe_routers(net, ret, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < strv_count(bridges.uids); i++)
		strv_append(&ret->networks, bridges.uids[i]);
	for (size_t i = 0; i < strv_count(vxlans.uids); i++)
		strv_append(&ret->networks, vxlans.uids[i]);
	for (size_t i = 0; i < strv_count(gres.uids); i++)
		strv_append(&ret->networks, gres.uids[i]);
	for (size_t i = 0; i < strv_count(gres6.uids); i++)
		strv_append(&ret->networks, gres6.uids[i]);
	for (size_t i = 0; i < strv_count(owners); i++)
		if (!contains(ret->routers, owners[i]))
			strv_append(&ret->networks, owners[i]);
	ret->ports = TAKE_PTR(veths.uids);
	for (size_t i = 0; i < strv_count(taps.uids); i++)
		strv_append(&ret->ports, taps.uids[i]);
	for (size_t i = 0; i < strv_count(macvtaps.uids); i++)
		strv_append(&ret->ports, macvtaps.uids[i]);
	for (size_t i = 0; i < strv_count(queues.uids); i++)
		strv_append(&ret->ports, queues.uids[i]);
	for (size_t i = 0; i < strv_count(bridges.uids); i++) {
		r = count_each_locked(net, bridges.uids[i], take_counted, &ret->counted, err);
		if (r < 0)
			return r;
	}
	tidy(ret->counted);
	ret->published = rules_owners(net->rules, RULES_OF_PUBLISH);
	ret->guarded = rules_owners(net->rules, RULES_OF_GUARD);
	ret->groups = chains_groups(rules_chains(net->rules));
	r = balance_list(net, &ret->balancers, err);
	if (r < 0)
		return r;
	tidy(ret->networks);
	tidy(ret->ports);
	for (size_t i = 0; ret->networks && ret->networks[i]; i++) {
		AUTO(free) char *path = mem_printf("%s/hosts", ret->networks[i]);

		r = list_folder(net, path, &ret->names, err);
		if (r < 0)
			return r;
	}
	tidy(ret->names);
	rules_each(net->rules, count_element, &ret->elements);
	return 0;
}

int net_observe(struct net *net, struct net_observed *ret, struct error *err)
{
	AUTO(net_observed_done) struct net_observed observed = {};
	AUTO(ovs_things_done) struct ovs_things things = {};
	int r;

	/* A switch that hangs is no reason to know nothing: what of it is not seen is not garbage.
	 */
	(void) ovs_list(net, &things, NULL);
	NET_LOCKED(net);
	r = observe_locked(net, &observed, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < strv_count(things.networks); i++)
		strv_append(&observed.networks, things.networks[i]);
	for (size_t i = 0; i < strv_count(things.ports); i++)
		strv_append(&observed.ports, things.ports[i]);
	tidy(observed.networks);
	tidy(observed.ports);
	*ret = observed;
	observed = (struct net_observed){};
	return 0;
}

/* What a collection goes by; the lists are sorted. */
struct gc {
	char **networks, **ports, **instances, **groups, **routers; /* wanted */
	const struct net_observed *before;                          /* or NULL */
	struct net_gc_report report;
};

static void gc_done(struct gc *gc)
{
	strv_free(gc->networks);
	strv_free(gc->ports);
	strv_free(gc->instances);
	strv_free(gc->groups);
	strv_free(gc->routers);
}
static inline void gc_done_autop(struct gc *gc)
{
	gc_done(gc);
}

static void gc_init(struct gc *gc, const struct net_wanted *wanted)
{
	*gc = (struct gc){ .networks = strv_copy(wanted->networks),
			   .ports = strv_copy(wanted->ports),
			   .instances = strv_copy(wanted->instances),
			   .groups = strv_copy(wanted->groups),
			   .routers = strv_copy(wanted->routers),
			   .before = wanted->before };
	tidy(gc->groups);
	tidy(gc->routers);
	tidy(gc->networks);
	tidy(gc->ports);
	tidy(gc->instances);
}

/* `before`: of the observation; NULL when there was none. */
static bool is_garbage(const char *uid, char *const *wanted, char *const *before,
		       const struct gc *gc)
{
	return !contains(wanted, uid) && (!gc->before || contains(before, uid));
}

/* The names that interfaces of these uids have, sorted. */
static char **link_names(const struct net *net, char *const *uids,
			 void (*build)(const char *prefix, const char *uid, char ret[IF_NAMESIZE]))
{
	char **names = NULL, name[IF_NAMESIZE];

	for (size_t i = 0; i < strv_count(uids); i++) {
		build(net->prefix, uids[i], name);
		strv_append(&names, name);
	}
	tidy(names);
	return names;
}

/* By name: what a crash has left half made does not say whose it is. */
static int remove_links(struct net *net, const char *kind, char *const *wanted_names,
			char *const *before, const struct gc *gc, size_t *count, struct error *err)
{
	AUTO(links_done) struct links links = {};
	int r = list_links(net, kind, &links, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < strv_count(links.names); i++) {
		struct link link;

		if (contains(wanted_names, links.names[i]) ||
		    (gc->before && !contains(before, links.uids[i])))
			continue;
		r = link_find(net->nl, links.names[i], &link);
		if (r == 0)
			r = link_delete(net->nl, link.index);
		if (r < 0 && r != -ENODEV)
			return error_set(err, r, "cannot remove interface %s%s", links.names[i],
					 net_detail(net->nl));
		++*count;
	}
	return 0;
}

static int remove_all_links(struct net *net, struct gc *gc, struct error *err)
{
	const struct net_observed none = {}, *before = gc->before ? gc->before : &none;
	AUTO(strv_free) char **ports = link_names(net, gc->ports, name_veth);
	AUTO(strv_free) char **queues = link_names(net, gc->ports, name_queue);
	AUTO(strv_free) char **bridges = link_names(net, gc->networks, name_bridge);
	size_t bridge_count = 0;
	int r = remove_links(net, "veth", ports, before->ports, gc, &gc->report.ports, err);

	if (r == 0)
		r = remove_links(net, "tun", ports, before->ports, gc, &gc->report.ports, err);
	if (r == 0)
		r = remove_links(net, "macvtap", ports, before->ports, gc, &gc->report.ports, err);
	if (r == 0)
		r = remove_links(net, "ifb", queues, before->ports, gc, &gc->report.ports, err);
	if (r == 0)
		r = remove_links(net, "bridge", bridges, before->networks, gc, &bridge_count, err);
	return r;
}

int observe_remove_links(struct net *net, const struct net_wanted *wanted,
			 struct net_gc_report *report, struct error *err)
{
	AUTO(gc_done) struct gc gc;
	int r;

	gc_init(&gc, wanted);
	r = remove_all_links(net, &gc, err);
	if (report)
		report->ports += gc.report.ports;
	return r;
}

/* Ports first: a bridge takes its own with it. */
static int remove_ovs(struct net *net, struct gc *gc, struct error *err)
{
	AUTO(ovs_things_done) struct ovs_things things = {};
	int r = ovs_list(net, &things, err);

	for (size_t i = 0; r == 0 && i < strv_count(things.ports); i++) {
		if (!is_garbage(things.ports[i], gc->ports, gc->before ? gc->before->ports : NULL,
				gc))
			continue;
		r = ovs_remove_port(net, things.interfaces[i], err);
		gc->report.ports++;
	}
	for (size_t i = 0; r == 0 && i < strv_count(things.networks); i++) {
		if (!is_garbage(things.networks[i], gc->networks,
				gc->before ? gc->before->networks : NULL, gc))
			continue;
		r = ovs_remove_bridge(net, things.bridges[i], err);
		gc->report.networks++;
	}
	return r;
}

int observe_remove_ovs(struct net *net, const struct net_wanted *wanted,
		       struct net_gc_report *report, struct error *err)
{
	AUTO(gc_done) struct gc gc;
	int r;

	gc_init(&gc, wanted);
	r = remove_ovs(net, &gc, err);
	if (report)
		report->ports += gc.report.ports;
	return r;
}

static int remove_networks(struct net *net, char *const *there, struct gc *gc, struct error *err)
{
	for (size_t i = 0; i < strv_count(there); i++) {
		int r;

		if (!is_garbage(there[i], gc->networks, gc->before ? gc->before->networks : NULL,
				gc))
			continue;
		r = network_remove_locked(net, there[i], err);
		if (r < 0)
			return r;
		gc->report.networks++;
	}
	return 0;
}

/* Before networks: what is a port of a bridge goes by its own name. */
static int remove_routers(struct net *net, char *const *there, struct gc *gc, struct error *err)
{
	for (size_t i = 0; i < strv_count(there); i++) {
		int r;

		if (!is_garbage(there[i], gc->routers, gc->before ? gc->before->routers : NULL, gc))
			continue;
		r = router_remove_locked(net, there[i], err);
		if (r < 0)
			return r;
		gc->report.routers++;
	}
	return 0;
}

static int remove_names(struct net *net, struct gc *gc, struct error *err)
{
	for (size_t i = 0; i < strv_count(gc->networks); i++) {
		AUTO(free) char *path = mem_printf("%s/hosts", gc->networks[i]);
		AUTO(strv_free) char **names = NULL;
		int r = list_folder(net, path, &names, err);

		for (size_t n = 0; n < strv_count(names) && r == 0; n++) {
			if (!is_garbage(names[n], gc->ports, gc->before ? gc->before->names : NULL,
					gc))
				continue;
			r = dns_remove_name(net, gc->networks[i], names[n], err);
			gc->report.names++;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int remove_published(struct net *net, char *const *owners, struct gc *gc, struct error *err)
{
	for (size_t i = 0; i < strv_count(owners); i++) {
		size_t conflict;
		int r;

		if (contains(gc->routers, owners[i]) ||
		    !is_garbage(owners[i], gc->instances, gc->before ? gc->before->published : NULL,
				gc))
			continue;
		r = rules_assign(net->rules, owners[i], RULES_OF_PUBLISH, NULL, 0, &conflict, NULL,
				 err);
		if (r < 0)
			return r;
		gc->report.published++;
	}
	return 0;
}

static int remove_guards(struct net *net, char *const *owners, struct gc *gc, struct error *err)
{
	for (size_t i = 0; i < strv_count(owners); i++) {
		size_t conflict;
		int r;

		if (!is_garbage(owners[i], gc->ports, gc->before ? gc->before->guarded : NULL, gc))
			continue;
		r = rules_assign(net->rules, owners[i], RULES_OF_GUARD, NULL, 0, &conflict, NULL,
				 err);
		if (r < 0)
			return r;
		gc->report.guards++;
	}
	return 0;
}

/* Of a network that is gone they are gone, too. */
static int remove_counts(struct net *net, char *const *owners, struct gc *gc, struct error *err)
{
	for (size_t i = 0; i < strv_count(owners); i++) {
		if (!is_garbage(owners[i], gc->ports, gc->before ? gc->before->counted : NULL, gc))
			continue;
		for (size_t n = 0; n < strv_count(gc->networks); n++) {
			int r = count_forget_locked(net, gc->networks[n], owners[i], err);

			if (r < 0)
				return r;
		}
		gc->report.counts++;
	}
	return 0;
}

/* One that has ports is somebody's who came since. */
static int remove_groups(struct net *net, char *const *there, struct gc *gc, struct error *err)
{
	for (size_t i = 0; i < strv_count(there); i++) {
		int r;

		if (!is_garbage(there[i], gc->groups, gc->before ? gc->before->groups : NULL, gc))
			continue;
		r = group_remove_locked(net, there[i], err);
		if (r < 0 && r != -EBUSY)
			return r;
		gc->report.groups += r == 0;
	}
	return 0;
}

static int gc_locked(struct net *net, struct gc *gc, struct error *err)
{
	AUTO(net_observed_done) struct net_observed there = {};
	int r = rules_repair(net->rules, NULL, err);

	if (r == 0)
		r = observe_locked(net, &there, err);
	if (r == 0)
		r = remove_published(net, there.published, gc, err);
	if (r == 0)
		r = remove_names(net, gc, err);
	if (r == 0)
		r = remove_routers(net, there.routers, gc, err);
	if (r == 0)
		r = remove_networks(net, there.networks, gc, err);
	if (r == 0)
		r = remove_all_links(net, gc, err);
	/* Behind the interfaces: none is ever without its guard. */
	if (r == 0)
		r = remove_guards(net, there.guarded, gc, err);
	if (r == 0)
		r = remove_counts(net, there.counted, gc, err);
	if (r == 0)
		r = remove_groups(net, there.groups, gc, err);
	if (r == 0)
		r = advertise_collect(net, err);
	return r;
}

static int check_uids(char *const *uids, const char *what, struct error *err)
{
	for (size_t i = 0; i < strv_count(uids); i++)
		if (!name_is_uid(uids[i]))
			return error_say(err, -EINVAL, "%s uid '%.40s': must be hexadecimal", what,
					 uids[i]);
	return 0;
}

int net_gc(struct net *net, const struct net_wanted *wanted, struct net_gc_report *ret,
	   struct error *err)
{
	AUTO(gc_done) struct gc gc;
	int r;

	gc_init(&gc, wanted);
	r = check_uids(gc.networks, "network", err);
	if (r == 0)
		r = check_uids(gc.ports, "port", err);
	if (r == 0)
		r = check_uids(gc.instances, "instance", err);
	if (r == 0)
		r = check_uids(gc.groups, "group", err);
	if (r == 0)
		r = check_uids(gc.routers, "router", err);
	if (r < 0)
		return r;
	net_lock(net);
	r = gc_locked(net, &gc, err);
	net_unlock(net);
	/* Last, for it may hang. */
	if (r == 0)
		r = remove_ovs(net, &gc, err);
	if (r == 0 && ret)
		*ret = gc.report;
	return r;
}
