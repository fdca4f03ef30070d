#include "agent/instance_cards.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent_internal.h"
#include "agent/guest.h"
#include "agent/instance_actor_internal.h"
#include "agent/instance_machine.h"
#include "agent/instance_ports.h"
#include "agent/instance_task.h"
#include "base/error.h"
#include "base/mem.h"
#include "net/tap.h"

/* A guest that does not answer must not hold up everything else for long. */
enum { TELL_MS = 20 * 1000 };

/* ---- a worker's ---- */

/* Ids of cards are short, those of ports are random. */
static void card_id(const struct instance_task *task, size_t i, char ret[MACHINE_NIC_ID_SIZE])
{
	snprintf(ret, MACHINE_NIC_ID_SIZE, "p%.19s", task->instance->spec.ports[i].uid);
}

static void tell_ways(struct instance_task *task, size_t i, const struct port_spec *port,
		      struct bundle_nic *told)
{
	const struct network_args *network = &task->networks.list[i].args;

	told->name = task->instance->spec.ports[i].interface;
	if (!port->leads_out)
		return;
	told->gateway4 = network->gateway4;
	told->gateway6 = network->gateway6;
}

int instance_card_open(struct instance_task *task, size_t i, struct machine_nic *ret,
		       struct bundle_nic *ret_told, struct error *err)
{
	struct bridge_spec bridge = instance_bridge_spec(&task->networks.list[i].args);
	struct port_spec port = instance_port_spec(task, i, &bridge);
	struct machine_nic nic = { .fd = -1 };
	struct bundle_nic told = {};
	int r = tap_open(task->agent->net, &port, &nic.fd, &told.tap, err);

	if (r < 0)
		return r;
	nic.mtu = told.tap.mtu;
	memcpy(nic.mac, told.tap.mac, sizeof(nic.mac));
	card_id(task, i, nic.id);
	tell_ways(task, i, &port, &told);
	*ret = nic;
	*ret_told = told;
	return 0;
}

int instance_card_describe(struct instance_task *task, size_t i, struct bundle_nic *ret,
			   struct error *err)
{
	struct bridge_spec bridge = instance_bridge_spec(&task->networks.list[i].args);
	struct port_spec port = instance_port_spec(task, i, &bridge);
	struct bundle_nic told = {};
	int r = tap_describe(&port, &told.tap, err);

	if (r < 0)
		return r;
	tell_ways(task, i, &port, &told);
	*ret = told;
	return 0;
}

int instance_cards_look(struct instance_task *task, struct machine_cards *ret, struct error *err)
{
	AUTO(free) char *run_dir = agent_run_path(task->agent, task->uid, "machine");

	return machine_cards(run_dir, ret, err);
}

static int add_card(struct instance_task *task, size_t i, struct error *err)
{
	AUTO(free) char *run_dir = agent_run_path(task->agent, task->uid, "machine");
	struct machine_nic nic;
	struct bundle_nic told;
	int r = instance_card_open(task, i, &nic, &told, err);

	if (r < 0)
		return r;
	/* The tap ends with its last descriptor: when the machine has not taken it, now. */
	AUTO(fd_close) int fd = nic.fd;
	return machine_card_add(run_dir, &nic, err);
}

int instance_card_attach(struct instance_task *task, size_t i, const struct machine_cards *cards,
			 struct error *err)
{
	struct bridge_spec bridge = instance_bridge_spec(&task->networks.list[i].args);
	struct port_spec port = instance_port_spec(task, i, &bridge);
	char id[MACHINE_NIC_ID_SIZE];
	int r = 0;

	card_id(task, i, id);
	if (!machine_cards_have(cards, id))
		r = add_card(task, i, err);
	return r < 0 ? r : tap_attach(task->agent->net, &port, err);
}

int instance_card_detach(struct instance_task *task, size_t i, const struct machine_cards *cards,
			 struct error *err)
{
	AUTO(free) char *run_dir = agent_run_path(task->agent, task->uid, "machine");
	char id[MACHINE_NIC_ID_SIZE];

	card_id(task, i, id);
	return machine_cards_have(cards, id) ? machine_card_remove(run_dir, id, err) : 0;
}

int instance_cards_describe(struct instance_task *task, struct error *err)
{
	const struct instance_spec *spec = &task->instance->spec;
	struct bundle_nic nics[PORTS_MAX];
	size_t count = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < spec->port_count && i < PORTS_MAX; i++)
		if (!spec->ports[i].leaving && task->networks.list[i].ready)
			r = instance_card_describe(task, i, &nics[count++], err);
	return r < 0 ? r : bundle_guest_network(nics, count, &task->network, err);
}

/* ---- the loop's ---- */

struct instance_telling {
	struct instance_actor *actor;
	struct guest_request *request; /* NULL: it is over */
	struct retry timer; /* its patience; then, when it is over, the moment to say so */
	instance_told_fn done;
	struct error failure;
};

void instance_telling_free(struct instance_telling *telling)
{
	if (!telling)
		return;
	guest_request_free(telling->request);
	retry_stop(&telling->timer);
	telling->actor->telling = NULL;
	free(telling);
}

/* Also from within the end of the machine: who waits is told by the loop. */
static void conclude(struct instance_telling *telling)
{
	retry_in(&telling->timer, telling->actor->agent->event, 0);
}

static void on_timer(void *data)
{
	struct instance_telling *telling = data;
	struct instance_actor *actor = telling->actor;
	instance_told_fn done = telling->done;
	struct error failure = telling->failure;

	if (telling->request)
		error_say(&failure, -ETIMEDOUT,
			  "the guest has not set up its interfaces within %d seconds",
			  TELL_MS / 1000);
	instance_telling_free(telling);
	done(actor, &failure);
}

static void on_received(void *data, enum frame_channel channel, const char *bytes, size_t size)
{
	struct instance_telling *telling = data;

	(void) channel;
	(void) bytes;
	guest_request_grant(telling->request, size);
}

static void on_closed(void *data, int64_t exit_code, const struct error *err)
{
	struct instance_telling *telling = data;

	(void) exit_code;
	telling->request = NULL;
	if (err)
		telling->failure = *err;
	conclude(telling);
}

bool instance_cards_tell(struct instance_actor *actor, json_t *network, instance_told_fn done)
{
	static const struct guest_call_ops ops = { on_received, NULL, on_closed };
	AUTO(json_decref)
	json_t *arguments = json_pack("{s:s, s:O}", "kind", "network", "network", network);
	struct guest *guest = NULL;

	/* What boots is told when it has. */
	actor->untold = actor->seen.booting;
	if (actor->untold || instance_guest(actor->agent, actor->uid, &guest, NULL) <= 0)
		return false;
	actor->telling = mem_new0(struct instance_telling);
	*actor->telling = (struct instance_telling){
		.actor = actor, .done = done, .timer = { .fire = on_timer, .data = actor->telling }
	};
	actor->telling->request = guest_request_new(guest, arguments, &ops, actor->telling);
	retry_in(&actor->telling->timer, actor->agent->event, TELL_MS);
	return true;
}
