#include "agent/instance_trace.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/instance_actor_internal.h"
#include "agent/instance_ports.h"
#include "base/error.h"
#include "base/mem.h"
#include "kern/cgroup.h"

/* Both are in the form that control writes, but a stranger's may not be. */
static bool has_address(const struct port *port, const char *text)
{
	struct ip wanted, own;

	return ip_parse(text, &wanted) == 0 &&
	       ((ip_parse(port->ipv4, &own) == 0 && ip_equal(&own, &wanted)) ||
		(ip_parse(port->ipv6, &own) == 0 && ip_equal(&own, &wanted)));
}

static int take_ports(struct agent *agent, const struct instance_spec *spec, const char *port_uid,
		      const char *source, struct instance_trace *ret, struct error *err)
{
	bool found = false;

	for (size_t i = 0; i < spec->port_count && ret->port_count < PORTS_MAX; i++) {
		const struct port *port = &spec->ports[i];
		const char *why = NULL;

		if (port->leaving ||
		    network_need(agent, port->network_uid, &ret->ports[ret->port_count].network,
				 &why) != PLAN_NEED_READY)
			continue;
		if (strcmp(port->uid, port_uid) == 0) {
			if (!has_address(port, source))
				return error_say(err, -EINVAL,
						 "source '%.64s': is no address of its port on "
						 "network %s; nothing else may be sent there",
						 source, port->network);
			found = true;
			ret->port = ret->port_count;
		}
		snprintf(ret->ports[ret->port_count].uid, UID_SIZE, "%s", port->uid);
		snprintf(ret->ports[ret->port_count].mac, MAC_TEXT_SIZE, "%s", port->mac);
		ret->port_count++;
	}
	return found ? 0
		     : error_say(err, -EINVAL, "port %.40s: the instance has none of this uid here",
				 port_uid);
}

int instance_trace_find(struct agent *agent, const char *uid, const char *port_uid,
			const char *source, struct instance_trace *ret, struct error *err)
{
	const struct instance_actor *actor = actor_find(agent, uid);

	*ret = (struct instance_trace){};
	if (!actor || !actor->want || instance_pid(agent, uid, &ret->pid) < 0)
		return error_say(err, -ESRCH, "the instance is not running; start it first");
	snprintf(ret->uid, sizeof(ret->uid), "%s", uid);
	ret->machine = actor_spec(actor)->type == INSTANCE_VM;
	return take_ports(agent, actor_spec(actor), port_uid, source, ret, err);
}

int instance_trace_open(const struct instance_trace *trace, struct error *err)
{
	int fd = instance_ports_open_namespace(trace->pid);

	return fd < 0 ? error_set(err, fd, "the instance's network namespace") : fd;
}

int instance_trace_pids(const struct agent *agent, const struct instance_trace *trace, pid_t **ret,
			size_t *ret_count, struct error *err)
{
	AUTO(free) char *path = mem_printf("/%s/%s", agent->options->prefix, trace->uid);
	AUTO(cgroup_free) struct cgroup *cgroup = NULL;
	int r = cgroup_open(agent->cgroups, path, false, &cgroup);

	if (r == 0)
		r = cgroup_pids(cgroup, ret, ret_count);
	return r < 0 ? error_set(err, r, "list the processes of the machine") : 0;
}
