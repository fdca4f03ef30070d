#include "cli/network_graph.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/graph.h"
#include "cli/resource.h"
#include "client/client.h"

static int check_names(char *const *names, const json_t *networks, struct error *err)
{
	for (; names && *names; names++) {
		const json_t *one;
		bool found = false;
		size_t i;

		json_array_foreach(networks, i, one) found =
			found || strcmp(resource_name(one), *names) == 0;
		if (!found)
			return error_say(err, -ENOENT, "network \"%s\" does not exist", *names);
	}
	return 0;
}

/* An older server has no routers. */
static int get_routers(struct cli *cli, json_t **ret, struct error *err)
{
	struct client *client;
	int r = cli_connect(cli, &client, err);

	if (r < 0)
		return r;
	r = client_request(client, "GET", "/routers?recursion=1", NULL, ret, err);
	return r < 0 && client_status(client) == 404 ? 0 : r;
}

int network_graph(struct cli *cli, char *const *names, bool svg, struct error *err)
{
	AUTO(json_decref) json_t *networks = NULL, *instances = NULL, *routers = NULL;
	AUTO(graph_free) struct graph *graph = NULL;
	AUTO(strbuf_done) struct strbuf out = {};
	int r = cli_request(cli, "GET", "/networks?recursion=1", NULL, &networks, err);

	if (r == 0)
		r = check_names(names, networks, err);
	if (r == 0)
		r = cli_request(cli, "GET", "/instances?recursion=1", NULL, &instances, err);
	if (r == 0)
		r = get_routers(cli, &routers, err);
	if (r < 0)
		return r;
	graph = graph_new(networks, instances, routers, names && *names ? names : NULL);
	if (svg)
		graph_put_svg(graph, &out);
	else
		graph_put_text(graph, &out);
	fputs(strbuf_str(&out), cli->out);
	return 0;
}
