#include "net/dhcp_internal.h"

#include <arpa/inet.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "net/address.h"
#include "net/dns_internal.h"
#include "net/network_internal.h"
#include "net/node_internal.h"
#include "net/port_internal.h"

/* A client asks again after half of it. */
#define LEASE_TIME "10m"

enum { PREFIX6 = 64 };

/* Of a port that does not lead out: its client learns of no router. */
#define INNER "inner"

static void put_search(struct strbuf *text, const char *option, const struct network_plan *plan)
{
	strbuf_printf(text, "dhcp-option=%s", option);
	if (plan->zone)
		strbuf_printf(text, ",%s", plan->zone);
	strbuf_printf(text, ",%s\n", plan->domain);
}

static void put_range4(struct strbuf *text, const struct network_plan *plan)
{
	struct in_addr mask = { htonl(~(uint32_t) 0 << (32 - plan->subnet4.prefix)) };
	char base[ADDRESS_TEXT_SIZE], gateway[ADDRESS_TEXT_SIZE], mask_text[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &mask, mask_text, sizeof(mask_text));
	address_text(&plan->subnet4, base);
	address_text(&plan->gateway4, gateway);
	/* The MTU is forced: few clients ask for it, and all that can must know. */
	strbuf_printf(text,
		      "dhcp-range=%s,static,%s," LEASE_TIME "\n"
		      "dhcp-option=option:router,%s\n"
		      "dhcp-option=tag:" INNER ",option:router\n"
		      "dhcp-option=option:dns-server,%s\n"
		      "dhcp-option=option:domain-name,%s\n"
		      "dhcp-option-force=option:mtu,%u\n",
		      base, mask_text, gateway, gateway, plan->zone ? plan->zone : plan->domain,
		      plan->mtu);
	put_search(text, "option:domain-search", plan);
}

static void put_range6(struct strbuf *text, const struct network_plan *plan)
{
	char base[ADDRESS_TEXT_SIZE], gateway[ADDRESS_TEXT_SIZE];

	address_text(&plan->subnet6, base);
	address_text(&plan->gateway6, gateway);
	strbuf_printf(text,
		      "enable-ra\n"
		      "dhcp-range=%s,static,%d," LEASE_TIME "\n"
		      "dhcp-option=option6:dns-server,[%s]\n",
		      base, PREFIX6, gateway);
	put_search(text, "option6:domain-search", plan);
}

void dhcp_put_config(struct strbuf *text, const char *networks_dir, const char *network_uid,
		     const char *bridge, const struct network_plan *plan)
{
	dns_put_config(text, bridge);
	/* What strangers send is not worth a line in a log each. */
	strbuf_printf(text,
		      "port=0\n"
		      "dhcp-authoritative\n"
		      "dhcp-ignore=tag:!known\n"
		      "dhcp-ignore-names\n"
		      "leasefile-ro\n"
		      "no-ping\n"
		      "quiet-dhcp\n"
		      "quiet-dhcp6\n"
		      "quiet-ra\n"
		      "dhcp-hostsdir=%s/%s/dhcp\n",
		      networks_dir, network_uid);
	if (plan->subnet4.family)
		put_range4(text, plan);
	if (plan->subnet6.family && plan->subnet6.prefix == PREFIX6)
		put_range6(text, plan);
}

int dhcp_ensure(struct net *net, const char *network_uid, const char *bridge,
		const struct network_plan *plan, struct network_dns *ret, struct error *err)
{
	AUTO(free) char *folder = mem_printf("%s/dhcp", network_uid);
	AUTO(strbuf_done) struct strbuf text = {};
	int r = dns_make_folder(net, folder, err);

	if (r < 0)
		return r;
	dhcp_put_config(&text, net->networks_dir, network_uid, bridge, plan);
	return dns_write_config(net, network_uid, "dhcp.conf", strbuf_str(&text), ret, err);
}

int dhcp_set_port(struct net *net, const struct port_spec *spec, const struct port_plan *plan,
		  struct error *err)
{
	AUTO(strbuf_done) struct strbuf line = {};
	const uint8_t *mac = plan->mac;
	char text[ADDRESS_TEXT_SIZE];

	strbuf_printf(&line, "%02x:%02x:%02x:%02x:%02x:%02x,id:*%s", mac[0], mac[1], mac[2], mac[3],
		      mac[4], mac[5], plan->leads_out ? "" : ",set:" INNER);
	if (plan->ipv4.family)
		strbuf_printf(&line, ",%s", address_text(&plan->ipv4, text));
	if (plan->ipv6.family)
		strbuf_printf(&line, ",[%s]", address_text(&plan->ipv6, text));
	strbuf_printf(&line, ",%s," LEASE_TIME "\n", spec->name);
	return dns_write_file(net, spec->network->uid, spec->uid, "dhcp", strbuf_str(&line), err);
}

int dhcp_remove_port(struct net *net, const char *network_uid, const char *port_uid,
		     struct error *err)
{
	return dns_remove_file(net, network_uid, port_uid, "dhcp", err);
}
