#include "agent/keeper_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/hold.h"
#include "agent/retry.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

enum { RETRY_FIRST_MS = 50, RETRY_MAX_MS = 2000 };

struct keeper_watch {
	struct agent *agent;
	struct keeper_client *client;
	bool listed;
	char *path;
	sd_event_source *watch;
	struct retry retry;
};

/* In the child: from here on only calls that are safe after fork() in a threaded process. */
static void run_keeper(char **argv, const char *log)
{
	sigset_t none;

	setsid();
	/* The keeper is nobody's child, so that no daemon's end can take it along. */
	pid_t pid = fork();
	if (pid != 0)
		_exit(pid < 0);
	int null = open("/dev/null", O_RDWR);
	int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(null, STDIN_FILENO);
	dup2(out >= 0 ? out : null, STDOUT_FILENO);
	dup2(out >= 0 ? out : null, STDERR_FILENO);
	close_range(3, ~0U, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(argv[0], argv);
	dprintf(STDERR_FILENO, "cannot start %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static void start_keeper(struct keeper_watch *watch)
{
	const struct agent_options *options = watch->agent->options;
	AUTO(free) char *log = mem_printf("%s/keeper.log", options->run);
	char *argv[] = { (char *) options->keeper, "--run",
			 (char *) options->run,    options->levels ? "--log" : NULL,
			 (char *) options->levels, NULL };
	pid_t pid = fork();

	if (pid == 0)
		run_keeper(argv, log);
	if (pid > 0) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		log_info("keeper: nobody listens on %s, started %s", watch->path, argv[0]);
	} else {
		log_error("keeper: fork: %s", strerror(errno));
	}
}

static void on_event(void *data, const struct keeper_msg *msg, int *console_fd)
{
	struct keeper_watch *watch = data;

	if (msg->type == KEEPER_LISTED) {
		watch->listed = true;
		log_info("keeper: connected to process %d", msg->pid);
		/* After an upgrade the old one still runs; it becomes the new one and loses
		 * nothing. */
		if (msg->message && strcmp(msg->message, BRUME_VERSION) != 0) {
			log_info("keeper: has version %s, telling it to become %s", msg->message,
				 BRUME_VERSION);
			keeper_client_reexec(watch->client);
		}
	}
	struct keeper_msg filled = *msg;
	hold_keeper_event(watch->agent, &filled, console_fd);
	agent_keeper_event(watch->agent, &filled);
}

static void try_later(struct keeper_watch *watch)
{
	retry_later(&watch->retry, watch->agent->event, RETRY_FIRST_MS, RETRY_MAX_MS);
}

static void on_closed(void *data)
{
	struct keeper_watch *watch = data;

	keeper_client_free(watch->client);
	watch->client = NULL;
	watch->listed = false;
	log_warning("keeper: connection lost, connecting again");
	agent_keeper_lost(watch->agent);
	retry_reset(&watch->retry);
	retry_in(&watch->retry, watch->agent->event, 0);
}

static const struct keeper_client_ops ops = { on_event, on_closed };

/* Gives back whether it worked. */
static bool try_connect(struct keeper_watch *watch)
{
	struct error err = {};

	if (watch->client)
		return true;
	if (keeper_client_new(watch->agent->event, watch->path, &ops, watch, &watch->client, &err) <
	    0)
		return false;
	hold_give_back(watch->agent, watch->client);
	keeper_client_list(watch->client);
	retry_stop(&watch->retry);
	return true;
}

static void connect_or_start(void *data)
{
	struct keeper_watch *watch = data;

	if (try_connect(watch))
		return;
	if (watch->agent->options->keeper)
		start_keeper(watch);
	try_later(watch);
}

static int on_appeared(sd_event_source *source, const struct inotify_event *event, void *data)
{
	(void) source;
	if (event->len > 0 && strcmp(event->name, "keeper.sock") == 0)
		try_connect(data);
	return 0;
}

int keeper_watch_new(struct agent *agent, struct keeper_watch **ret, struct error *err)
{
	AUTO(keeper_watch_free) struct keeper_watch *watch = mem_new0(struct keeper_watch);
	int r;

	watch->agent = agent;
	watch->path = mem_printf("%s/keeper.sock", agent->options->run);
	watch->retry = (struct retry){ .fire = connect_or_start, .data = watch };
	r = sd_event_add_inotify(agent->event, &watch->watch, agent->options->run, IN_MOVED_TO,
				 on_appeared, watch);
	if (r < 0)
		return error_set(err, r, "watch %s", agent->options->run);
	retry_in(&watch->retry, agent->event, 0);
	*ret = TAKE_PTR(watch);
	return 0;
}

struct keeper_client *keeper_watch_client(struct keeper_watch *watch)
{
	return watch && watch->listed ? watch->client : NULL;
}

void keeper_watch_free(struct keeper_watch *watch)
{
	if (!watch)
		return;
	sd_event_source_disable_unref(watch->watch);
	retry_stop(&watch->retry);
	keeper_client_free(watch->client);
	free(watch->path);
	free(watch);
}
