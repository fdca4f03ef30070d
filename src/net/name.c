#include "net/name.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HASH_BASE 0xcbf29ce484222325ULL

static bool is_hex(const char *text)
{
	return text[0] && text[strspn(text, "0123456789abcdef")] == '\0';
}

bool name_is_prefix(const char *text)
{
	size_t size = text ? strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789") : 0;

	return size >= 1 && size <= NAME_PREFIX_MAX && text[size] == '\0';
}

bool name_is_uid(const char *text)
{
	return text && strnlen(text, NAME_UID_MAX + 1) <= NAME_UID_MAX && is_hex(text);
}

bool name_is_interface(const char *text)
{
	size_t size = strnlen(text, IF_NAMESIZE);

	for (size_t i = 0; i < size; i++)
		if (!isascii(text[i]) || !isalnum((unsigned char) text[i]))
			return false;
	return size > 0 && size < IF_NAMESIZE && isalpha((unsigned char) text[0]);
}

/* The length of the label at the start, 0 when it is none. */
static size_t label_size(const char *text)
{
	size_t size = 0;

	while (isascii(text[size]) && (isalnum((unsigned char) text[size]) || text[size] == '-'))
		size++;
	if (size == 0 || size > 63 || text[0] == '-' || text[size - 1] == '-')
		return 0;
	return size;
}

bool name_is_label(const char *text)
{
	size_t size = text ? label_size(text) : 0;

	return size > 0 && text[size] == '\0';
}

bool name_is_domain(const char *text)
{
	if (!text || strnlen(text, NAME_DOMAIN_MAX + 1) > NAME_DOMAIN_MAX)
		return false;
	for (;;) {
		size_t size = label_size(text);

		if (size == 0)
			return false;
		text += size;
		if (*text == '\0')
			return true;
		if (*text++ != '.')
			return false;
	}
}

static void build(const char *prefix, char mark, const char *uid, char ret[IF_NAMESIZE])
{
	int left = IF_NAMESIZE - 1 - (int) strlen(prefix) - 1;

	snprintf(ret, IF_NAMESIZE, "%s%c%.*s", prefix, mark, left, uid);
}

void name_bridge(const char *prefix, const char *uid, char ret[IF_NAMESIZE])
{
	build(prefix, '-', uid, ret);
}

void name_veth(const char *prefix, const char *uid, char ret[IF_NAMESIZE])
{
	build(prefix, 'v', uid, ret);
}

void name_tunnel(const char *prefix, const char *uid, char ret[IF_NAMESIZE])
{
	build(prefix, 'x', uid, ret);
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
	for (; *text; text++)
		hash = (hash ^ (uint8_t) *text) * 0x100000001b3ULL;
	return hash;
}

void name_gre(const char *prefix, const char *uid, const char *remote, char ret[IF_NAMESIZE])
{
	uint64_t hash = hash_text(hash_text(HASH_BASE, uid), remote);
	char text[17];

	/* The last character sees one multiplication only: the upper bits are spread best. */
	snprintf(text, sizeof(text), "%016llx", (unsigned long long) (hash ^ hash >> 32));
	build(prefix, 'y', text + 4, ret);
}

void name_queue(const char *prefix, const char *uid, char ret[IF_NAMESIZE])
{
	build(prefix, 'q', uid, ret);
}

static uint64_t hash_pair(const char *router_uid, const char *network_uid)
{
	return hash_text(hash_text(hash_text(HASH_BASE, router_uid), "."), network_uid);
}

void name_router_port(const char *prefix, const char *router_uid, const char *network_uid,
		      char ret[IF_NAMESIZE])
{
	char text[NAME_UID_MAX + 1];

	snprintf(text, sizeof(text), "%016llx",
		 (unsigned long long) hash_pair(router_uid, network_uid));
	build(prefix, 'n', text, ret);
}

void name_router_uplink(const char *prefix, const char *router_uid, char ret[IF_NAMESIZE])
{
	build(prefix, 'r', router_uid, ret);
}

static const char *part(const char *prefix, char mark, const char *name)
{
	size_t size = strlen(prefix);

	if (strncmp(name, prefix, size) != 0 || name[size] != mark || !is_hex(name + size + 1))
		return NULL;
	return name + size + 1;
}

const char *name_of_bridge(const char *prefix, const char *name)
{
	return part(prefix, '-', name);
}

const char *name_of_veth(const char *prefix, const char *name)
{
	return part(prefix, 'v', name);
}

const char *name_of_tunnel(const char *prefix, const char *name)
{
	return part(prefix, 'x', name);
}

const char *name_of_gre(const char *prefix, const char *name)
{
	return part(prefix, 'y', name);
}

const char *name_of_queue(const char *prefix, const char *name)
{
	return part(prefix, 'q', name);
}

bool name_is_of_router(const char *prefix, const char *name)
{
	return part(prefix, 'n', name) || part(prefix, 'r', name);
}

int name_parse_mac(const char *text, uint8_t ret[6])
{
	uint8_t mac[6], any = 0;

	if (!text || strnlen(text, 18) != 17)
		return -EINVAL;
	for (int i = 0; i < 6; i++) {
		const char *byte = text + 3 * i;
		unsigned int value;

		if (!isxdigit((unsigned char) byte[0]) || !isxdigit((unsigned char) byte[1]) ||
		    byte[2] != (i < 5 ? ':' : '\0') || sscanf(byte, "%2x", &value) != 1)
			return -EINVAL;
		mac[i] = (uint8_t) value;
		any |= mac[i];
	}
	if (!any || (mac[0] & 1))
		return -EINVAL;
	memcpy(ret, mac, sizeof(mac));
	return 0;
}

static void put_mac(uint64_t hash, uint8_t ret[6])
{
	ret[0] = 0x02;
	for (int i = 1; i < 6; i++)
		ret[i] = (uint8_t) (hash >> (8 * i));
}

void name_mac(const char *uid, uint8_t ret[6])
{
	put_mac(hash_text(HASH_BASE, uid), ret);
}

void name_router_mac(const char *router_uid, const char *network_uid, uint8_t ret[6])
{
	put_mac(hash_pair(router_uid, network_uid), ret);
}
