#include "control/control.h"

#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "base/error.h"
#include "base/mem.h"
#include "control/control_internal.h"

void control_fail(struct control *control, int result, const struct error *err)
{
	if (control->failed)
		return;
	control->failed = true;
	control->ready = false;
	control->ops->state(result, err, control->data);
}

/* ---- the timer */

void status_schedule(struct control *control)
{
	uint64_t next = UINT64_MAX;
	struct item *item;

	DL_FOREACH2(control->flush, item, flush_next)
	{
		/* What is being written already wakes us by its end. */
		if (!item->settling && item->flush_us < next)
			next = item->flush_us;
	}
	if (control->operation_count > 0 && control->collect_us < next)
		next = control->collect_us;
	if (control->recheck_us && control->recheck_us < next)
		next = control->recheck_us;
	if (next == control->timer_us)
		return;
	control->timer_us = next;
	control->ops->set_timer(next, control->data);
}

static void mark_all_dirty(struct control *control)
{
	struct item *item, *next;

	HASH_ITER(by_key, control->items, item, next)
	{
		mark_dirty(control, item);
	}
}

void control_tick(struct control *control)
{
	uint64_t now = clock_monotonic_us(control->clock);
	struct item *item;

	if (!control->ready)
		return;
	control->timer_us = UINT64_MAX;
	DL_FOREACH2(control->flush, item, flush_next)
	{
		if (item->flush_us <= now)
			mark_dirty(control, item);
	}
	if (control->recheck_us && control->recheck_us <= now) {
		control->recheck_us = 0;
		mark_all_dirty(control);
	}
	if (control->collect_us <= now) {
		control->collect_us = now + COLLECT_INTERVAL_US;
		operations_collect(control);
	}
	settle_dirty(control);
	status_schedule(control);
}

/* ---- following the store */

/*
 * The changes of one transaction come in any order.  What is put goes first: a resource whose key
 * is put in one place and deleted in another was renamed, and must not seem to end in between.
 */
static int apply_transaction(struct control *control, const struct store_event *events,
			     size_t count, struct error *err)
{
	for (size_t i = 0; i < count; i++) {
		int r = events[i].deleted ? 0
					  : mirror_put(control, events[i].key, events[i].value,
						       events[i].mod_revision, err);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < count; i++)
		if (events[i].deleted)
			mirror_delete(control, events[i].key);
	return 0;
}

static void on_events(const struct store_event *events, size_t count, uint64_t revision, void *data)
{
	struct control *control = data;
	struct error err = {};

	for (size_t i = 0, n; i < count; i += n) {
		n = store_events_of_transaction(events + i, count - i);
		int r = apply_transaction(control, events + i, n, &err);

		if (r < 0) {
			control_fail(control, r, &err);
			return;
		}
	}
	control->revision = revision;
	if (!control->ready) {
		work_mirror_moved(control);
		return;
	}
	settle_dirty(control);
	work_mirror_moved(control);
	if (control->operation_count > OPERATION_KEEP_COUNT + OPERATION_KEEP_COUNT / 10)
		operations_collect(control);
	status_schedule(control);
}

static void on_ended(int error, const char *message, void *data)
{
	struct error err = {};

	error_say(&err, error, "lost the store's changes: %s", message);
	control_fail(data, error, &err);
}

static const struct store_watch_ops watch_ops = { on_events, on_ended };

/* ---- start */

static void create_project(struct draft *draft)
{
	struct project *project = mem_new0(struct project);

	meta_new(draft->control, &project->meta, "_", "default", NULL);
	draft_create(draft, KIND_PROJECT, project);
	group_create_default(draft, "default");
}

/* Those of a store that knew no groups yet. */
static void create_groups(struct draft *draft)
{
	struct item *item, *next;

	HASH_ITER(by_key, draft->control->items, item, next)
	{
		if (item->kind == KIND_PROJECT &&
		    !mirror_find(draft->control, KIND_GROUP, item->meta->name,
				 SECURITY_GROUP_DEFAULT))
			group_create_default(draft, item->meta->name);
	}
}

static int create_network(struct draft *draft, struct error *err)
{
	struct control *control = draft->control;
	AUTO(network_free) struct network *network = mem_new0(struct network);
	struct network_spec *spec = &network->spec;
	int r = 0;

	network_spec_init(spec);
	meta_new(control, &network->meta, "default", "default", NULL);
	mem_replace(&spec->node, control->node);
	if (control->network_ipv4[0])
		r = subnet_parse(control->network_ipv4, 4, "network-ipv4", &spec->ipv4, err);
	if (r == 0 && !control->network_ipv6)
		subnet_random6(control, &spec->ipv6);
	else if (r == 0 && control->network_ipv6[0])
		r = subnet_parse(control->network_ipv6, 6, "network-ipv6", &spec->ipv6, err);
	if (r < 0)
		return r;
	if (spec->ipv4.base.family)
		subnet_nth(&spec->ipv4, 1, &spec->gateway4);
	if (spec->ipv6.base.family)
		subnet_nth(&spec->ipv6, 1, &spec->gateway6);
	if (spec->ipv4.base.family || spec->ipv6.base.family)
		draft_create(draft, KIND_NETWORK, TAKE_PTR(network));
	return 0;
}

/* Uploads end with the process that received them. */
static void end_imports(struct draft *draft)
{
	struct item *running;

	DL_FOREACH2(draft->control->running, running, running_next)
	{
		const struct operation *operation = item_operation(running);

		if (operation->action == OPERATION_IMPORT && operation->ending == OPERATION_RUNNING)
			settle_undo(draft, draft_edit(draft, running), OPERATION_FAILED,
				    "brume was started again during the upload");
	}
}

static int prepare_start(struct work *work, struct draft *draft, struct error *err)
{
	struct control *control = work->control;
	struct item *item = mirror_find(control, KIND_NODE, "_", control->node);
	struct node *node;
	int r = 0;

	if (item) {
		node = draft_edit(draft, item);
		node->state = NODE_OFFLINE;
	} else {
		node = mem_new0(struct node);
		meta_new(control, &node->meta, "_", control->node, NULL);
		draft_create(draft, KIND_NODE, node);
	}
	if (!mirror_find(control, KIND_PROJECT, "_", "default")) {
		create_project(draft);
		r = create_network(draft, err);
	}
	create_groups(draft);
	end_imports(draft);
	return r < 0 ? r : WORK_COMMIT;
}

static void start_finish(struct work *work, int result, const struct error *err)
{
	struct control *control = work->control;

	if (result == -ECANCELED)
		return;
	if (result < 0) {
		control_fail(control, result, err);
		return;
	}
	control->ready = true;
	control->collect_us = clock_monotonic_us(control->clock);
	mark_all_dirty(control);
	settle_dirty(control);
	status_schedule(control);
	control->ops->state(0, NULL, control->data);
}

static void start_free(struct work *work)
{
	free(work);
}

struct loading {
	struct control *control; /* NULL: it is gone */
};

static void on_loaded(const struct store_result *result, void *data)
{
	struct loading *loading = data;
	struct control *control = loading->control;
	struct error err = {};
	struct work *work;
	int r = result->error;

	free(loading);
	if (!control)
		return;
	control->loading = NULL;
	if (r < 0)
		error_say(&err, r, "cannot read the store: %s", result->message);
	for (size_t i = 0; i < result->entry_count && r == 0; i++)
		r = mirror_put(control, result->entries[i].key, result->entries[i].value,
			       result->entries[i].mod_revision, &err);
	if (r < 0) {
		control_fail(control, r, &err);
		return;
	}
	control->revision = result->revision;
	control->watch =
		store_watch_new(control->store, "/", control->revision + 1, &watch_ops, control);
	work = mem_new0(struct work);
	work->prepare = prepare_start;
	work->finish = start_finish;
	work->free = start_free;
	work_start(control, work);
}

int control_new(const struct control_config *config, const struct control_ops *ops, void *data,
		struct control **ret, struct error *err)
{
	AUTO(control_free) struct control *control = mem_new0(struct control);
	struct loading *loading;
	int r = name_check(config->node ? config->node : "local", "node", err);

	control->clock = config->clock;
	control->rng = config->rng;
	control->store = config->store;
	control->ops = ops;
	control->data = data;
	control->node = mem_strdup(config->node ? config->node : "local");
	control->default_registry = mem_strdup(config->default_registry);
	control->network_ipv4 =
		mem_strdup(config->network_ipv4 ? config->network_ipv4 : "10.90.0.0/24");
	control->network_ipv6 = mem_strdup(config->network_ipv6);
	control->address_cursor = 1;
	control->timer_us = UINT64_MAX;
	if (r < 0)
		return r;
	loading = mem_new0(struct loading);
	loading->control = control;
	control->loading = loading;
	store_list(control->store, "/", on_loaded, loading);
	*ret = TAKE_PTR(control);
	return 0;
}

void control_free(struct control *control)
{
	if (!control)
		return;
	if (control->loading)
		control->loading->control = NULL;
	control->failed = true; /* nothing new is begun from here on */
	store_watch_free(control->watch);
	work_cancel_all(control);
	mirror_free(control);
	free(control->node);
	free(control->default_registry);
	free(control->network_ipv4);
	free(control->network_ipv6);
	free(control);
}
