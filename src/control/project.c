#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "control/control_internal.h"

/* Changing projects: carried out by control alone, so the operation has ended when it is there. */

static int prepare_set(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const struct project_request *body = request->body;
	struct item *item = mirror_find(work->control, KIND_PROJECT, "_", request->name);
	struct operation *operation;
	struct project *project;
	struct meta target;

	if (!item)
		return error_say(err, -ENOENT, "project \"%s\" does not exist", request->name);
	if (request->if_match && request->if_match != item->meta->revision)
		return error_say(err, -ESTALE, "project \"%s\" was changed meanwhile",
				 request->name);
	project = draft_edit(draft, item);
	if (body->description)
		mem_replace(&project->description, body->description);
	if (body->allow_privileged >= 0)
		project->allow_privileged = body->allow_privileged;
	project->meta.generation++;
	draft_require(draft, item);
	/* Where the caller looks for it, not among those of no project. */
	target = project->meta;
	target.project = request->project;
	operation = draft_operation(draft, OPERATION_SET, KIND_PROJECT, &target);
	operation_end(draft, operation, OPERATION_DONE, NULL);
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	return WORK_COMMIT;
}

static void body_free(void *body)
{
	project_request_done(body);
	free(body);
}

void control_project_set(struct control *control, const char *project, const char *name,
			 const struct project_request *body, uint64_t if_match,
			 control_done_fn done, void *data)
{
	struct request *request = request_new(project, name, done, data);
	struct project_request *copy = mem_new0(struct project_request);

	*copy = *body;
	copy->description = mem_strdup(body->description);
	request->body = copy;
	request->body_free = body_free;
	request->if_match = if_match;
	request_start(control, request, prepare_set);
}
