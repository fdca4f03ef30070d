#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "codec/image_ref.h"
#include "codec/oci_platform.h"
#include "control/control_internal.h"

enum { USERS_SHOWN = 5, CREATED_BY_MAX = 1000, TAG_MAX = 128 };

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

/* The image is here, or on its way; is it the one for this platform? */
static int check_platform(const struct image *image, const char *wanted, struct error *err)
{
	const struct image_status *status = &image->status;
	const struct oci_image is = { .os = status->os, .architecture = status->architecture };
	struct error ignored;

	if (status->state == IMAGE_READY) {
		if (oci_image_check_platform(&is, wanted, &ignored) == 0)
			return 0;
		return error_say(err, -EEXIST,
				 "image %s is here for %s/%s, not for %s: pull it for that with "
				 "pull \"always\"",
				 image->meta.name, status->os ? status->os : "linux",
				 status->architecture, wanted);
	}
	if (image->spec.platform && strcmp(image->spec.platform, wanted) == 0)
		return 0;
	return error_say(err, -EBUSY, "image %s is being pulled for %s, try again when it is here",
			 image->meta.name,
			 image->spec.platform ? image->spec.platform : "the node's platform");
}

int image_for_launch(struct draft *draft, const char *project, const struct launch_request *launch,
		     char **ret_name, char ret_uid[UID_SIZE], struct error *err)
{
	struct control *control = draft->control;
	AUTO(free) char *name = NULL;
	struct image *image;
	struct item *item;
	bool chosen = launch->platform && launch->platform[0];
	int r = control_image_name(control, project, launch->spec.image, &name, err);

	if (r == 0 && chosen && (r = oci_platform_check(launch->platform, err)) < 0)
		error_wrap(err, r, "platform");
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
		image->spec.platform = chosen ? mem_strdup(launch->platform) : NULL;
	} else {
		image = draft_edit(draft, item);
		bool pulls = image->spec.source == IMAGE_PULL;

		if (launch->pull == PULL_ALWAYS && !pulls)
			return error_say(err, -EINVAL, "image %s was imported, it cannot be pulled",
					 name);
		if (launch->pull == PULL_ALWAYS || (pulls && pull_has_failed(image))) {
			pull_again(image);
			image->spec.insecure = launch->insecure;
			if (chosen)
				mem_replace(&image->spec.platform, launch->platform);
		} else if (chosen && (pulls || image->status.state == IMAGE_READY)) {
			r = check_platform(image, launch->platform, err);
		}
		/* What is not known yet the node finds when it has the image. */
		if (r == 0 && image->status.state == IMAGE_READY)
			r = instance_image_check(&launch->spec, image->status.disk_format, err);
		if (r < 0)
			return r;
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

static bool is_tag(const char *text)
{
	size_t size = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				   "_.-");

	return size > 0 && size <= TAG_MAX && !text[size] && text[0] != '.' && text[0] != '-';
}

/*
 * An image that is made here may have a plain name, with a tag or without; a reference is
 * normalized like any other.
 */
static int import_name(struct request *request, char **ret, struct error *err)
{
	AUTO(free) char *plain = mem_strndup(request->name, strcspn(request->name, ":"));
	const char *tag = strchr(request->name, ':');
	struct error ignored;

	if (name_check(plain, "name", &ignored) == 0 && (!tag || is_tag(tag + 1))) {
		*ret = mem_strdup(request->name);
		return 0;
	}
	return control_image_name(request->work.control, request->project, request->name, ret, err);
}

static int prepare_import(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const struct image_spec *wanted = request->body;
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
	image->spec.platform = mem_strdup(wanted->platform);
	image->spec.format = mem_strdup(wanted->format);
	image->spec.pull_seq = 1;
	operation = draft_operation(draft, OPERATION_IMPORT, KIND_IMAGE, &image->meta);
	operation->seq = 1;
	image->spec.upload = mem_strdup(operation->meta.uid);
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	return WORK_COMMIT;
}

static void import_free(void *spec)
{
	image_spec_done(spec);
	free(spec);
}

void control_image_import(struct control *control, const char *project,
			  const struct image_import_request *import, control_done_fn done,
			  void *data)
{
	struct request *request = request_new(project, import->name, done, data);
	struct image_spec *wanted = mem_new0(struct image_spec);

	wanted->platform = mem_strdup(import->platform);
	wanted->format = mem_strdup(import->format);
	request->body = wanted;
	request->body_free = import_free;
	request_start(control, request, prepare_import);
}

/* "CMD [...]" */
static void add_list(char ***changes, const char *word, char *const *list)
{
	AUTO(json_decref) json_t *object = json_object();
	AUTO(free) char *text = NULL;

	json_put_strv(object, "list", list);
	text = json_text(json_object_get(object, "list"));
	strv_append_take(changes, mem_printf("%s %s", word, text));
}

static void add_word(char ***changes, const char *word, const char *text)
{
	if (text && text[0])
		strv_append_take(changes, mem_printf("%s %s", word, text));
}

/* What the launch said instead of the image becomes the image's. */
static char **changes_of(const struct instance_spec *spec)
{
	static char *none[] = { NULL };
	char **changes = NULL;

	if (spec->entrypoint)
		add_list(&changes, "ENTRYPOINT", spec->entrypoint);
	if (spec->command || spec->entrypoint)
		add_list(&changes, "CMD", spec->command ? spec->command : none);
	if (spec->env && spec->env[0])
		add_list(&changes, "ENV", spec->env);
	add_word(&changes, "WORKDIR", spec->workdir);
	add_word(&changes, "USER", spec->user);
	add_word(&changes, "STOPSIGNAL", spec->stop_signal);
	return changes;
}

/* "sleep 1000", for the history. */
static char *created_by(const struct instance_spec *spec)
{
	AUTO(strbuf_done) struct strbuf out = {};

	for (char **word = spec->entrypoint; word && *word; word++)
		strbuf_printf(&out, "%s%s", out.size > 0 ? " " : "", *word);
	for (char **word = spec->command; word && *word; word++)
		strbuf_printf(&out, "%s%s", out.size > 0 ? " " : "", *word);
	/* Longer than anybody reads; never cut in a character. */
	return out.size > CREATED_BY_MAX ? mem_strdup("brume commit") : strbuf_take(&out);
}

static void fill_commit(struct image_commit_spec *commit, const struct instance *instance,
			const struct commit_request *request)
{
	memcpy(commit->instance_uid, instance->meta.uid, UID_SIZE);
	commit->instance = mem_strdup(instance->meta.name);
	commit->changes = changes_of(&instance->spec);
	for (char **change = request->changes; change && *change; change++)
		strv_append(&commit->changes, *change);
	commit->message = mem_strdup(request->message);
	commit->author = mem_strdup(request->author);
	commit->created_by = created_by(&instance->spec);
	commit->pause = request->pause;
}

static int prepare_commit(struct work *work, struct draft *draft, struct error *err)
{
	struct request *request = (struct request *) work;
	const struct commit_request *commit = request->body;
	AUTO(free) char *name = NULL;
	struct operation *operation;
	struct image *image;
	struct item *item;
	int r = import_name(request, &name, err);

	if (r < 0)
		return r;
	item = mirror_find(work->control, KIND_INSTANCE, request->project, commit->instance);
	if (!item || item->meta->deleted_ms)
		return error_say(err, -ENOENT, "instance %s does not exist", commit->instance);
	if (mirror_find(work->control, KIND_IMAGE, request->project, name))
		return error_say(err, -EEXIST, "image %s exists already", name);
	draft_require(draft, item);
	image = image_create(draft, request->project, name);
	image->spec.source = IMAGE_COMMIT;
	image->spec.reference = mem_strdup(name);
	image->spec.pull_seq = 1;
	fill_commit(&image->spec.commit, item_instance(item), commit);
	operation = draft_operation(draft, OPERATION_COMMIT, KIND_IMAGE, &image->meta);
	operation->seq = 1;
	memcpy(request->operation_uid, operation->meta.uid, UID_SIZE);
	return WORK_COMMIT;
}

static void commit_free(void *commit)
{
	commit_request_free(commit);
}

void control_image_commit(struct control *control, const char *project,
			  const struct commit_request *commit, control_done_fn done, void *data)
{
	struct request *request = request_new(project, commit->name, done, data);
	struct commit_request *copy = mem_new0(struct commit_request);

	copy->instance = mem_strdup(commit->instance);
	copy->name = mem_strdup(commit->name);
	copy->changes = strv_copy(commit->changes);
	copy->message = mem_strdup(commit->message);
	copy->author = mem_strdup(commit->author);
	copy->pause = commit->pause;
	request->body = copy;
	request->body_free = commit_free;
	request_start(control, request, prepare_commit);
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
