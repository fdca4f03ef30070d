#include "agent/instance_machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/exit_code.h"
#include "agent/guest.h"
#include "agent/instance_vm.h"
#include "agent/stream.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strbuf.h"

enum {
	RECORD_MAX = 4096,
	WORDS_MAX = 400,
	EXIT_UNKNOWN = 255,
	HALT_MS = 5000,
	PRESS_MS = 2000,
	SETTLE_MS = 5000
};

struct instance_machine {
	struct instance_actor *actor;
	struct machine_record record;
	struct guest *guest;
	struct retry patience; /* for its boot */
	bool halting;
	struct boot_failure *failure;
	struct retry button;  /* is pressed again */
	struct retry settled; /* a system of its own: QEMU has not ended at once */
	struct press *press;  /* on a worker */
};

/* A press of the power button; outlives the machine while a worker is at it. */
struct press {
	struct instance_machine *machine; /* NULL: the run has ended meanwhile */
	enum machine_backend backend;
	char *run_dir;
	int result;
	struct error err;
};

/* A boot that takes too long: what the console says is fetched on a worker. */
struct boot_failure {
	struct instance_machine *machine; /* NULL: the run has ended meanwhile */
	const struct agent *agent;
	char uid[UID_SIZE];
	enum machine_backend backend;
	char *breach; /* how it broke the guest channel's protocol, or NULL */
	char *words;
};

/* ---- machine.json ---- */

int machine_record_write(const struct agent *agent, const char *uid,
			 const struct machine_record *record, struct error *err)
{
	AUTO(free) char *path = agent_run_path(agent, uid, "machine.json");
	AUTO(json_decref) json_t *object = vm_status_encode(&record->status);
	AUTO(free) char *text = json_text(object);
	int r = file_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, 0);

	return r < 0 ? error_set(err, r, "write %s", path) : 0;
}

static int read_backend(const char *name, enum machine_backend *ret)
{
	static const enum machine_backend all[] = { MACHINE_BRUME_VMM, MACHINE_QEMU };

	for (size_t i = 0; name && i < ARRAY_COUNT(all); i++)
		if (strcmp(machine_backend_name(all[i]), name) == 0) {
			*ret = all[i];
			return 0;
		}
	return -EINVAL;
}

int machine_record_read(const struct agent *agent, const char *uid, struct machine_record *ret,
			struct error *err)
{
	AUTO(free) char *path = agent_run_path(agent, uid, "machine.json");
	AUTO(machine_record_done) struct machine_record record = {};
	AUTO(json_decref) json_t *wrapped = NULL;
	AUTO(free) char *text = NULL;
	struct json_reader in = { .err = err, .where = "" };
	json_t *object = NULL;
	size_t size;
	int r = file_read(AT_FDCWD, path, RECORD_MAX, &text, &size);

	if (r < 0)
		return error_set(err, r, "read %s", path);
	r = json_parse(text, size, RECORD_MAX, &object, err);
	if (r < 0)
		return error_wrap(err, r, "%s", path);
	wrapped = json_pack("{s:o}", "machine", object);
	vm_status_read(&in, wrapped, "machine", &record.status);
	r = json_reader_finish(&in, wrapped);
	if (r == 0 && read_backend(record.status.backend, &record.backend) < 0)
		r = error_say(err, -EINVAL, "there is no such back end");
	if (r < 0)
		return error_wrap(err, r, "%s", path);
	*ret = record;
	record = (struct machine_record){};
	return 0;
}

void machine_record_done(struct machine_record *record)
{
	vm_status_done(&record->status);
}

/* ---- the boot ---- */

char *machine_console(const struct agent *agent, const char *uid, enum machine_backend backend,
		      const char *text)
{
	AUTO(free) char *run_dir = agent_run_path(agent, uid, "machine");
	AUTO(strbuf_done) struct strbuf line = {};
	AUTO(free) char *words = NULL;

	strbuf_puts(&line, text);
	if (machine_last_words(backend, run_dir, WORDS_MAX, &words, NULL) < 0 || !words ||
	    !words[0])
		return strbuf_take(&line);
	strbuf_puts(&line, "; its console said last: ");
	for (char *rest = words, *part; (part = strsep(&rest, "\n"));) {
		if (!part[0])
			continue;
		strbuf_puts(&line, part == words ? "" : " / ");
		strbuf_put_printable(&line, part, strlen(part));
	}
	return strbuf_take(&line);
}

static void failure_free(struct boot_failure *failure)
{
	free(failure->breach);
	free(failure->words);
	free(failure);
}

static void fetch_words(void *data)
{
	struct boot_failure *failure = data;
	AUTO(free)
	char *text = mem_printf("the guest has not started its command within %u seconds%s%s",
				failure->agent->options->boot_timeout_s,
				failure->breach ? ", and breaks its protocol: " : "",
				failure->breach ? failure->breach : "");

	failure->words = machine_console(failure->agent, failure->uid, failure->backend, text);
}

static void give_up(void *data)
{
	struct boot_failure *failure = data;
	struct instance_machine *machine = failure->machine;

	if (machine) {
		struct instance_actor *actor = machine->actor;

		machine->failure = NULL;
		if (actor->seen.booting && !actor->seen.stop_sent) {
			run_doom(actor, failure->words);
			/* There is nobody who could end in peace. */
			actor->seen.stop_sent = actor->seen.stop_expired = true;
			actor_advance(actor);
		}
	}
	failure_free(failure);
}

static void on_boot_timeout(void *data)
{
	struct instance_machine *machine = data;
	struct instance_actor *actor = machine->actor;
	struct boot_failure *failure = mem_new0(struct boot_failure);

	failure->machine = machine;
	failure->agent = actor->agent;
	memcpy(failure->uid, actor->uid, sizeof(failure->uid));
	failure->backend = machine->record.backend;
	failure->breach = mem_strdup(machine->record.status.guest_error);
	machine->failure = failure;
	pool_submit(actor->agent->pool, fetch_words, give_up, failure);
}

static char *booted_path(const struct instance_actor *actor)
{
	return agent_run_path(actor->agent, actor->uid, "booted");
}

static void write_booted(const struct instance_actor *actor)
{
	AUTO(free) char *path = booted_path(actor);
	int r = file_write_atomic(AT_FDCWD, path, "1\n", 2, 0600, 0);

	if (r < 0)
		log_error("instance %s: write %s: %s", actor->uid, path, strerror(-r));
}

/* Nobody tells of its boot: a monitor that could not run would have ended by now. */
static void on_settled(void *data)
{
	struct instance_machine *machine = data;

	write_booted(machine->actor);
}

static void on_told(void *data)
{
	struct instance_machine *machine = data;
	struct instance_actor *actor = machine->actor;
	const char *breach = guest_breach(machine->guest);

	if (breach && !machine->record.status.guest_error) {
		log_warning("instance %s: its guest breaks the protocol: %s", actor->uid, breach);
		machine->record.status.guest_error = mem_strdup(breach);
		actor_tell(actor);
	}
	if (actor->seen.booting && guest_is_up(machine->guest)) {
		write_booted(actor);
		log_info("instance %s: its guest has booted", actor->uid);
		actor->seen.booting = false;
		actor->seen.attached = actor->seen.attached && !actor->untold;
		retry_stop(&machine->patience);
		actor_advance(actor);
	}
}

/* ---- the power button ---- */

static void press(void *data)
{
	struct press *press = data;

	press->result =
		machine_do(press->backend, press->run_dir, MACHINE_POWER_BUTTON, &press->err);
}

/* A guest that is still booting does not see it, so it is pressed until the machine is off. */
static void pressed(void *data)
{
	struct press *press = data;
	struct instance_machine *machine = press->machine;

	if (machine) {
		machine->press = NULL;
		if (press->result < 0)
			log_warning("instance %s: its power button: %s", machine->actor->uid,
				    press->err.msg);
		retry_in(&machine->button, machine->actor->agent->event, PRESS_MS);
	}
	free(press->run_dir);
	free(press);
}

static void press_button(void *data)
{
	struct instance_machine *machine = data;
	struct instance_actor *actor = machine->actor;

	if (machine->press)
		return;
	machine->press = mem_new0(struct press);
	machine->press->machine = machine;
	machine->press->backend = machine->record.backend;
	machine->press->run_dir = agent_run_path(actor->agent, actor->uid, "machine");
	pool_submit(actor->agent->pool, press, pressed, machine->press);
}

/* Nobody in the guest knows brume: firmware has booted the image's own system. */
static bool is_on_its_own(const struct instance_machine *machine)
{
	return machine->record.status.firmware != NULL;
}

/* ---- as long as the run ---- */

static struct instance_machine *machine_new(struct instance_actor *actor)
{
	static const struct guest_ops ops = { on_told };
	AUTO(free) char *run_dir = agent_run_path(actor->agent, actor->uid, "machine");
	AUTO(free) char *booted = booted_path(actor);
	struct instance_machine *machine = mem_new0(struct instance_machine);
	struct error err = {};

	machine->actor = actor;
	machine->patience = (struct retry){ .fire = on_boot_timeout, .data = machine };
	machine->button = (struct retry){ .fire = press_button, .data = machine };
	machine->settled = (struct retry){ .fire = on_settled, .data = machine };
	if (machine_record_read(actor->agent, actor->uid, &machine->record, &err) < 0) {
		log_error("instance %s: %s", actor->uid, err.msg);
		return machine;
	}
	if (is_on_its_own(machine)) {
		retry_in(&machine->settled, actor->agent->event, SETTLE_MS);
		return machine;
	}
	actor->seen.booting = access(booted, F_OK) < 0;
	machine->guest = guest_new(actor->agent->event, actor->agent->pool, machine->record.backend,
				   run_dir, !actor->seen.booting, &ops, machine);
	return machine;
}

void instance_machine_free(struct instance_machine *machine)
{
	if (!machine)
		return;
	if (machine->failure)
		machine->failure->machine = NULL;
	if (machine->press)
		machine->press->machine = NULL;
	retry_stop(&machine->patience);
	retry_stop(&machine->button);
	retry_stop(&machine->settled);
	guest_free(machine->guest);
	machine_record_done(&machine->record);
	free(machine);
}

void instance_machine_update(struct instance_actor *actor)
{
	struct instance_machine *machine = actor->machine;
	bool runs = actor->seen.run == PLAN_RUN_RUNNING || actor->seen.run == PLAN_RUN_PAUSED;

	if (!runs || !actor->want || actor_spec(actor)->type != INSTANCE_VM) {
		actor->machine = NULL;
		actor->seen.booting = false;
		instance_machine_free(machine);
		return;
	}
	if (!machine) {
		machine = actor->machine = machine_new(actor);
		attach_instance_runs(actor->agent, actor->uid);
	}
	/* What stands still does not get on with its boot. */
	if (!actor->seen.booting || actor->seen.run == PLAN_RUN_PAUSED)
		retry_stop(&machine->patience);
	else if (!retry_waiting(&machine->patience) && !machine->failure)
		retry_in(&machine->patience, actor->agent->event,
			 (uint64_t) actor->agent->options->boot_timeout_s * 1000);
}

const struct vm_status *instance_machine_status(const struct instance_actor *actor)
{
	return actor->machine && actor->machine->record.status.backend
		       ? &actor->machine->record.status
		       : NULL;
}

void instance_machine_signal(struct instance_machine *machine, int number)
{
	AUTO(json_decref) json_t *arguments = NULL;
	char text[16];

	if (machine && is_on_its_own(machine))
		press_button(machine);
	if (!machine || !machine->guest)
		return;
	snprintf(text, sizeof(text), "%d", number);
	arguments = json_pack("{s:s, s:s}", "kind", "signal", "signal", text);
	guest_tell(machine->guest, arguments);
}

bool instance_machine_halts(struct instance_actor *actor)
{
	struct instance_machine *machine = actor->machine;

	/* Nobody will read the disk of what is deleted; who boots has written nothing. */
	if (!machine || !machine->guest || actor->seen.booting || !actor->want ||
	    actor->want->instance->meta.deleted_ms)
		return false;
	if (machine->halting)
		return retry_waiting(&actor->timer);
	machine->halting = true;
	instance_machine_signal(machine, SIGKILL);
	retry_in(&actor->timer, actor->agent->event, HALT_MS);
	return true;
}

/* The run may be over, or an earlier agent's. */
static bool has_own_system(const struct instance_actor *actor)
{
	AUTO(machine_record_done) struct machine_record record = {};

	return machine_record_read(actor->agent, actor->uid, &record, NULL) == 0 &&
	       record.status.firmware;
}

bool instance_machine_ended(const struct instance_actor *actor, int64_t *exit_code,
			    char **ret_error)
{
	AUTO(free) char *run_dir = agent_run_path(actor->agent, actor->uid, "machine");
	AUTO(free) char *booted = booted_path(actor);
	struct error err = {};
	int code = -1, r;

	r = machine_exit_code(run_dir, &code, &err);
	if (r > 0) {
		*exit_code = code;
		return true;
	}
	if (r < 0 && access(booted, F_OK) < 0) {
		if (r == -ENOENT || r == -ENOEXEC)
			*exit_code = r == -ENOENT ? EXIT_CODE_MISSING : EXIT_CODE_UNUSABLE;
		*ret_error = mem_strdup(err.msg);
		return true;
	}
	/* A system of its own turns the machine off, and that is all there is to be told. */
	if (r == 0 && *exit_code == 0 && has_own_system(actor))
		return true;
	/* It was the guest, before there was anything that could be started again. */
	if (r == 0 && *exit_code < EXIT_CODE_SIGNAL && actor->machine && !has_own_system(actor) &&
	    access(booted, F_OK) < 0) {
		*ret_error =
			machine_console(actor->agent, actor->uid, actor->machine->record.backend,
					instance_vm_cause(*exit_code));
		*exit_code = EXIT_UNKNOWN;
		return true;
	}
	/* What fails after its command has run is a crash, whatever the monitor calls it. */
	if (*exit_code < EXIT_CODE_SIGNAL)
		*exit_code = EXIT_UNKNOWN;
	return false;
}

const char *instance_address(struct agent *agent, const char *uid)
{
	const struct instance_actor *actor = actor_find(agent, uid);
	struct instance_networks networks = {};
	const struct port *port;
	const char *error;
	int outlet;

	if (!actor || !actor->want)
		return NULL;
	instance_networks_look(agent, actor_spec(actor), true, &networks, &error);
	outlet = instance_networks_reached(actor_spec(actor), &networks);
	/* The kernel lets nothing pass between a node and its own macvlans. */
	if (outlet < 0 || strcmp(networks.list[outlet].args.driver, "macvlan") == 0)
		return NULL;
	port = &actor_spec(actor)->ports[outlet];
	return port->ipv4[0] ? port->ipv4 : port->ipv6[0] ? port->ipv6 : NULL;
}

bool instance_monitor_answers(struct agent *agent, const char *uid)
{
	const struct instance_actor *actor = actor_find(agent, uid);

	return actor && actor->machine && actor->seen.run == PLAN_RUN_RUNNING;
}

int instance_guest(struct agent *agent, const char *uid, struct guest **ret, struct error *err)
{
	struct instance_actor *actor = actor_find(agent, uid);

	if (!actor || !actor->want || actor_spec(actor)->type != INSTANCE_VM)
		return 0;
	if (actor->machine && is_on_its_own(actor->machine))
		return error_say(err, -EOPNOTSUPP,
				 "there is no brume-init in this guest, which booted its own disk; "
				 "use ssh");
	if (actor->seen.run == PLAN_RUN_PAUSED)
		return error_say(err, -EBUSY, "the instance is paused; resume it first");
	if (actor->seen.run != PLAN_RUN_RUNNING || !actor->machine || !actor->machine->guest)
		return error_say(err, -ESRCH, "the instance is not running; start it first");
	*ret = actor->machine->guest;
	return 1;
}
