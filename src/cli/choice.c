#include "cli/choice.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/cli.h"

int choice_put(struct cli *cli, json_t *patch, const char *option, bool on, bool off,
	       struct error *err)
{
	AUTO(free) char *member = mem_strdup(option);

	if (on && off)
		return cli_usage(cli, err, "only one of --%s and --no-%s can be given", option,
				 option);
	for (char *c = member; (c = strchr(c, '-')) != NULL;)
		*c = '_';
	if (on || off)
		json_object_set_new(patch, member, json_boolean(on));
	return 0;
}
