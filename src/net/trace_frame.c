#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "net/address.h"
#include "net/trace_internal.h"

/*
 * The probe of a machine.  Nothing can be sent from inside of a guest that belongs to somebody
 * else, but what it sends is what its monitor writes to the tap: so a frame that is written there
 * takes the guest's way from its first step on.  The guest hears the answer to something it has not
 * asked, and says so, as any host does.
 */

enum {
	FDS_MAX = 4096,
	FDINFO_MAX = 4096,
	VNET_HEADER_MAX = 64,
	IPV4_SIZE = 20,
	IPV6_SIZE = 40,
	TCP_SIZE = 24, /* with the option of a segment's size */
	UDP_SIZE = 8,
	ECHO_SIZE = 8,
	SOLICIT_SIZE = 32,
	HOPS = 64,
	SEGMENT_BYTES = 1400,
};

static const char text[] = TRACE_TEXT;

/* ---- the device ---- */

static void dir_close(DIR *dir)
{
	if (dir)
		closedir(dir);
}
DEFINE_AUTO(DIR *, dir_close)

/* The kernel says of an open tap whose it is: "iff:\tNAME". */
static bool is_tap(int folder_fd, const char *entry, const char *interface)
{
	AUTO(free) char *info = NULL;
	AUTO(free) char *wanted = mem_printf("iff:\t%s\n", interface);

	return file_read(folder_fd, entry, FDINFO_MAX, &info, NULL) == 0 && strstr(info, wanted);
}

static int borrow_from(pid_t pid, const char *interface)
{
	AUTO(fd_close) int process = (int) syscall(SYS_pidfd_open, pid, 0);
	AUTO(free) char *path = mem_printf("/proc/%d/fdinfo", pid);
	AUTO(dir_close) DIR *dir = opendir(path);
	struct dirent *entry;
	size_t count = 0;

	if (process < 0 || !dir)
		return -ESRCH;
	while ((entry = readdir(dir)) && count++ < FDS_MAX) {
		int fd;

		if (entry->d_name[0] == '.' || !is_tap(dirfd(dir), entry->d_name, interface))
			continue;
		fd = (int) syscall(SYS_pidfd_getfd, process, atoi(entry->d_name), 0);
		return fd < 0 ? -errno : fd;
	}
	return -ENODEV;
}

int trace_tap_borrow(const pid_t *pids, size_t count, const char *interface, int *ret_fd)
{
	int result = -ENODEV;

	for (size_t i = 0; i < count; i++) {
		AUTO(fd_close) int fd = borrow_from(pids[i], interface);
		struct ifreq request = {};

		if (fd < 0) {
			result = fd == -ESRCH ? result : fd;
			continue;
		}
		/* The number may have become another file's in between. */
		if (ioctl(fd, TUNGETIFF, &request) < 0 || !(request.ifr_flags & IFF_TAP) ||
		    strncmp(request.ifr_name, interface, IF_NAMESIZE) != 0)
			continue;
		*ret_fd = TAKE_FD(fd);
		return 0;
	}
	return result;
}

int trace_frame_send(int tap_fd, const uint8_t *frame, size_t size)
{
	uint8_t bytes[VNET_HEADER_MAX + TRACE_FRAME_MAX] = {};
	struct ifreq request = {};
	int header = 0;
	ssize_t n;

	if (ioctl(tap_fd, TUNGETIFF, &request) < 0)
		return -errno;
	if ((request.ifr_flags & IFF_VNET_HDR) && ioctl(tap_fd, TUNGETVNETHDRSZ, &header) < 0)
		return -errno;
	if (header < 0 || header > VNET_HEADER_MAX || size > TRACE_FRAME_MAX ||
	    !(request.ifr_flags & IFF_NO_PI))
		return -EPROTO;
	memcpy(bytes + header, frame, size);
	n = write(tap_fd, bytes, (size_t) header + size);
	return n < 0 ? -errno : 0;
}

/* ---- frames ---- */

static void put_16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t) (value >> 8);
	at[1] = (uint8_t) value;
}

static uint32_t add_up(uint32_t sum, const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		sum += (uint32_t) bytes[i] << (i % 2 ? 0 : 8);
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~sum;
}

static void put_ethernet(uint8_t *frame, const uint8_t *to, const uint8_t *from, uint16_t type)
{
	memcpy(frame, to, LINK_MAC_SIZE);
	memcpy(frame + LINK_MAC_SIZE, from, LINK_MAC_SIZE);
	put_16(frame + 2 * LINK_MAC_SIZE, type);
}

/* The header of IP, for `size` bytes behind it; returns where these begin. */
static uint8_t *put_ip(uint8_t *at, const struct nft_flow_ends *ends, uint8_t hops, size_t size)
{
	if (ends->source.family == AF_INET) {
		at[0] = 0x45;
		put_16(at + 2, (uint16_t) (IPV4_SIZE + size));
		at[6] = 0x40; /* is not to be cut */
		at[8] = hops;
		at[9] = ends->protocol;
		memcpy(at + 12, ends->source.bytes, 4);
		memcpy(at + 16, ends->destination.bytes, 4);
		put_16(at + 10, fold(add_up(0, at, IPV4_SIZE)));
		return at + IPV4_SIZE;
	}
	at[0] = 0x60;
	put_16(at + 4, (uint16_t) size);
	at[6] = ends->protocol;
	at[7] = hops;
	memcpy(at + 8, ends->source.bytes, 16);
	memcpy(at + 24, ends->destination.bytes, 16);
	return at + IPV6_SIZE;
}

/* The sum over what is behind the header, and the addresses but for ICMP of IPv4. */
static void put_sum(uint8_t *payload, size_t size, size_t sum_at, const struct nft_flow_ends *ends)
{
	uint32_t sum = add_up(0, payload, size);
	size_t address = route_ip_size(&ends->source);

	if (ends->protocol != IPPROTO_ICMP) {
		sum = add_up(sum, ends->source.bytes, address);
		sum = add_up(sum, ends->destination.bytes, address);
		sum += ends->protocol + (uint32_t) size;
	}
	/* Of UDP a sum of zero says that there is none. */
	put_16(payload + sum_at,
	       fold(sum) == 0 && ends->protocol == IPPROTO_UDP ? 0xffff : fold(sum));
}

static size_t put_tcp(uint8_t *at, const struct nft_flow_ends *ends)
{
	uint32_t sequence = 0;

	rng_system()->fill(rng_system(), &sequence, sizeof(sequence));
	put_16(at, ends->source_port);
	put_16(at + 2, ends->destination_port);
	memcpy(at + 4, &sequence, sizeof(sequence));
	at[12] = TCP_SIZE / 4 << 4;
	at[13] = TH_SYN;
	put_16(at + 14, 0xffff);
	at[20] = TCPOPT_MAXSEG;
	at[21] = TCPOLEN_MAXSEG;
	put_16(at + 22, SEGMENT_BYTES);
	return TCP_SIZE;
}

static size_t put_udp(uint8_t *at, const struct nft_flow_ends *ends)
{
	put_16(at, ends->source_port);
	put_16(at + 2, ends->destination_port);
	put_16(at + 4, UDP_SIZE + sizeof(text) - 1);
	memcpy(at + UDP_SIZE, text, sizeof(text) - 1);
	return UDP_SIZE + sizeof(text) - 1;
}

static size_t put_echo(uint8_t *at, const struct nft_flow_ends *ends)
{
	at[0] = ends->protocol == IPPROTO_ICMP ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
	put_16(at + 4, ends->source_port);
	put_16(at + 6, 1);
	memcpy(at + ECHO_SIZE, text, sizeof(text) - 1);
	return ECHO_SIZE + sizeof(text) - 1;
}

size_t trace_frame_echo(const struct nft_flow_ends *ends, uint8_t ret[TRACE_FRAME_MAX])
{
	size_t size;

	memset(ret, 0, TRACE_FRAME_MAX);
	size = put_echo(ret, ends);
	if (ends->protocol == IPPROTO_ICMP)
		put_sum(ret, size, 2, ends);
	return size;
}

size_t trace_frame_probe(const struct trace_plan *plan, const uint8_t to[LINK_MAC_SIZE],
			 uint8_t ret[TRACE_FRAME_MAX])
{
	const struct nft_flow_ends *ends = &plan->ends;
	bool ipv4 = ends->source.family == AF_INET;
	uint8_t *payload = ret + ETH_HLEN + (ipv4 ? IPV4_SIZE : IPV6_SIZE);
	size_t size, sum_at = 2;

	memset(ret, 0, TRACE_FRAME_MAX);
	put_ethernet(ret, to, plan->mac, ipv4 ? ETH_P_IP : ETH_P_IPV6);
	if (ends->protocol == IPPROTO_TCP) {
		size = put_tcp(payload, ends);
		sum_at = 16;
	} else if (ends->protocol == IPPROTO_UDP) {
		size = put_udp(payload, ends);
		sum_at = 6;
	} else {
		size = put_echo(payload, ends);
	}
	put_ip(ret + ETH_HLEN, ends, HOPS, size);
	put_sum(payload, size, sum_at, ends);
	return (size_t) (payload - ret) + size;
}

static size_t ask_ipv4(const struct trace_plan *plan, uint8_t *ret)
{
	static const uint8_t begin[] = { 0, 1, 8, 0, 6, 4, 0, 1 };
	static const uint8_t all[LINK_MAC_SIZE] = { 255, 255, 255, 255, 255, 255 };
	uint8_t *arp = ret + ETH_HLEN;

	put_ethernet(ret, all, plan->mac, ETH_P_ARP);
	memcpy(arp, begin, sizeof(begin));
	memcpy(arp + 8, plan->mac, LINK_MAC_SIZE);
	memcpy(arp + 14, plan->ends.source.bytes, 4);
	memcpy(arp + 24, plan->next_hop.bytes, 4);
	return ETH_HLEN + 28;
}

/* A neighbour solicitation to the multicast group of who is asked for. */
static size_t ask_ipv6(const struct trace_plan *plan, uint8_t *ret)
{
	const uint8_t *next = plan->next_hop.bytes;
	const uint8_t to[LINK_MAC_SIZE] = { 0x33, 0x33, 0xff, next[13], next[14], next[15] };
	struct nft_flow_ends ends = {
		.source = plan->ends.source,
		.destination = { .family = AF_INET6,
				 .bytes = { 0xff, 2, [11] = 1, [12] = 0xff, next[13], next[14],
					    next[15] } },
		.protocol = IPPROTO_ICMPV6,
	};
	uint8_t *payload;

	put_ethernet(ret, to, plan->mac, ETH_P_IPV6);
	payload = put_ip(ret + ETH_HLEN, &ends, 255, SOLICIT_SIZE);
	payload[0] = ND_NEIGHBOR_SOLICIT;
	memcpy(payload + 8, next, 16);
	payload[24] = 1; /* option: the asker's own MAC, one unit of eight bytes */
	payload[25] = 1;
	memcpy(payload + 26, plan->mac, LINK_MAC_SIZE);
	put_sum(payload, SOLICIT_SIZE, 2, &ends);
	return ETH_HLEN + IPV6_SIZE + SOLICIT_SIZE;
}

size_t trace_frame_ask(const struct trace_plan *plan, uint8_t ret[TRACE_FRAME_MAX])
{
	memset(ret, 0, TRACE_FRAME_MAX);
	return plan->next_hop.family == AF_INET ? ask_ipv4(plan, ret) : ask_ipv6(plan, ret);
}

/* ---- answers ---- */

void trace_frame_judge(const struct trace_plan *plan, const struct nft_trace_packet *packet,
		       enum trace_answer *ret, struct route_ip *ret_from)
{
	const struct nft_flow_ends *ends = &plan->ends;
	bool icmp = packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMPV6;
	bool echo = packet->protocol == IPPROTO_ICMP ? packet->icmp_type == ICMP_ECHOREPLY
						     : packet->icmp_type == ICMP6_ECHO_REPLY;
	bool no_port = packet->protocol == IPPROTO_ICMP
			       ? packet->icmp_type == ICMP_DEST_UNREACH &&
					 packet->icmp_code == ICMP_PORT_UNREACH
			       : packet->icmp_type == ICMP6_DST_UNREACH &&
					 packet->icmp_code == ICMP6_DST_UNREACH_NOPORT;

	if (packet->protocol == IPPROTO_TCP) {
		*ret = packet->tcp_flags & TH_RST ? TRACE_ANSWER_REFUSED : TRACE_ANSWER_CONNECTED;
	} else if (!icmp || echo) {
		*ret = TRACE_ANSWER_REPLY;
	} else {
		*ret_from = packet->source;
		*ret = ends->protocol == IPPROTO_UDP && no_port &&
				       address_equal(&packet->source, &ends->destination)
			       ? TRACE_ANSWER_REFUSED
			       : TRACE_ANSWER_UNREACHABLE;
	}
}
