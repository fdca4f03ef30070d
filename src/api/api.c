#include "api/api.h"

#include "api/api_internal.h"
#include "api/link.h"
#include "api/server.h"
#include "base/mem.h"

enum {
	IDLE_S = 30,
	REQUEST_S = 60,
	PING_S = 30,
	UNIX_CONNECTIONS_MAX = 768,
	TLS_CONNECTIONS_MAX = 256,
};

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
		server.fd = config->tls_fd;
		server.tls = true;
		server.cert_pem = config->cert_pem;
		server.key_pem = config->key_pem;
		server.connections_max = TLS_CONNECTIONS_MAX;
		r = server_new(api, &server, &api->tls_server, err);
	}
	return r;
}

int api_new(sd_event *event, const struct api_config *config, struct api **ret, struct error *err)
{
	static const struct link_ops link_ops = {};
	AUTO(api_free) struct api *api = mem_new0(struct api);
	int r;

	api->event = sd_event_ref(event);
	api->control = config->control;
	api->node = config->node;
	api->ping_us = (uint64_t) (config->ping_s ? config->ping_s : PING_S) * 1000000;
	r = link_new(event, config->agent_fd, config->agent_uid, &link_ops, api, &api->link, err);
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
	sd_event_unref(api->event);
	free(api);
}
