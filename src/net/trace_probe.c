#include <time.h>

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/error.h"
#include "net/address.h"
#include "net/port_internal.h"
#include "net/trace_internal.h"

/*
 * The probe of a container.  Its socket belongs to the instance's namespace, wherever it is used
 * from: so routes, addresses and the sockets of its other end are the instance's own.
 */

enum {
	ECHO_HEADER = 8,
	IPV4_HEADER_MIN = 20,
	READ_MAX = 64, /* packets in one call */
};

/* An address as the socket calls take it. */
struct name {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} of;
	socklen_t size;
};

static struct name name_of(const struct route_ip *ip, uint16_t port)
{
	struct name name = {};

	if (ip->family == AF_INET) {
		name.of.v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
		memcpy(&name.of.v4.sin_addr, ip->bytes, 4);
		name.size = sizeof(name.of.v4);
	} else {
		name.of.v6 =
			(struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port) };
		memcpy(&name.of.v6.sin6_addr, ip->bytes, 16);
		name.size = sizeof(name.of.v6);
	}
	return name;
}

static bool is_echo(const struct trace_probe *probe)
{
	return probe->ends.protocol == IPPROTO_ICMP || probe->ends.protocol == IPPROTO_ICMPV6;
}

static void set_option(int fd, int level, int name, const void *value, socklen_t size)
{
	/* Comforts: without them less is known of an answer. */
	(void) setsockopt(fd, level, name, value, size);
}

static void set_options(const struct trace_probe *probe)
{
	struct linger reset = { .l_onoff = 1 };
	int on = 1;

	if (probe->ends.source.family == AF_INET)
		set_option(probe->fd, SOL_IP, IP_RECVERR, &on, sizeof(on));
	else
		set_option(probe->fd, SOL_IPV6, IPV6_RECVERR, &on, sizeof(on));
	/* Closing leaves nothing behind: no connection waits in the instance for its time to end.
	 */
	if (probe->ends.protocol == IPPROTO_TCP)
		set_option(probe->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

static int take_number(struct trace_probe *probe, struct error *err)
{
	struct name name = { .size = sizeof(name.of) };

	if (is_echo(probe)) {
		while (probe->ends.source_port == 0)
			rng_system()->fill(rng_system(), &probe->ends.source_port,
					   sizeof(probe->ends.source_port));
		return 0;
	}
	if (getsockname(probe->fd, &name.of.any, &name.size) < 0)
		return error_set(err, -errno, "the probe's port");
	probe->ends.source_port = ntohs(
		probe->ends.source.family == AF_INET ? name.of.v4.sin_port : name.of.v6.sin6_port);
	return 0;
}

static int open_socket(struct trace_probe *probe, const struct trace_spec *spec, struct net *net,
		       struct error *err)
{
	int kind = probe->ends.protocol == IPPROTO_TCP   ? SOCK_STREAM
		   : probe->ends.protocol == IPPROTO_UDP ? SOCK_DGRAM
							 : SOCK_RAW;
	int r = port_enter(spec->netns_fd, spec->port_count > 0 ? spec->ports[0].uid : "", err);

	if (r < 0)
		return r;
	probe->fd = socket(probe->ends.source.family, kind | SOCK_CLOEXEC | SOCK_NONBLOCK,
			   probe->ends.protocol);
	r = probe->fd < 0 ? -errno : 0;
	port_leave(net);
	return r < 0 ? error_set(err, r, "cannot open a socket in the instance") : 0;
}

int trace_probe_open(struct trace_probe *probe, struct net *net, const struct trace_plan *plan,
		     struct error *err)
{
	struct name source = name_of(&plan->ends.source, 0);
	char address[ADDRESS_TEXT_SIZE];
	int r;

	*probe = (struct trace_probe){ .fd = -1, .ends = plan->ends };
	r = open_socket(probe, plan->spec, net, err);
	if (r < 0)
		return r;
	set_options(probe);
	if (bind(probe->fd, &source.of.any, source.size) < 0)
		return error_set(err, -errno, "the instance cannot send with its address %s",
				 address_text(&plan->ends.source, address));
	return take_number(probe, err);
}

void trace_probe_close(struct trace_probe *probe)
{
	fd_close(probe->fd);
	probe->fd = -1;
}

/* ---- sending ---- */

static void settle(struct trace_probe *probe, enum trace_answer answer)
{
	probe->answered = true;
	probe->answer = answer;
}

static ssize_t send_echo(const struct trace_probe *probe)
{
	uint8_t packet[TRACE_FRAME_MAX];
	size_t size = trace_frame_echo(&probe->ends, packet);

	return send(probe->fd, packet, size, MSG_NOSIGNAL);
}

int trace_probe_send(struct trace_probe *probe, struct error *err)
{
	struct name to = name_of(&probe->ends.destination, probe->ends.destination_port);
	int r = connect(probe->fd, &to.of.any, to.size) < 0 ? -errno : 0;

	if (probe->ends.protocol == IPPROTO_TCP) {
		if (r == 0)
			settle(probe, TRACE_ANSWER_CONNECTED);
		else if (r == -ECONNREFUSED)
			settle(probe, TRACE_ANSWER_REFUSED);
		r = r == -EINPROGRESS || r == -ECONNREFUSED ? 0 : r;
	} else if (r == 0) {
		ssize_t n = is_echo(probe)
				    ? send_echo(probe)
				    : send(probe->fd, TRACE_TEXT, strlen(TRACE_TEXT), MSG_NOSIGNAL);

		r = n < 0 ? -errno : 0;
	}
	/* Dropped on its way out by somebody that the trace tells of: a rule at an uplink, say. */
	if (r == -ENOBUFS)
		r = 0;
	/* Its own routes have none for this address. */
	if (r == -ENETUNREACH || r == -EHOSTUNREACH) {
		settle(probe, TRACE_ANSWER_UNREACHABLE);
		return 0;
	}
	probe->sent = r == 0;
	return r < 0 ? error_set(err, r, "the instance cannot send to this address") : 0;
}

/* ---- what comes back ---- */

static void take_offender(const struct sock_extended_err *found, struct route_ip *ret)
{
	const struct sockaddr *from = SO_EE_OFFENDER(found);

	if (from->sa_family == AF_INET) {
		*ret = (struct route_ip){ .family = AF_INET, .prefix = 32 };
		memcpy(ret->bytes, &((const struct sockaddr_in *) (const void *) from)->sin_addr,
		       4);
	} else if (from->sa_family == AF_INET6) {
		*ret = (struct route_ip){ .family = AF_INET6, .prefix = 128 };
		memcpy(ret->bytes, &((const struct sockaddr_in6 *) (const void *) from)->sin6_addr,
		       16);
	}
}

static bool says_no_port(const struct sock_extended_err *found)
{
	return found->ee_origin == SO_EE_ORIGIN_ICMP
		       ? found->ee_type == ICMP_DEST_UNREACH && found->ee_code == ICMP_PORT_UNREACH
		       : found->ee_type == ICMP6_DST_UNREACH &&
				 found->ee_code == ICMP6_DST_UNREACH_NOPORT;
}

/* Nobody listens at a UDP port: its host says so itself. */
static void take_icmp(struct trace_probe *probe, const struct sock_extended_err *found)
{
	bool refused;

	if (found->ee_origin != SO_EE_ORIGIN_ICMP && found->ee_origin != SO_EE_ORIGIN_ICMP6)
		return;
	take_offender(found, &probe->answer_from);
	refused = probe->ends.protocol == IPPROTO_UDP && says_no_port(found) &&
		  address_equal(&probe->answer_from, &probe->ends.destination);
	settle(probe, refused ? TRACE_ANSWER_REFUSED : TRACE_ANSWER_UNREACHABLE);
}

/* Our echo, or its answer?  What the instance itself asks comes by here as well. */
static bool is_own_echo(const struct trace_probe *probe, const uint8_t *echo, size_t size,
			bool answer)
{
	bool icmp = probe->ends.protocol == IPPROTO_ICMP;
	uint8_t type = answer ? (icmp ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY)
			      : (icmp ? ICMP_ECHO : ICMP6_ECHO_REQUEST);

	return size >= ECHO_HEADER && echo[0] == type &&
	       (uint16_t) (echo[4] << 8 | echo[5]) == probe->ends.source_port;
}

static void read_errors(struct trace_probe *probe)
{
	uint8_t packet[256];
	_Alignas(8) char control[512];

	for (int i = 0; i < READ_MAX && !probe->answered; i++) {
		struct iovec part = { packet, sizeof(packet) };
		struct msghdr received = { .msg_iov = &part,
					   .msg_iovlen = 1,
					   .msg_control = control,
					   .msg_controllen = sizeof(control) };
		ssize_t size = recvmsg(probe->fd, &received, MSG_ERRQUEUE | MSG_DONTWAIT);

		if (size < 0)
			return;
		if (is_echo(probe) && !is_own_echo(probe, packet, (size_t) size, false))
			continue;
		for (struct cmsghdr *item = CMSG_FIRSTHDR(&received); item;
		     item = CMSG_NXTHDR(&received, item)) {
			bool ipv4 = item->cmsg_level == SOL_IP && item->cmsg_type == IP_RECVERR;
			bool ipv6 = item->cmsg_level == SOL_IPV6 && item->cmsg_type == IPV6_RECVERR;

			/* The address of who said it stands behind. */
			if ((ipv4 || ipv6) &&
			    item->cmsg_len >= CMSG_LEN(sizeof(struct sock_extended_err) +
						       (ipv4 ? sizeof(struct sockaddr_in)
							     : sizeof(struct sockaddr_in6))))
				take_icmp(probe, (const void *) CMSG_DATA(item));
		}
	}
}

static void read_connection(struct trace_probe *probe)
{
	int code = 0;
	socklen_t size = sizeof(code);

	read_errors(probe);
	if (probe->answered || getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0)
		return;
	switch (code) {
	case 0:
		settle(probe, TRACE_ANSWER_CONNECTED);
		return;
	case ECONNREFUSED:
	case ECONNRESET:
		settle(probe, TRACE_ANSWER_REFUSED);
		return;
	case ETIMEDOUT:
		settle(probe, TRACE_ANSWER_NONE);
		return;
	default:
		settle(probe, TRACE_ANSWER_UNREACHABLE);
		return;
	}
}

static void read_packets(struct trace_probe *probe)
{
	uint8_t packet[2048];

	for (int i = 0; i < READ_MAX && !probe->answered; i++) {
		ssize_t size = recv(probe->fd, packet, sizeof(packet), MSG_DONTWAIT);
		size_t skip = 0;

		/* An error that the queue has words for is taken by this. */
		if (size < 0 && errno != EAGAIN)
			continue;
		if (size < 0)
			return;
		if (probe->ends.protocol == IPPROTO_ICMP)
			skip = size >= IPV4_HEADER_MIN ? (size_t) (packet[0] & 15) * 4
						       : (size_t) size;
		if (is_echo(probe) &&
		    ((size_t) size < skip ||
		     !is_own_echo(probe, packet + skip, (size_t) size - skip, true)))
			continue;
		settle(probe, TRACE_ANSWER_REPLY);
	}
}

short trace_probe_events(const struct trace_probe *probe)
{
	return probe->ends.protocol == IPPROTO_TCP ? POLLOUT : POLLIN;
}

void trace_probe_read(struct trace_probe *probe)
{
	if (probe->answered)
		return;
	if (probe->ends.protocol == IPPROTO_TCP) {
		read_connection(probe);
		return;
	}
	read_errors(probe);
	read_packets(probe);
}
