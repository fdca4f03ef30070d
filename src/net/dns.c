#include "net/dns_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "net/address.h"
#include "net/network_internal.h"
#include "net/node_internal.h"

#define DNSMASQ "/usr/sbin/dnsmasq"

enum { CONFIG_MAX = 65536 };

static int make_folder(struct net *net, const char *path, struct error *err)
{
	if ((mkdirat(net->networks_dir_fd, path, 0755) < 0 && errno != EEXIST) ||
	    fchmodat(net->networks_dir_fd, path, 0755, 0) < 0)
		return error_set(err, -errno, "cannot create %s/%s", net->networks_dir, path);
	return 0;
}

static char *config_text(const struct net *net, const char *network_uid, const char *bridge,
			 const char *domain)
{
	/* Only on the bridge, whenever it appears; never what the host's own /etc/hosts says. */
	return mem_printf("port=53\n"
			  "interface=%s\n"
			  "except-interface=lo\n"
			  "bind-dynamic\n"
			  "user=nobody\n"
			  "group=nogroup\n"
			  "pid-file=\n"
			  "log-facility=-\n"
			  "no-hosts\n"
			  "hostsdir=%s/%s/hosts\n"
			  "domain=%s\n"
			  "local=/%s/\n"
			  "domain-needed\n"
			  "bogus-priv\n"
			  "cache-size=1000\n",
			  bridge, net->networks_dir, network_uid, domain, domain);
}

int dns_ensure(struct net *net, const char *network_uid, const char *bridge,
	       const struct network_plan *plan, struct network_dns *ret, struct error *err)
{
	AUTO(free) char *hosts = mem_printf("%s/hosts", network_uid);
	AUTO(free) char *path = mem_printf("%s/dnsmasq.conf", network_uid);
	AUTO(free) char *text = config_text(net, network_uid, bridge, plan->domain);
	AUTO(free) char *old = NULL;
	bool changed;
	int r;

	if (access(DNSMASQ, X_OK) < 0)
		return error_set(err, -errno,
				 "cannot serve names without " DNSMASQ " (package dnsmasq-base)");
	r = make_folder(net, network_uid, err);
	if (r == 0)
		r = make_folder(net, hosts, err);
	if (r < 0)
		return r;
	r = file_read(net->networks_dir_fd, path, CONFIG_MAX, &old, NULL);
	changed = r < 0 || strcmp(old, text) != 0;
	if (changed) {
		r = file_write_atomic(net->networks_dir_fd, path, text, strlen(text), 0644, false);
		if (r < 0)
			return error_set(err, r, "cannot write %s/%s", net->networks_dir, path);
	}
	ret->restart = changed;
	strv_append(&ret->argv, DNSMASQ);
	strv_append(&ret->argv, "--keep-in-foreground");
	strv_append_take(&ret->argv, mem_printf("--conf-file=%s/%s", net->networks_dir, path));
	return 0;
}

int dns_set_name(struct net *net, const char *network_uid, const char *port_uid, const char *name,
		 const char *domain, const struct route_ip *ipv4, const struct route_ip *ipv6,
		 struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/hosts/%s", network_uid, port_uid);
	AUTO(free) char *temporary = mem_printf("%s/.%s", network_uid, port_uid);
	AUTO(free) char *old = NULL;
	AUTO(strbuf_done) struct strbuf lines = {};
	char text[ADDRESS_TEXT_SIZE];
	int r;

	/* The full name stands first: it is what an address is translated back to. */
	if (ipv4->family)
		strbuf_printf(&lines, "%s %s.%s %s\n", address_text(ipv4, text), name, domain,
			      name);
	if (ipv6->family)
		strbuf_printf(&lines, "%s %s.%s %s\n", address_text(ipv6, text), name, domain,
			      name);
	if (file_read(net->networks_dir_fd, path, CONFIG_MAX, &old, NULL) == 0 &&
	    strcmp(old, strbuf_str(&lines)) == 0)
		return 0;
	r = file_write_atomic(net->networks_dir_fd, temporary, strbuf_str(&lines), lines.size, 0644,
			      false);
	if (r == 0 && (fchmodat(net->networks_dir_fd, temporary, 0644, 0) < 0 ||
		       renameat(net->networks_dir_fd, temporary, net->networks_dir_fd, path) < 0)) {
		r = -errno;
		(void) unlinkat(net->networks_dir_fd, temporary, 0);
	}
	return r < 0 ? error_set(err, r, "cannot write %s/%s", net->networks_dir, path) : 0;
}

int dns_remove_name(struct net *net, const char *network_uid, const char *port_uid,
		    struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/hosts/%s", network_uid, port_uid);

	if (unlinkat(net->networks_dir_fd, path, 0) < 0 && errno != ENOENT)
		return error_set(err, -errno, "cannot remove %s/%s", net->networks_dir, path);
	return 0;
}

int dns_remove(struct net *net, const char *network_uid, struct error *err)
{
	int r = file_remove_tree(net->networks_dir_fd, network_uid);

	return r < 0 ? error_set(err, r, "cannot remove %s/%s", net->networks_dir, network_uid) : 0;
}
