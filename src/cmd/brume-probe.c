/*
 * brume-probe [--netns-fd N] [--address IP] [--timeout-ms N] tcp PORT | http PORT PATH - one health
 * check.
 * brume-probe [--timeout-ms N] many PORT PATH|- ADDRESS... - one of each of many.
 *
 * Started by the agent through the keeper, so that no daemon talks to what tenants run.  Joins the
 * network namespace that descriptor N leads to, gives up everything else, connects on the loopback
 * there, or to one address.  Exit code 0: it answers; 1: it does not; 2: usage.  One line says
 * which.  Of many it prints a letter for each address (probe/round.h), and ends with 0.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "probe/check.h"
#include "probe/confine.h"
#include "probe/round.h"

enum { EXIT_GOOD, EXIT_BAD, EXIT_USAGE, TIMEOUT_MS = 30000, WORDS_MAX = 512 };

static const char help[] =
	"Usage: brume-probe [--netns-fd N] [--address IP] [--timeout-ms N] tcp PORT\n"
	"       brume-probe [--netns-fd N] [--address IP] [--timeout-ms N] http PORT PATH\n"
	"       brume-probe [--netns-fd N] [--timeout-ms N] many PORT PATH|- ADDRESS...\n"
	"\n"
	"One health check of a program that listens on the loopback: a connection, or an answer\n"
	"from 200 to 399 to GET PATH.  Gives up all privileges first.  With many, a check of each\n"
	"address (- for PATH: a connection is enough), up to 256: it prints a letter for each, "
	"'+'\n"
	"when it answers, and 'r' refused, 't' took too long, 'u' not reachable, 'h' no HTTP, 's'\n"
	"another status when it does not.\n"
	"\n"
	"  --netns-fd N    first join the network namespace of this descriptor (needs root)\n"
	"  --address IP    look there instead of on the loopback\n"
	"  --timeout-ms N  give up after this time (default 30000)\n"
	"  --version, --help\n"
	"\n"
	"Exit codes: 0 it answers, 1 it does not, 2 usage.\n";

static int usage(const char *message, const char *what)
{
	fprintf(stderr, "brume-probe: %s '%s'; see --help\n", message, what);
	return EXIT_USAGE;
}

static int number(const char *text, long max, long *ret)
{
	char *end;

	errno = 0;
	*ret = strtol(text, &end, 10);
	return *end || end == text || errno || *ret < 0 || *ret > max ? -EINVAL : 0;
}

/* 0, or the exit code + 1. */
static int parse_options(int argc, char **argv, struct check *check, int *ret_netns_fd)
{
	static const struct option options[] = { { "netns-fd", required_argument, NULL, 'n' },
						 { "address", required_argument, NULL, 'a' },
						 { "timeout-ms", required_argument, NULL, 't' },
						 { "version", no_argument, NULL, 'v' },
						 { "help", no_argument, NULL, 'h' },
						 {} };
	int option;
	long value;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "+", options, NULL)) >= 0) {
		if (option == 'v' || option == 'h') {
			fputs(option == 'v' ? "brume-probe " BRUME_VERSION "\n" : help, stdout);
			return 1 + EXIT_GOOD;
		}
		if (option == 'a') {
			check->address = optarg;
			continue;
		}
		if (option != 'n' && option != 't')
			return 1 + usage("unknown option or missing value", argv[optind - 1]);
		if (number(optarg, option == 'n' ? 1 << 20 : 24 * 3600 * 1000, &value) < 0)
			return 1 + usage("not a number:", optarg);
		if (option == 'n')
			*ret_netns_fd = (int) value;
		else
			check->timeout_ms = (uint32_t) value;
	}
	return 0;
}

static int parse_words(int argc, char **argv, struct check *check)
{
	bool http = argc > 0 && strcmp(argv[0], "http") == 0;
	long port;

	if (!http && (argc == 0 || strcmp(argv[0], "tcp") != 0))
		return 1 + usage("expected tcp or http, not", argc > 0 ? argv[0] : "");
	if (argc != (http ? 3 : 2))
		return 1 + usage("wrong number of words after", argv[0]);
	if (number(argv[1], 65535, &port) < 0 || port == 0)
		return 1 + usage("not a port:", argv[1]);
	check->port = (uint16_t) port;
	check->path = http ? argv[2] : NULL;
	if (http && argv[2][0] != '/')
		return 1 + usage("not a path:", argv[2]);
	return 0;
}

/* 0, or the exit code + 1. */
static int parse_many(int argc, char **argv, struct round *round)
{
	long port;

	if (argc < 4 || argc - 3 > ROUND_MAX)
		return 1 + usage("expected PORT, PATH and 1 to 256 addresses after", argv[0]);
	if (number(argv[1], 65535, &port) < 0 || port == 0)
		return 1 + usage("not a port:", argv[1]);
	if (argv[2][0] != '/' && strcmp(argv[2], "-") != 0)
		return 1 + usage("not a path:", argv[2]);
	round->port = (uint16_t) port;
	round->path = argv[2][0] == '/' ? argv[2] : NULL;
	round->addresses = argv + 3;
	round->count = (size_t) argc - 3;
	return 0;
}

/* Without stdio: its buffers would need more system calls than there are left. */
static void print_line(char *words, size_t size)
{
	words[size] = '\n';
	ssize_t n = write(STDOUT_FILENO, words, size + 1);
	(void) n;
}

int main(int argc, char **argv)
{
	struct round round = {};
	struct check check = { .timeout_ms = TIMEOUT_MS };
	char words[WORDS_MAX];
	struct error err = {};
	int netns_fd = -1;
	int code = parse_options(argc, argv, &check, &netns_fd);

	if (code == 0 && optind < argc && strcmp(argv[optind], "many") == 0)
		code = parse_many(argc - optind, argv + optind, &round);
	else if (code == 0)
		code = parse_words(argc - optind, argv + optind, &check);
	if (code > 0)
		return code - 1;
	if (geteuid() != 0) {
		fprintf(stderr, "brume-probe: must start as root: it gives that up\n");
		return EXIT_BAD;
	}
	if (confine_enter(netns_fd, &err) < 0) {
		fprintf(stderr, "brume-probe: %s\n", err.msg);
		return EXIT_BAD;
	}
	if (round.count > 0) {
		round.timeout_ms = check.timeout_ms;
		round_run(&round, words);
		print_line(words, round.count);
		_exit(EXIT_GOOD);
	}
	code = check_run(&check, words, sizeof(words) - 1) ? EXIT_GOOD : EXIT_BAD;
	print_line(words, strlen(words));
	_exit(code);
}
