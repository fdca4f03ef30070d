#pragma once
/*
 * api/api_internal.h - what the handlers share: the things below api/ and the sockets of all.
 */
#include <stdint.h>
#include <systemd/sd-event.h>

#include "api/ws.h"

struct control;
struct error;
struct link;
struct server;
struct tls;

struct api {
	sd_event *event;
	struct control *control;
	struct link *link;
	char *agent;            /* name of the node whose agent is connected, or NULL */
	sd_event_source *timer; /* control_tick() */
	void (*failed)(const struct error *err, void *user);
	void *user;
	uint64_t ping_us;
	struct ws_list sockets;
	struct server *unix_server;
	struct server *tls_server;
	struct tls *tls;
};
