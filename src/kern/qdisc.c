#include "kern/qdisc.h"

#include <errno.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "kern/netlink.h"

enum { ROOT_HANDLE = 1 << 16 };

static struct nlmsghdr *begin(struct netlink *nl, uint16_t type, uint16_t flags, int link_index,
			      uint32_t parent, uint32_t handle)
{
	struct nlmsghdr *message = netlink_begin(nl, type, flags);
	struct tcmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->tcm_ifindex = link_index;
	header->tcm_parent = parent;
	header->tcm_handle = handle;
	return message;
}

int qdisc_set_tbf(struct netlink *nl, int link_index, const struct qdisc_tbf *tbf)
{
	struct nlmsghdr *message = begin(nl, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, link_index,
					 TC_H_ROOT, ROOT_HANDLE);
	struct tc_tbf_qopt options = { .limit = tbf->limit_bytes };
	struct nlattr *nest;

	/* Without it the kernel would ask for a table of times that it does not use. */
	options.rate.linklayer = TC_LINKLAYER_ETHERNET;
	options.rate.rate =
		tbf->rate_bytes_ps > UINT32_MAX ? UINT32_MAX : (uint32_t) tbf->rate_bytes_ps;
	mnl_attr_put_strz(message, TCA_KIND, "tbf");
	nest = mnl_attr_nest_start(message, TCA_OPTIONS);
	mnl_attr_put(message, TCA_TBF_PARMS, sizeof(options), &options);
	mnl_attr_put_u32(message, TCA_TBF_BURST, tbf->burst_bytes);
	if (tbf->rate_bytes_ps > UINT32_MAX)
		mnl_attr_put_u64(message, TCA_TBF_RATE64, tbf->rate_bytes_ps);
	mnl_attr_nest_end(message, nest);
	return netlink_call(nl, message);
}

static void take_tbf(const struct nlattr *nest, struct qdisc_tbf *ret)
{
	const struct nlattr *attribute;
	uint64_t rate64 = 0;

	mnl_attr_for_each_nested(attribute, nest)
	{
		const struct tc_tbf_qopt *options = mnl_attr_get_payload(attribute);
		size_t size = mnl_attr_get_payload_len(attribute);

		if (mnl_attr_get_type(attribute) == TCA_TBF_PARMS && size >= sizeof(*options)) {
			ret->rate_bytes_ps = options->rate.rate;
			ret->limit_bytes = options->limit;
		} else if (mnl_attr_get_type(attribute) == TCA_TBF_RATE64 &&
			   size >= sizeof(rate64)) {
			rate64 = mnl_attr_get_u64(attribute);
		}
	}
	if (rate64 > 0)
		ret->rate_bytes_ps = rate64;
}

static int take_qdisc(const struct nlmsghdr *message, void *data)
{
	const struct nlattr *attribute, *options = NULL;
	bool tbf = false;

	if (message->nlmsg_type != RTM_NEWQDISC ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct tcmsg))
		return 0;
	mnl_attr_for_each(attribute, message, sizeof(struct tcmsg))
	{
		if (mnl_attr_get_type(attribute) == TCA_KIND &&
		    mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
			tbf = strcmp(mnl_attr_get_str(attribute), "tbf") == 0;
		else if (mnl_attr_get_type(attribute) == TCA_OPTIONS)
			options = attribute;
	}
	if (tbf && options)
		take_tbf(options, data);
	return 0;
}

int qdisc_read_tbf(struct netlink *nl, int link_index, struct qdisc_tbf *ret)
{
	/* Without the flag the kernel tells everybody but the one who asks. */
	struct nlmsghdr *message = begin(nl, RTM_GETQDISC, NLM_F_ECHO, link_index, TC_H_ROOT, 0);
	struct qdisc_tbf tbf = {};
	int r = netlink_query(nl, message, take_qdisc, &tbf);

	/* A queue that nobody has set up is not told, and the request fails then. */
	if (r == -EINVAL || (r == 0 && tbf.rate_bytes_ps == 0))
		r = -ENOENT;
	if (r == 0)
		*ret = tbf;
	return r;
}

int qdisc_delete_root(struct netlink *nl, int link_index)
{
	int r = netlink_call(nl, begin(nl, RTM_DELQDISC, 0, link_index, TC_H_ROOT, 0));

	return r == -ENOENT || r == -EINVAL ? 0 : r;
}

int qdisc_add_clsact(struct netlink *nl, int link_index)
{
	struct nlmsghdr *message = begin(nl, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, link_index,
					 TC_H_CLSACT, TC_H_MAKE(TC_H_CLSACT, 0));
	int r;

	mnl_attr_put_strz(message, TCA_KIND, "clsact");
	r = netlink_call(nl, message);
	return r == -EEXIST ? 0 : r;
}

int qdisc_add_ifb(struct netlink *nl, const char *name)
{
	struct nlmsghdr *message = netlink_begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	struct nlattr *info;

	mnl_nlmsg_put_extra_header(message, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(message, IFLA_IFNAME, name);
	info = mnl_attr_nest_start(message, IFLA_LINKINFO);
	mnl_attr_put_strz(message, IFLA_INFO_KIND, "ifb");
	mnl_attr_nest_end(message, info);
	return netlink_call(nl, message);
}
