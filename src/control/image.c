#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "codec/image_ref.h"
#include "control/control_internal.h"

enum { USERS_SHOWN = 5 };

int control_image_name(struct control *control, const char *project, const char *text, char **ret,
		       struct error *err)
{
	AUTO(image_ref_done) struct image_ref ref = {};
	int r;

	if (mirror_find(control, KIND_IMAGE, project, text)) {
		*ret = mem_strdup(text);
		return 0;
	}
	r = image_ref_parse(text, control->default_registry, &ref, err);
	if (r < 0)
		return r;
	*ret = image_ref_text(&ref);
	return 0;
}

static struct image *image_create(struct draft *draft, const char *project, const char *name)
{
	struct image *image = mem_new0(struct image);

	meta_new(draft->control, &image->meta, project, name, NULL);
	image->spec.node = mem_strdup(draft->control->node);
	draft_create(draft, KIND_IMAGE, image);
	return image;
}

static void pull_again(struct image *image)
{
	image->spec.source = IMAGE_PULL;
	image->spec.pull_seq++;
	image->meta.generation++;
}

static bool pull_has_failed(const struct image *image)
{
	return image->status.state == IMAGE_FAILED &&
	       image->status.pull_seq >= image->spec.pull_seq;
}

int image_for_launch(struct draft *draft, const char *project, const struct launch_request *launch,
		     char **ret_name, char ret_uid[UID_SIZE], struct error *err)
{
	struct control *control = draft->control;
	AUTO(free) char *name = NULL;
	struct image *image;
	struct item *item;
	int r = control_image_name(control, project, launch->spec.image, &name, err);

	if (r < 0)
		return r;
	item = mirror_find(control, KIND_IMAGE, project, name);
	if (item && item->meta->deleted_ms)
		return error_say(err, -EBUSY, "image %s is being deleted, try again", name);
	if (launch->pull == PULL_NEVER && (!item || item_image(item)->status.state != IMAGE_READY))
		return error_say(err, -ENOENT, "image %s is not here, and pull is \"never\"", name);
	if (!item) {
		image = image_create(draft, project, name);
		image->spec.reference = mem_strdup(name);
		image->spec.implicit = true;
		image->spec.pull_seq = 1;
		image->spec.insecure = launch->insecure;
	} else {
		image = draft_edit(draft, item);
		bool pulls = image->spec.source == IMAGE_PULL;

		if (launch->pull == PULL_ALWAYS && !pulls)
			return error_say(err, -EINVAL, "image %s was imported, it cannot be pulled",
					 name);
		if (launch->pull == PULL_ALWAYS || (pulls && pull_has_failed(image))) {
			pull_again(image);
			image->spec.insecure = launch->insecure;
		}
		/* Not ready: whoever thinks that nobody wants it must look again. */
		if (image->status.state != IMAGE_READY)
			draft_touch(draft, item);
		draft_require(draft, item);
	}
	memcpy(ret_uid, image->meta.uid, UID_SIZE);
	*ret_name = TAKE_PTR(name);
	return 0;
}

static int prepare_pull(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const struct pull_request *pull = request->body;
	AUTO(image_ref_done) struct image_ref ref = {};
	AUTO(free) char *name = NULL;
	struct operation *operation;
	struct image *image;
	struct item *item;
	int r = require_project(work->control, request->project, err);

	if (r == 0)
		r = image_ref_parse(pull->reference, work->control->default_registry, &ref, err);
	if (r < 0)
		return r;
	name = image_ref_text(&ref);
	item = mirror_find(work->control, KIND_IMAGE, request->project, name);
	if (item && item->meta->deleted_ms)
		return error_say(err, -EBUSY, "image %s is being deleted, try again", name);
	if (item) {
		image = draft_edit(draft, item);
		pull_again(image);
		draft_require(draft, item);
	} else {
		image = image_create(draft, request->project, name);
		image->spec.pull_seq = 1;
	}
	image->spec.implicit = false;
	image->spec.insecure = pull->insecure;
	mem_replace(&image->spec.reference, name);
	mem_replace(&image->spec.platform, pull->platform);
	mem_replace(&image->spec.username, pull->username);
	mem_replace(&image->spec.password, pull->password);
	operation = draft_operation(draft, OPERATION_PULL, KIND_IMAGE, &image->meta);
	operation->seq = image->spec.pull_seq;
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	return WORK_COMMIT;
}

static void pull_free(void *pull)
{
	pull_request_free(pull);
}

void control_image_pull(struct control *control, const char *project,
			const struct pull_request *pull, control_done_fn done, void *data)
{
	struct request *request = request_new(project, NULL, done, data);
	struct pull_request *copy = mem_new0(struct pull_request);

	copy->reference = mem_strdup(pull->reference);
	copy->platform = mem_strdup(pull->platform);
	copy->insecure = pull->insecure;
	copy->username = mem_strdup(pull->username);
	copy->password = mem_strdup(pull->password);
	request->body = copy;
	request->body_free = pull_free;
	request_start(control, request, prepare_pull);
}

/* An imported image may have a plain name; a reference is normalized like any other. */
static int import_name(struct request *request, char **ret, struct error *err)
{
	struct error ignored;

	if (name_check(request->name, "name", &ignored) == 0) {
		*ret = mem_strdup(request->name);
		return 0;
	}
	return control_image_name(request->work.control, request->project, request->name, ret, err);
}

static int prepare_import(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	AUTO(free) char *name = NULL;
	struct operation *operation;
	struct image *image;
	struct item *item;
	int r = require_project(work->control, request->project, err);

	if (r == 0)
		r = import_name(request, &name, err);
	if (r < 0)
		return r;
	item = mirror_find(work->control, KIND_IMAGE, request->project, name);
	if (item)
		return error_say(err, -EEXIST, "image %s %s", name,
				 item->meta->deleted_ms ? "is still being deleted"
							: "exists already");
	image = image_create(draft, request->project, name);
	image->spec.source = IMAGE_IMPORT;
	image->spec.reference = mem_strdup(name);
	image->spec.pull_seq = 1;
	operation = draft_operation(draft, OPERATION_IMPORT, KIND_IMAGE, &image->meta);
	operation->seq = 1;
	image->spec.upload = mem_strdup(operation->meta.uid);
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	return WORK_COMMIT;
}

void control_image_import(struct control *control, const char *project, const char *name,
			  control_done_fn done, void *data)
{
	request_start(control, request_new(project, name, done, data), prepare_import);
}

/* "used by instances web, db and 3 more" */
static int refuse_used(struct control *control, const struct item *image, struct error *err)
{
	AUTO(strbuf_done) struct strbuf names = {};
	struct item *item, *next;
	unsigned int count = 0;

	HASH_ITER(by_key, control->items, item, next)
	{
		if (item->kind != KIND_INSTANCE ||
		    strcmp(item_instance(item)->spec.image_name, image->meta->name) != 0 ||
		    strcmp(item->meta->project, image->meta->project) != 0)
			continue;
		if (count++ < USERS_SHOWN)
			strbuf_printf(&names, "%s%s", count > 1 ? ", " : "", item->meta->name);
	}
	if (count == 0)
		return 0;
	if (count > USERS_SHOWN)
		strbuf_printf(&names, " and %u more", count - USERS_SHOWN);
	return error_say(err, -EBUSY, "image %s is used by %s %s", image->meta->name,
			 count == 1 ? "instance" : "instances", strbuf_str(&names));
}

/* The transaction holds only if no launch has taken the image meanwhile. */
static void require_unused(struct draft *draft, const struct item *item)
{
	AUTO(free) char *prefix = mem_printf("/imageuse/%s/", item->meta->uid);

	store_txn_compare(&draft->txn, STORE_PREFIX_EMPTY, prefix, 0);
}

static int prepare_image_delete(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	AUTO(free) char *name = NULL;
	struct item *item;
	int r = control_image_name(work->control, request->project, request->name, &name, err);

	if (r < 0)
		return r;
	mem_replace(&request->name, name);
	r = request_item(request, KIND_IMAGE, &item, err);
	if (r == 0)
		r = refuse_used(work->control, item, err);
	if (r < 0)
		return r;
	require_unused(draft, item);
	return request_delete(request, draft, item);
}

void control_image_delete(struct control *control, const char *project, const char *name,
			  uint64_t if_match, control_done_fn done, void *data)
{
	struct request *request = request_new(project, name, done, data);

	request->if_match = if_match;
	request_start(control, request, prepare_image_delete);
}

static bool can_be_pruned(struct control *control, const struct item *item, const char *project)
{
	const struct image *image = item->kind == KIND_IMAGE ? item_image(item) : NULL;

	return image && strcmp(item->meta->project, project) == 0 && !item->meta->deleted_ms &&
	       (image->status.state == IMAGE_READY || image->status.state == IMAGE_FAILED) &&
	       image->status.pull_seq >= image->spec.pull_seq &&
	       !mirror_image_user(control, item, NULL, true);
}

static int prepare_prune(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	struct meta target = { .name = (char *) "", .project = request->project };
	json_t *names = json_array();
	struct operation *operation;
	struct item *item, *next;
	uint64_t bytes = 0;
	int r = require_project(work->control, request->project, err);

	if (r < 0) {
		json_decref(names);
		return r;
	}
	operation = draft_operation(draft, OPERATION_PRUNE, KIND_IMAGE, &target);
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	HASH_ITER(by_key, work->control->items, item, next)
	{
		if (!can_be_pruned(work->control, item, request->project))
			continue;
		struct image *image = draft_edit(draft, item);

		draft_mark_deleted(draft, &image->meta);
		require_unused(draft, item);
		draft_require(draft, item);
		strv_append(&operation->members, image->meta.uid);
		json_array_append_new(names, json_string(image->meta.name));
		bytes += image->status.size_bytes;
	}
	operation->result = json_object();
	json_object_set_new(operation->result, "images", names);
	json_object_set_new(operation->result, "size_bytes", json_integer((json_int_t) bytes));
	if (!operation->members)
		operation_end(draft, operation, OPERATION_DONE, NULL);
	return WORK_COMMIT;
}

void control_image_prune(struct control *control, const char *project, control_done_fn done,
			 void *data)
{
	request_start(control, request_new(project, NULL, done, data), prepare_prune);
}
