#include "api/api.h"

#include <errno.h>
#include <string.h>

#include "api/api_internal.h"
#include "api/link.h"
#include "api/server.h"
#include "api/tls.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/control.h"

enum {
	IDLE_S = 30,
	REQUEST_S = 60,
	PING_S = 30,
	UNIX_CONNECTIONS_MAX = 768,
	TLS_CONNECTIONS_MAX = 256,
};

/* -- what control asks for -------------------------------------------------------------------- */

static bool is_connected(const struct api *api, const char *node)
{
	return api->agent && strcmp(api->agent, node) == 0;
}

static void on_assign(const char *node, const json_t *resource, void *data)
{
	struct api *api = data;

	/* During hello the name is not known here yet; it is that node's resources then. */
	if (!api->agent || is_connected(api, node))
		link_assign(api->link, resource);
}

static void on_assigned_all(const char *node, void *data)
{
	struct api *api = data;

	(void) node;
	link_assigned_all(api->link);
}

static void on_forget(const char *node, enum kind kind, const char *uid, void *data)
{
	struct api *api = data;

	if (is_connected(api, node))
		link_forget(api->link, kind_name(kind), uid);
}

static void on_set_timer(uint64_t monotonic_us, void *data)
{
	struct api *api = data;

	if (monotonic_us == UINT64_MAX) {
		sd_event_source_set_enabled(api->timer, SD_EVENT_OFF);
		return;
	}
	sd_event_source_set_time(api->timer, monotonic_us);
	sd_event_source_set_enabled(api->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct api *api = data;

	(void) source;
	(void) usec;
	control_tick(api->control);
	return 0;
}

static void on_state(int result, const struct error *err, void *data)
{
	struct api *api = data;

	if (result < 0) {
		api->failed(err, api->user);
		return;
	}
	link_start(api->link);
	if (api->unix_server)
		server_start(api->unix_server);
	if (api->tls_server) {
		server_start(api->tls_server);
		tls_start(api->tls);
	}
	log_info("ready");
}

/* -- what the agent says ---------------------------------------------------------------------- */

static int on_hello(const json_t *body, void *data, struct error *err)
{
	struct api *api = data;
	AUTO(free) char *node = NULL;
	int r = control_node_hello(api->control, body, &node, err);
	if (r < 0)
		return r;
	log_info("node %s: agent connected", node);
	api->agent = TAKE_PTR(node);
	return 0;
}

static int on_status(const json_t *body, void *data, struct error *err)
{
	struct api *api = data;

	return control_node_status(api->control, api->agent, body, err);
}

static void on_gone(void *data)
{
	struct api *api = data;
	AUTO(free) char *node = TAKE_PTR(api->agent);

	if (node)
		control_node_lost(api->control, node);
}

/* -- start and end ---------------------------------------------------------------------------- */

static int on_tls_client(int fd, const struct sockaddr *address, socklen_t address_size, void *user)
{
	struct api *api = user;

	return server_add(api->tls_server, fd, address, address_size);
}

static int start_servers(struct api *api, const struct api_config *config, struct error *err)
{
	struct server_config server = { .group = config->group,
					.group_name = config->group_name,
					.tokens = config->tokens,
					.idle_s = config->idle_s ? config->idle_s : IDLE_S,
					.request_s =
						config->request_s ? config->request_s : REQUEST_S };
	int r = 0;

	if (config->unix_fd >= 0) {
		server.fd = config->unix_fd;
		server.connections_max = UNIX_CONNECTIONS_MAX;
		r = server_new(api, &server, &api->unix_server, err);
	}
	if (r == 0 && config->tls_fd >= 0) {
		struct tls_config tls = { .fd = config->tls_fd,
					  .cert_pem = config->cert_pem,
					  .key_pem = config->key_pem,
					  .connections_max = TLS_CONNECTIONS_MAX,
					  .accepted = on_tls_client,
					  .user = api };

		server.fd = -1;
		server.connections_max = TLS_CONNECTIONS_MAX;
		r = server_new(api, &server, &api->tls_server, err);
		if (r == 0)
			r = tls_new(api->event, &tls, &api->tls, err);
	}
	return r;
}

int api_new(sd_event *event, const struct api_config *config, struct api **ret, struct error *err)
{
	static const struct link_ops link_ops = { on_hello, on_status, on_gone };
	static const struct control_ops control_ops = { on_assign, on_assigned_all, on_forget,
							on_set_timer, on_state };
	AUTO(api_free) struct api *api = mem_new0(struct api);
	int r;

	api->event = sd_event_ref(event);
	api->failed = config->failed;
	api->user = config->user;
	api->ping_us = (uint64_t) (config->ping_s ? config->ping_s : PING_S) * 1000000;
	r = sd_event_add_time(event, &api->timer, CLOCK_MONOTONIC, UINT64_MAX, 1000, on_timer, api);
	if (r < 0)
		return error_set(err, r, "timer");
	r = link_new(event, config->agent_fd, config->agent_uid, &link_ops, api, &api->link, err);
	if (r == 0)
		r = control_new(config->control, &control_ops, api, &api->control, err);
	if (r == 0)
		r = start_servers(api, config, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(api);
	return 0;
}

void api_free(struct api *api)
{
	if (!api)
		return;
	link_free(api->link);
	ws_end_all(&api->sockets);
	server_free(api->unix_server);
	server_free(api->tls_server);
	tls_free(api->tls);
	control_free(api->control);
	sd_event_source_disable_unref(api->timer);
	sd_event_unref(api->event);
	free(api->agent);
	free(api);
}
