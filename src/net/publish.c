#include "net/publish.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "kern/nft.h"
#include "kern/nft_flow.h"
#include "net/address.h"
#include "net/node_internal.h"
#include "net/publish_internal.h"
#include "net/rules_internal.h"

enum { KEY_PART = 4 }; /* parts of a key and a value stand on such borders */

/* A checked publish_spec: one element, or two for "all addresses, IPv4 and IPv6". */
struct publish_plan {
	uint8_t protocol;
	struct route_ip host; /* `family` 0 = all of both families; all zero = all of its family */
};

static bool is_any(const struct route_ip *ip)
{
	static const struct route_ip none;

	return memcmp(ip->bytes, none.bytes, sizeof(none.bytes)) == 0;
}

/* Addresses of the host that no packet for somebody else can have: ::1 and link-local ones. */
static bool stays_at_home(const struct route_ip *ip)
{
	struct route_ip loopback, link_local;

	return address_parse("::1", &loopback) == 0 &&
	       address_parse_subnet("fe80::/10", &link_local) == 0 &&
	       (address_equal(ip, &loopback) || address_inside(&link_local, ip));
}

static int publish_plan(const struct publish_spec *spec, struct publish_plan *ret,
			struct error *err)
{
	struct publish_plan plan = {};

	if (!spec->protocol ||
	    (strcmp(spec->protocol, "tcp") != 0 && strcmp(spec->protocol, "udp") != 0))
		return error_say(err, -EINVAL, "protocol '%.16s': must be tcp or udp",
				 spec->protocol ? spec->protocol : "");
	if (spec->host_port == 0 || spec->port == 0)
		return error_say(err, -EINVAL, "a published port must be 1 to 65535");
	plan.protocol = spec->protocol[0] == 't' ? IPPROTO_TCP : IPPROTO_UDP;
	if (spec->host_ip && spec->host_ip[0]) {
		if (address_parse(spec->host_ip, &plan.host) < 0)
			return error_say(err, -EINVAL,
					 "host address '%.64s': must be an IPv4 or IPv6 address",
					 spec->host_ip);
		if (stays_at_home(&plan.host))
			return error_say(
				err, -EINVAL,
				"host address '%.64s': IPv6 loopback and link-local cannot "
				"be published",
				spec->host_ip);
	}
	*ret = plan;
	return 0;
}

int publish_check(const struct publish_spec *spec, struct error *err)
{
	struct publish_plan plan;

	return publish_plan(spec, &plan, err);
}

/* Writes [address .] protocol . port; returns the bytes used. */
static size_t put_key(uint8_t *key, const struct route_ip *ip, uint8_t protocol, uint16_t port)
{
	uint16_t port_be = htons(port);
	size_t at = 0;

	if (ip) {
		memcpy(key, ip->bytes, route_ip_size(ip));
		at = route_ip_size(ip);
	}
	key[at] = protocol;
	memcpy(key + at + KEY_PART, &port_be, sizeof(port_be));
	return at + 2 * KEY_PART;
}

/* What a call wants, in step with each other: the element, and the spec it comes from. */
struct wanted {
	struct rules_element *elements;
	const struct publish_spec **origins;
	size_t count;
};

static void wanted_done(struct wanted *wanted)
{
	free(wanted->elements);
	free(wanted->origins);
}
static inline void wanted_done_autop(struct wanted *wanted)
{
	wanted_done(wanted);
}

static void want(struct wanted *wanted, const struct publish_spec *spec, uint8_t protocol,
		 const struct route_ip *host, const struct route_ip *target)
{
	struct rules_element *element = &wanted->elements[wanted->count];
	bool ipv4 = target->family == AF_INET;
	uint16_t port_be = htons(spec->port);

	*element = (struct rules_element){};
	if (host->family && !is_any(host)) {
		element->set = ipv4 ? RULES_PUBLISH4 : RULES_PUBLISH6;
		put_key(element->key, host, protocol, spec->host_port);
	} else {
		element->set = ipv4 ? RULES_PUBLISH4_ANY : RULES_PUBLISH6_ANY;
		put_key(element->key, NULL, protocol, spec->host_port);
	}
	memcpy(element->value, target->bytes, route_ip_size(target));
	memcpy(element->value + route_ip_size(target), &port_be, sizeof(port_be));
	wanted->origins[wanted->count++] = spec;
}

static int plan_all(const struct publish_spec *specs, size_t count, const struct route_ip *ipv4,
		    const struct route_ip *ipv6, struct wanted *wanted, struct error *err)
{
	wanted->elements = mem_new0_array(struct rules_element, count ? 2 * count : 1);
	wanted->origins = mem_new0_array(const struct publish_spec *, count ? 2 * count : 1);
	for (size_t i = 0; i < count; i++) {
		size_t before = wanted->count;
		struct publish_plan plan;
		int r = publish_plan(&specs[i], &plan, err);

		if (r < 0)
			return r;
		if (ipv4->family && plan.host.family != AF_INET6)
			want(wanted, &specs[i], plan.protocol, &plan.host, ipv4);
		if (ipv6->family && plan.host.family != AF_INET)
			want(wanted, &specs[i], plan.protocol, &plan.host, ipv6);
		if (wanted->count == before)
			return error_say(err, -EINVAL,
					 "port %u/%s on '%.64s' cannot be published: the instance "
					 "has no address of that family",
					 specs[i].host_port, specs[i].protocol,
					 specs[i].host_ip ? specs[i].host_ip : "");
	}
	return 0;
}

/* The parts of an element's key. */
static void split_key(const struct rules_element *element, struct route_ip *ip, uint8_t *protocol,
		      uint16_t *port)
{
	bool exact = element->set == RULES_PUBLISH4 || element->set == RULES_PUBLISH6;
	bool ipv4 = element->set == RULES_PUBLISH4 || element->set == RULES_PUBLISH4_ANY;
	uint16_t port_be;
	size_t at;

	*ip = (struct route_ip){ .family = ipv4 ? AF_INET : AF_INET6 };
	at = exact ? route_ip_size(ip) : 0;
	memcpy(ip->bytes, element->key, at);
	*protocol = element->key[at];
	memcpy(&port_be, element->key + at + KEY_PART, sizeof(port_be));
	*port = ntohs(port_be);
}

/* Looks for somebody else's element with the same port on an address that this one covers. */
struct covered {
	const char *owner; /* ours */
	const struct rules_element *element;
	uint8_t exact_set;
	const char *other;
};

static void look_for_covered(const char *owner, const struct rules_element *element, void *data)
{
	struct covered *covered = data;
	size_t skip = element->set == RULES_PUBLISH4 ? 4 : 16;

	if (element->set == covered->exact_set && strcmp(owner, covered->owner) != 0 &&
	    memcmp(element->key + skip, covered->element->key, (size_t) 2 * KEY_PART) == 0)
		covered->other = owner;
}

/* Who else has this port, on the same address or on one that includes or is included; or NULL. */
static const char *other_owner(struct net *net, const char *owner,
			       const struct rules_element *element)
{
	bool exact = element->set == RULES_PUBLISH4 || element->set == RULES_PUBLISH6;
	const char *found = rules_owner(net->rules, element);

	if (found)
		return strcmp(found, owner) != 0 ? found : NULL;
	if (exact) {
		size_t skip = element->set == RULES_PUBLISH4 ? 4 : 16;
		struct rules_element all = { .set = element->set == RULES_PUBLISH4
							    ? RULES_PUBLISH4_ANY
							    : RULES_PUBLISH6_ANY };

		memcpy(all.key, element->key + skip, (size_t) 2 * KEY_PART);
		found = rules_owner(net->rules, &all);
		return found && strcmp(found, owner) != 0 ? found : NULL;
	}
	struct covered covered = { .owner = owner,
				   .element = element,
				   .exact_set = element->set == RULES_PUBLISH4_ANY
							? RULES_PUBLISH4
							: RULES_PUBLISH6 };

	/* Few ports are bound to one address; with none there is nothing to look through. */
	if (rules_count(net->rules, (enum rules_set) covered.exact_set) > 0)
		rules_each(net->rules, look_for_covered, &covered);
	return covered.other;
}

int publish_try_bind(const struct route_ip *ip, uint8_t protocol, uint16_t port)
{
	struct sockaddr_in6 address6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in address4 = { .sin_family = AF_INET };
	AUTO(fd_close) int fd = -1;
	int on = 1, r;

	fd = socket(ip->family, (protocol == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC,
		    0);
	if (fd < 0)
		return -errno;
	if (protocol == IPPROTO_TCP &&
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (ip->family == AF_INET6) {
		if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
			return -errno;
		memcpy(&address6.sin6_addr, ip->bytes, sizeof(address6.sin6_addr));
		address6.sin6_port = htons(port);
		r = bind(fd, (struct sockaddr *) &address6, sizeof(address6));
	} else {
		memcpy(&address4.sin_addr, ip->bytes, sizeof(address4.sin_addr));
		address4.sin_port = htons(port);
		r = bind(fd, (struct sockaddr *) &address4, sizeof(address4));
	}
	return r < 0 ? -errno : 0;
}

static int try_bind(const struct rules_element *element)
{
	struct route_ip ip;
	uint8_t protocol;
	uint16_t port;

	split_key(element, &ip, &protocol, &port);
	return publish_try_bind(&ip, protocol, port);
}

static int check_free(struct net *net, const char *owner, const struct rules_element *element,
		      const struct publish_spec *spec, struct error *err)
{
	const char *other = other_owner(net, owner, element);
	const char *at = spec->host_ip && spec->host_ip[0] ? spec->host_ip : "all addresses";
	int r;

	if (other)
		return error_say(err, -EADDRINUSE,
				 "port %u/%s on %.64s is published by instance %s already: choose "
				 "another host port",
				 spec->host_port, spec->protocol, at, other);
	if (rules_owner(net->rules, element))
		return 0; /* it is ours already */
	r = try_bind(element);
	if (r == -EADDRINUSE)
		return error_say(err, r,
				 "port %u/%s on %.64s is in use by a process of the host: choose "
				 "another host port",
				 spec->host_port, spec->protocol, at);
	if (r == -EADDRNOTAVAIL)
		return error_say(err, r, "host address '%.64s': is not an address of this host",
				 at);
	return r < 0 ? error_set(err, r, "cannot publish port %u/%s on %.64s", spec->host_port,
				 spec->protocol, at)
		     : 0;
}

/*
 * A UDP flow stays with whom it first reached as long as it has packets: one that began before the
 * port was published, or led to an instance that is gone, must be looked at anew.  It is a help,
 * not a promise: without it flows end after 30 quiet seconds.
 */
static void forget_flows(struct net *net, const struct strbuf *changed)
{
	for (size_t at = 0; at < changed->size; at += sizeof(struct rules_element)) {
		struct rules_element element;
		struct route_ip ip;
		uint8_t protocol;
		uint16_t port;

		memcpy(&element, changed->data + at, sizeof(element));
		split_key(&element, &ip, &protocol, &port);
		if (protocol == IPPROTO_UDP)
			(void) nft_flow_forget(nft_netlink(rules_nft(net->rules)), ip.family,
					       protocol, port);
	}
}

static int parse_target(const struct net *net, const char *text, int family, struct route_ip *ret,
			struct error *err)
{
	if (!text || !text[0])
		return 0;
	if (address_parse(text, ret) < 0 || ret->family != family)
		return error_say(err, -EINVAL, "instance address '%.64s': must be an %s address",
				 text, family == AF_INET ? "IPv4" : "IPv6");
	if (family == AF_INET6 && !net->ipv6)
		return error_say(err, -EAFNOSUPPORT,
				 "instance address '%.64s': this kernel has no IPv6", text);
	return 0;
}

static int check_owner(const char *uid, struct error *err)
{
	if (name_is_uid(uid))
		return 0;
	return error_say(err, -EINVAL, "instance uid '%.40s': must be 1 to 32 of 0-9 and a-f",
			 uid ? uid : "");
}

int publish_ensure(struct net *net, const char *instance_uid, const char *ipv4, const char *ipv6,
		   const struct publish_spec *specs, size_t count, struct error *err)
{
	AUTO(wanted_done) struct wanted wanted = {};
	AUTO(strbuf_done) struct strbuf changed = {};
	struct route_ip target4 = {}, target6 = {};
	size_t conflict = 0;
	int r = check_owner(instance_uid, err);

	if (r == 0 && count > PUBLISH_COUNT_MAX)
		r = error_say(err, -E2BIG, "%zu published ports: an instance may have %d", count,
			      PUBLISH_COUNT_MAX);
	if (r == 0)
		r = parse_target(net, ipv4, AF_INET, &target4, err);
	if (r == 0)
		r = parse_target(net, ipv6, AF_INET6, &target6, err);
	if (r == 0)
		r = plan_all(specs, count, &target4, &target6, &wanted, err);
	if (r < 0)
		return r;
	NET_LOCKED(net);
	for (size_t i = 0; i < wanted.count; i++) {
		r = check_free(net, instance_uid, &wanted.elements[i], wanted.origins[i], err);
		if (r < 0)
			return r;
	}
	r = rules_assign(net->rules, instance_uid, RULES_OF_PUBLISH, wanted.elements, wanted.count,
			 &conflict, &changed, err);
	if (r == -EEXIST || r == -EADDRINUSE)
		return error_say(err, r, "port %u/%s is published twice",
				 wanted.origins[conflict]->host_port,
				 wanted.origins[conflict]->protocol);
	if (r == 0)
		forget_flows(net, &changed);
	return r;
}

int publish_remove(struct net *net, const char *instance_uid, struct error *err)
{
	return publish_ensure(net, instance_uid, NULL, NULL, NULL, 0, err);
}
