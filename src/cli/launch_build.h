#pragma once
/*
 * cli/launch_build.h - from the options of `brume launch` to the request.
 *
 * Made by cli/launch, built by cli/launch_build; apart so that it can be tested without a server.
 */
#include <stdbool.h>

#include "cli/option.h"
#include "model/request.h"

struct launch_options {
	char **publish, **env, **env_files, **labels;
	const char *workdir, *user, *entrypoint, *restart, *cpus, *memory, *pids, *hostname,
		*network;
	const char *pull, *stop_signal, *stop_timeout;
	bool remove_on_exit, insecure, no_start, detach;
};

/* Checks everything that can be checked here; errors name the option. */
int launch_build(const struct launch_options *options, const struct arguments *arguments,
		 struct launch_request **ret, struct error *err);
