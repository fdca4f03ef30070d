#pragma once
/*
 * api/api_internal.h - what the handlers share: the things below api/ and the sockets of all.
 */
#include <stdint.h>
#include <systemd/sd-event.h>

#include "api/ws.h"

struct control;
struct link;
struct server;

struct api {
	sd_event *event;
	struct control *control;
	struct link *link;
	const char *node;
	uint64_t ping_us;
	struct ws_list sockets;
	struct server *unix_server;
	struct server *tls_server;
};
