#include "kern/link_options.h"

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <string.h>

#include "kern/netlink.h"

struct reading {
	const char *const *kinds;
	void (*fn)(const struct nlattr *option, void *data);
	void *data;
};

static bool is_one_of(const char *const *kinds, const struct nlattr *kind)
{
	if (mnl_attr_validate(kind, MNL_TYPE_STRING) < 0)
		return false;
	for (; *kinds; kinds++)
		if (strncmp(mnl_attr_get_str(kind), *kinds, mnl_attr_get_payload_len(kind)) == 0)
			return true;
	return false;
}

static void take_info(const struct reading *reading, const struct nlattr *info)
{
	const struct nlattr *part, *option, *options = NULL;
	bool kind = false;

	mnl_attr_for_each_nested(part, info)
	{
		if (mnl_attr_get_type(part) == IFLA_INFO_KIND)
			kind = is_one_of(reading->kinds, part);
		else if (mnl_attr_get_type(part) == IFLA_INFO_DATA)
			options = part;
	}
	if (!kind || !options)
		return;
	mnl_attr_for_each_nested(option, options) reading->fn(option, reading->data);
}

static int take_link(const struct nlmsghdr *message, void *data)
{
	const struct nlattr *attribute;

	if (message->nlmsg_type != RTM_NEWLINK ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct ifinfomsg))
		return 0;
	mnl_attr_for_each(attribute, message, sizeof(struct ifinfomsg))
	{
		if (mnl_attr_get_type(attribute) == IFLA_LINKINFO)
			take_info(data, attribute);
	}
	return 0;
}

int link_read_options(struct netlink *nl, const char *name, const char *const *kinds,
		      void (*fn)(const struct nlattr *option, void *data), void *data)
{
	struct reading reading = { .kinds = kinds, .fn = fn, .data = data };
	struct nlmsghdr *message = netlink_begin(nl, RTM_GETLINK, 0);

	mnl_nlmsg_put_extra_header(message, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(message, IFLA_IFNAME, name);
	mnl_attr_put_u32(message, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return netlink_query(nl, message, take_link, &reading);
}
