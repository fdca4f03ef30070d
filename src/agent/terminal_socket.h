#pragma once
/*
 * agent/terminal_socket.h - the socket on which brume-oci hands over the terminal of a process.
 *
 * Used by agent/exec.c.  Belongs to the loop's thread.  A crash leaves the socket's file in the
 * instance's run folder, which goes with the instance.
 */
#include <stdbool.h>
#include <systemd/sd-event.h>

struct error;

struct terminal_socket {
	/* Called at most once: the descriptor is handed over. */
	void (*take)(void *data, int terminal_fd);
	void *data;
	sd_event *event;
	char *path;
	int fd; /* a listener, then brume-oci; -1: closed */
	bool connected;
	sd_event_source *source;
};

/* Listens; `path` is handed over, also when it fails. */
int terminal_socket_open(struct terminal_socket *socket, sd_event *event, char *path,
			 struct error *err);

/* Takes what has come, without waiting for the loop. */
void terminal_socket_look(struct terminal_socket *socket);

/* Closes it and removes its file. */
void terminal_socket_done(struct terminal_socket *socket);
