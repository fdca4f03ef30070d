#include "model/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static unsigned int ip_bits(const struct ip *ip)
{
	return ip->family == 4 ? 32 : 128;
}

int ip_parse(const char *text, struct ip *ret)
{
	struct ip ip = {};

	if (!text)
		return -EINVAL;
	if (inet_pton(AF_INET, text, ip.bytes) == 1)
		ip.family = 4;
	else if (inet_pton(AF_INET6, text, ip.bytes) == 1)
		ip.family = 6;
	else
		return -EINVAL;
	*ret = ip;
	return 0;
}

void ip_format(const struct ip *ip, char ret[IP_TEXT_SIZE])
{
	ret[0] = '\0';
	if (ip->family)
		inet_ntop(ip->family == 4 ? AF_INET : AF_INET6, ip->bytes, ret, IP_TEXT_SIZE);
}

bool ip_equal(const struct ip *a, const struct ip *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, ip_bits(a) / 8) == 0;
}

/* Clears the bits after the first `prefix` ones. */
static void ip_mask(struct ip *ip, unsigned int prefix)
{
	for (unsigned int i = 0; i < ip_bits(ip) / 8; i++) {
		unsigned int keep = prefix >= 8 * (i + 1) ? 8
				    : prefix <= 8 * i     ? 0
							  : prefix - 8 * i;
		ip->bytes[i] &= (uint8_t) (0xff00u >> keep);
	}
}

int subnet_parse(const char *text, int family, const char *what, struct subnet *ret,
		 struct error *err)
{
	const char *slash = text ? strchr(text, '/') : NULL;
	struct subnet subnet = {};
	char address[IP_TEXT_SIZE];
	char *end;

	if (slash && (size_t) (slash - text) < sizeof(address)) {
		memcpy(address, text, (size_t) (slash - text));
		address[slash - text] = '\0';
	}
	if (!slash || (size_t) (slash - text) >= sizeof(address) ||
	    ip_parse(address, &subnet.base) < 0 || (family && subnet.base.family != family))
		return error_say(err, -EINVAL, "%s: \"%.64s\" is not a subnet like %s", what,
				 text ? text : "", family == 6 ? "fd00:1::/64" : "10.90.0.0/24");
	unsigned long prefix = strtoul(slash + 1, &end, 10);
	if (slash[1] < '0' || slash[1] > '9' || *end || prefix > ip_bits(&subnet.base))
		return error_say(err, -EINVAL, "%s: \"%.64s\" must end with a prefix of 0 to %u",
				 what, text, ip_bits(&subnet.base));
	subnet.prefix = (uint8_t) prefix;

	struct ip masked = subnet.base;
	ip_mask(&masked, subnet.prefix);
	if (!ip_equal(&masked, &subnet.base)) {
		char right[SUBNET_TEXT_SIZE];

		subnet.base = masked;
		subnet_format(&subnet, right);
		return error_say(err, -EINVAL, "%s: \"%.64s\" has host bits set, did you mean %s?",
				 what, text, right);
	}
	*ret = subnet;
	return 0;
}

void subnet_format(const struct subnet *subnet, char ret[SUBNET_TEXT_SIZE])
{
	char address[IP_TEXT_SIZE];

	ip_format(&subnet->base, address);
	snprintf(ret, SUBNET_TEXT_SIZE, "%s/%u", address, subnet->prefix);
}

bool subnet_contains(const struct subnet *subnet, const struct ip *ip)
{
	struct ip masked = *ip;

	if (ip->family != subnet->base.family)
		return false;
	ip_mask(&masked, subnet->prefix);
	return ip_equal(&masked, &subnet->base);
}

bool subnet_overlaps(const struct subnet *a, const struct subnet *b)
{
	return subnet_contains(a, &b->base) || subnet_contains(b, &a->base);
}

uint64_t subnet_host_count(const struct subnet *subnet)
{
	unsigned int bits = ip_bits(&subnet->base) - subnet->prefix;
	uint64_t all = bits >= 32 ? UINT64_C(0x100000000) : UINT64_C(1) << bits;
	uint64_t reserved = subnet->base.family == 4 ? 2 : 1; /* network and broadcast address */

	return all > reserved ? all - reserved : 0;
}

void subnet_nth(const struct subnet *subnet, uint64_t n, struct ip *ret)
{
	unsigned int size = ip_bits(&subnet->base) / 8;

	*ret = subnet->base;
	for (unsigned int i = 0; i < 8 && i < size; i++)
		ret->bytes[size - 1 - i] |= (uint8_t) (n >> (8 * i));
}

uint64_t subnet_index(const struct subnet *subnet, const struct ip *ip)
{
	unsigned int size = ip_bits(&subnet->base) / 8;
	struct ip host = *ip;
	uint64_t n = 0;

	if (!subnet_contains(subnet, ip))
		return 0;
	for (unsigned int i = 0; i < size; i++) {
		host.bytes[i] ^= subnet->base.bytes[i];
		if (i + 8 < size && host.bytes[i])
			return 0;
		n = n << 8 | host.bytes[i];
	}
	return n <= subnet_host_count(subnet) ? n : 0;
}
