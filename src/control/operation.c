#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/control_internal.h"

enum { COLLECT_BATCH = 256 };

static int check_cancel(struct control *control, const struct operation *operation,
			struct error *err)
{
	struct item *target = mirror_find_uid(control, operation->target_uid);

	if (operation->state != OPERATION_RUNNING)
		return error_say(err, -EBUSY, "the operation has ended already: %s",
				 operation_state_name(operation->state));
	if (operation->action == OPERATION_PULL && target && item_image(target)->status.digest)
		return error_say(err, -EBUSY,
				 "a pull that renews an image cannot be cancelled, the old one is "
				 "still there");
	switch (operation->action) {
	case OPERATION_LAUNCH:
	case OPERATION_PULL:
	case OPERATION_IMPORT:
	case OPERATION_COMMIT:
		return 0;
	default:
		return error_say(
			err, -EBUSY,
			"\"%s\" cannot be cancelled, only launch, pull, import and commit can",
			operation_action_name(operation->action));
	}
}

static int prepare_cancel(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	struct operation *operation;
	struct item *item;
	int r = request_item(request, KIND_OPERATION, &item, err);

	if (r == 0)
		r = check_cancel(work->control, item_operation(item), err);
	if (r < 0)
		return r;
	memcpy(request->operation_uid, item->meta->uid, UID_SIZE);
	if (item_operation(item)->ending != OPERATION_RUNNING)
		return WORK_NOTHING; /* it ends already */
	operation = draft_edit(draft, item);
	settle_undo(draft, operation, OPERATION_CANCELLED, "it was cancelled");
	return WORK_COMMIT;
}

void control_operation_cancel(struct control *control, const char *project, const char *id,
			      control_done_fn done, void *data)
{
	request_start(control, request_new(project, id, done, data), prepare_cancel);
}

static int by_finished(const void *a, const void *b)
{
	int64_t x = item_operation(*(struct item *const *) a)->finished_ms;
	int64_t y = item_operation(*(struct item *const *) b)->finished_ms;

	return x < y ? -1 : x > y;
}

/* Removes operations that ended an hour ago, and the oldest ones when there are too many. */
static int prepare_collect(struct work *work, struct draft *draft, struct error *err)
{
	struct control *control = work->control;
	int64_t now = clock_realtime_ms(control->clock);
	AUTO(free)
	struct item **ended = mem_new0_array(struct item *, control->operation_count + 1);
	unsigned int surplus = control->operation_count > OPERATION_KEEP_COUNT
				       ? control->operation_count - OPERATION_KEEP_COUNT
				       : 0;
	size_t count = 0;
	struct item *item, *next;

	(void) err;
	HASH_ITER(by_key, control->items, item, next)
	{
		if (item->kind == KIND_OPERATION &&
		    item_operation(item)->state != OPERATION_RUNNING)
			ended[count++] = item;
	}
	qsort(ended, count, sizeof(*ended), by_finished);
	for (size_t i = 0; i < count && i < COLLECT_BATCH; i++) {
		if (i >= surplus && item_operation(ended[i])->finished_ms + OPERATION_KEEP_MS > now)
			break;
		draft_remove(draft, ended[i]);
	}
	return draft->items ? WORK_COMMIT : WORK_NOTHING;
}

static void collect_finish(struct work *work, int result, const struct error *err)
{
	if (result < 0 && result != -ECANCELED)
		log_error("cannot remove old operations: %s", err->msg);
	work->control->collecting = false;
}

static void collect_free(struct work *work)
{
	free(work);
}

void operations_collect(struct control *control)
{
	struct work *work;

	if (control->collecting)
		return;
	control->collecting = true;
	work = mem_new0(struct work);
	work->prepare = prepare_collect;
	work->finish = collect_finish;
	work->free = collect_free;
	work_start(control, work);
}
