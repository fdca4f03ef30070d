/*
 * brumed: the control plane of a node.  As root it makes folders, binds sockets and reads keys;
 * then it gives all power up for ever and begins to listen.  With --supervise it stays root, tiny,
 * and keeps an unprivileged brumed and brume-agentd running.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <malloc.h>
#include <pwd.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "api/api.h"
#include "api/auth.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/listen.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strv.h"
#include "base/supervise.h"
#include "control/control.h"
#include "store/sqlite.h"
#include "store/store.h"

enum { FILES_MAX = 4096, PEM_MAX = 256 * 1024 };

static const char help[] =
	"Usage: brumed [OPTION]...\n"
	"\n"
	"The control plane of a brume node: serves the HTTP API, decides, remembers.\n"
	"\n"
	"  --state DIR          state folder (default /var/lib/brume)\n"
	"  --run DIR            run folder with the sockets (default /run/brume)\n"
	"  --prefix NAME        of kernel objects, 1 to 8 of a-z 0-9 (default brume)\n"
	"  --node NAME          name of this node (default local); the agent must say the same\n"
	"  --user NAME          user to become (default brume)\n"
	"  --group NAME         group whose members may use the API (default: that of --user)\n"
	"  --listen ADDR:PORT   serve TLS there, too; needs the three files\n"
	"  --tls-cert FILE      certificate chain, PEM\n"
	"  --tls-key FILE       private key, PEM\n"
	"  --token-file FILE    who may use TLS: lines 'NAME TOKEN' or 'NAME sha256:HEX'\n"
	"  --registry HOST      completes short image names\n"
	"  --ipv4 SUBNET        of the network 'default' ('' = none, default 10.90.0.0/24)\n"
	"  --ipv6 SUBNET        likewise (default: a random fd00::/8 one, none without IPv6)\n"
	"  --supervise          stay root, keep brumed and brume-agentd running\n"
	"  --no-supervise       only serve (the default; for a service manager)\n"
	"  --policy FILE        with --supervise: what the node gives to instances; see\n"
	"                       brume-agentd(8)\n"
	"  --boot-timeout SECS  with --supervise: for a virtual machine to start its command\n"
	"  --vm-backend NAME    with --supervise: auto (default), brume-vmm or qemu\n"
	"  --agentd PATH        program to supervise (default: brume-agentd next to brumed)\n"
	"  --log LEVELS         for example \"info\" or \"warning,api=debug\"\n"
	"  --version, --help\n";

struct options {
	const char *state, *run, *prefix, *node, *user, *group;
	const char *listen, *cert, *key, *token_file;
	const char *registry, *ipv4, *ipv6, *agentd, *policy, *boot_timeout, *vm_backend, *levels;
	bool supervise;
};

/* Who brumed becomes; read while it is still root. */
struct identity {
	uid_t uid;
	gid_t gid;
	gid_t group; /* of the API's socket */
	char *group_name;
	char *user_name;
};

enum socket_index { SOCKET_API, SOCKET_AGENT, SOCKET_TLS, SOCKET_COUNT };
static const char *const socket_names[SOCKET_COUNT] = { "api", "agent", "tls" };

/* -- options ------------------------------------------------------------------------------------
 */

static int usage(const char *message, const char *what)
{
	fprintf(stderr, "brumed: %s '%s'; see --help\n", message, what);
	return 2;
}

static bool prefix_valid(const char *prefix)
{
	size_t size = strlen(prefix);

	return size >= 1 && size <= 8 &&
	       strspn(prefix, "abcdefghijklmnopqrstuvwxyz0123456789") == size;
}

static int check_options(const struct options *o)
{
	bool files = o->cert && o->key && o->token_file;

	if (o->state[0] != '/')
		return usage("--state must be an absolute path, not", o->state);
	if (o->run[0] != '/')
		return usage("--run must be an absolute path, not", o->run);
	if (strlen(o->run) > 80)
		return usage("--run is too long for a socket's path:", o->run);
	if (!prefix_valid(o->prefix))
		return usage("--prefix must be 1 to 8 of a-z and 0-9, not", o->prefix);
	if (o->listen && !files)
		return usage("--tls-cert, --tls-key and --token-file are needed with --listen",
			     o->listen);
	if (!o->listen && (o->cert || o->key || o->token_file))
		return usage("this needs --listen:", o->cert  ? "--tls-cert"
						     : o->key ? "--tls-key"
							      : "--token-file");
	if (o->vm_backend && strcmp(o->vm_backend, "auto") != 0 &&
	    strcmp(o->vm_backend, "brume-vmm") != 0 && strcmp(o->vm_backend, "qemu") != 0)
		return usage("--vm-backend must be auto, brume-vmm or qemu, not", o->vm_backend);
	if (o->levels && log_set_levels(o->levels) < 0)
		return usage("unknown log levels", o->levels);
	return 0;
}

enum { OPT_SUPERVISE = 1, OPT_NO_SUPERVISE, OPT_VERSION, OPT_HELP, OPT_MEMBER = 256 };

/* An option with a value says where in the options it goes. */
#define MEMBER(name) required_argument, NULL, OPT_MEMBER + (int) offsetof(struct options, name)

static const struct option long_options[] = {
	{ "state", MEMBER(state) },
	{ "run", MEMBER(run) },
	{ "prefix", MEMBER(prefix) },
	{ "node", MEMBER(node) },
	{ "user", MEMBER(user) },
	{ "group", MEMBER(group) },
	{ "listen", MEMBER(listen) },
	{ "tls-cert", MEMBER(cert) },
	{ "tls-key", MEMBER(key) },
	{ "token-file", MEMBER(token_file) },
	{ "registry", MEMBER(registry) },
	{ "ipv4", MEMBER(ipv4) },
	{ "ipv6", MEMBER(ipv6) },
	{ "agentd", MEMBER(agentd) },
	{ "policy", MEMBER(policy) },
	{ "boot-timeout", MEMBER(boot_timeout) },
	{ "vm-backend", MEMBER(vm_backend) },
	{ "log", MEMBER(levels) },
	{ "supervise", no_argument, NULL, OPT_SUPERVISE },
	{ "no-supervise", no_argument, NULL, OPT_NO_SUPERVISE },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "help", no_argument, NULL, OPT_HELP },
	{},
};

/* 0: go on.  1: all is said.  2: a usage error, which has been printed. */
static int parse_options(int argc, char **argv, struct options *o)
{
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) >= 0) {
		if (option >= OPT_MEMBER) {
			*(const char **) ((char *) o + (option - OPT_MEMBER)) = optarg;
		} else if (option == OPT_SUPERVISE || option == OPT_NO_SUPERVISE) {
			o->supervise = option == OPT_SUPERVISE;
		} else if (option == OPT_VERSION || option == OPT_HELP) {
			fputs(option == OPT_HELP ? help : "brumed " BRUME_VERSION "\n", stdout);
			return 1;
		} else {
			return usage("unknown option or missing value", argv[optind - 1]);
		}
	}
	if (optind < argc)
		return usage("unexpected argument", argv[optind]);
	return check_options(o);
}

/* -- identity and folders ------------------------------------------------------------------------
 */

static int find_identity(const struct options *o, struct identity *ret, struct error *err)
{
	const struct passwd *passwd;
	const struct group *group;

	*ret = (struct identity){ .uid = geteuid(), .gid = getegid(), .group = getegid() };
	if (geteuid() == 0) {
		passwd = getpwnam(o->user);
		if (!passwd)
			return error_say(err, -ENOENT,
					 "user %s: does not exist; make it with "
					 "'useradd --system --user-group %s', or name another one "
					 "with --user",
					 o->user, o->user);
		ret->uid = passwd->pw_uid;
		ret->gid = ret->group = passwd->pw_gid;
		ret->user_name = mem_strdup(o->user);
	}
	group = o->group ? getgrnam(o->group) : getgrgid(ret->group);
	if (o->group && !group)
		return error_say(err, -ENOENT,
				 "group %s: does not exist; make it with 'groupadd --system %s'",
				 o->group, o->group);
	if (group) {
		ret->group = group->gr_gid;
		ret->group_name = mem_strdup(group->gr_name);
	}
	return 0;
}

static void identity_done(struct identity *id)
{
	free(id->group_name);
	free(id->user_name);
}

/* A folder with this owner and mode, whoever made it before. */
static int make_folder(const char *path, mode_t mode, uid_t uid, gid_t gid, struct error *err)
{
	int r = file_mkdir_all(path, mode);

	if (r < 0)
		return error_set(err, r, "make folder %s", path);
	if (geteuid() == 0 && (chown(path, uid, gid) < 0 || chmod(path, mode) < 0))
		return error_set(err, -errno, "set the owner of %s", path);
	return 0;
}

static int make_folders(const struct options *o, const struct identity *id, struct error *err)
{
	AUTO(free) char *control = mem_printf("%s/control", o->state);
	int r = make_folder(o->state, 0711, 0, 0, err);

	if (r == 0)
		r = make_folder(o->run, 0755, 0, 0, err);
	if (r == 0)
		r = make_folder(control, 0700, id->uid, id->gid, err);
	return r;
}

/* -- sockets -------------------------------------------------------------------------------------
 */

static int bind_sockets(const struct options *o, const struct identity *id, int fds[SOCKET_COUNT],
			struct error *err)
{
	AUTO(free) char *api = mem_printf("%s/brumed.sock", o->run);
	AUTO(free) char *agent = mem_printf("%s/agent.sock", o->run);
	int r = 0;

	if (fds[SOCKET_API] < 0)
		r = listen_unix(api, 0660, id->group, &fds[SOCKET_API], err);
	if (r == 0 && fds[SOCKET_AGENT] < 0)
		r = listen_unix(agent, 0600, 0, &fds[SOCKET_AGENT], err);
	if (r == 0 && o->listen && fds[SOCKET_TLS] < 0)
		r = listen_tcp("--listen", o->listen, &fds[SOCKET_TLS], err);
	return r;
}

/* Sockets that the supervisor or systemd has bound. */
static void inherit_sockets(int fds[SOCKET_COUNT])
{
	char **names = NULL;
	int count = sd_listen_fds_with_names(1, &names);

	for (int i = 0; i < count; i++) {
		bool known = false;

		for (int s = 0; s < SOCKET_COUNT; s++) {
			if (strcmp(names[i], socket_names[s]) != 0 || fds[s] >= 0)
				continue;
			fds[s] = SD_LISTEN_FDS_START + i;
			fcntl(fds[s], F_SETFL, fcntl(fds[s], F_GETFL) | O_NONBLOCK);
			known = true;
			break;
		}
		if (!known)
			close(SD_LISTEN_FDS_START + i);
	}
	strv_free(names);
}

/* -- supervision ----------------------------------------------------------------------------------
 */

struct supervision {
	const struct options *options;
	const struct identity *identity;
	int fds[SOCKET_COUNT];
};

/* The sockets are bound when brumed is first started: one that runs already has its own. */
static int prepare_brumed(struct supervise_program *program, struct error *err)
{
	struct supervision *s = program->data;
	int r = bind_sockets(s->options, s->identity, s->fds, err);

	program->fd_count = 0;
	for (int i = 0; r == 0 && i < SOCKET_COUNT; i++) {
		if (s->fds[i] < 0)
			continue;
		program->fds[program->fd_count] = s->fds[i];
		program->fd_names[program->fd_count++] = socket_names[i];
	}
	return r;
}

/* The path of this program, without the mark of a file that was replaced while it ran. */
static char *self_path(void)
{
	static const char deleted[] = " (deleted)";
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	path[n < 0 ? 0 : n] = '\0';
	size_t size = strlen(path);
	size_t tail = sizeof(deleted) - 1;
	if (size > tail && strcmp(path + size - tail, deleted) == 0)
		path[size - tail] = '\0';
	return mem_strdup(path);
}

static char *agentd_path(const struct options *o, const char *self)
{
	const char *slash = strrchr(self, '/');

	if (o->agentd)
		return mem_strdup(o->agentd);
	return mem_printf("%.*s/brume-agentd", (int) (slash ? slash - self : 0), self);
}

static void append_option(char ***argv, const char *name, const char *value)
{
	if (!value)
		return;
	strv_append(argv, name);
	strv_append(argv, value);
}

static int supervise(const struct options *o, const struct identity *id, char **argv)
{
	AUTO(free) char *self = self_path();
	AUTO(free) char *agentd = agentd_path(o, self);
	AUTO(free) char *lock = mem_printf("%s/supervisor.lock", o->run);
	AUTO(free) char *brumed_lock = mem_printf("%s/brumed.lock", o->run);
	AUTO(free) char *agentd_lock = mem_printf("%s/agentd.lock", o->run);
	AUTO(strv_free) char **brumed_argv = NULL;
	AUTO(strv_free) char **agentd_argv = NULL;
	AUTO(fd_close) int lock_fd = file_lock_pid(lock);
	struct supervision s = { o, id, { -1, -1, -1 } };
	struct error err = {};

	if (lock_fd < 0) {
		log_error("%s: %s", lock,
			  lock_fd == -EWOULDBLOCK ? "another supervisor runs" : strerror(-lock_fd));
		return 1;
	}
	strv_append(&brumed_argv, self);
	for (size_t i = 1; argv[i]; i++)
		strv_append(&brumed_argv, argv[i]);
	strv_append(&brumed_argv, "--no-supervise");
	strv_append(&agentd_argv, agentd);
	append_option(&agentd_argv, "--state", o->state);
	append_option(&agentd_argv, "--run", o->run);
	append_option(&agentd_argv, "--prefix", o->prefix);
	append_option(&agentd_argv, "--node", o->node);
	append_option(&agentd_argv, "--registry", o->registry);
	append_option(&agentd_argv, "--policy", o->policy);
	append_option(&agentd_argv, "--boot-timeout", o->boot_timeout);
	append_option(&agentd_argv, "--vm-backend", o->vm_backend);
	append_option(&agentd_argv, "--log", o->levels);
	struct supervise_program programs[] = {
		{ .name = "brumed",
		  .argv = brumed_argv,
		  .lock_path = brumed_lock,
		  .leads = true,
		  .prepare = prepare_brumed,
		  .data = &s },
		{ .name = "brume-agentd", .argv = agentd_argv, .lock_path = agentd_lock },
	};
	int r = supervise_run(programs, ARRAY_COUNT(programs), &err);
	if (r < 0)
		log_error("%s", err.msg);
	return r < 0 ? 1 : r;
}

/* -- serving
 * --------------------------------------------------------------------------------------- */

static int drop_privileges(const struct identity *id, struct error *err)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < FILES_MAX) {
		files.rlim_cur = files.rlim_max < FILES_MAX ? files.rlim_max : FILES_MAX;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (geteuid() == 0) {
		/* Beyond the last capability the kernel says EINVAL. */
		for (int cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
			;
		gid_t groups[] = { id->gid, id->group };

		if (setgroups(ARRAY_COUNT(groups), groups) < 0 ||
		    setresgid(id->gid, id->gid, id->gid) < 0 ||
		    setresuid(id->uid, id->uid, id->uid) < 0)
			return error_set(err, -errno, "become user %s", id->user_name);
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_set(err, -errno, "give up privileges");
	return 0;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *user)
{
	(void) user;
	log_info("signal %u: stopping", info->ssi_signo);
	sd_event_exit(sd_event_source_get_event(source), 0);
	return 0;
}

static void on_failed(const struct error *err, void *user)
{
	log_error("%s; ending", err && err->msg[0] ? err->msg : "the store is lost");
	sd_event_exit(user, 1);
}

static int new_event(sd_event **ret, struct error *err)
{
	sigset_t signals;
	int r;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	r = sd_event_new(ret);
	if (r >= 0)
		r = sd_event_add_signal(*ret, NULL, SIGTERM, on_signal, NULL);
	if (r >= 0)
		r = sd_event_add_signal(*ret, NULL, SIGINT, on_signal, NULL);
	if (r >= 0)
		r = sd_event_set_watchdog(*ret, 1);
	return r < 0 ? error_set(err, r, "event loop") : 0;
}

/* Of the network "default" when nothing was asked for: NULL is one made up, "" none. */
static const char *default_ipv6(void)
{
	return access("/proc/sys/net/ipv6/conf", F_OK) < 0 ? "" : NULL;
}

static int serve_api(const struct options *o, struct api_config *config, struct error *err)
{
	AUTO(free) char *path = mem_printf("%s/control/store.db", o->state);
	struct store_sqlite_config store_config = { .path = path, .clock = clock_system() };
	struct control_config control = { .clock = clock_system(),
					  .rng = rng_system(),
					  .node = o->node,
					  .default_registry = o->registry,
					  .network_ipv4 = o->ipv4,
					  .network_ipv6 = o->ipv6 ? o->ipv6 : default_ipv6() };
	struct api *api = NULL;
	sd_event *event = NULL;
	int r = new_event(&event, err);

	if (r == 0)
		r = store_sqlite_open(event, &store_config, &control.store, err);
	config->control = &control;
	config->failed = on_failed;
	config->user = event;
	if (r == 0)
		r = api_new(event, config, &api, err);
	if (r == 0) {
		sd_notify(0, "READY=1");
		r = sd_event_loop(event);
	}
	api_free(api);
	store_free(control.store);
	sd_event_unref(event);
	return r;
}

/* What only root can read, in memory before the power is gone. */
struct secrets {
	char *cert_pem;
	char *key_pem;
	struct auth_tokens *tokens;
};

static int read_secrets(const struct options *o, struct secrets *ret, struct error *err)
{
	int r;

	if (!o->listen)
		return 0;
	r = file_read(AT_FDCWD, o->cert, PEM_MAX, &ret->cert_pem, NULL);
	if (r < 0)
		return error_set(err, r, "certificate %s", o->cert);
	r = file_read(AT_FDCWD, o->key, PEM_MAX, &ret->key_pem, NULL);
	if (r < 0)
		return error_set(err, r, "key %s", o->key);
	return auth_tokens_read(o->token_file, &ret->tokens, err);
}

static void secrets_done(struct secrets *secrets)
{
	if (secrets->key_pem)
		explicit_bzero(secrets->key_pem, strlen(secrets->key_pem));
	free(secrets->cert_pem);
	free(secrets->key_pem);
	auth_tokens_free(secrets->tokens);
}

static int serve(const struct options *o, const struct identity *id)
{
	AUTO(free) char *lock = mem_printf("%s/brumed.lock", o->run);
	AUTO(fd_close) int lock_fd = file_lock_pid(lock);
	int fds[SOCKET_COUNT] = { -1, -1, -1 };
	struct secrets secrets = {};
	struct error err = {};
	int r;

	if (lock_fd < 0) {
		log_error("%s: %s", lock,
			  lock_fd == -EWOULDBLOCK ? "another brumed runs" : strerror(-lock_fd));
		return 1;
	}
	inherit_sockets(fds);
	r = bind_sockets(o, id, fds, &err);
	if (r == 0)
		r = read_secrets(o, &secrets, &err);
	if (r == 0)
		r = drop_privileges(id, &err);
	struct api_config config = { .unix_fd = fds[SOCKET_API],
				     .tls_fd = o->listen ? fds[SOCKET_TLS] : -1,
				     .agent_fd = fds[SOCKET_AGENT],
				     .agent_uid = id->user_name ? 0 : geteuid(),
				     .group = id->group,
				     .group_name = id->group_name,
				     .cert_pem = secrets.cert_pem,
				     .key_pem = secrets.key_pem,
				     .tokens = secrets.tokens };
	if (r == 0)
		r = serve_api(o, &config, &err);
	if (r < 0)
		log_error("%s", err.msg);
	secrets_done(&secrets);
	return r < 0 ? 1 : r;
}

int main(int argc, char **argv)
{
	struct options options = {
		.state = "/var/lib/brume", .run = "/run/brume", .prefix = "brume", .user = "brume"
	};
	struct identity identity = {};
	struct error err = {};
	int r;

	log_set_program("brumed");
	r = parse_options(argc, argv, &options);
	if (r != 0)
		return r == 1 ? 0 : r;
	/* One thread allocates nearly everything; what it frees goes back to the kernel. */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	mallopt(M_TRIM_THRESHOLD, 256 * 1024);
	umask(022);
	r = find_identity(&options, &identity, &err);
	if (r == 0)
		r = make_folders(&options, &identity, &err);
	if (r < 0) {
		log_error("%s", err.msg);
		r = 1;
	} else if (options.supervise) {
		log_set_program("supervisor");
		r = supervise(&options, &identity, argv);
	} else {
		r = serve(&options, &identity);
	}
	identity_done(&identity);
	return r;
}
