#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/actors.h"
#include "agent/agent_internal.h"
#include "agent/image_task.h"
#include "agent/instance_actor.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strv.h"
#include "image/store.h"
#include "kern/cgroup.h"
#include "net/observe.h"

/* One collection: what is wanted when it begins, carried out on a worker. */
struct collection {
	struct agent *agent;
	char **instances, **networks, **groups, **ports, **images, **routers;
	int result;
	struct error err;
};

typedef void (*found_fn)(struct agent *agent, const char *uid);

/* Calls `found` for every folder in `path`. */
static void scan_folder(struct agent *agent, const char *path, found_fn found)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		struct stat st;

		if (entry->d_name[0] != '.' &&
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISDIR(st.st_mode))
			found(agent, entry->d_name);
	}
	closedir(dir);
}

static void scan_cgroups(struct agent *agent)
{
	for (size_t i = 0; i < agent->cgroups->count; i++) {
		AUTO(free)
		char *path =
			mem_printf("%s/%s", agent->cgroups->list[i].mount, agent->options->prefix);
		scan_folder(agent, path, instance_actor_found);
	}
}

static void scan_network(struct agent *agent)
{
	struct net_observed observed = {};
	struct error err = {};

	if (net_observe(agent->net, &observed, &err) < 0) {
		log_error("cannot see which networks exist: %s", err.msg);
		return;
	}
	for (size_t i = 0; observed.networks && observed.networks[i]; i++)
		actors_found(agent, ACTOR_NETWORK, observed.networks[i]);
	for (size_t i = 0; observed.balancers && observed.balancers[i]; i++)
		actors_found(agent, ACTOR_BALANCER, observed.balancers[i]);
	for (size_t i = 0; observed.groups && observed.groups[i]; i++)
		actors_found(agent, ACTOR_GROUP, observed.groups[i]);
	for (size_t i = 0; observed.routers && observed.routers[i]; i++)
		actors_found(agent, ACTOR_ROUTER, observed.routers[i]);
	agent->found = mem_new0(struct net_observed);
	*agent->found = observed;
}

static void network_found(struct agent *agent, const char *uid)
{
	actors_found(agent, ACTOR_NETWORK, uid);
}

void agent_scan(struct agent *agent)
{
	AUTO(free) char *state = mem_printf("%s/instances", agent->options->state);
	AUTO(free) char *run = mem_printf("%s/instances", agent->options->run);
	AUTO(free) char *oci = mem_printf("%s/oci", agent->options->run);
	/* Flow logs of networks that may have gone. */
	AUTO(free) char *networks = mem_printf("%s/networks", agent->options->state);

	scan_folder(agent, state, instance_actor_found);
	scan_folder(agent, run, instance_actor_found);
	scan_folder(agent, oci, instance_actor_found);
	scan_folder(agent, networks, network_found);
	scan_cgroups(agent);
	scan_network(agent);
}

static int remove_images(struct collection *collection)
{
	const struct agent *agent = collection->agent;
	AUTO(strv_free) char **there = NULL;
	int r = image_store_list(agent->images, &there, &collection->err);

	for (size_t i = 0; r == 0 && there && there[i]; i++) {
		if (strv_contains(collection->images, there[i]))
			continue;
		log_info("image %s: nobody wants it, removing it", there[i]);
		r = image_store_remove(agent->images, there[i], &collection->err);
	}
	return r < 0 ? r : images_collect(agent, &collection->err);
}

/* Numbers of pulls of images that are gone. */
static void remove_numbers(const struct collection *collection)
{
	AUTO(free) char *path = mem_printf("%s/agent/images", collection->agent->options->state);
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' && !strv_contains(collection->images, entry->d_name))
			unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
}

static void work(void *data)
{
	struct collection *collection = data;
	static const struct net_observed nothing;
	const struct net_observed *found = collection->agent->found;
	struct net_wanted wanted = { .networks = collection->networks,
				     .groups = collection->groups,
				     .ports = collection->ports,
				     .instances = collection->instances,
				     .routers = collection->routers,
				     .before = found ? found : &nothing };
	struct net_gc_report report = {};
	int r = net_gc(collection->agent->net, &wanted, &report, &collection->err);

	if (report.networks + report.ports + report.published + report.names + report.routers > 0)
		log_info("removed what nobody wants: %zu networks, %zu ports, %zu published ports, "
			 "%zu names, %zu routers",
			 report.networks, report.ports, report.published, report.names,
			 report.routers);
	collection->result = r < 0 ? r : remove_images(collection);
	remove_numbers(collection);
}

static void done(void *data)
{
	struct collection *collection = data;
	struct agent *agent = collection->agent;

	if (collection->result < 0)
		log_error("cannot remove everything that nobody wants: %s", collection->err.msg);
	strv_free(collection->instances);
	strv_free(collection->networks);
	strv_free(collection->groups);
	strv_free(collection->ports);
	strv_free(collection->images);
	strv_free(collection->routers);
	free(collection);
	agent->collecting = false;
	if (agent->collect_again) {
		agent->collect_again = false;
		agent_collect(agent);
	}
}

void agent_collect(struct agent *agent)
{
	struct collection *collection;

	if (agent->collecting) {
		agent->collect_again = true;
		return;
	}
	collection = mem_new0(struct collection);
	collection->agent = agent;
	collection->instances = instance_actors_list(agent);
	collection->networks = actors_list(agent, ACTOR_NETWORK);
	collection->groups = actors_list(agent, ACTOR_GROUP);
	collection->ports = instance_actors_list_ports(agent);
	collection->images = actors_list(agent, ACTOR_IMAGE);
	collection->routers = actors_list(agent, ACTOR_ROUTER);
	agent->collecting = true;
	pool_submit(agent->slow_pool, work, done, collection);
}
