#include "agent/usage.h"

#include "agent/agent_internal.h"
#include "base/mem.h"
#include "kern/cgroup.h"
#include "kern/cgroup_usage.h"
#include "net/port.h"

int usage_open(const struct agent *agent, struct cgroup **ret)
{
	AUTO(free) char *path = mem_printf("/%s", agent->options->prefix);

	return cgroup_open(agent->cgroups, path, false, ret);
}

/* A limit that is none, or above what there is, is the memory of the node. */
static uint64_t effective_limit(uint64_t limit_bytes)
{
	uint64_t total = agent_memory_bytes();

	return limit_bytes == 0 || limit_bytes > total ? total : limit_bytes;
}

int usage_read(const struct cgroup *all, const char *uid, struct usage *ret)
{
	struct cgroup_usage cgroup;
	int r = cgroup_usage_read(all, uid, &cgroup);

	if (r < 0)
		return r;
	*ret = (struct usage){
		.time_ms = clock_realtime_ms(clock_system()),
		.cpu_ns = cgroup.cpu_ns,
		.cpu_user_ns = cgroup.cpu_user_ns,
		.cpu_system_ns = cgroup.cpu_system_ns,
		.cpu_periods = cgroup.cpu_periods,
		.cpu_throttled_periods = cgroup.cpu_throttled_periods,
		.cpu_throttled_ns = cgroup.cpu_throttled_ns,
		.memory_bytes = cgroup_usage_memory(&cgroup),
		.memory_limit_bytes = effective_limit(cgroup.memory_limit_bytes),
		.read_bytes = cgroup.read_bytes,
		.write_bytes = cgroup.write_bytes,
		.read_ops = cgroup.read_ops,
		.write_ops = cgroup.write_ops,
		.pids = cgroup.pids,
		.pids_limit = cgroup.pids_limit,
	};
	return 0;
}

void usage_read_ports(const struct agent *agent, struct usage_port *ports, size_t count,
		      struct usage *usage)
{
	for (size_t i = 0; i < count; i++) {
		struct usage_port *port = &ports[i];
		struct port_counters counters;

		port->there = port_read_counters(agent->net, port->uid, &counters) == 0;
		if (!port->there)
			continue;
		port->traffic = (struct usage_traffic){ .rx_bytes = counters.rx_bytes,
							.rx_packets = counters.rx_packets,
							.rx_dropped = counters.rx_dropped,
							.tx_bytes = counters.tx_bytes,
							.tx_packets = counters.tx_packets,
							.tx_dropped = counters.tx_dropped };
		usage_add_traffic(usage, &port->traffic);
	}
}
