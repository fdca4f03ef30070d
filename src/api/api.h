#pragma once
/*
 * api/api.h - the control plane's face: HTTP for people and programs, the link for the node's
 * agent.
 *
 * Used by cmd/brumed.  Wires the listeners (api/server), the table of routes and the agent link to
 * control/, which it owns.  Holds nothing that is not in the store or with a client that is
 * connected right now. Thread: the loop's.
 */
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"

struct api;
struct auth_tokens;
struct control_config;
struct error;

struct api_config {
	const struct control_config *control; /* borrowed for the call */
	/* control cannot go on (it lost the store): the owner ends the process and starts again. */
	void (*failed)(const struct error *err, void *user);
	void *user;
	int unix_fd; /* listening sockets, taken over on success; -1: none */
	int tls_fd;
	int agent_fd;
	uid_t agent_uid; /* who may be the agent: 0 */
	gid_t group;     /* who may use the Unix socket besides root; (gid_t) -1: nobody */
	const char *group_name;
	const char *cert_pem; /* for tls_fd; borrowed for the call */
	const char *key_pem;
	const struct auth_tokens *tokens; /* borrowed for the api's life */
	unsigned int idle_s;              /* 0: the usual times */
	unsigned int request_s;
	unsigned int ping_s;
};

int api_new(sd_event *event, const struct api_config *config, struct api **ret, struct error *err);
void api_free(struct api *api);
DEFINE_AUTO(struct api *, api_free)
