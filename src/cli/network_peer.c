/*
 * brume network peer: the other nodes that a network goes on at.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/network_change.h"
#include "cli/number.h"
#include "cli/resource.h"
#include "cli/verb.h"
#include "model/address.h"

enum { VNI_MAX = 0xffffff, PORT_MAX = 65535 };

struct peer_options {
	const char *remote, *kind, *vni, *key, *port, *local;
};

#define PEER(member) offsetof(struct peer_options, member)

static const struct option_def add_options[] = {
	{ 0, "remote", "ADDRESS", OPTION_STRING, PEER(remote), "of the other node" },
	{ 0, "kind", "KIND", OPTION_STRING, PEER(kind),
	  "vxlan (default) or gre, where the kernel has it; all peers of a network are of one",
	  COMPLETE_TUNNEL },
	{ 0, "vni", "N", OPTION_STRING, PEER(vni),
	  "number of the network in the tunnel, the same on all nodes; needed with the first "
	  "peer" },
	{ 0, "key", "N", OPTION_STRING, PEER(key), "what the vni is to vxlan, for gre" },
	{ 0, "port", "N", OPTION_STRING, PEER(port), "of UDP, instead of 4789" },
	{ 0, "local", "ADDRESS", OPTION_STRING, PEER(local), "of this node, when it has several" },
	{},
};

static const struct option_def remove_options[] = {
	{ 0, "remote", "ADDRESS", OPTION_STRING, PEER(remote), "of the other node" },
	{},
};

static int patch_number(json_t *tunnel, const char *name, const char *option, const char *text,
			int64_t max, struct error *err)
{
	int64_t value;
	int r;

	if (!text)
		return 0;
	r = number_parse(text, option, 1, max, &value, err);
	if (r == 0)
		json_object_set_new(tunnel, name, json_integer(value));
	return r;
}

/* Every address in one form, so that a peer that is added twice is there once. */
static int normalize(const char *text, const char *option, char ret[IP_TEXT_SIZE],
		     struct error *err)
{
	struct ip ip;

	if (!text || ip_parse(text, &ip) < 0)
		return error_say(err, -EINVAL, "%s: %s%s%s", option,
				 text ? "\"" : "the address of the other node is missing",
				 text ? text : "", text ? "\" is not an IP address" : "");
	ip_format(&ip, ret);
	return 0;
}

static int send_patch(struct cli *cli, const char *name, json_t *tunnel, const char *done,
		      struct error *err)
{
	AUTO(json_decref) json_t *patch = json_object();
	AUTO(json_decref) json_t *network = NULL;
	int r;

	json_object_set(patch, "tunnel", tunnel);
	r = network_change(cli, name, patch, &network, err);
	if (r == 0)
		fprintf(cli->out, "%s: %s, packets have up to %lld bytes\n", name, done,
			(long long) json_integer_value(resource_at(network, "status.mtu")));
	return r < 0 ? r : 0;
}

static int add_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		   struct error *err)
{
	const struct peer_options *options = userdata;
	AUTO(json_decref) json_t *tunnel = json_object();
	char remote[IP_TEXT_SIZE], local[IP_TEXT_SIZE];
	int r = normalize(options->remote, "--remote", remote, err);

	if (r == 0 && options->kind && strcmp(options->kind, "vxlan") != 0 &&
	    strcmp(options->kind, "gre") != 0)
		r = error_say(err, -EINVAL, "--kind: \"%s\" must be vxlan or gre", options->kind);
	if (r == 0)
		r = patch_number(tunnel, "key", "--key", options->key, UINT32_MAX, err);
	if (r == 0)
		r = patch_number(tunnel, "vni", "--vni", options->vni, VNI_MAX, err);
	if (r == 0)
		r = patch_number(tunnel, "port", "--port", options->port, PORT_MAX, err);
	if (r == 0 && options->local)
		r = normalize(options->local, "--local", local, err);
	if (r < 0) {
		cli->usage = true;
		return r;
	}
	if (options->local)
		json_put_string(tunnel, "local", local);
	json_put_string(tunnel, "kind", options->kind);
	json_object_set_new(tunnel, "peers", json_pack("{s:{}}", remote));
	return send_patch(cli, arguments->words[0], tunnel, "peer added", err);
}

static int remove_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		      struct error *err)
{
	const struct peer_options *options = userdata;
	const char *name = arguments->words[0];
	AUTO(json_decref) json_t *tunnel = json_object(), *network = NULL;
	char remote[IP_TEXT_SIZE];
	int r = normalize(options->remote, "--remote", remote, err);

	if (r < 0) {
		cli->usage = true;
		return r;
	}
	r = listing_get(cli, "networks", name, &network, err);
	if (r < 0)
		return r;
	if (!json_object_get(resource_at(network, "spec.tunnel.peers"), remote))
		return error_say(err, -ENOENT, "network \"%s\" has no peer %s", name, remote);
	json_object_set_new(tunnel, "peers", json_pack("{s:n}", remote));
	return send_patch(cli, name, tunnel, "peer removed", err);
}

static int list_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		    struct error *err)
{
	AUTO(json_decref) json_t *network = NULL;
	const json_t *peers;
	const char *key;
	json_t *value;
	int r = listing_get(cli, "networks", arguments->words[0], &network, err);

	(void) userdata;
	if (r < 0)
		return r;
	peers = resource_at(network, "spec.tunnel.peers");
	if (cli->style.format == FORMAT_JSON) {
		cli_print_json(cli, resource_at(network, "spec.tunnel"));
		return 0;
	}
	json_object_foreach((json_t *) peers, key, value) fprintf(cli->out, "%s\n", key);
	return 0;
}

static const struct verb verb_peer_add = {
	.name = "add",
	.synopsis = "--remote ADDRESS [OPTIONS] NETWORK",
	.summary = "Let a network go on at another node",
	.help = "Frames travel in UDP (VXLAN) or in GRE; do the same on the other node, with this "
		"one's\naddress.  "
		"What travels is not encrypted: the wire between the nodes must be trusted.\n\n"
		"Example:\n  brume network peer add backend --remote 192.0.2.12 --vni 77\n"
		"  brume network peer add backend --remote 192.0.2.12 --kind gre --key 77\n",
	.options = add_options,
	.options_size = sizeof(struct peer_options),
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_NETWORK,
	.run = add_run,
};

static const struct verb verb_peer_remove = {
	.name = "remove",
	.synopsis = "--remote ADDRESS NETWORK",
	.summary = "Let it end there",
	.help = "Example:\n  brume network peer remove backend --remote 192.0.2.12\n",
	.options = remove_options,
	.options_size = sizeof(struct peer_options),
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_NETWORK,
	.run = remove_run,
};

static const struct verb verb_peer_list = {
	.name = "list",
	.alias = "ls",
	.synopsis = "NETWORK",
	.summary = "List the addresses of the other nodes",
	.words_min = 1,
	.words_max = 1,
	.completion = COMPLETE_NETWORK,
	.run = list_run,
};

static const struct verb *const peer_verbs[] = { &verb_peer_add, &verb_peer_remove, &verb_peer_list,
						 NULL };

const struct verb verb_network_peer = {
	.name = "peer",
	.synopsis = "VERB ...",
	.summary = "Stretch a network to other nodes",
	.verbs = peer_verbs,
};
