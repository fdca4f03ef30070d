#pragma once
/*
 * net/node_internal.h - the inside of struct net, shared by the files of net/.
 *
 * Everything here is used with the lock held, except what never changes after net_new().
 */
#include <pthread.h>
#include <stdbool.h>

#include "net/name.h"
#include "net/node.h"

struct advertise;
struct balance;
struct netlink;
struct rules;

struct net {
	pthread_mutex_t lock;
	char prefix[NAME_PREFIX_MAX + 1]; /* constant, as the next eight */
	char *ovs_socket;
	char *networks_dir; /* RUN/networks */
	char *routers_dir;  /* RUN/routers */
	bool ipv6;
	bool filter;       /* our bridges hand what they forward to the rules (br_netfilter) */
	int self_netns_fd; /* the way back from a container's namespace */
	int networks_dir_fd;
	int watch_fd;       /* see net_watch_fd() */
	bool count_refused; /* see there */
	struct netlink *nl;
	struct rules *rules;
	struct balance *balance;
	struct advertise *advertise;
};

struct net *net_lock(struct net *net);
void net_unlock(struct net *net);
DEFINE_AUTO(struct net *, net_unlock)

/* Holds the lock until the end of the scope. */
#define NET_LOCKED(net)                                                                            \
	AUTO(net_unlock) struct net *net_locked_ __attribute__((unused)) = net_lock(net)

/* " (what the kernel said)" or "", for messages about `nl`; valid until the thread's next one. */
const char *net_detail(const struct netlink *nl);
