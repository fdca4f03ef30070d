#include "agent/net_watch.h"

#include "agent/agent_internal.h"
#include "agent/network_actor.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "kern/link_watch.h"
#include "net/node.h"

struct net_watch {
	struct agent *agent;
	sd_event_source *source, *links;
	int links_fd;
	bool busy;  /* a repair is under way; its data are the worker's */
	bool again; /* something happened meanwhile */
	bool damaged;
	int result;
	struct error err;
};

static void repair_done(void *data);

static void repair_work(void *data)
{
	struct net_watch *watch = data;

	watch->err = (struct error){};
	watch->damaged = false;
	watch->result = net_repair(watch->agent->net, &watch->damaged, &watch->err);
}

static void repair_begin(struct net_watch *watch)
{
	watch->busy = true;
	watch->again = false;
	pool_submit(watch->agent->pool, repair_work, repair_done, watch);
}

static void repair_done(void *data)
{
	struct net_watch *watch = data;

	watch->busy = false;
	if (watch->result < 0)
		log_error("network: our nft table was changed and cannot be repaired: %s",
			  watch->err.msg);
	else if (watch->damaged)
		log_warning("network: our nft table was changed by somebody else, repaired");
	if (watch->again)
		repair_begin(watch);
}

static int on_change(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct net_watch *watch = data;

	(void) source;
	(void) fd;
	(void) revents;
	if (!net_watch_read(watch->agent->net))
		return 0;
	if (watch->busy)
		watch->again = true;
	else
		repair_begin(watch);
	return 0;
}

static void on_link(const struct link *link, bool gone, void *data)
{
	network_actors_link_changed(data, link, gone);
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
	watch->links_fd = -1;
	r = sd_event_add_io(agent->event, &watch->source, net_watch_fd(agent->net), EPOLLIN,
			    on_change, watch);
	watch->links_fd = link_watch();
	if (r >= 0)
		r = watch->links_fd;
	if (r >= 0)
		r = sd_event_add_io(agent->event, &watch->links, watch->links_fd, EPOLLIN, on_links,
				    agent);
	if (r < 0) {
		net_watch_free(watch);
		return error_set(err, r, "watch nftables and interfaces");
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
	fd_close(watch->links_fd);
	free(watch);
}
