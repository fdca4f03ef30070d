#include "net/flow.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "kern/netlink.h"
#include "net/flow_internal.h"
#include "net/router_internal.h"

#define SYSCTLS "/proc/sys/net/netfilter/"
#define NOTE "conntrack"

enum { NOTE_MAX = 256, VALUE_MAX = 32 };

/*
 * With events 2, the kernel's default, a flow that begins while nobody listens never tells its end:
 * one that begins while the agent is being started anew would be missed.
 */
static const struct {
	const char *name, *value;
} sysctls[] = {
	{ "nf_conntrack_acct", "1" },
	{ "nf_conntrack_timestamp", "1" },
	{ "nf_conntrack_events", "1" },
};

/* Its line without the end; NULL: this kernel has none. */
static char *read_value(const char *name)
{
	AUTO(free) char *path = mem_printf(SYSCTLS "%s", name);
	AUTO(free) char *text = NULL;

	if (file_read(AT_FDCWD, path, VALUE_MAX, &text, NULL) < 0)
		return NULL;
	text[strcspn(text, "\n")] = '\0';
	return TAKE_PTR(text);
}

static int write_value(const char *name, const char *value, struct error *err)
{
	AUTO(free) char *path = mem_printf(SYSCTLS "%s", name);
	int r = file_write_kernel(AT_FDCWD, path, value);

	return r < 0 ? error_set(err, r, "cannot set %s to %s", name, value) : 0;
}

/* Those that are not as they are to be, "NAME VALUE\n" each, as they are. */
static void list_others(struct strbuf *ret)
{
	for (size_t i = 0; i < ARRAY_COUNT(sysctls); i++) {
		AUTO(free) char *value = read_value(sysctls[i].name);

		if (value && strcmp(value, sysctls[i].value) != 0)
			strbuf_printf(ret, "%s %s\n", sysctls[i].name, value);
	}
}

static int switch_on(struct error *err)
{
	for (size_t i = 0; i < ARRAY_COUNT(sysctls); i++) {
		AUTO(free) char *value = read_value(sysctls[i].name);
		int r = value && strcmp(value, sysctls[i].value) != 0
				? write_value(sysctls[i].name, sysctls[i].value, err)
				: 0;

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the node */

static int account_on_node(const char *note, bool *ret_changed, struct error *err)
{
	AUTO(strbuf_done) struct strbuf before = {};
	int r = 0;

	list_others(&before);
	*ret_changed = before.size > 0;
	if (before.size == 0)
		return 0;
	/* The first note is the true one. */
	if (faccessat(AT_FDCWD, note, F_OK, 0) < 0)
		r = file_write_atomic(AT_FDCWD, note, before.data, before.size, 0600, false);
	return r < 0 ? error_set(err, r, "cannot write %s", note) : switch_on(err);
}

static int put_back_line(const char *line, struct error *err)
{
	for (size_t i = 0; i < ARRAY_COUNT(sysctls); i++) {
		size_t size = strlen(sysctls[i].name);

		if (strncmp(line, sysctls[i].name, size) == 0 && line[size] == ' ')
			return write_value(sysctls[i].name, line + size + 1, err);
	}
	return 0;
}

static int put_back(const char *note, bool *ret_changed, struct error *err)
{
	AUTO(free) char *text = NULL;
	int r = file_read(AT_FDCWD, note, NOTE_MAX, &text, NULL);

	*ret_changed = false;
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return error_set(err, r, "cannot read %s", note);
	for (char *line = text, *rest = NULL; (line = strtok_r(line, "\n", &rest)) && r == 0;
	     line = NULL)
		r = put_back_line(line, err);
	*ret_changed = true;
	if (r == 0 && unlink(note) < 0)
		r = error_set(err, -errno, "cannot remove %s", note);
	return r;
}

/* Also for net_destroy(). */
int flow_account_node(const struct net *net, bool on, bool *ret_changed, struct error *err)
{
	AUTO(free) char *note = mem_printf("%s/" NOTE, net->networks_dir);
	bool changed;
	int r = on ? account_on_node(note, &changed, err) : put_back(note, &changed, err);

	if (r == 0 && ret_changed)
		*ret_changed = changed;
	return r;
}

/* ---- a router: its settings are nobody else's */

struct account {
	bool on, changed;
};

static int account_inside(struct net *net, void *data, struct error *err)
{
	AUTO(strbuf_done) struct strbuf others = {};
	struct account *account = data;

	(void) net;
	list_others(&others);
	account->changed = account->on == (others.size > 0);
	if (!account->changed)
		return 0;
	if (account->on)
		return switch_on(err);
	/* Only what costs something; how its ends are told is nothing to anybody else. */
	for (size_t i = 0; i < 2; i++) {
		int r = write_value(sysctls[i].name, "0", err);

		if (r < 0 && r != -ENOENT)
			return r;
	}
	return 0;
}

static int run_inside(struct net *net, const char *router_uid,
		      int (*fn)(struct net *net, void *data, struct error *err), void *data,
		      struct error *err)
{
	AUTO(fd_close) int fd = router_space_open(net, router_uid);

	if (fd < 0)
		return error_set(err, fd, "router %s has no network namespace", router_uid);
	return router_space_run(net, fd, fn, data, err);
}

int flow_account(struct net *net, const char *router_uid, bool on, bool *ret_changed,
		 struct error *err)
{
	struct account account = { .on = on };
	int r;

	if (!router_uid)
		return flow_account_node(net, on, ret_changed, err);
	r = run_inside(net, router_uid, account_inside, &account, err);
	if (r == 0 && ret_changed)
		*ret_changed = account.changed;
	return r;
}

/* ---- listening and looking */

static int watch_inside(struct net *net, void *data, struct error *err)
{
	int fd = conntrack_watch();

	(void) net;
	if (fd < 0)
		return error_set(err, fd, "cannot hear of flows that end");
	*(int *) data = fd;
	return 0;
}

int flow_watch(struct net *net, const char *router_uid, int *ret_fd, struct error *err)
{
	return router_uid ? run_inside(net, router_uid, watch_inside, ret_fd, err)
			  : watch_inside(net, ret_fd, err);
}

/* ---- how long flows are remembered */

#define TCP(state) offsetof(struct flow_timeouts, tcp[state])
#define OTHER(member) offsetof(struct flow_timeouts, member)

static const struct {
	const char *name;
	size_t offset;
} timeout_sysctls[] = {
	{ "nf_conntrack_tcp_timeout_syn_sent", TCP(TCP_CONNTRACK_SYN_SENT) },
	{ "nf_conntrack_tcp_timeout_syn_recv", TCP(TCP_CONNTRACK_SYN_RECV) },
	{ "nf_conntrack_tcp_timeout_established", TCP(TCP_CONNTRACK_ESTABLISHED) },
	{ "nf_conntrack_tcp_timeout_fin_wait", TCP(TCP_CONNTRACK_FIN_WAIT) },
	{ "nf_conntrack_tcp_timeout_close_wait", TCP(TCP_CONNTRACK_CLOSE_WAIT) },
	{ "nf_conntrack_tcp_timeout_last_ack", TCP(TCP_CONNTRACK_LAST_ACK) },
	{ "nf_conntrack_tcp_timeout_time_wait", TCP(TCP_CONNTRACK_TIME_WAIT) },
	{ "nf_conntrack_tcp_timeout_close", TCP(TCP_CONNTRACK_CLOSE) },
	{ "nf_conntrack_tcp_timeout_syn_sent", TCP(TCP_CONNTRACK_SYN_SENT2) },
	{ "nf_conntrack_udp_timeout", OTHER(udp) },
	{ "nf_conntrack_udp_timeout_stream", OTHER(udp_stream) },
	{ "nf_conntrack_icmp_timeout", OTHER(icmp) },
	{ "nf_conntrack_icmpv6_timeout", OTHER(icmpv6) },
	{ "nf_conntrack_generic_timeout", OTHER(other) },
};

static int timeouts_inside(struct net *net, void *data, struct error *err)
{
	struct flow_timeouts timeouts = {};

	(void) net;
	(void) err;
	for (size_t i = 0; i < ARRAY_COUNT(timeout_sysctls); i++) {
		AUTO(free) char *value = read_value(timeout_sysctls[i].name);
		uint32_t seconds = value ? (uint32_t) strtoul(value, NULL, 10) : 0;

		memcpy((char *) &timeouts + timeout_sysctls[i].offset, &seconds, sizeof(seconds));
	}
	*(struct flow_timeouts *) data = timeouts;
	return 0;
}

int flow_read_timeouts(struct net *net, const char *router_uid, struct flow_timeouts *ret,
		       struct error *err)
{
	return router_uid ? run_inside(net, router_uid, timeouts_inside, ret, err)
			  : timeouts_inside(net, ret, err);
}

static uint32_t timeout_of(const struct conntrack_flow *flow, const struct flow_timeouts *timeouts)
{
	switch (flow->protocol) {
	case IPPROTO_TCP:
		return flow->has_tcp_state && flow->tcp_state < FLOW_TCP_STATES
			       ? timeouts->tcp[flow->tcp_state]
			       : 0;
	case IPPROTO_UDP:
		return flow->assured ? timeouts->udp_stream : timeouts->udp;
	case IPPROTO_ICMP:
		return timeouts->icmp;
	case IPPROTO_ICMPV6:
		return timeouts->icmpv6;
	default:
		return timeouts->other;
	}
}

uint64_t flow_last_ns(const struct conntrack_flow *flow, const struct flow_timeouts *timeouts)
{
	uint32_t timeout_s = timeout_of(flow, timeouts);
	uint64_t rest_ns;

	/* It was given that much with each packet, and had so much left when it was ended. */
	if (flow->left_s >= timeout_s)
		return flow->stop_ns;
	rest_ns = (timeout_s - flow->left_s) * UINT64_C(1000000000);
	return flow->stop_ns > flow->start_ns + rest_ns ? flow->stop_ns - rest_ns : flow->start_ns;
}

struct look {
	conntrack_fn fn;
	void *data;
};

static int dump_inside(struct net *net, void *data, struct error *err)
{
	AUTO(netlink_free) struct netlink *nl = NULL;
	const struct look *look = data;
	int r = netlink_open(NETLINK_NETFILTER, &nl);

	(void) net;
	if (r == 0)
		r = conntrack_dump(nl, look->fn, look->data);
	/* A table that lives is never seen in one moment: what was seen is good. */
	return r < 0 && r != -EINTR ? error_set(err, r, "cannot list the flows") : 0;
}

int flow_dump(struct net *net, const char *router_uid, conntrack_fn fn, void *data,
	      struct error *err)
{
	struct look look = { fn, data };

	return router_uid ? run_inside(net, router_uid, dump_inside, &look, err)
			  : dump_inside(net, &look, err);
}
