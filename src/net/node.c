#include "net/node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "kern/link.h"
#include "kern/module.h"
#include "kern/netlink.h"
#include "kern/nft.h"
#include "net/advertise_internal.h"
#include "net/balance_internal.h"
#include "net/flow_internal.h"
#include "net/node_internal.h"
#include "net/observe_internal.h"
#include "net/ovs_internal.h"
#include "net/router_internal.h"
#include "net/rules_internal.h"

#define IPV6_CONF "/proc/sys/net/ipv6/conf"
#define BRIDGE_CONF "/proc/sys/net/bridge"

enum { RUN_DIR_MAX = 1024 };

struct net *net_lock(struct net *net)
{
	pthread_mutex_lock(&net->lock);
	return net;
}

void net_unlock(struct net *net)
{
	if (net)
		pthread_mutex_unlock(&net->lock);
}

const char *net_detail(const struct netlink *nl)
{
	static _Thread_local char text[192];
	const char *detail = netlink_detail(nl);

	snprintf(text, sizeof(text), detail[0] ? " (%s)" : "%s", detail);
	return text;
}

static bool sysctl_is(const char *path, char value)
{
	AUTO(free) char *text = NULL;

	return file_read(AT_FDCWD, path, 64, &text, NULL) == 0 && text[0] == value;
}

static int turn_on(const char *path, struct error *err)
{
	int r;

	if (sysctl_is(path, '1'))
		return 0;
	r = file_write_kernel(AT_FDCWD, path, "1");
	return r < 0 ? error_set(err, r, "cannot turn on IP forwarding (%s)", path) : 0;
}

/*
 * Loading the module turns its switches on for all bridges of the host, and who did not ask for
 * that must not notice: ours have switches of their own.
 */
static bool have_bridge_filter(void)
{
	static const char *const switches[] = { "iptables", "ip6tables", "arptables" };

	if (faccessat(AT_FDCWD, BRIDGE_CONF, F_OK, 0) == 0)
		return true;
	if (module_load("br_netfilter") < 0 || faccessat(AT_FDCWD, BRIDGE_CONF, F_OK, 0) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_COUNT(switches); i++) {
		AUTO(free) char *path = mem_printf(BRIDGE_CONF "/bridge-nf-call-%s", switches[i]);

		(void) file_write_kernel(AT_FDCWD, path, "0");
	}
	return true;
}

static void dir_close(DIR *dir)
{
	if (dir)
		closedir(dir);
}
DEFINE_AUTO(DIR *, dir_close)

/*
 * A host that forwards stops listening to router advertisements (accept_ra 1) and would lose its
 * own default route; 2 means "listen nevertheless".
 */
static void keep_router_advertisements(void)
{
	AUTO(dir_close) DIR *dir = opendir(IPV6_CONF);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		AUTO(free) char *path = mem_printf(IPV6_CONF "/%s/accept_ra", entry->d_name);

		if (entry->d_name[0] == '.' || strcmp(entry->d_name, "all") == 0 ||
		    strcmp(entry->d_name, "default") == 0 || strcmp(entry->d_name, "lo") == 0)
			continue;
		/* When it fails the interface loses what it would have lost anyway. */
		if (sysctl_is(path, '1'))
			(void) file_write_kernel(AT_FDCWD, path, "2");
	}
}

static int turn_on_forwarding(bool ipv6, struct error *err)
{
	int r = turn_on("/proc/sys/net/ipv4/ip_forward", err);

	if (r < 0 || !ipv6)
		return r;
	if (!sysctl_is(IPV6_CONF "/all/forwarding", '1'))
		keep_router_advertisements();
	return turn_on(IPV6_CONF "/all/forwarding", err);
}

/* dnsmasq reads paths from its configuration, so they may contain nothing that means something
 * there. */
static bool is_plain_path(const char *path)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789/._+-";

	return path && path[0] == '/' && strnlen(path, RUN_DIR_MAX) < RUN_DIR_MAX &&
	       path[strspn(path, allowed)] == '\0';
}

static int open_folder(struct net *net, const char *run_dir, struct error *err)
{
	int r;

	net->routers_dir = mem_printf("%s/routers", run_dir);
	net->networks_dir = mem_printf("%s/networks", run_dir);
	r = file_mkdir_all(net->networks_dir, 0755);
	if (r < 0)
		return error_set(err, r, "cannot create %s", net->networks_dir);
	net->networks_dir_fd = open(net->networks_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* dnsmasq passes through here after it has dropped root, whatever our umask is. */
	if (net->networks_dir_fd < 0 || chmod(net->networks_dir, 0755) < 0)
		return error_set(err, -errno, "cannot open %s", net->networks_dir);
	return 0;
}

int net_new(const struct net_options *options, struct net **ret, struct error *err)
{
	AUTO(net_free) struct net *net = NULL;
	int r;

	if (!name_is_prefix(options->prefix))
		return error_say(err, -EINVAL, "prefix '%.32s': must be 1 to 8 of a-z and 0-9",
				 options->prefix ? options->prefix : "");
	if (!is_plain_path(options->run_dir))
		return error_say(err, -EINVAL,
				 "run folder '%.200s': must be an absolute path of letters, digits "
				 "and . _ + - /",
				 options->run_dir ? options->run_dir : "");
	net = mem_new0(struct net);
	pthread_mutex_init(&net->lock, NULL);
	net->networks_dir_fd = net->watch_fd = -1;
	memcpy(net->prefix, options->prefix, strlen(options->prefix));
	net->ovs_socket = mem_strdup(options->ovs_socket ? options->ovs_socket : OVS_SOCKET);
	net->ipv6 = faccessat(AT_FDCWD, IPV6_CONF, F_OK, 0) == 0;
	net->filter = have_bridge_filter();
	net->self_netns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (net->self_netns_fd < 0)
		return error_set(err, -errno, "cannot open our own network namespace");
	r = netlink_open(NETLINK_ROUTE, &net->nl);
	if (r < 0)
		return error_set(err, r, "cannot open a netlink socket");
	r = open_folder(net, options->run_dir, err);
	if (r < 0)
		return r;
	r = turn_on_forwarding(net->ipv6, err);
	if (r < 0)
		return r;
	/* Before the first look at the table: no change goes unseen. */
	net->watch_fd = nft_watch();
	if (net->watch_fd < 0)
		return error_set(err, net->watch_fd, "cannot watch nftables");
	r = rules_new(net->prefix, net->ipv6, &net->rules, err);
	if (r < 0)
		return r;
	net->balance = balance_new();
	net->advertise = advertise_new();
	*ret = TAKE_PTR(net);
	return 0;
}

void net_free(struct net *net)
{
	if (!net)
		return;
	advertise_free(net->advertise);
	balance_free(net->balance);
	rules_free(net->rules);
	netlink_free(net->nl);
	fd_close(net->self_netns_fd);
	fd_close(net->networks_dir_fd);
	fd_close(net->watch_fd);
	pthread_mutex_destroy(&net->lock);
	free(net->networks_dir);
	free(net->ovs_socket);
	free(net->routers_dir);
	free(net);
}

int net_repair(struct net *net, bool *ret_damaged, struct error *err)
{
	NET_LOCKED(net);
	bool rules = false, balance = false;
	int r = rules_repair(net->rules, &rules, err);

	if (r == 0)
		r = balance_repair(net, &balance, err);
	if (ret_damaged)
		*ret_damaged = rules || balance;
	return r;
}

int net_watch_fd(const struct net *net)
{
	return net->watch_fd;
}

bool net_watch_read(struct net *net)
{
	uint32_t generation = nft_watch_read(net->watch_fd);

	/* Our own changes come by here too. */
	return generation == 0 || generation != rules_generation(net->rules);
}

int net_find_obstacle(struct net *net, char **ret, struct error *err)
{
	int r;

	NET_LOCKED(net);
	r = nft_find_forward_drop(rules_nft(net->rules), net->prefix, ret);
	return r < 0 ? error_set(err, r, "cannot list the chains of nftables") : r;
}

int net_destroy(struct net *net, struct error *err)
{
	AUTO(strv_free) char **routers = NULL;
	int r = observe_remove_ovs(net, &(struct net_wanted){}, NULL, err);

	if (r < 0)
		return r;
	NET_LOCKED(net);
	r = router_space_list(net, &routers, err);
	for (size_t i = 0; r == 0 && i < strv_count(routers); i++)
		r = router_remove_locked(net, routers[i], err);
	if (r == 0)
		r = observe_remove_links(net, &(struct net_wanted){}, NULL, err);
	if (r < 0)
		return r;
	r = rules_destroy(net->rules, err);
	if (r == 0)
		r = balance_destroy(net, err);
	if (r == 0)
		r = advertise_destroy(net, err);
	if (r == 0)
		r = flow_account_node(net, false, NULL, err);
	if (r < 0)
		return r;
	r = file_remove_tree(AT_FDCWD, net->routers_dir);
	if (r < 0)
		return error_set(err, r, "cannot remove %s", net->routers_dir);
	r = file_remove_tree(AT_FDCWD, net->networks_dir);
	return r < 0 ? error_set(err, r, "cannot remove %s", net->networks_dir) : 0;
}
