#include "guest/netconf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "codec/guest_config.h"

enum { REQUEST_MAX = 256, ANSWER_MAX = 8192, WAIT_S = 5, ALIAS_MAX = 256, EVENT_MAX = 16384 };

/* On an interface that was set up. */
static const char alias[] = "brume";

struct request {
	union {
		struct nlmsghdr header;
		char bytes[REQUEST_MAX];
	};
};

int netconf_parse_address(const char *text, struct netconf_address *ret)
{
	struct netconf_address address = { .family = strchr(text, ':') ? AF_INET6 : AF_INET };
	unsigned long max = address.family == AF_INET6 ? 128 : 32, prefix = max;
	const char *slash = strchr(text, '/');
	char host[INET6_ADDRSTRLEN];
	size_t size = slash ? (size_t) (slash - text) : strlen(text);
	char *end;

	if (size >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, size);
	host[size] = '\0';
	if (inet_pton(address.family, host, address.bytes) != 1)
		return -EINVAL;
	if (slash) {
		if (slash[1] < '0' || slash[1] > '9')
			return -EINVAL;
		prefix = strtoul(slash + 1, &end, 10);
		if (*end || prefix > max)
			return -EINVAL;
	}
	address.prefix = (uint8_t) prefix;
	*ret = address;
	return 0;
}

static void *begin(struct request *request, uint16_t type, uint16_t flags, size_t body)
{
	memset(request, 0, sizeof(*request));
	request->header.nlmsg_type = type;
	request->header.nlmsg_flags = (uint16_t) (NLM_F_REQUEST | NLM_F_ACK | flags);
	request->header.nlmsg_len = (uint32_t) NLMSG_LENGTH(body);
	return NLMSG_DATA(&request->header);
}

static void put(struct request *request, uint16_t type, const void *data, size_t size)
{
	char *at = request->bytes + NLMSG_ALIGN(request->header.nlmsg_len);
	struct rtattr attr = { .rta_len = (uint16_t) RTA_LENGTH(size), .rta_type = type };

	memcpy(at, &attr, sizeof(attr));
	memcpy(at + RTA_LENGTH(0), data, size);
	request->header.nlmsg_len =
		(uint32_t) (NLMSG_ALIGN(request->header.nlmsg_len) + RTA_ALIGN(attr.rta_len));
}

/* Sends it and waits for the kernel's answer. */
static int call(int fd, struct request *request)
{
	char answer[ANSWER_MAX];
	ssize_t n;

	if (send(fd, request, request->header.nlmsg_len, 0) < 0)
		return -errno;
	n = recv(fd, answer, sizeof(answer), 0);
	if (n < 0)
		return -errno;
	const struct nlmsghdr *header = (const struct nlmsghdr *) answer;
	if ((size_t) n < NLMSG_LENGTH(sizeof(struct nlmsgerr)) || header->nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return ((const struct nlmsgerr *) NLMSG_DATA(header))->error;
}

static int set_up(int fd, unsigned int index, uint32_t mtu)
{
	struct request request;
	struct ifinfomsg *link = begin(&request, RTM_NEWLINK, 0, sizeof(*link));

	link->ifi_index = (int) index;
	link->ifi_flags = link->ifi_change = IFF_UP;
	if (mtu > 0)
		put(&request, IFLA_MTU, &mtu, sizeof(mtu));
	return call(fd, &request);
}

/* A name, or the alias. */
static int set_text(int fd, unsigned int index, uint16_t type, const char *text)
{
	struct request request;
	struct ifinfomsg *link = begin(&request, RTM_NEWLINK, 0, sizeof(*link));

	link->ifi_index = (int) index;
	put(&request, type, text, strlen(text) + 1);
	return call(fd, &request);
}

static size_t size_of(const struct netconf_address *address)
{
	return address->family == AF_INET6 ? 16 : 4;
}

static int add_address(int fd, unsigned int index, const struct netconf_address *address)
{
	struct request request;
	struct ifaddrmsg *message =
		begin(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*message));

	message->ifa_family = (uint8_t) address->family;
	message->ifa_prefixlen = address->prefix;
	message->ifa_index = index;
	/* brume gives each address once: nothing needs to be asked, nobody waits for an answer. */
	message->ifa_flags = address->family == AF_INET6 ? IFA_F_NODAD : 0;
	put(&request, IFA_LOCAL, address->bytes, size_of(address));
	put(&request, IFA_ADDRESS, address->bytes, size_of(address));
	if (address->family == AF_INET && address->prefix < 31) {
		uint32_t ip, mask = ~(uint32_t) 0 >> address->prefix;

		memcpy(&ip, address->bytes, sizeof(ip));
		ip |= htonl(mask);
		put(&request, IFA_BROADCAST, &ip, sizeof(ip));
	}
	return call(fd, &request);
}

static int add_default_route(int fd, unsigned int index, const struct netconf_address *gateway)
{
	struct request request;
	struct rtmsg *message =
		begin(&request, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*message));

	message->rtm_family = (uint8_t) gateway->family;
	message->rtm_table = RT_TABLE_MAIN;
	message->rtm_protocol = RTPROT_BOOT;
	message->rtm_scope = RT_SCOPE_UNIVERSE;
	message->rtm_type = RTN_UNICAST;
	put(&request, RTA_GATEWAY, gateway->bytes, size_of(gateway));
	put(&request, RTA_OIF, &index, sizeof(index));
	return call(fd, &request);
}

/* The interface with that address; 0: none. */
static unsigned int find_nic(int fd, const uint8_t mac[GUEST_MAC_SIZE])
{
	struct if_nameindex *list = if_nameindex();
	unsigned int found = 0;

	for (struct if_nameindex *nic = list; nic && nic->if_name && !found; nic++) {
		struct ifreq request = {};

		snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", nic->if_name);
		if (ioctl(fd, SIOCGIFHWADDR, &request) == 0 &&
		    memcmp(request.ifr_hwaddr.sa_data, mac, GUEST_MAC_SIZE) == 0)
			found = nic->if_index;
	}
	if_freenameindex(list);
	return found;
}

static bool is_set_up(unsigned int index)
{
	char name[IF_NAMESIZE];
	AUTO(free) char *path = NULL, *text = NULL;

	if (!if_indextoname(index, name))
		return false;
	path = mem_printf("/sys/class/net/%s/ifalias", name);
	if (file_read(AT_FDCWD, path, ALIAS_MAX, &text, NULL) < 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	return strcmp(text, alias) == 0;
}

static int add_texts(int fd, unsigned int index, const char *const *texts, size_t count,
		     int (*add)(int fd, unsigned int index, const struct netconf_address *address),
		     const char *what, struct error *err)
{
	struct netconf_address address;

	for (size_t i = 0; i < count; i++) {
		int r = netconf_parse_address(texts[i], &address);

		if (r == 0)
			r = add(fd, index, &address);
		if (r < 0)
			return error_set(err, r, "add the %s %s", what, texts[i]);
	}
	return 0;
}

static int add_gateways(int fd, unsigned int index, const struct guest_nic *nic, struct error *err)
{
	return add_texts(fd, index, nic->gateways, nic->gateway_count, add_default_route, "gateway",
			 err);
}

static int setup_nic(int fd, unsigned int index, const struct guest_nic *nic, struct error *err)
{
	int r;

	if (is_set_up(index))
		return add_gateways(fd, index, nic, err);
	r = set_up(fd, index, nic->mtu);
	if (r < 0)
		return error_set(err, r, "set up the network interface");
	r = add_texts(fd, index, nic->addresses, nic->address_count, add_address, "address", err);
	if (r == 0)
		r = add_gateways(fd, index, nic, err);
	if (r < 0)
		return r;
	r = set_text(fd, index, IFLA_IFALIAS, alias);
	return r < 0 ? error_set(err, r, "mark the network interface") : 0;
}

static bool has_name(unsigned int index, const struct guest_nic *nic)
{
	char name[IF_NAMESIZE];

	return !nic->name || is_set_up(index) ||
	       (if_indextoname(index, name) && strcmp(name, nic->name) == 0);
}

/* The kernel counts them as it finds them; one may have the name that another is to have. */
static int name_nics(int fd, const unsigned int *indexes, const struct guest_config *config,
		     struct error *err)
{
	bool named[GUEST_NICS_MAX];
	char text[IF_NAMESIZE];
	int r;

	for (size_t i = 0; i < config->nic_count; i++) {
		named[i] = has_name(indexes[i], &config->nics[i]);
		if (named[i])
			continue;
		snprintf(text, sizeof(text), "brume%u", indexes[i]);
		r = set_text(fd, indexes[i], IFLA_IFNAME, text);
		if (r < 0)
			return error_set(err, r, "name a network interface");
	}
	for (size_t i = 0; i < config->nic_count; i++) {
		r = named[i] ? 0 : set_text(fd, indexes[i], IFLA_IFNAME, config->nics[i].name);
		if (r < 0)
			return error_set(err, r, "name a network interface %s",
					 config->nics[i].name);
	}
	return 0;
}

static int open_sockets(int *ret_fd, int *ret_socket_fd, struct error *err)
{
	struct timeval patience = { .tv_sec = WAIT_S };

	*ret_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	*ret_socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (*ret_fd < 0 || *ret_socket_fd < 0)
		return error_set(err, -errno, "open rtnetlink");
	setsockopt(*ret_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return 0;
}

static int missing(const struct guest_nic *nic, struct error *err)
{
	const uint8_t *mac = nic->mac;

	return error_say(err, -ENODEV,
			 "there is no network interface %02x:%02x:%02x:%02x:%02x:%02x", mac[0],
			 mac[1], mac[2], mac[3], mac[4], mac[5]);
}

static int setup_nics(int fd, const unsigned int *indexes, const struct guest_config *config,
		      struct error *err)
{
	int r = name_nics(fd, indexes, config, err);

	for (size_t i = 0; r == 0 && i < config->nic_count; i++)
		r = setup_nic(fd, indexes[i], &config->nics[i], err);
	return r;
}

int netconf_setup(const struct guest_config *config, struct error *err)
{
	AUTO(fd_close) int fd = -1, socket_fd = -1;
	unsigned int indexes[GUEST_NICS_MAX] = {};
	int r = open_sockets(&fd, &socket_fd, err);

	if (r < 0)
		return r;
	r = set_up(fd, if_nametoindex("lo"), 0);
	if (r < 0)
		return error_set(err, r, "set up lo");
	for (size_t i = 0; i < config->nic_count; i++) {
		indexes[i] = find_nic(socket_fd, config->nics[i].mac);
		if (indexes[i] == 0)
			return missing(&config->nics[i], err);
	}
	return setup_nics(fd, indexes, config, err);
}

/* A socket that hears of every interface. */
static int listen_links(struct error *err)
{
	AUTO(fd_close) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };

	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		return error_set(err, -errno, "listen to rtnetlink");
	return TAKE_FD(fd);
}

/* The driver may be just at it. */
static unsigned int await_nic(int events_fd, int socket_fd, const struct guest_nic *nic,
			      uint64_t until_us)
{
	struct pollfd ready = { events_fd, POLLIN, 0 };
	char event[EVENT_MAX];

	for (;;) {
		unsigned int index = find_nic(socket_fd, nic->mac);
		uint64_t now_us = clock_monotonic_us(clock_system());

		if (index != 0 || now_us >= until_us)
			return index;
		if (poll(&ready, 1, (int) ((until_us - now_us) / 1000) + 1) > 0)
			while (recv(events_fd, event, sizeof(event), MSG_DONTWAIT) > 0)
				;
	}
}

int netconf_change(const struct guest_config *config, struct error *err)
{
	uint64_t until_us = clock_monotonic_us(clock_system()) + NETCONF_WAIT_S * 1000000ull;
	AUTO(fd_close) int events_fd = listen_links(err);
	AUTO(fd_close) int fd = -1, socket_fd = -1;
	unsigned int indexes[GUEST_NICS_MAX] = {};
	int r = events_fd < 0 ? events_fd : open_sockets(&fd, &socket_fd, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < config->nic_count; i++) {
		indexes[i] = await_nic(events_fd, socket_fd, &config->nics[i], until_us);
		if (indexes[i] == 0)
			return missing(&config->nics[i], err);
	}
	return setup_nics(fd, indexes, config, err);
}
