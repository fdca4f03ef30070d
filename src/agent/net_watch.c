#include "agent/net_watch.h"

#include <string.h>

#include "agent/agent_internal.h"
#include "agent/instance_actor.h"
#include "agent/network_actor.h"
#include "agent/retry.h"
#include "agent/router_actor.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "kern/link.h"
#include "kern/link_watch.h"
#include "kern/route_mark.h"
#include "kern/rtnl_watch.h"
#include "net/advertise.h"
#include "net/balance.h"
#include "net/node.h"

enum { RELIMIT_MS = 200 };

/* Something of ours that others may change. */
struct repair {
	struct agent *agent;
	const char *what;
	int (*fn)(struct net *net, bool *ret_damaged, struct error *err);
	bool busy;  /* one is under way; the data below are the worker's */
	bool again; /* something happened meanwhile */
	bool damaged;
	int result;
	struct error err;
};

struct net_watch {
	struct agent *agent;
	sd_event_source *source, *links, *routes, *aliases, *queues;
	int links_fd, routes_fd, aliases_fd, queues_fd;
	struct repair table, anchors, vips;
	struct retry relimit; /* one look for all queues that go at once */
};

static void repair_done(void *data);

static void repair_work(void *data)
{
	struct repair *repair = data;

	repair->err = (struct error){};
	repair->damaged = false;
	repair->result = repair->fn(repair->agent->net, &repair->damaged, &repair->err);
}

static void repair_begin(struct repair *repair)
{
	repair->again = repair->busy;
	if (repair->busy)
		return;
	repair->busy = true;
	pool_submit(repair->agent->pool, repair_work, repair_done, repair);
}

static void repair_done(void *data)
{
	struct repair *repair = data;

	repair->busy = false;
	if (repair->result < 0)
		log_error("network: %s changed by somebody else and cannot be repaired: %s",
			  repair->what, repair->err.msg);
	else if (repair->damaged)
		log_warning("network: %s changed by somebody else, repaired", repair->what);
	if (repair->again)
		repair_begin(repair);
}

static int on_change(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct net_watch *watch = data;

	(void) source;
	(void) fd;
	(void) revents;
	if (net_watch_read(watch->agent->net))
		repair_begin(&watch->table);
	return 0;
}

static int on_routes(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct net_watch *watch = data;

	(void) source;
	(void) revents;
	if (!rtnl_watch_read(fd))
		return 0;
	repair_begin(&watch->anchors);
	router_actors_routes_changed(watch->agent);
	return 0;
}

static int on_aliases(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct net_watch *watch = data;

	(void) source;
	(void) revents;
	if (rtnl_watch_read(fd))
		repair_begin(&watch->vips);
	return 0;
}

static void on_relimit(void *data)
{
	struct net_watch *watch = data;

	instance_actors_relimit(watch->agent);
}

/* Ours come by here, too: then nothing is missing. */
static void queue_gone(struct net_watch *watch)
{
	if (!retry_waiting(&watch->relimit))
		retry_in(&watch->relimit, watch->agent->event, RELIMIT_MS);
}

static int on_queues(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	(void) source;
	(void) revents;
	if (rtnl_watch_read(fd))
		queue_gone(data);
	return 0;
}

static void on_link(const struct link *link, bool gone, void *data)
{
	struct net_watch *watch = data;

	if (!link || (gone && strcmp(link->kind, "ifb") == 0))
		queue_gone(watch);
	network_actors_link_changed(watch->agent, link, gone);
}

static int on_links(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	(void) source;
	(void) revents;
	link_watch_read(fd, on_link, data);
	return 0;
}

/* Docker and other firewalls do this; nothing of ours can undo it, so people must know. */
static void warn_of_obstacle(struct net *net)
{
	AUTO(free) char *chain = NULL;

	if (net_find_obstacle(net, &chain, NULL) > 0)
		log_warning(
			"network: the host's firewall drops what is forwarded (%s): instances may "
			"be cut off until it accepts what comes from and goes to our bridges",
			chain);
}

int net_watch_new(struct agent *agent, struct net_watch **ret, struct error *err)
{
	struct net_watch *watch = mem_new0(struct net_watch);
	int r;

	watch->agent = agent;
	watch->links_fd = watch->routes_fd = watch->aliases_fd = -1;
	watch->queues_fd = -1;
	watch->relimit = (struct retry){ .fire = on_relimit, .data = watch };
	watch->table =
		(struct repair){ .agent = agent, .what = "our nft table was", .fn = net_repair };
	watch->anchors = (struct repair){ .agent = agent,
					  .what = "routes that we announce were",
					  .fn = advertise_repair };
	watch->vips = (struct repair){ .agent = agent,
				       .what = "addresses of load balancers were",
				       .fn = balance_repair_vips };
	r = sd_event_add_io(agent->event, &watch->source, net_watch_fd(agent->net), EPOLLIN,
			    on_change, watch);
	watch->links_fd = link_watch();
	if (r >= 0)
		r = watch->links_fd;
	if (r >= 0)
		r = sd_event_add_io(agent->event, &watch->links, watch->links_fd, EPOLLIN, on_links,
				    watch);
	if (r >= 0)
		r = watch->routes_fd = route_mark_watch();
	if (r >= 0)
		r = sd_event_add_io(agent->event, &watch->routes, watch->routes_fd, EPOLLIN,
				    on_routes, watch);
	if (r >= 0)
		r = watch->aliases_fd = link_watch_aliases();
	if (r >= 0)
		r = sd_event_add_io(agent->event, &watch->aliases, watch->aliases_fd, EPOLLIN,
				    on_aliases, watch);
	if (r >= 0)
		r = watch->queues_fd = link_watch_queues();
	if (r >= 0)
		r = sd_event_add_io(agent->event, &watch->queues, watch->queues_fd, EPOLLIN,
				    on_queues, watch);
	if (r < 0) {
		net_watch_free(watch);
		return error_set(err, r, "watch nftables, interfaces and routes");
	}
	warn_of_obstacle(agent->net);
	*ret = watch;
	return 0;
}

void net_watch_free(struct net_watch *watch)
{
	if (!watch)
		return;
	sd_event_source_disable_unref(watch->source);
	sd_event_source_disable_unref(watch->links);
	sd_event_source_disable_unref(watch->routes);
	sd_event_source_disable_unref(watch->aliases);
	sd_event_source_disable_unref(watch->queues);
	retry_stop(&watch->relimit);
	fd_close(watch->links_fd);
	fd_close(watch->routes_fd);
	fd_close(watch->aliases_fd);
	fd_close(watch->queues_fd);
	free(watch);
}
