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
	char **publish, **env, **env_files, **labels, **networks, **groups;
	const char *workdir, *user, *entrypoint, *restart, *cpus, *memory, *pids, *hostname;
	const char *pull, *stop_signal, *stop_timeout;
	bool remove_on_exit, insecure, no_start, detach;
	/* How it is run: cli/launch_run.c. */
	char **mounts, **volumes, **tmpfs, **devices, **cap_add, **cap_drop, **sysctls, **ulimits,
		**dns, **security_opt;
	const char *shm_size, *seccomp;
	bool init, read_only, privileged;
	const char *health_cmd, *health_http, *health_tcp, *health_interval, *health_timeout,
		*health_retries, *health_start_period, *health_start_interval, *health_on_failure;
	bool no_healthcheck;
	/* A virtual machine: cli/launch_vm.c. */
	const char *kernel, *disk, *user_data;
	char **ssh_keys; /* files */
	bool vm, emulate;
	const char *platform; /* of the image */
	/* Its terminal, input and log: cli/launch_stdio.c. */
	const char *log_max_size, *log_max_files, *detach_keys;
	bool interactive, tty, attach;
};

/* Does the command stay with the instance until it ends? */
bool launch_attaches(const struct launch_options *options);
int launch_build_stdio(const struct launch_options *options, struct stdio_options *stdio,
		       struct error *err);

/* The options that say how it is run, and its health check. */
int launch_build_run(const struct launch_options *options, struct run_options *run,
		     struct error *err);
int launch_build_health(const struct launch_options *options, struct health_check *health,
			struct error *err);

int launch_build_vm(const struct launch_options *options, struct instance_spec *spec,
		    struct error *err);

/* Starts an instance that was only created, tied to our terminal: cli/launch_attach.c. */
struct cli;
int launch_attach(struct cli *cli, const struct launch_options *options, const json_t *operation,
		  struct error *err);

/* Checks everything that can be checked here; errors name the option. */
int launch_build(const struct launch_options *options, const struct arguments *arguments,
		 struct launch_request **ret, struct error *err);
