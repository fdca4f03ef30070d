#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "codec/uri.h"
#include "model/port.h"

/* `brume network attach` and `detach`: what networks an instance is in, while it runs too. */

struct attach_options {
	const char *ip, *ip6, *mac;
	char **groups;
	bool spoofing;
};

#define ATTACH(member) offsetof(struct attach_options, member)

static const struct option_def attach_options[] = {
	{ 0, "ip", "ADDRESS", OPTION_STRING, ATTACH(ip), "IPv4 address; else one is chosen" },
	{ 0, "ip6", "ADDRESS", OPTION_STRING, ATTACH(ip6), "IPv6 address; else one is chosen" },
	{ 0, "mac", "ADDRESS", OPTION_STRING, ATTACH(mac),
	  "hardware address, like 02:00:5e:10:00:01; else one is made" },
	{ 0, "group", "NAME[,NAME...]", OPTION_LIST, ATTACH(groups),
	  "security groups; else default", COMPLETE_GROUP },
	{ 0, "spoofing", NULL, OPTION_FLAG, ATTACH(spoofing),
	  "it may send with any address: a router of your own, say" },
	{},
};

static int build(const struct attach_options *options, const char *network, struct port *ret,
		 struct error *err)
{
	AUTO(free)
	char *text =
		mem_printf("%s%s%s%s%s%s%s%s", network, options->ip ? ",ip=" : "",
			   options->ip ? options->ip : "", options->ip6 ? ",ip6=" : "",
			   options->ip6 ? options->ip6 : "", options->mac ? ",mac=" : "",
			   options->mac ? options->mac : "", options->spoofing ? ",spoofing" : "");

	int r = port_parse(text, ret, err);

	for (char **p = options->groups; r == 0 && p && *p; p++)
		r = port_groups_parse(*p, &ret->groups, err);
	return r;
}

/* Sends a request about a port, and waits until it is carried out. */
static int carry_out(struct cli *cli, const char *method, const char *path, const json_t *body,
		     const char *title, json_t **ret, struct error *err)
{
	AUTO(json_decref) json_t *operation = NULL;
	int r = cli_request(cli, method, path, body, &operation, err);

	return r < 0 ? r : wait_operation(cli, title, operation, ret, err);
}

static void show(struct cli *cli, const json_t *ended, const char *instance, const char *did,
		 const char *network)
{
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, ended);
	else if (cli->options.quiet)
		fprintf(cli->out, "%s\n", instance);
	else
		fprintf(cli->out, "%s: %s network %s\n", instance, did, network);
}

static int attach_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const char *network = arguments->words[0], *instance = arguments->words[1];
	AUTO(free) char *escaped = uri_encode(instance);
	AUTO(free) char *path = mem_printf("/instances/%s/ports", escaped);
	AUTO(free) char *title = mem_printf("attaching %s to %s", instance, network);
	AUTO(json_decref) json_t *body = NULL, *ended = NULL;
	AUTO(port_done) struct port port = {};
	int r = build(userdata, network, &port, err);

	if (r < 0) {
		cli->usage = true;
		return r;
	}
	body = port_encode(&port);
	r = carry_out(cli, "POST", path, body, title, &ended, err);
	if (r == 0)
		show(cli, ended, instance, "attached to", network);
	return r;
}

static int detach_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const char *network = arguments->words[0], *instance = arguments->words[1];
	AUTO(free) char *escaped = uri_encode(instance);
	AUTO(free) char *escaped_network = uri_encode(network);
	AUTO(free) char *path = mem_printf("/instances/%s/ports/%s", escaped, escaped_network);
	AUTO(free) char *title = mem_printf("detaching %s from %s", instance, network);
	AUTO(json_decref) json_t *ended = NULL;
	int r = carry_out(cli, "DELETE", path, NULL, title, &ended, err);

	(void) userdata;
	if (r == 0)
		show(cli, ended, instance, "detached from", network);
	return r;
}

const struct verb verb_network_attach = {
	.name = "attach",
	.synopsis = "[OPTIONS] NETWORK INSTANCE",
	.summary = "Join an instance to one more network",
	.help = "One that runs has the new interface when this is done, a virtual machine too; a "
		"machine\nthat is paused is refused.  What booted a disk of its own gets the card "
		"and sets it up itself,\nby DHCP for one.\n\n"
		"Examples:\n  brume network attach backend web\n"
		"  brume network attach backend web --ip 10.1.0.5\n"
		"  brume network attach backend web --group web,monitored\n"
		"  brume network attach backend gate --spoofing\n",
	.options = attach_options,
	.options_size = sizeof(struct attach_options),
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_NETWORK,
	.completion2 = COMPLETE_INSTANCE,
	.run = attach_run,
};

const struct verb verb_network_detach = {
	.name = "detach",
	.synopsis = "NETWORK INSTANCE",
	.summary = "Take an instance off a network",
	.help = "Its interface there goes, and its addresses are free again.  A virtual machine's "
		"guest\nmust let go of the card: it is asked until it does; one that is paused is "
		"refused.\n\nExample:\n  brume network detach backend web\n",
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_NETWORK,
	.completion2 = COMPLETE_INSTANCE,
	.run = detach_run,
};
