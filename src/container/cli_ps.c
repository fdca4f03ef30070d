#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "container/cli_internal.h"
#include "container/lifecycle.h"

enum { PS_OUTPUT_MAX = 64 << 20 };

static void print_json(const pid_t *pids, size_t count)
{
	AUTO(json_decref) json_t *array = json_array();
	AUTO(free) char *text = NULL;

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_integer(pids[i]));
	text = json_dumps(array, JSON_COMPACT);
	puts(text ? text : "");
}

/* What the host's ps says about everything. */
static int run_ps(char *const *words, char **ret, struct error *err)
{
	AUTO(strv_free) char **args = NULL;
	AUTO(fd_close) int from = -1;
	int fds[2], status = 0, r;
	pid_t pid;

	strv_append(&args, "ps");
	if (!words[0])
		strv_append(&args, "-ef");
	for (; *words; words++)
		strv_append(&args, *words);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "pipe");
	from = fds[0];
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		execvp("ps", args);
		_exit(127);
	}
	close(fds[1]);
	if (pid < 0)
		return error_set(err, -errno, "fork");
	r = file_read_fd(from, PS_OUTPUT_MAX, ret, NULL);
	close(TAKE_FD(from));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return error_set(err, r, "output of ps");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return error_say(err, -ENOENT,
				 "the host has no program ps (package procps); "
				 "--format json works without it");
	return status ? error_say(err, -EINVAL, "ps failed with these options") : 0;
}

static int column_of(char *header, const char *name)
{
	AUTO(free) char *copy = mem_strdup(header);
	char *save = NULL;
	int column = 0;

	for (char *word = strtok_r(copy, " \t", &save); word; word = strtok_r(NULL, " \t", &save)) {
		if (strcmp(word, name) == 0)
			return column;
		column++;
	}
	return -1;
}

static pid_t pid_in(const char *line, int column)
{
	for (; column >= 0; column--) {
		line += strspn(line, " \t");
		if (column == 0)
			return (pid_t) strtol(line, NULL, 10);
		line += strcspn(line, " \t");
	}
	return 0;
}

static bool contains(const pid_t *pids, size_t count, pid_t pid)
{
	for (size_t i = 0; i < count; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

static int print_table(char *const *words, const pid_t *pids, size_t count, struct error *err)
{
	AUTO(free) char *text = NULL;
	char *save = NULL, *line;
	int column, r = run_ps(words, &text, err);

	if (r < 0)
		return r;
	line = strtok_r(text, "\n", &save);
	column = line ? column_of(line, "PID") : -1;
	if (column < 0)
		return error_say(err, -EINVAL,
				 "ps: with these options its output has no column PID");
	puts(line);
	while ((line = strtok_r(NULL, "\n", &save)))
		if (contains(pids, count, pid_in(line, column)))
			puts(line);
	return 0;
}

static int ps(const struct runtime_options *options, int argc, char **argv)
{
	static const struct option longs[] = { { "format", required_argument, NULL, 'f' }, {} };
	AUTO(record_free) struct record *record = NULL;
	AUTO(free) pid_t *pids = NULL;
	bool json = false;
	struct error err = {};
	size_t count = 0;
	int c, r;

	while ((c = cli_option(options, argc, argv, "+f:", longs)) != -1) {
		if (c != 'f')
			return CLI_USAGE;
		json = strcmp(optarg, "json") == 0;
		if (!json && strcmp(optarg, "table") != 0)
			return cli_usage(options, "ps: --format: \"%s\" is not table or json",
					 optarg);
	}
	if (optind == argc)
		return cli_usage(options, "ps: the container id is missing; see --help");
	r = record_open(options->root, argv[optind], false, &record, &err);
	if (r == 0)
		r = lifecycle_pids(record, &pids, &count, &err);
	if (r < 0)
		return cli_fail(options, &err);
	if (json)
		print_json(pids, count);
	else
		r = print_table(argv + optind + 1, pids, count, &err);
	return r < 0 ? cli_fail(options, &err) : CLI_OK;
}

const struct cli_verb cli_ps = {
	.name = "ps",
	.usage = "[-f table|json] ID [PS OPTIONS]",
	.help = "print the processes of a container as the host's ps shows them (-ef)",
	.examples = "brume-oci ps box\n"
		    "brume-oci ps box -eo pid,comm,rss\n"
		    "brume-oci ps -f json box",
	.run = ps,
};
