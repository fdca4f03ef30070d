#include "cli/network_change.h"

#include "base/error.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/listing.h"
#include "cli/wait.h"
#include "codec/uri.h"

int network_change(struct cli *cli, const char *name, const json_t *patch, json_t **ret,
		   struct error *err)
{
	AUTO(free) char *escaped = uri_encode(name);
	AUTO(free) char *path = mem_printf("/networks/%s", escaped);
	AUTO(free) char *title = mem_printf("changing network %s", name);
	AUTO(json_decref) json_t *operation = NULL;
	int r = cli_request(cli, "PATCH", path, patch, &operation, err);

	if (r == 0)
		r = wait_operation(cli, title, operation, NULL, err);
	if (r == 0)
		r = listing_get(cli, "networks", name, ret, err);
	if (r < 0)
		return r;
	if (cli->style.format == FORMAT_JSON)
		cli_print_json(cli, *ret);
	else if (cli->options.quiet)
		fprintf(cli->out, "%s\n", name);
	else
		return 0;
	return 1;
}
