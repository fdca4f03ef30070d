#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/oci_spec.h"
#include "container/cli_internal.h"
#include "container/exec.h"
#include "container/lifecycle.h"
#include "container/process.h"
#include "container/rootless.h"
#include "container/self.h"

enum { GROUPS_MAX = 1024 };

enum {
	OPT_CONSOLE = 256,
	OPT_PID_FILE,
	OPT_CWD,
	OPT_PRESERVE,
	OPT_NO_KEYRING,
	OPT_NNP,
	OPT_APPARMOR,
	OPT_LABEL,
	OPT_CGROUP,
	OPT_IGNORE_PAUSED,
	OPT_PIDFD_SOCKET,
};

static const struct option longs[] = {
	{ "process", required_argument, NULL, 'p' },
	{ "tty", no_argument, NULL, 't' },
	{ "cwd", required_argument, NULL, OPT_CWD },
	{ "env", required_argument, NULL, 'e' },
	{ "user", required_argument, NULL, 'u' },
	{ "additional-gids", required_argument, NULL, 'g' },
	{ "cap", required_argument, NULL, 'c' },
	{ "apparmor", required_argument, NULL, OPT_APPARMOR },
	{ "process-label", required_argument, NULL, OPT_LABEL },
	{ "cgroup", required_argument, NULL, OPT_CGROUP },
	{ "ignore-paused", no_argument, NULL, OPT_IGNORE_PAUSED },
	{ "pidfd-socket", required_argument, NULL, OPT_PIDFD_SOCKET },
	{ "detach", no_argument, NULL, 'd' },
	{ "console-socket", required_argument, NULL, OPT_CONSOLE },
	{ "pid-file", required_argument, NULL, OPT_PID_FILE },
	{ "preserve-fds", required_argument, NULL, OPT_PRESERVE },
	{ "no-new-keyring", no_argument, NULL, OPT_NO_KEYRING },
	{ "no-new-privs", no_argument, NULL, OPT_NNP },
	{},
};

struct words {
	const char *process_file;
	const char *cwd;
	const char *user;
	const char *console_socket;
	const char *pid_file;
	const char *pidfd_socket;
	const char *cgroup;
	const char *apparmor;
	const char *label;
	char **env;
	char **caps;
	char **groups;
	bool tty;
	bool detach;
	bool no_new_keyring;
	bool no_new_privs;
	bool ignore_paused;
	int preserve;
	const char *id;
	char **args;
};

static inline void words_done_autop(struct words *words)
{
	strv_free(words->env);
	strv_free(words->caps);
	strv_free(words->groups);
}

/* The options that say only a name. */
static const char **text_of(struct words *words, int c)
{
	switch (c) {
	case 'p':
		return &words->process_file;
	case 'u':
		return &words->user;
	case OPT_CWD:
		return &words->cwd;
	case OPT_CONSOLE:
		return &words->console_socket;
	case OPT_PID_FILE:
		return &words->pid_file;
	case OPT_PIDFD_SOCKET:
		return &words->pidfd_socket;
	case OPT_CGROUP:
		return &words->cgroup;
	case OPT_APPARMOR:
		return &words->apparmor;
	case OPT_LABEL:
		return &words->label;
	default:
		return NULL;
	}
}

static int read_word(const struct runtime_options *options, int c, struct words *words)
{
	const char **text = text_of(words, c);

	if (text) {
		*text = optarg;
		return 0;
	}
	switch (c) {
	case 't':
		words->tty = true;
		break;
	case 'e':
		if (!strchr(optarg, '=') || optarg[0] == '=')
			return cli_usage(options, "exec: --env: \"%s\" is not NAME=VALUE", optarg);
		strv_append(&words->env, optarg);
		break;
	case 'g':
		strv_append(&words->groups, optarg);
		break;
	case 'd':
		words->detach = true;
		break;
	case 'c':
		strv_append(&words->caps, optarg);
		break;
	case OPT_IGNORE_PAUSED:
		words->ignore_paused = true;
		break;
	case OPT_PRESERVE:
		words->preserve = cli_number(optarg);
		if (words->preserve < 0)
			return cli_usage(options, "exec: --preserve-fds: \"%s\" is not a number",
					 optarg);
		break;
	case OPT_NO_KEYRING:
		words->no_new_keyring = true;
		break;
	case OPT_NNP:
		words->no_new_privs = true;
		break;
	default:
		return CLI_USAGE;
	}
	return 0;
}

static int read_words(const struct runtime_options *options, int argc, char **argv,
		      struct words *words)
{
	int c, r;

	while ((c = cli_option(options, argc, argv, "+p:te:u:dg:c:", longs)) != -1) {
		r = read_word(options, c, words);
		if (r > 0)
			return r;
	}
	if (optind == argc)
		return cli_usage(options, "exec: the container id is missing; see --help");
	words->id = argv[optind];
	words->args = argv + optind + 1;
	if (!words->args[0] && !words->process_file)
		return cli_usage(options, "exec: the command is missing; see --help");
	if (words->args[0] && words->process_file)
		return cli_usage(options, "exec: --process has the command already");
	return 0;
}

/* "1000", "1000:1000": numbers only, as a runtime knows no names. */
static int read_user(const char *text, struct oci_process *process, struct error *err)
{
	unsigned long uid, gid = 0;
	char *end;

	errno = 0;
	uid = strtoul(text, &end, 10);
	if (end != text && *end == ':') {
		const char *rest = end + 1;

		gid = strtoul(rest, &end, 10);
		if (end == rest)
			errno = EINVAL;
	}
	if (errno || end == text || *end || text[0] == '-' || uid >= UINT32_MAX ||
	    gid >= UINT32_MAX)
		return error_say(err, -EINVAL, "--user: \"%s\" is not UID or UID:GID", text);
	process->uid = (uint32_t) uid;
	process->gid = (uint32_t) gid;
	process->group_count = 0;
	return 0;
}

/* One number each, or several with commas. */
static int read_groups(char **texts, uint32_t **ret, struct oci_process *process, struct error *err)
{
	AUTO(free) uint32_t *list = NULL;
	size_t count = 0;

	for (char **text = texts; text && *text; text++) {
		const char *p = *text;

		do {
			unsigned long gid;
			char *end;

			errno = 0;
			gid = strtoul(p, &end, 10);
			if (errno || end == p || (*end && *end != ',') || p[0] == '-' ||
			    gid >= UINT32_MAX || count == GROUPS_MAX)
				return error_say(
					err, -EINVAL,
					"--additional-gids: \"%s\" is not a list of numbers",
					*text);
			list = mem_realloc(list, count + 1, sizeof(uint32_t));
			list[count++] = (uint32_t) gid;
			p = *end ? end + 1 : end;
		} while (*p);
	}
	if (count == 0)
		return 0;
	process->groups = *ret = TAKE_PTR(list);
	process->group_count = count;
	return 0;
}

/* The container's own environment, then what was asked for. */
static char **merge_env(oci_strings base, char **more)
{
	char **env = mem_new0(char *);

	for (; base && *base; base++)
		strv_append(&env, *base);
	for (; more && *more; more++) {
		char *equals = strchr(*more, '=');
		AUTO(free) char *name = mem_strndup(*more, (size_t) (equals - *more));

		strv_env_set(&env, name, equals + 1);
	}
	return env;
}

static void add_caps(struct oci_process *process, char **caps, oci_strings lists[OCI_CAPS_COUNT],
		     char **storage[OCI_CAPS_COUNT])
{
	static const enum oci_cap_set sets[] = { OCI_CAPS_BOUNDING, OCI_CAPS_EFFECTIVE,
						 OCI_CAPS_PERMITTED };

	for (size_t i = 0; caps && i < ARRAY_COUNT(sets); i++) {
		char **list = strv_copy((char *const *) lists[sets[i]]);

		for (char **cap = caps; *cap; cap++)
			strv_append(&list, *cap);
		storage[sets[i]] = list;
		process->capabilities[sets[i]] = (oci_strings) list;
		process->has_capabilities = true;
	}
}

static int read_process_file(const char *path, struct oci_spec **ret, struct error *err)
{
	AUTO(free) char *text = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, path, OCI_CONFIG_MAX, &text, &size);

	if (r < 0)
		return error_set(err, r, "--process %s", path);
	r = oci_spec_decode_process(text, size, ret, err);
	return r < 0 ? error_wrap(err, r, "--process %s", path) : 0;
}

static int start(const struct runtime_options *options, const struct words *words,
		 const struct record *record, const struct oci_spec *spec, struct exec *ret,
		 struct error *err)
{
	AUTO(oci_spec_free) struct oci_spec *own = NULL;
	AUTO(strv_free) char **env = NULL;
	AUTO(free) uint32_t *groups = NULL;
	char **storage[OCI_CAPS_COUNT] = {};
	struct oci_process process = *spec->process;
	struct exec_options exec_options = {
		.root = options->root,
		.console_socket = words->console_socket,
		.pid_file = words->pid_file,
		.pidfd_socket = words->pidfd_socket,
		.cgroup = words->cgroup,
		.no_new_keyring = words->no_new_keyring,
		.ignore_paused = words->ignore_paused,
		.entered = options->entered,
		.detach = words->detach,
		.preserve = (unsigned int) words->preserve,
		.process = &process,
	};
	int r = 0;

	if (words->process_file) {
		r = read_process_file(words->process_file, &own, err);
		if (r < 0)
			return r;
		process = *own->process;
	} else {
		process.args = (oci_strings) words->args;
		process.terminal = false;
		process.oom_score_adj = spec->process->oom_score_adj;
	}
	env = merge_env(process.env, words->env);
	process.env = (oci_strings) env;
	process.terminal = process.terminal || words->tty;
	process.no_new_privileges = process.no_new_privileges || words->no_new_privs;
	if (words->cwd)
		process.cwd = words->cwd;
	if (words->user)
		r = read_user(words->user, &process, err);
	if (r == 0)
		r = read_groups(words->groups, &groups, &process, err);
	if (words->apparmor)
		process.apparmor_profile = words->apparmor;
	if (words->label)
		process.selinux_label = words->label;
	add_caps(&process, words->caps, process.capabilities, storage);
	if (r == 0)
		r = exec_start(record, spec, &exec_options, ret, err);
	for (size_t i = 0; i < OCI_CAPS_COUNT; i++)
		strv_free(storage[i]);
	return r;
}

static int exec_in(const struct runtime_options *options, const struct words *words,
		   struct exec *ret, struct error *err)
{
	AUTO(record_free) struct record *record = NULL;
	AUTO(oci_spec_free) struct oci_spec *spec = NULL;
	enum oci_status status;
	int r = record_open(options->root, words->id, false, &record, err);

	if (r == 0)
		r = record_stage(record, &status, err);
	if (r < 0)
		return r;
	if (status != OCI_STATUS_RUNNING && status != OCI_STATUS_CREATED)
		return error_say(err, -EINVAL, "container \"%s\" is %s, not running", words->id,
				 oci_status_name(status));
	r = lifecycle_spec(record, &spec, err);
	return r < 0 ? r : start(options, words, record, spec, ret, err);
}

/* Does not return when all is well. */
static int become_root(const struct runtime_options *options, const char *id, struct error *err)
{
	AUTO(record_free) struct record *record = NULL;
	int r = record_open(options->root, id, false, &record, err);

	return r < 0 ? r : rootless_join(record, err);
}

static int exec_verb(const struct runtime_options *options, int argc, char **argv)
{
	AUTO(words_done) struct words words = {};
	struct exec exec = { .pidfd = -1, .console_fd = -1 };
	struct error err = {};
	int code = 0, r = read_words(options, argc, argv, &words);

	if (r > 0)
		return r;
	if (!words.detach)
		cli_block_signals();
	r = geteuid() == 0 ? 0 : become_root(options, words.id, &err);
	if (r == 0)
		r = self_protect(&err);
	if (r == 0) {
		rootless_forget();
		cli_seal_fds((unsigned int) words.preserve);
		r = exec_in(options, &words, &exec, &err);
	}
	if (r == 0 && !words.detach)
		r = cli_wait(exec.pidfd, exec.console_fd, &code, &err);
	exec_done(&exec);
	if (r < 0) {
		(void) cli_fail(options, &err);
		return process_exit_code(r);
	}
	return code;
}

const struct cli_verb cli_exec = {
	.name = "exec",
	.usage = "[--process FILE] [--tty] [--cwd DIR] [--env NAME=VALUE] [--user UID[:GID]] "
		 "[--additional-gids GID] [--cap CAP] [--no-new-privs] [--apparmor PROFILE] "
		 "[--process-label LABEL] [--cgroup SUB] [--ignore-paused] [--detach] "
		 "[--pid-file FILE] [--pidfd-socket PATH] [--console-socket PATH] "
		 "[--preserve-fds N] [--no-new-keyring] ID [COMMAND...]",
	.help = "run another program in a container",
	.examples = "brume-oci exec -t box sh\n"
		    "brume-oci exec --user 1000:1000 --env LANG=C --cwd /tmp box id\n"
		    "brume-oci exec -d --pid-file /run/x.pid --process process.json box",
	.run = exec_verb,
};
