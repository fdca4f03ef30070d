#include "kern/filter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <stdio.h>
#include <string.h>

#include "kern/netlink.h"

static struct nlmsghdr *begin(struct netlink *nl, uint16_t type, uint16_t flags,
			      const struct filter_place *place)
{
	struct nlmsghdr *message = netlink_begin(nl, type, flags);
	struct tcmsg *header = mnl_nlmsg_put_extra_header(message, sizeof(*header));

	header->tcm_ifindex = place->link_index;
	header->tcm_parent = TC_H_MAKE(
		TC_H_CLSACT, place->way == FILTER_ARRIVING ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
	header->tcm_handle = place->handle;
	header->tcm_info = TC_H_MAKE((uint32_t) place->priority << 16, htons(place->protocol));
	return message;
}

/* The options of the redirecting action, which lie three levels down. */
static void take_action(const struct nlattr *actions, struct filter *ret)
{
	const struct nlattr *action, *part, *option;

	mnl_attr_for_each_nested(action, actions)
	{
		mnl_attr_for_each_nested(part, action)
		{
			if (mnl_attr_get_type(part) != TCA_ACT_OPTIONS)
				continue;
			mnl_attr_for_each_nested(option, part)
			{
				const struct tc_mirred *mirred = mnl_attr_get_payload(option);

				if (mnl_attr_get_type(option) == TCA_MIRRED_PARMS &&
				    mnl_attr_get_payload_len(option) >= sizeof(*mirred) &&
				    mirred->eaction == TCA_EGRESS_REDIR)
					ret->redirect_index = (int) mirred->ifindex;
			}
		}
	}
}

static void take_options(const struct nlattr *options, struct filter *ret)
{
	const struct nlattr *attribute;

	mnl_attr_for_each_nested(attribute, options)
	{
		switch (mnl_attr_get_type(attribute)) {
		case TCA_BPF_NAME:
			if (mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0)
				snprintf(ret->name, sizeof(ret->name), "%s",
					 mnl_attr_get_str(attribute));
			break;
		case TCA_BPF_ID:
			if (mnl_attr_get_payload_len(attribute) >= sizeof(uint32_t))
				ret->program_id = mnl_attr_get_u32(attribute);
			break;
		case TCA_BPF_ACT:
			take_action(attribute, ret);
			break;
		default:
			break;
		}
	}
}

static int take_filter(const struct nlmsghdr *message, void *data)
{
	const struct nlattr *attribute;

	if (message->nlmsg_type != RTM_NEWTFILTER ||
	    message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct tcmsg))
		return 0;
	mnl_attr_for_each(attribute, message,
			  sizeof(struct tcmsg)) if (mnl_attr_get_type(attribute) == TCA_OPTIONS)
		take_options(attribute, data);
	return 0;
}

int filter_find(struct netlink *nl, const struct filter_place *place, struct filter *ret)
{
	struct filter filter = {};
	int r = netlink_query(nl, begin(nl, RTM_GETTFILTER, 0, place), take_filter, &filter);

	/* The second: nothing is there that a filter could be on. */
	if (r == 0)
		*ret = filter;
	return r == -EINVAL ? -ENOENT : r;
}

int filter_set_program(struct netlink *nl, const struct filter_place *place, const char *name,
		       int program_fd)
{
	struct nlmsghdr *message = begin(nl, RTM_NEWTFILTER, NLM_F_CREATE, place);
	struct nlattr *options;

	mnl_attr_put_strz(message, TCA_KIND, "bpf");
	options = mnl_attr_nest_start(message, TCA_OPTIONS);
	mnl_attr_put_u32(message, TCA_BPF_FD, (uint32_t) program_fd);
	mnl_attr_put_strz(message, TCA_BPF_NAME, name);
	mnl_attr_put_u32(message, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	mnl_attr_nest_end(message, options);
	return netlink_call(nl, message);
}

int filter_set_redirect(struct netlink *nl, const struct filter_place *place, int to_index)
{
	static const struct sock_filter all = { .code = BPF_RET | BPF_K, .k = UINT32_MAX };
	const struct tc_mirred mirred = { .action = TC_ACT_STOLEN,
					  .eaction = TCA_EGRESS_REDIR,
					  .ifindex = (uint32_t) to_index };
	struct nlmsghdr *message = begin(nl, RTM_NEWTFILTER, NLM_F_CREATE, place);
	struct nlattr *options, *actions, *action, *parts;

	mnl_attr_put_strz(message, TCA_KIND, "bpf");
	options = mnl_attr_nest_start(message, TCA_OPTIONS);
	mnl_attr_put_u16(message, TCA_BPF_OPS_LEN, 1);
	mnl_attr_put(message, TCA_BPF_OPS, sizeof(all), &all);
	actions = mnl_attr_nest_start(message, TCA_BPF_ACT);
	action = mnl_attr_nest_start(message, 1);
	mnl_attr_put_strz(message, TCA_ACT_KIND, "mirred");
	parts = mnl_attr_nest_start(message, TCA_ACT_OPTIONS);
	mnl_attr_put(message, TCA_MIRRED_PARMS, sizeof(mirred), &mirred);
	mnl_attr_nest_end(message, parts);
	mnl_attr_nest_end(message, action);
	mnl_attr_nest_end(message, actions);
	mnl_attr_nest_end(message, options);
	return netlink_call(nl, message);
}

int filter_delete(struct netlink *nl, const struct filter_place *place)
{
	int r = netlink_call(nl, begin(nl, RTM_DELTFILTER, 0, place));

	return r == -ENOENT || r == -EINVAL ? 0 : r;
}
