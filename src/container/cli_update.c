#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "codec/oci_update.h"
#include "container/cli_internal.h"
#include "container/update.h"

enum kind { KIND_NUMBER, KIND_BYTES, KIND_TEXT };

/* An option of the command line, and the property of linux.resources that it sets. */
static const struct limit {
	const char *option;
	const char *group;
	const char *member;
	enum kind kind;
} limits[] = {
	{ "blkio-weight", "blockIO", "weight", KIND_NUMBER },
	{ "cpu-burst", "cpu", "burst", KIND_NUMBER },
	{ "cpu-idle", "cpu", "idle", KIND_NUMBER },
	{ "cpu-period", "cpu", "period", KIND_NUMBER },
	{ "cpu-quota", "cpu", "quota", KIND_NUMBER },
	{ "cpu-rt-period", "cpu", "realtimePeriod", KIND_NUMBER },
	{ "cpu-rt-runtime", "cpu", "realtimeRuntime", KIND_NUMBER },
	{ "cpu-share", "cpu", "shares", KIND_NUMBER },
	{ "cpu-shares", "cpu", "shares", KIND_NUMBER },
	{ "cpuset-cpus", "cpu", "cpus", KIND_TEXT },
	{ "cpuset-mems", "cpu", "mems", KIND_TEXT },
	{ "kernel-memory", "memory", "kernel", KIND_BYTES },
	{ "kernel-memory-tcp", "memory", "kernelTCP", KIND_BYTES },
	{ "memory", "memory", "limit", KIND_BYTES },
	{ "memory-reservation", "memory", "reservation", KIND_BYTES },
	{ "memory-swap", "memory", "swap", KIND_BYTES },
	{ "pids-limit", "pids", "limit", KIND_NUMBER },
};

enum { OPT_LIMIT = 256 };

/* "-1", "1048576", "512m", "2GiB": powers of 1024, as callers write them. */
static int read_bytes(const char *text, json_int_t *ret)
{
	static const char units[] = "bkmgtp";
	const char *unit;
	long long value;
	char *end;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno || end == text || value < -1)
		return -EINVAL;
	unit = *end ? strchr(units, tolower((unsigned char) *end)) : units;
	if (!unit || (value < 0 && *end))
		return -EINVAL;
	end += *end != '\0';
	if (unit != units && *end && strcasecmp(end, "b") != 0 && strcasecmp(end, "ib") != 0)
		return -EINVAL;
	if (unit == units && *end)
		return -EINVAL;
	if (__builtin_mul_overflow(value, 1LL << (10 * (unit - units)), &value))
		return -ERANGE;
	*ret = value;
	return 0;
}

static int read_integer(const char *text, json_int_t *ret)
{
	long long value;
	char *end;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno || end == text || *end)
		return -EINVAL;
	*ret = value;
	return 0;
}

static int read_limit(const struct runtime_options *options, const struct limit *limit,
		      json_t *change)
{
	json_t *group = json_object_get(change, limit->group);
	json_int_t value = 0;
	int r = 0;

	if (!group) {
		group = json_object();
		json_object_set_new(change, limit->group, group);
	}
	if (limit->kind == KIND_TEXT) {
		json_t *text = json_string(optarg);

		if (!text)
			return cli_usage(options, "update: --%s: must be text", limit->option);
		json_object_set_new(group, limit->member, text);
		return 0;
	}
	r = limit->kind == KIND_BYTES ? read_bytes(optarg, &value) : read_integer(optarg, &value);
	if (r < 0)
		return cli_usage(options, "update: --%s: \"%s\" is not %s", limit->option, optarg,
				 limit->kind == KIND_BYTES ? "a size like 512m, or -1 for no limit"
							   : "a whole number");
	json_object_set_new(group, limit->member, json_integer(value));
	return 0;
}

static int read_file(const char *path, json_t **ret, struct error *err)
{
	bool standard = strcmp(path, "-") == 0;
	AUTO(free) char *text = NULL;
	size_t size;
	int r = standard ? file_read_fd(STDIN_FILENO, OCI_CONFIG_MAX, &text, &size)
			 : file_read(AT_FDCWD, path, OCI_CONFIG_MAX, &text, &size);

	if (r < 0)
		return error_set(err, r, "--resources %s", path);
	r = oci_update_decode(text, size, ret, err);
	return r < 0 ? error_wrap(err, r, "--resources %s", path) : 0;
}

/* 0 to go on, or an exit code. */
static int read_words(const struct runtime_options *options, int argc, char **argv,
		      const char **ret_file, json_t *change)
{
	struct option longs[ARRAY_COUNT(limits) + 2] = { { "resources", required_argument, NULL,
							   'r' } };
	int c, r = 0;

	for (size_t i = 0; i < ARRAY_COUNT(limits); i++)
		longs[i + 1] = (struct option){ limits[i].option, required_argument, NULL,
						OPT_LIMIT + (int) i };
	while (r == 0 && (c = cli_option(options, argc, argv, "+r:", longs)) != -1) {
		if (c == 'r')
			*ret_file = optarg;
		else if (c == '?')
			r = CLI_USAGE;
		else
			r = read_limit(options, &limits[c - OPT_LIMIT], change);
	}
	if (r > 0)
		return r;
	if (*ret_file && json_object_size(change) > 0)
		return cli_usage(options, "update: --resources has all limits; no others besides");
	if (!*ret_file && json_object_size(change) == 0)
		return cli_usage(options, "update: what is to be changed is missing; see --help");
	return 0;
}

/* Options say zero for "as it is" too, so they go the way of a document. */
static int checked_change(const char *file, const json_t *words, json_t **ret, struct error *err)
{
	AUTO(free) char *text = NULL;

	if (file)
		return read_file(file, ret, err);
	text = json_text(words);
	return oci_update_decode(text, strlen(text), ret, err);
}

static int update(const struct runtime_options *options, int argc, char **argv)
{
	AUTO(json_decref) json_t *words = json_object();
	AUTO(json_decref) json_t *change = NULL;
	AUTO(record_free) struct record *record = NULL;
	const char *file = NULL, *id;
	struct error err = {};
	int r = read_words(options, argc, argv, &file, words);

	if (r > 0)
		return r;
	id = cli_only_word(options, argc, argv, "container id");
	if (!id)
		return CLI_USAGE;
	r = checked_change(file, words, &change, &err);
	if (r == 0)
		r = record_open(options->root, id, true, &record, &err);
	if (r == 0)
		r = update_limits(record, change, &err);
	return r < 0 ? cli_fail(options, &err) : CLI_OK;
}

const struct cli_verb cli_update = {
	.name = "update",
	.usage = "[-r FILE] [--memory SIZE] [--memory-swap SIZE] [--memory-reservation SIZE] "
		 "[--cpu-quota US] [--cpu-period US] [--cpu-burst US] [--cpu-shares N] "
		 "[--cpu-idle 0|1] [--cpu-rt-period US] [--cpu-rt-runtime US] [--cpuset-cpus LIST] "
		 "[--cpuset-mems LIST] [--pids-limit N] [--blkio-weight N] ID",
	.help = "change the limits of a running container: all that is given, or nothing",
	.examples = "brume-oci update --memory 512m --pids-limit 100 box\n"
		    "brume-oci update --resources - box <resources.json",
	.run = update,
};
