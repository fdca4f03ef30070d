#include <errno.h>

#include "base/error.h"
#include "cli/launch_build.h"
#include "cli/number.h"
#include "model/quantity.h"

bool launch_attaches(const struct launch_options *options)
{
	return (options->interactive || options->tty || options->attach) && !options->detach &&
	       !options->no_start;
}

int launch_build_stdio(const struct launch_options *options, struct stdio_options *stdio,
		       struct error *err)
{
	int64_t files;
	int r = 0;

	if (options->attach && (options->detach || options->no_start))
		return error_say(err, -EINVAL,
				 "--attach: goes neither with --detach nor with "
				 "--no-start");
	stdio->tty = options->tty;
	/* Ours is the only input then, and its end is the instance's. */
	if (options->interactive)
		stdio->stdin_mode = launch_attaches(options) ? STDIN_ONCE : STDIN_OPEN;
	if (options->log_max_size)
		r = memory_parse(options->log_max_size, "--log-max-size", &stdio->log_max_bytes,
				 err);
	if (r == 0 && options->log_max_size &&
	    (stdio->log_max_bytes < LOG_BYTES_MIN || stdio->log_max_bytes > LOG_BYTES_MAX))
		return error_say(err, -EINVAL, "--log-max-size: must be from 64K to 1G");
	if (r == 0 && options->log_max_files) {
		r = number_parse(options->log_max_files, "--log-max-files", LOG_FILES_MIN,
				 LOG_FILES_MAX, &files, err);
		if (r == 0)
			stdio->log_max_files = (uint32_t) files;
	}
	return r;
}
