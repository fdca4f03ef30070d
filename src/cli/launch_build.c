#include "cli/launch_build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/signame.h"
#include "base/strv.h"
#include "cli/number.h"
#include "codec/oci_platform.h"
#include "model/member.h"

enum {
	LAUNCH_ENV_FILE_MAX_BYTES = 1024 * 1024,
	LAUNCH_PIDS_MAX = 4194304,
	LAUNCH_STOP_TIMEOUT_MAX_S = 86400,
};

/* "NAME=VALUE", or "NAME" for the variable of ours; one that we do not have is left out. */
static int launch_add_env(char ***env, const char *text, const char *where, struct error *err)
{
	const char *value = strchr(text, '=');
	AUTO(free)
	char *name = value ? mem_strndup(text, (size_t) (value - text)) : mem_strdup(text);

	if (!*name)
		return error_say(err, -EINVAL, "%s \"%s\": it should look like NAME=VALUE", where,
				 text);
	value = value ? value + 1 : getenv(name);
	if (value)
		strv_env_set(env, name, value);
	return 0;
}

static int launch_read_env_file(char ***env, const char *path, struct error *err)
{
	AUTO(free) char *text = NULL;
	char *line, *rest;
	int r = file_read(AT_FDCWD, path, LAUNCH_ENV_FILE_MAX_BYTES, &text, NULL);

	if (r < 0)
		return error_set(err, r, "cannot read --env-file %s", path);
	for (rest = text; (line = strsep(&rest, "\n"));) {
		size_t size = strlen(line);

		if (size > 0 && line[size - 1] == '\r')
			line[size - 1] = '\0';
		line += strspn(line, " \t");
		if (!*line || *line == '#')
			continue;
		r = launch_add_env(env, line, path, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int launch_build_env(const struct launch_options *options, struct instance_spec *spec,
			    struct error *err)
{
	int r;

	for (char **p = options->env_files; p && *p; p++) {
		r = launch_read_env_file(&spec->env, *p, err);
		if (r < 0)
			return r;
	}
	for (char **p = options->env; p && *p; p++) {
		r = launch_add_env(&spec->env, *p, "--env", err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int launch_build_publish(const struct launch_options *options, struct instance_spec *spec,
				struct error *err)
{
	size_t count = strv_count(options->publish);

	if (count > PUBLISH_MAX)
		return error_say(err, -EINVAL, "--publish: at most %d ports can be published",
				 PUBLISH_MAX);
	spec->publish = count > 0 ? mem_new0_array(struct publish, count) : NULL;
	for (size_t i = 0; i < count; i++) {
		int r = publish_parse(options->publish[i], &spec->publish[i], err);

		if (r < 0)
			return error_wrap(err, r, "--publish");
		spec->publish_count = i + 1;
		for (size_t j = 0; j < i; j++)
			if (publish_conflict(&spec->publish[j], &spec->publish[i]))
				return error_say(err, -EINVAL,
						 "--publish %s and --publish %s want the same port",
						 options->publish[j], options->publish[i]);
	}
	return 0;
}

static int launch_build_limits(const struct launch_options *options, struct instance_spec *spec,
			       struct error *err)
{
	int64_t number;
	int r = 0;

	if (options->cpus)
		r = cpus_parse(options->cpus, "--cpus", &spec->cpus, err);
	if (r == 0 && options->memory)
		r = memory_parse(options->memory, "--memory", &spec->memory_bytes, err);
	/* Zero means "no limit" to the server, and never what was meant here. */
	if (r == 0 &&
	    ((options->cpus && spec->cpus == 0) || (options->memory && spec->memory_bytes == 0)))
		return error_say(err, -EINVAL,
				 "--cpus and --memory: 0 is no limit; leave the option out");
	if (r == 0 && options->pids) {
		r = number_parse(options->pids, "--pids", 1, LAUNCH_PIDS_MAX, &number, err);
		if (r == 0)
			spec->pids = (uint64_t) number;
	}
	if (r == 0 && options->stop_timeout) {
		r = number_parse(options->stop_timeout, "--stop-timeout", 0,
				 LAUNCH_STOP_TIMEOUT_MAX_S, &number, err);
		if (r == 0)
			spec->stop_timeout_s = (uint32_t) number;
	}
	if (r == 0 && options->restart) {
		r = restart_parse(options->restart, &spec->restart_policy,
				  &spec->restart_max_retries, err);
		if (r < 0)
			r = error_wrap(err, r, "--restart");
	}
	return r;
}

/* For the ports that name none themselves. */
static int launch_build_groups(const struct launch_options *options, struct instance_spec *spec,
			       struct error *err)
{
	AUTO(strv_free) char **groups = NULL;
	struct port port = { .network = "default" };

	for (char **p = options->groups; p && *p; p++) {
		int r = port_groups_parse(*p, &groups, err);

		if (r < 0)
			return error_wrap(err, r, "--group");
	}
	if (!groups)
		return 0;
	if (spec->ports && spec->port_count == 0)
		return error_say(err, -EINVAL,
				 "--group: does not go with --network none, there is no port");
	if (!spec->ports)
		ports_append(&spec->ports, &spec->port_count, &port);
	for (size_t i = 0; i < spec->port_count; i++)
		if (!spec->ports[i].groups)
			spec->ports[i].groups = strv_copy(groups);
	return 0;
}

static int launch_build_ports(const struct launch_options *options, struct instance_spec *spec,
			      struct error *err)
{
	size_t count = strv_count(options->networks);

	if (count > PORTS_MAX)
		return error_say(err, -EINVAL, "--network: an instance can have %d at most",
				 PORTS_MAX);
	if (count == 1 && strcmp(options->networks[0], "none") == 0) {
		spec->ports = mem_new0(struct port);
		return 0;
	}
	for (size_t i = 0; i < count; i++) {
		struct port port;
		int r;

		if (strcmp(options->networks[i], "none") == 0)
			return error_say(err, -EINVAL,
					 "--network none: does not go with another network");
		r = port_parse(options->networks[i], &port, err);
		if (r < 0)
			return error_wrap(err, r, "--network");
		if (ports_find(spec->ports, spec->port_count, port.network)) {
			r = error_say(err, -EINVAL, "--network: \"%s\" is given twice",
				      port.network);
			port_done(&port);
			return r;
		}
		ports_append(&spec->ports, &spec->port_count, &port);
	}
	return 0;
}

static int launch_build_texts(const struct launch_options *options, struct launch_request *request,
			      struct error *err)
{
	struct instance_spec *spec = &request->spec;

	mem_replace(&spec->workdir, options->workdir);
	mem_replace(&spec->user, options->user);
	mem_replace(&spec->hostname, options->hostname);
	if (options->stop_signal) {
		if (signame_number(options->stop_signal) < 0)
			return error_say(err, -EINVAL,
					 "--stop-signal \"%s\": there is no such signal; try TERM, "
					 "INT or 15",
					 options->stop_signal);
		mem_replace(&spec->stop_signal, options->stop_signal);
	}
	if (options->entrypoint) {
		spec->entrypoint = mem_new0_array(char *, 1);
		if (*options->entrypoint)
			strv_append(&spec->entrypoint, options->entrypoint);
	}
	if (options->pull) {
		int policy = member_enum_index(pull_policy_names, options->pull);

		if (policy < 0)
			return error_say(err, -EINVAL,
					 "--pull \"%s\": there are missing, always and never",
					 options->pull);
		request->pull = (enum pull_policy) policy;
	}
	for (char **p = options->labels; p && *p; p++) {
		const char *value = strchr(*p, '=');
		AUTO(free)
		char *key = value ? mem_strndup(*p, (size_t) (value - *p)) : mem_strdup(*p);

		strv_env_set(&request->labels, key, value ? value + 1 : "");
	}
	return labels_check(request->labels, err);
}

int launch_build(const struct launch_options *options, const struct arguments *arguments,
		 struct launch_request **ret, struct error *err)
{
	AUTO(launch_request_free) struct launch_request *request = launch_request_new();
	struct instance_spec *spec = &request->spec;
	int r = 0;

	mem_replace(&spec->image, arguments->words[0]);
	if (!*arguments->words[0])
		return error_say(err, -EINVAL, "the image's name is empty");
	if (arguments->word_count > 1) {
		r = name_check(arguments->words[1], "name", err);
		if (r < 0)
			return r;
		mem_replace(&request->name, arguments->words[1]);
	}
	if (arguments->command)
		spec->command = strv_copy(arguments->command);
	spec->remove_on_exit = options->remove_on_exit;
	/* Who attaches does so before it starts: then nothing is missed. */
	request->start = !options->no_start && !launch_attaches(options);
	request->insecure = options->insecure;
	if (options->platform) {
		r = oci_platform_check(options->platform, err);
		if (r < 0)
			return error_wrap(err, r, "--platform");
		mem_replace(&request->platform, options->platform);
	}
	r = launch_build_env(options, spec, err);
	if (r == 0)
		r = launch_build_publish(options, spec, err);
	if (r == 0)
		r = launch_build_ports(options, spec, err);
	if (r == 0)
		r = launch_build_groups(options, spec, err);
	if (r == 0)
		r = launch_build_limits(options, spec, err);
	if (r == 0)
		r = launch_build_texts(options, request, err);
	if (r == 0)
		r = launch_build_run(options, &spec->run, err);
	if (r == 0)
		r = launch_build_health(options, &spec->health, err);
	if (r == 0)
		r = launch_build_stdio(options, &spec->stdio, err);
	if (r == 0)
		r = launch_build_vm(options, spec, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(request);
	return 0;
}
