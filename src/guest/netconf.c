#include "guest/netconf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"
#include "codec/guest_config.h"

enum { REQUEST_MAX = 256, ANSWER_MAX = 8192, WAIT_S = 5 };

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

static int setup_addresses(int fd, unsigned int index, const struct guest_nic *nic,
			   struct error *err)
{
	struct netconf_address address;
	int r;

	for (size_t i = 0; i < nic->address_count; i++) {
		r = netconf_parse_address(nic->addresses[i], &address);
		if (r == 0)
			r = add_address(fd, index, &address);
		if (r < 0)
			return error_set(err, r, "add the address %s", nic->addresses[i]);
	}
	for (size_t i = 0; i < nic->gateway_count; i++) {
		r = netconf_parse_address(nic->gateways[i], &address);
		if (r == 0)
			r = add_default_route(fd, index, &address);
		if (r < 0)
			return error_set(err, r, "add the gateway %s", nic->gateways[i]);
	}
	return 0;
}

static int setup_nic(int fd, int socket_fd, const struct guest_nic *nic, struct error *err)
{
	unsigned int index = find_nic(socket_fd, nic->mac);
	int r;

	if (index == 0)
		return error_say(err, -ENODEV,
				 "there is no network interface %02x:%02x:%02x:%02x:%02x:%02x",
				 nic->mac[0], nic->mac[1], nic->mac[2], nic->mac[3], nic->mac[4],
				 nic->mac[5]);
	r = set_up(fd, index, nic->mtu);
	if (r < 0)
		return error_set(err, r, "set up the network interface");
	return setup_addresses(fd, index, nic, err);
}

int netconf_setup(const struct guest_config *config, struct error *err)
{
	struct timeval patience = { .tv_sec = WAIT_S };
	AUTO(fd_close) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	AUTO(fd_close) int socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0 || socket_fd < 0)
		return error_set(err, -errno, "open rtnetlink");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	r = set_up(fd, if_nametoindex("lo"), 0);
	if (r < 0)
		return error_set(err, r, "set up lo");
	for (size_t i = 0; r == 0 && i < config->nic_count; i++)
		r = setup_nic(fd, socket_fd, &config->nics[i], err);
	return r;
}
