#include "net/dns_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "net/address.h"
#include "net/dhcp_internal.h"
#include "net/network_internal.h"
#include "net/node_internal.h"

#define DNSMASQ "/usr/sbin/dnsmasq"

/* Not a uid: it cannot be a network's folder. */
#define PROJECTS "projects"

enum { CONFIG_MAX = 65536 };

int dns_make_folder(struct net *net, const char *path, struct error *err)
{
	if ((mkdirat(net->networks_dir_fd, path, 0755) < 0 && errno != EEXIST) ||
	    fchmodat(net->networks_dir_fd, path, 0755, 0) < 0)
		return error_set(err, -errno, "cannot create %s/%s", net->networks_dir, path);
	return 0;
}

int dns_write_file(struct net *net, const char *network_uid, const char *port_uid,
		   const char *folder, const char *text, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/%s/%s", network_uid, folder, port_uid);
	AUTO(free) char *temporary = mem_printf("%s/.%s", network_uid, port_uid);
	AUTO(free) char *old = NULL;
	int r;

	if (file_read(net->networks_dir_fd, path, CONFIG_MAX, &old, NULL) == 0 &&
	    strcmp(old, text) == 0)
		return 0;
	r = file_write_atomic(net->networks_dir_fd, temporary, text, strlen(text), 0644, false);
	if (r == 0 && (fchmodat(net->networks_dir_fd, temporary, 0644, 0) < 0 ||
		       renameat(net->networks_dir_fd, temporary, net->networks_dir_fd, path) < 0)) {
		r = -errno;
		(void) unlinkat(net->networks_dir_fd, temporary, 0);
	}
	return r < 0 ? error_set(err, r, "cannot write %s/%s", net->networks_dir, path) : 0;
}

int dns_remove_file(struct net *net, const char *network_uid, const char *port_uid,
		    const char *folder, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/%s/%s", network_uid, folder, port_uid);

	if (unlinkat(net->networks_dir_fd, path, 0) < 0 && errno != ENOENT)
		return error_set(err, -errno, "cannot remove %s/%s", net->networks_dir, path);
	return 0;
}

/* ---- the network ---- */

static char *config_text(const struct net *net, const char *network_uid, const char *bridge,
			 const struct network_plan *plan)
{
	AUTO(strbuf_done) struct strbuf text = {};

	/*
	 * Never what the host's own /etc/hosts says.  What ends in `internal` is nobody's outside,
	 * so no such question leaves the node.
	 */
	dns_put_config(&text, bridge);
	strbuf_printf(&text,
		      "port=53\n"
		      "no-hosts\n"
		      "hostsdir=%s/%s/hosts\n",
		      net->networks_dir, network_uid);
	if (plan->zone)
		strbuf_printf(&text, "hostsdir=%s/" PROJECTS "/%s\n", net->networks_dir,
			      plan->project);
	strbuf_printf(&text,
		      "local=/internal/\n"
		      "local=/%s/\n"
		      "domain-needed\n"
		      "bogus-priv\n"
		      "cache-size=1000\n",
		      plan->domain);
	return strbuf_take(&text);
}

/* UID/project leads to the folder that the resolvers of all networks of the project read. */
static int make_project(struct net *net, const char *network_uid, const char *project,
			struct error *err)
{
	AUTO(free) char *folder = mem_printf(PROJECTS "/%s", project);
	AUTO(free) char *path = mem_printf("%s/project", network_uid);
	AUTO(free) char *target = mem_printf("../" PROJECTS "/%s", project);
	int r = dns_make_folder(net, PROJECTS, err);

	if (r == 0)
		r = dns_make_folder(net, folder, err);
	if (r == 0 && symlinkat(target, net->networks_dir_fd, path) < 0 && errno != EEXIST)
		r = error_set(err, -errno, "cannot create %s/%s", net->networks_dir, path);
	return r;
}

static int make_folders(struct net *net, const char *network_uid, const struct network_plan *plan,
			struct error *err)
{
	AUTO(free) char *hosts = mem_printf("%s/hosts", network_uid);
	int r = dns_make_folder(net, network_uid, err);

	if (r == 0)
		r = dns_make_folder(net, hosts, err);
	if (r == 0 && plan->zone)
		r = make_project(net, network_uid, plan->project, err);
	return r;
}

int dns_ensure(struct net *net, const char *network_uid, const char *bridge,
	       const struct network_plan *plan, struct network_dns *ret, struct error *err)
{
	AUTO(free) char *text = NULL;
	int r = make_folders(net, network_uid, plan, err);

	/* On an isolated bridge the node has no address to answer from. */
	if (r < 0 || plan->isolated)
		return r;
	text = config_text(net, network_uid, bridge, plan);
	return dns_write_config(net, network_uid, "dnsmasq.conf", text, ret, err);
}

void dns_put_config(struct strbuf *text, const char *bridge)
{
	/* Only on the bridge, whenever it appears. */
	strbuf_printf(text,
		      "interface=%s\n"
		      "except-interface=lo\n"
		      "bind-dynamic\n"
		      "user=nobody\n"
		      "group=nogroup\n"
		      "pid-file=\n"
		      "log-facility=-\n",
		      bridge);
}

int dns_write_config(struct net *net, const char *network_uid, const char *file, const char *text,
		     struct network_dns *ret, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/%s", network_uid, file);
	AUTO(free) char *old = NULL;
	bool changed;
	int r;

	if (access(DNSMASQ, X_OK) < 0)
		return error_set(err, -errno,
				 "cannot serve names without " DNSMASQ " (package dnsmasq-base)");
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

static void dir_close(DIR *dir)
{
	if (dir)
		closedir(dir);
}
DEFINE_AUTO(DIR *, dir_close)

static DIR *open_folder(struct net *net, const char *path)
{
	AUTO(fd_close)
	int fd = openat(net->networks_dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir)
		TAKE_FD(fd);
	return dir;
}

/* The project's folder goes with its last network: a resolver watches it. */
static void leave_project(struct net *net, const char *network_uid)
{
	AUTO(free) char *path = mem_printf("%s/project", network_uid);
	AUTO(dir_close) DIR *networks = NULL;
	char own[PATH_MAX], other[PATH_MAX];
	ssize_t size = readlinkat(net->networks_dir_fd, path, own, sizeof(own));
	struct dirent *entry;

	if (size < 0 || size >= PATH_MAX || unlinkat(net->networks_dir_fd, path, 0) < 0)
		return;
	own[size] = '\0';
	networks = open_folder(net, ".");
	while (networks && (entry = readdir(networks))) {
		AUTO(free) char *link = mem_printf("%s/project", entry->d_name);

		if (readlinkat(net->networks_dir_fd, link, other, sizeof(other)) == size &&
		    memcmp(own, other, (size_t) size) == 0)
			return;
	}
	if (networks && strncmp(own, "../", 3) == 0)
		(void) file_remove_tree(net->networks_dir_fd, own + 3);
}

int dns_remove(struct net *net, const char *network_uid, struct error *err)
{
	AUTO(free) char *hosts = mem_printf("%s/hosts", network_uid);
	AUTO(dir_close) DIR *dir = open_folder(net, hosts);
	struct dirent *entry;
	int r = 0;

	while (dir && r == 0 && (entry = readdir(dir)))
		if (name_is_uid(entry->d_name))
			r = dns_remove_name(net, network_uid, entry->d_name, err);
	if (r < 0)
		return r;
	leave_project(net, network_uid);
	r = file_remove_tree(net->networks_dir_fd, network_uid);
	return r < 0 ? error_set(err, r, "cannot remove %s/%s", net->networks_dir, network_uid) : 0;
}

/* ---- its ports ---- */

/* The full name stands first: it is what an address is translated back to. */
static void put_own(struct strbuf *text, const char *name, const struct network_plan *plan,
		    const struct route_ip *ip)
{
	char address[ADDRESS_TEXT_SIZE];

	if (!ip->family)
		return;
	strbuf_puts(text, address_text(ip, address));
	if (plan->zone)
		strbuf_printf(text, " %s.%s %s %s.%s\n", name, plan->zone, name, name,
			      plan->domain);
	else
		strbuf_printf(text, " %s.%s %s\n", name, plan->domain, name);
}

static void put_full(struct strbuf *text, const char *name, const struct network_plan *plan,
		     const struct route_ip *ip)
{
	char address[ADDRESS_TEXT_SIZE];

	if (ip->family)
		strbuf_printf(text, "%s %s.%s\n", address_text(ip, address), name, plan->zone);
}

int dns_set_name(struct net *net, const char *network_uid, const char *port_uid, const char *name,
		 const struct network_plan *plan, const struct route_ip *ipv4,
		 const struct route_ip *ipv6, struct error *err)
{
	AUTO(strbuf_done) struct strbuf own = {}, full = {};
	int r;

	put_own(&own, name, plan, ipv4);
	put_own(&own, name, plan, ipv6);
	/* The own one first and last: while it is there, a collection finds both. */
	r = dns_write_file(net, network_uid, port_uid, "hosts", strbuf_str(&own), err);
	if (r < 0 || !plan->zone)
		return r;
	put_full(&full, name, plan, ipv4);
	put_full(&full, name, plan, ipv6);
	return dns_write_file(net, network_uid, port_uid, "project", strbuf_str(&full), err);
}

int dns_remove_name(struct net *net, const char *network_uid, const char *port_uid,
		    struct error *err)
{
	int r = dhcp_remove_port(net, network_uid, port_uid, err);

	if (r == 0)
		r = dns_remove_file(net, network_uid, port_uid, "project", err);
	return r < 0 ? r : dns_remove_file(net, network_uid, port_uid, "hosts", err);
}
