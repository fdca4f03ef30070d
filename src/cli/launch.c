#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/launch_build.h"
#include "cli/listing.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "client/client.h"

#define LAUNCH(member) offsetof(struct launch_options, member)

static const struct option_def launch_options[] = {
	{ 'p', "publish", "PORTS", OPTION_LIST, LAUNCH(publish),
	  "[HOST_IP:]HOST_PORT:PORT[/udp]: make a port reachable" },
	{ 'e', "env", "NAME=VALUE", OPTION_LIST, LAUNCH(env),
	  "an environment variable; NAME alone takes yours" },
	{ 0, "env-file", "FILE", OPTION_LIST, LAUNCH(env_files), "NAME=VALUE lines",
	  COMPLETE_FILE },
	{ 'w', "workdir", "DIR", OPTION_STRING, LAUNCH(workdir), "folder to start in" },
	{ 'u', "user", "USER[:GROUP]", OPTION_STRING, LAUNCH(user), "user inside" },
	{ 0, "entrypoint", "PROGRAM", OPTION_STRING, LAUNCH(entrypoint),
	  "instead of the image's; \"\" for none" },
	{ 'l', "label", "KEY=VALUE", OPTION_LIST, LAUNCH(labels), "a label" },
	{ 0, "restart", "POLICY", OPTION_STRING, LAUNCH(restart),
	  "no, on-failure[:N], always or unless-stopped", COMPLETE_RESTART },
	{ 0, "cpus", "NUMBER", OPTION_STRING, LAUNCH(cpus), "processors it may use, like 0.5" },
	{ 'm', "memory", "SIZE", OPTION_STRING, LAUNCH(memory), "memory it may use, like 512M" },
	{ 0, "pids", "COUNT", OPTION_STRING, LAUNCH(pids), "processes and threads it may have" },
	{ 0, "hostname", "NAME", OPTION_STRING, LAUNCH(hostname), "its own name for itself" },
	{ 0, "network", "NAME[,ip=...]", OPTION_LIST, LAUNCH(networks),
	  "a network it joins; NAME[,ip=ADDRESS][,ip6=ADDRESS][,mac=ADDRESS][,group=NAME]"
	  "[,ingress=RATE][,egress=RATE][,burst=SIZE][,spoofing], or none",
	  COMPLETE_NETWORK },
	{ 0, "group", "NAME[,NAME...]", OPTION_LIST, LAUNCH(groups),
	  "its security groups, where --network says none; else default", COMPLETE_GROUP },
	{ 0, "rm", NULL, OPTION_FLAG, LAUNCH(remove_on_exit), "delete it when it ends" },
	{ 0, "pull", "WHEN", OPTION_STRING, LAUNCH(pull), "missing (default), always or never",
	  COMPLETE_PULL },
	{ 0, "insecure", NULL, OPTION_FLAG, LAUNCH(insecure),
	  "the registry may speak plain HTTP or have an unknown certificate" },
	{ 0, "platform", "OS/ARCH", OPTION_STRING, LAUNCH(platform),
	  "of the image that is pulled, like linux/arm64; else the node's" },
	{ 0, "no-start", NULL, OPTION_FLAG, LAUNCH(no_start), "only create it" },
	{ 0, "stop-signal", "SIGNAL", OPTION_STRING, LAUNCH(stop_signal), "what stop sends first" },
	{ 0, "stop-timeout", "SECONDS", OPTION_STRING, LAUNCH(stop_timeout),
	  "what stop waits before it kills (10)" },
	{ 'v', "volume", "HOST:TARGET[:ro]", OPTION_LIST, LAUNCH(volumes),
	  "show a folder of the node, if its policy allows it", COMPLETE_FILE },
	{ 0, "mount", "type=...,...", OPTION_LIST, LAUNCH(mounts),
	  "type=bind,source=,target=[,readonly] or type=tmpfs,target=[,size=]" },
	{ 0, "tmpfs", "TARGET[:OPTIONS]", OPTION_LIST, LAUNCH(tmpfs),
	  "a folder in memory; size=64M,mode=1777,ro,noexec" },
	{ 0, "read-only", NULL, OPTION_FLAG, LAUNCH(read_only), "its root cannot be written" },
	{ 0, "init", NULL, OPTION_FLAG, LAUNCH(init),
	  "process 1 reaps and forwards signals, and starts yours" },
	{ 0, "device", "DEV[:TARGET][:rwm]", OPTION_LIST, LAUNCH(devices),
	  "a device of the node, if its policy allows it", COMPLETE_FILE },
	{ 0, "cap-add", "NAME", OPTION_LIST, LAUNCH(cap_add),
	  "a capability more, in its own user namespace; ALL", COMPLETE_CAPABILITY },
	{ 0, "cap-drop", "NAME", OPTION_LIST, LAUNCH(cap_drop), "a capability less; ALL",
	  COMPLETE_CAPABILITY },
	{ 0, "privileged", NULL, OPTION_FLAG, LAUNCH(privileged),
	  "all capabilities, nothing masked, if the project allows it" },
	{ 0, "seccomp", "PROFILE", OPTION_STRING, LAUNCH(seccomp),
	  "default, unconfined if the project allows it, or a FILE if the node does",
	  COMPLETE_SECCOMP },
	{ 0, "security-opt", "seccomp=PROFILE", OPTION_LIST, LAUNCH(security_opt),
	  "the same, as docker spells it" },
	{ 0, "sysctl", "NAME=VALUE", OPTION_LIST, LAUNCH(sysctls),
	  "a kernel setting of its own, like net.core.somaxconn" },
	{ 0, "ulimit", "NAME=SOFT[:HARD]", OPTION_LIST, LAUNCH(ulimits),
	  "a limit of each process, like nofile=4096" },
	{ 0, "shm-size", "SIZE", OPTION_STRING, LAUNCH(shm_size), "of /dev/shm (64M)" },
	{ 0, "dns", "ADDRESS", OPTION_LIST, LAUNCH(dns), "a name server instead of the network's" },
	{ 0, "health-cmd", "COMMAND", OPTION_STRING, LAUNCH(health_cmd),
	  "run by /bin/sh inside: exit code 0 is healthy" },
	{ 0, "health-http", "[PORT]/PATH", OPTION_STRING, LAUNCH(health_http),
	  "answers 200 to 399 are healthy" },
	{ 0, "health-tcp", "PORT", OPTION_STRING, LAUNCH(health_tcp),
	  "a port that takes connections is healthy" },
	{ 0, "health-interval", "TIME", OPTION_STRING, LAUNCH(health_interval),
	  "between two checks (30s)" },
	{ 0, "health-timeout", "TIME", OPTION_STRING, LAUNCH(health_timeout),
	  "a check that takes longer has failed (30s)" },
	{ 0, "health-retries", "COUNT", OPTION_STRING, LAUNCH(health_retries),
	  "failures in a row that make it unhealthy (3)" },
	{ 0, "health-start-period", "TIME", OPTION_STRING, LAUNCH(health_start_period),
	  "in which failures do not count (0s)" },
	{ 0, "health-start-interval", "TIME", OPTION_STRING, LAUNCH(health_start_interval),
	  "between two checks in that period (the interval)" },
	{ 0, "health-on-failure", "ACTION", OPTION_STRING, LAUNCH(health_on_failure),
	  "none (default), restart, stop or kill", COMPLETE_HEALTH },
	{ 0, "no-healthcheck", NULL, OPTION_FLAG, LAUNCH(no_healthcheck), "not even the image's" },
	{ 'i', "interactive", NULL, OPTION_FLAG, LAUNCH(interactive),
	  "pass our input on, and stay until it ends" },
	{ 't', "tty", NULL, OPTION_FLAG, LAUNCH(tty), "give it a terminal, and stay" },
	{ 'a', "attach", NULL, OPTION_FLAG, LAUNCH(attach), "stay and show its output" },
	{ 0, "detach-keys", "KEYS", OPTION_STRING, LAUNCH(detach_keys),
	  "leave it running with these (ctrl-p,ctrl-q)" },
	{ 0, "log-max-size", "SIZE", OPTION_STRING, LAUNCH(log_max_size),
	  "of a file of its log (16M)" },
	{ 0, "log-max-files", "COUNT", OPTION_STRING, LAUNCH(log_max_files),
	  "files of its log that are kept (2)" },
	{ 0, "vm", NULL, OPTION_FLAG, LAUNCH(vm), "as a virtual machine with a kernel of its own" },
	{ 0, "kernel", "NAME", OPTION_STRING, LAUNCH(kernel),
	  "with --vm: one of `brume kernel list` instead of the default" },
	{ 0, "disk", "SIZE", OPTION_STRING, LAUNCH(disk), "with --vm: its writable disk (10G)" },
	{ 0, "emulate", NULL, OPTION_FLAG, LAUNCH(emulate),
	  "with --vm: the image may be of another architecture, many times slower" },
	{ 0, "user-data", "FILE", OPTION_STRING, LAUNCH(user_data),
	  "with --vm and a disk image: what cloud-init in it does; - is our input", COMPLETE_FILE },
	{ 0, "ssh-key", "FILE", OPTION_LIST, LAUNCH(ssh_keys),
	  "likewise: whose owner may log in, like ~/.ssh/id_ed25519.pub", COMPLETE_FILE },
	{ 'd', "detach", NULL, OPTION_FLAG, LAUNCH(detach),
	  "return when it runs; the default without -i, -t and -a" },
	{},
};

static void launch_print(struct cli *cli, const json_t *instance)
{
	const char *state = resource_text(instance, "status.state");
	int64_t exit_code = resource_int(instance, "status.exit_code", -1);
	AUTO(strbuf_done) struct strbuf line = {}, addresses = {};

	human_text(&line, resource_name(instance));
	strbuf_puts(&line, " is ");
	human_text(&line, state ? state : "created");
	if (state && strcmp(state, "running") != 0 && exit_code >= 0)
		strbuf_printf(&line, " (exit code %lld)", (long long) exit_code);
	resource_put_addresses(&addresses, instance, true, true);
	if (addresses.size > 0) {
		strbuf_puts(&line, "  ");
		human_text(&line, strbuf_str(&addresses));
	}
	if (json_array_size(resource_at(instance, "spec.publish")) > 0) {
		AUTO(strbuf_done) struct strbuf ports = {};

		resource_put_ports(&ports, instance);
		strbuf_puts(&line, "  ");
		human_text(&line, strbuf_str(&ports));
	}
	fprintf(cli->out, "%s\n", strbuf_str(&line));
}

/* Shows what became of it; one that was to be removed when it ends may be gone by now. */
static int launch_show(struct cli *cli, const struct launch_options *options, const char *name,
		       struct error *err)
{
	AUTO(json_decref) json_t *instance = NULL;
	int r;

	if (cli->options.quiet) {
		fprintf(cli->out, "%s\n", name);
		return 0;
	}
	r = listing_get(cli, "instances", name, &instance, err);
	if (r < 0 && options->remove_on_exit && client_status(cli->client) == 404) {
		cli->hint[0] = '\0';
		fprintf(cli->out, "%s has ended and is deleted\n", name);
		return 0;
	}
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, instance);
	else if (cli->style.format == FORMAT_TABLE)
		launch_print(cli, instance);
	else
		fprintf(cli->out, "%s\n", resource_name(instance));
	return 0;
}

static int launch_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct launch_options *options = userdata;
	AUTO(launch_request_free) struct launch_request *request = NULL;
	AUTO(json_decref) json_t *body = NULL, *operation = NULL, *ended = NULL;
	AUTO(free) char *title = NULL;
	const char *name;
	int r = launch_build(options, arguments, &request, err);

	if (r == 0 && options->interactive && options->tty && launch_attaches(options) &&
	    !isatty(STDIN_FILENO)) {
		cli_set_hint(cli, "leave -t out when the input is a file or a pipe");
		r = error_say(err, -EINVAL, "-it needs a terminal, and the input is none");
	}

	if (r < 0) {
		cli->usage = true;
		return r;
	}
	body = launch_request_encode(request);
	r = cli_request(cli, "POST", "/instances", body, &operation, err);
	if (r < 0)
		return r;
	name = resource_text(operation, "spec.target.name");
	title = mem_printf("launching %s", name ? name : arguments->words[0]);
	r = wait_operation(cli, title, operation, &ended, err);
	if (r < 0)
		return r;
	if (launch_attaches(options))
		return launch_attach(cli, options, operation, err);
	return launch_show(cli, options, name ? name : "?", err);
}

const struct verb verb_launch = {
	.name = "launch",
	.synopsis = "[OPTIONS] IMAGE [NAME] [[--] COMMAND [ARG...]]",
	.summary = "Create an instance from an image and start it",
	.help = "A name is made up when there is none; before a COMMAND it is needed, or `--` in "
		"its\n"
		"place.  Options may stand anywhere before COMMAND.  The image is pulled when it "
		"is not\n"
		"there.  The command returns when the instance runs; with -i, -t or -a it stays "
		"until the\n"
		"instance ends, and its exit code is the instance's.\n\n"
		"Examples:\n"
		"  brume launch nginx web -p 8080:80\n"
		"  brume launch registry.example.org/team/api:2 api -e DEBUG=1 -m 512M --cpus 0.5\n"
		"  brume launch debian job --rm sh -c 'echo done'\n"
		"  brume launch debian -- sleep 60\n"
		"  brume launch -it --rm debian -- bash\n"
		"  brume launch -i --rm postgres -- psql -h db < dump.sql\n"
		"  brume launch -dit debian shell bash; brume attach shell\n"
		"  brume launch web:3 two --network front --network back,ip=10.1.0.5\n"
		"  brume launch web:3 shop --group web,monitored --network front "
		"--network back,group=db\n"
		"  brume launch web:3 front -p 127.0.0.1:8443:443 --restart on-failure:5\n"
		"  brume launch web:3 safe --read-only --tmpfs /tmp:size=16M --cap-drop ALL\n"
		"  brume launch nginx site -v /srv/site:/usr/share/nginx/html:ro\n"
		"  brume launch web:3 watched --health-http 8080/healthz --health-interval 5s \\\n"
		"               --health-on-failure restart\n"
		"  brume launch --vm nginx web -p 8080:80 -m 256M --cpus 2\n"
		"  brume launch --vm debian-12 server --ssh-key ~/.ssh/id_ed25519.pub \\\n"
		"               --user-data setup.yaml --disk 20G -p 2222:22\n"
		"  brume launch --vm --emulate --platform linux/arm64 debian far -it -- sh\n"
		"  brume launch --vm --emulate debian-12-arm64 far -m 1G\n",
	.options = launch_options,
	.options_size = sizeof(struct launch_options),
	.words_min = 1,
	.words_max = 2,
	.has_command = true,
	.completion = COMPLETE_IMAGE,
	.run = launch_run,
};
