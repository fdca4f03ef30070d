#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int address_parse(const char *text, struct route_ip *ret)
{
	struct route_ip ip = {};

	if (!text)
		return -EINVAL;
	if (inet_pton(AF_INET, text, ip.bytes) == 1) {
		ip.family = AF_INET;
		ip.prefix = 32;
	} else if (inet_pton(AF_INET6, text, ip.bytes) == 1) {
		ip.family = AF_INET6;
		ip.prefix = 128;
	} else {
		return -EINVAL;
	}
	*ret = ip;
	return 0;
}

/* Whether the first `bits` of both are equal. */
static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned int bits)
{
	unsigned int rest = bits % 8;

	if (memcmp(a, b, bits / 8) != 0)
		return false;
	return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - rest)) == 0;
}

/* Whether all bits from `bits` on are zero (or one, with `ones`). */
static bool rest_is(const struct route_ip *ip, unsigned int bits, bool ones)
{
	for (unsigned int bit = bits; bit < route_ip_size(ip) * 8; bit++)
		if (((ip->bytes[bit / 8] >> (7 - bit % 8)) & 1) != ones)
			return false;
	return true;
}

int address_parse_subnet(const char *text, struct route_ip *ret)
{
	char copy[ADDRESS_TEXT_SIZE];
	const char *slash = text ? strchr(text, '/') : NULL;
	struct route_ip subnet;
	unsigned long prefix;
	char *end;
	int r;

	if (!slash || (size_t) (slash - text) >= sizeof(copy) || slash[1] < '0' || slash[1] > '9')
		return -EINVAL;
	memcpy(copy, text, (size_t) (slash - text));
	copy[slash - text] = '\0';
	r = address_parse(copy, &subnet);
	if (r < 0)
		return r;
	prefix = strtoul(slash + 1, &end, 10);
	if (*end || end - slash > 4 || prefix > subnet.prefix)
		return -EINVAL;
	subnet.prefix = (uint8_t) prefix;
	if (!rest_is(&subnet, subnet.prefix, false))
		return -EINVAL;
	*ret = subnet;
	return 0;
}

bool address_usable_subnet(const struct route_ip *subnet)
{
	static const char *const refused[] = { "0.0.0.0/8",   "127.0.0.0/8", "169.254.0.0/16",
					       "224.0.0.0/3", "::/8",        "fe80::/10",
					       "ff00::/8" };

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct route_ip other;

		if (address_parse_subnet(refused[i], &other) == 0 &&
		    address_overlap(subnet, &other))
			return false;
	}
	return subnet->family == AF_INET ? subnet->prefix >= 8 && subnet->prefix <= 30
					 : subnet->prefix >= 32 && subnet->prefix <= 126;
}

bool address_equal(const struct route_ip *a, const struct route_ip *b)
{
	return a->family == b->family && a->prefix == b->prefix &&
	       memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool address_inside(const struct route_ip *subnet, const struct route_ip *ip)
{
	return subnet->family == ip->family && same_bits(subnet->bytes, ip->bytes, subnet->prefix);
}

bool address_overlap(const struct route_ip *a, const struct route_ip *b)
{
	return a->family == b->family &&
	       same_bits(a->bytes, b->bytes, a->prefix < b->prefix ? a->prefix : b->prefix);
}

bool address_is_host(const struct route_ip *subnet, const struct route_ip *ip)
{
	return address_inside(subnet, ip) && !rest_is(ip, subnet->prefix, false) &&
	       !(ip->family == AF_INET && rest_is(ip, subnet->prefix, true));
}

struct route_ip address_first(const struct route_ip *subnet)
{
	struct route_ip first = *subnet;

	first.bytes[route_ip_size(subnet) - 1] |= 1;
	return first;
}

struct route_ip address_subnet(const struct route_ip *ip)
{
	struct route_ip subnet = { .family = ip->family, .prefix = ip->prefix };

	for (unsigned int bit = 0; bit < ip->prefix; bit++)
		subnet.bytes[bit / 8] |= ip->bytes[bit / 8] & (uint8_t) (0x80 >> bit % 8);
	return subnet;
}

struct route_ip address_last(const struct route_ip *subnet)
{
	struct route_ip last = *subnet;

	for (unsigned int bit = subnet->prefix; bit < route_ip_size(subnet) * 8; bit++)
		last.bytes[bit / 8] |= (uint8_t) (0x80 >> bit % 8);
	return last;
}

const char *address_text(const struct route_ip *ip, char text[ADDRESS_TEXT_SIZE])
{
	if (!inet_ntop(ip->family, ip->bytes, text, ADDRESS_TEXT_SIZE))
		text[0] = '\0';
	return text;
}
