#include "agent/instance_ports.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/agent_internal.h"
#include "agent/group_actor.h"
#include "agent/instance_cards.h"
#include "agent/instance_task.h"
#include "agent/traffic.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "net/publish.h"
#include "net/tap.h"

enum { RESOLV_MAX_BYTES = 65536 };

/* What one port waits for: its network, and its groups, whose rules are there before it is. */
static enum plan_need look_at(struct agent *agent, const struct port *port, bool runs,
			      struct network_args *ret, bool *ret_ready,
			      struct instance_networks *networks, const char **ret_error)
{
	enum plan_need need = network_need(agent, port->network_uid, ret, ret_error);
	const char *what = "network ", *name = port->network;

	*ret_ready = need == PLAN_NEED_READY;
	if (need == PLAN_NEED_READY) {
		need = groups_need(agent, port->group_uids, ret_error);
		what = "security group";
		name = "";
	}
	if (need != PLAN_NEED_FAILED)
		return need;
	snprintf(networks->error, sizeof(networks->error), "%s%s: %s", what, name,
		 *ret_error ? *ret_error : "has failed");
	return runs ? PLAN_NEED_READY : PLAN_NEED_FAILED;
}

enum plan_need instance_networks_look(struct agent *agent, const struct instance_spec *spec,
				      bool runs, struct instance_networks *ret,
				      const char **ret_error)
{
	enum plan_need all = PLAN_NEED_READY;

	ret->error[0] = '\0';
	for (size_t i = 0; i < spec->port_count && i < PORTS_MAX; i++) {
		const struct port *port = &spec->ports[i];
		enum plan_need need;

		ret->list[i].ready = false;
		if (port->leaving)
			continue;
		need = look_at(agent, port, runs, &ret->list[i].args, &ret->list[i].ready, ret,
			       ret_error);
		if (need == PLAN_NEED_FAILED || all == PLAN_NEED_READY)
			all = need;
	}
	return all;
}

/* The first port whose network has a gateway: the node, or (`routers`) a router. */
static int first_gateway(const struct instance_spec *spec, const struct instance_networks *networks,
			 bool routers)
{
	for (size_t i = 0; i < spec->port_count && i < PORTS_MAX; i++) {
		const struct network_args *args = &networks->list[i].args;

		if (!spec->ports[i].leaving && (args->gateway4[0] || args->gateway6[0]) &&
		    (routers || !args->isolated))
			return (int) i;
	}
	return -1;
}

int instance_networks_outlet(const struct instance_spec *spec,
			     const struct instance_networks *networks)
{
	int outlet = -1;

	/* What is published is answered by the way that it came. */
	if (spec->publish_count > 0)
		outlet = instance_networks_reached(spec, networks);
	return outlet < 0 ? first_gateway(spec, networks, true) : outlet;
}

int instance_networks_reached(const struct instance_spec *spec,
			      const struct instance_networks *networks)
{
	return first_gateway(spec, networks, false);
}

void instance_networks_describe(const struct instance_spec *spec,
				const struct instance_networks *networks,
				char ret[INSTANCE_WAY_SIZE])
{
	int outlet = instance_networks_outlet(spec, networks);
	const struct network_args *args = outlet < 0 ? NULL : &networks->list[outlet].args;

	snprintf(ret, INSTANCE_WAY_SIZE, "%s %s %s", args ? spec->ports[outlet].uid : "",
		 args ? args->gateway4 : "", args ? args->gateway6 : "");
}

/* The node's own name servers, when others than the node itself are to be asked. */
static void read_host_servers(const char *path, struct instance_names *names)
{
	AUTO(free) char *text = NULL;
	char *rest, *line;

	if (file_read(AT_FDCWD, path, RESOLV_MAX_BYTES, &text, NULL) < 0)
		return;
	for (rest = text; (line = strsep(&rest, "\n"));) {
		char address[IP_TEXT_SIZE];
		struct ip ip;

		if (sscanf(line, "nameserver %45s", address) != 1 || ip_parse(address, &ip) < 0)
			continue;
		/* One of the node's loopback is another one's in there; link-local needs an
		   interface. */
		if (ip.family == 4 && ip.bytes[0] != 127 && !names->server4[0])
			ip_format(&ip, names->server4);
		if (ip.family == 6 && (ip.bytes[0] & 0xe0) != 0 && ip.bytes[0] != 0xfe &&
		    !names->server6[0])
			ip_format(&ip, names->server6);
	}
}

void instance_networks_names(const struct instance_spec *spec,
			     const struct instance_networks *networks, struct instance_names *ret)
{
	bool outside = false;

	*ret = (struct instance_names){};
	for (size_t i = 0; i < spec->port_count && i < PORTS_MAX; i++) {
		const struct network_args *args = &networks->list[i].args;

		if (spec->ports[i].leaving || (!args->gateway4[0] && !args->gateway6[0]))
			continue;
		if (args->named) {
			snprintf(ret->server4, sizeof(ret->server4), "%s", args->gateway4);
			snprintf(ret->server6, sizeof(ret->server6), "%s", args->gateway6);
			snprintf(ret->zone, sizeof(ret->zone), "%s", args->zone);
			snprintf(ret->domain, sizeof(ret->domain), "%s", args->dns_domain);
			return;
		}
		outside = true;
	}
	if (!outside)
		return;
	read_host_servers("/etc/resolv.conf", ret);
	if (!ret->server4[0] && !ret->server6[0])
		read_host_servers("/run/systemd/resolve/resolv.conf", ret);
}

/* The next port from `at` on that is to be there; the count when there is none. */
static size_t next_wanted(const struct instance_spec *spec, size_t at)
{
	while (at < spec->port_count && spec->ports[at].leaving)
		at++;
	return at;
}

bool instance_ports_same(const struct instance_spec *a, const struct instance_spec *b)
{
	size_t i = next_wanted(a, 0), k = next_wanted(b, 0);

	while (i < a->port_count && k < b->port_count) {
		if (strcmp(a->ports[i].uid, b->ports[k].uid) != 0 ||
		    !strv_equal(a->ports[i].group_uids, b->ports[k].group_uids) ||
		    !port_limits_equal(&a->ports[i].limits, &b->ports[k].limits))
			return false;
		i = next_wanted(a, i + 1);
		k = next_wanted(b, k + 1);
	}
	return i == a->port_count && k == b->port_count;
}

struct bridge_spec instance_bridge_spec(const struct network_args *network)
{
	return (struct bridge_spec){ .uid = network->uid,
				     .driver = network->driver,
				     .mode = network->mode,
				     .uplink = network->uplink,
				     .ipv4 = network->ipv4,
				     .gateway4 = network->gateway4,
				     .ipv6 = network->ipv6,
				     .gateway6 = network->gateway6,
				     .nat = network->nat,
				     .isolated = network->isolated,
				     .dns_domain = network->dns_domain,
				     .zone = network->zone,
				     .project = network->project,
				     .dhcp = network->dhcp,
				     .mtu = network->mtu };
}

struct port_spec instance_port_spec(const struct instance_task *task, size_t i,
				    const struct bridge_spec *bridge)
{
	const struct instance_spec *spec = &task->instance->spec;
	const struct port *port = &spec->ports[i];

	return (struct port_spec){
		.network = bridge,
		.uid = port->uid,
		.interface = port->interface,
		.name = task->instance->meta.name,
		.mac = port->mac,
		.ipv4 = port->ipv4,
		.ipv6 = port->ipv6,
		.leads_out = (int) i == instance_networks_outlet(spec, &task->networks),
		.groups = port->group_uids,
		.router4 = bridge->isolated ? task->networks.list[i].args.gateway4 : NULL,
		.router6 = bridge->isolated ? task->networks.list[i].args.gateway6 : NULL,
		.spoofing = port->spoofing,
		.limits = { .ingress_bps = port->limits.ingress_bps,
			    .egress_bps = port->limits.egress_bps,
			    .burst_bytes = port->limits.burst_bytes },
	};
}

int instance_ports_open_namespace(pid_t pid)
{
	char path[40];
	struct stat own, other;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &other) < 0 || stat("/proc/self/ns/net", &own) < 0)
		return -errno;
	return own.st_ino == other.st_ino ? -ESRCH : TAKE_FD(fd);
}

/* For net/; the texts are the instance's.  The caller frees. */
static struct publish_spec *publish_list(const struct instance_spec *spec)
{
	struct publish_spec *ports = mem_new0_array(struct publish_spec, spec->publish_count + 1);

	for (size_t i = 0; i < spec->publish_count; i++)
		ports[i] = (struct publish_spec){ .host_ip = spec->publish[i].host_ip,
						  .host_port = spec->publish[i].host_port,
						  .port = spec->publish[i].port,
						  .protocol = protocol_name(
							  spec->publish[i].protocol) };
	return ports;
}

static int publish_ports(struct instance_task *task)
{
	const struct instance_spec *spec = &task->instance->spec;
	int outlet = instance_networks_reached(spec, &task->networks);
	AUTO(free) struct publish_spec *ports = NULL;

	if (spec->publish_count == 0)
		return 0;
	if (outlet < 0)
		return error_say(&task->err, -ENETUNREACH,
				 "publish: none of its networks has a way out");
	if (!task->networks.list[outlet].args.named)
		return error_say(&task->err, -ENETUNREACH,
				 "publish: network %s has driver %s, which has no published ports",
				 spec->ports[outlet].network,
				 task->networks.list[outlet].args.driver);
	ports = publish_list(spec);
	return publish_ensure(task->agent->net, task->uid, spec->ports[outlet].ipv4,
			      spec->ports[outlet].ipv6, ports, spec->publish_count, &task->err);
}

/* `netns_fd` is a container's, or -1; `cards` are a machine's that runs, or NULL. */
static int remove_leaving(struct instance_task *task, int netns_fd,
			  const struct machine_cards *cards)
{
	const struct instance_spec *spec = &task->instance->spec;
	int r = 0;

	for (size_t i = 0; r == 0 && i < spec->port_count; i++) {
		const struct port *port = &spec->ports[i];

		if (!port->leaving)
			continue;
		/* The card goes first: its monitor would not cope with a tap that has gone. */
		if (cards)
			r = instance_card_detach(task, i, cards, &task->err);
		if (r == 0)
			r = port_remove(task->agent->net, port->network_uid, port->uid, &task->err);
		if (r == 0 && netns_fd >= 0)
			r = port_remove_inside(task->agent->net, port->interface, port->mac,
					       netns_fd, &task->err);
		if (r == 0)
			r = traffic_save_gone(task->agent, task->uid, port, 1, &task->err);
	}
	task->stuck = r < 0;
	return r;
}

/* Port `i`; as above. */
static int attach_one(struct instance_task *task, size_t i, int netns_fd,
		      const struct machine_cards *cards, struct error *err)
{
	struct bridge_spec bridge = instance_bridge_spec(&task->networks.list[i].args);
	struct port_spec port = instance_port_spec(task, i, &bridge);

	if (!task->networks.list[i].ready)
		return error_say(err, -ENETDOWN, "%s", task->networks.error);
	if (cards)
		return instance_card_attach(task, i, cards, err);
	return netns_fd < 0 ? tap_attach(task->agent->net, &port, err)
			    : port_attach(task->agent->net, &port, netns_fd, err);
}

/* One that cannot be there is no reason to go without the others. */
static int attach_all(struct instance_task *task, int netns_fd, const struct machine_cards *cards)
{
	const struct instance_spec *spec = &task->instance->spec;
	int result = 0;

	for (size_t i = next_wanted(spec, 0); i < spec->port_count; i = next_wanted(spec, i + 1)) {
		struct error err = {};
		int r = attach_one(task, i, netns_fd, cards, &err);

		if (r < 0 && result == 0) {
			result = r;
			task->err = err;
		}
	}
	return result;
}

static bool any_leaves(const struct instance_spec *spec)
{
	for (size_t i = 0; i < spec->port_count; i++)
		if (spec->ports[i].leaving)
			return true;
	return false;
}

/*
 * Which cards the machine has, its monitor says: 1.  0: nobody can change them now, and nothing has
 * to go; *ret_why says why.
 */
static int look_at_cards(struct instance_task *task, struct machine_cards *ret,
			 struct error *ret_why)
{
	const struct instance_spec *spec = &task->instance->spec;
	int64_t started_ms;
	bool paused = false;
	int r;

	(void) instance_read_started(task->agent, task->uid, &started_ms, &paused);
	/* Its monitor stands still, too. */
	r = paused ? error_say(ret_why, -EBUSY, "the instance is paused; resume it first")
		   : instance_cards_look(task, ret, ret_why);
	if (r == 0)
		return 1;
	/* What has to be done with one that stands still must not wait for its monitor. */
	if (!any_leaves(spec))
		return 0;
	task->err = *ret_why;
	return r;
}

static int attach_machine(struct instance_task *task)
{
	struct machine_cards cards;
	struct error why = {};
	int known = task->runs ? look_at_cards(task, &cards, &why) : 0;
	int r = known;

	task->stuck = r < 0;
	if (r >= 0)
		r = remove_leaving(task, -1, known ? &cards : NULL);
	if (r == 0)
		r = attach_all(task, -1, known ? &cards : NULL);
	/* A card that is not there cannot come now. */
	if (r == -ENODEV && why.code < 0)
		task->err = why;
	return r < 0 || !known ? r : instance_cards_describe(task, &task->err);
}

static int attach_container(struct instance_task *task)
{
	AUTO(fd_close) int fd = -1;
	int r;

	if (task->instance->spec.port_count > 0) {
		fd = instance_ports_open_namespace(task->pid);
		if (fd < 0)
			return error_set(&task->err, fd, "open the network namespace of process %d",
					 task->pid);
	}
	r = remove_leaving(task, fd, NULL);
	return r < 0 ? r : attach_all(task, fd, NULL);
}

int instance_ports_attach(struct instance_task *task)
{
	const struct instance_spec *spec = &task->instance->spec;
	int r = spec->type == INSTANCE_VM ? attach_machine(task) : attach_container(task);

	return r < 0 || next_wanted(spec, 0) == spec->port_count ? r : publish_ports(task);
}

int instance_ports_detach(struct instance_task *task)
{
	const struct instance_spec *spec = &task->instance->spec;
	int r = 0;

	if (spec->port_count > 0 && spec->publish_count > 0)
		r = publish_remove(task->agent->net, task->uid, &task->err);
	for (size_t i = 0; r == 0 && i < spec->port_count; i++)
		r = port_detach(task->agent->net, spec->ports[i].network_uid, spec->ports[i].uid,
				&task->err);
	if (r == 0)
		r = traffic_save_gone(task->agent, task->uid, spec->ports, spec->port_count,
				      &task->err);
	return r;
}
