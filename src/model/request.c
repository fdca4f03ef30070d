#include "model/request.h"

#include <errno.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "model/member.h"

enum {
	COMMIT_TEXT_MAX = 4096,
	TEXT_MAX_BYTES = 512,
	SECRET_MAX_BYTES = 16384,
	TIMEOUT_MAX_S = 24 * 3600
};

const char *const pull_policy_names[] = { "missing", "always", "never", NULL };
static const char *const action_names[] = { "start", "stop", "restart", "pause", "resume", NULL };

struct launch_request *launch_request_new(void)
{
	struct launch_request *request = mem_new0(struct launch_request);

	instance_spec_init(&request->spec);
	request->start = true;
	return request;
}

int launch_request_decode(const json_t *doc, struct launch_request **ret, struct error *err)
{
	AUTO(launch_request_free) struct launch_request *request = launch_request_new();
	struct json_reader in = { .err = err };
	unsigned int pull = PULL_MISSING;
	int r;

	member_read_text(&in, doc, "name", TEXT_MAX_BYTES, &request->name);
	member_read_map(&in, doc, "labels", &request->labels);
	instance_spec_read_user(&in, doc, &request->spec);
	instance_ports_read(&in, doc, true, &request->spec);
	json_read_bool(&in, doc, "start", &request->start);
	member_read_enum(&in, doc, "pull", pull_policy_names, &pull);
	json_read_bool(&in, doc, "insecure", &request->insecure);
	member_read_text(&in, doc, "platform", TEXT_MAX_BYTES, &request->platform);
	if (json_reader_finish(&in, doc) < 0)
		return in.result;
	request->pull = pull;
	if (request->name && request->name[0]) {
		r = name_check(request->name, "name", err);
		if (r < 0)
			return r;
	}
	r = labels_check(request->labels, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(request);
	return 0;
}

json_t *launch_request_encode(const struct launch_request *request)
{
	json_t *doc = json_object();

	json_put_string(doc, "name", request->name);
	member_put_map(doc, "labels", request->labels);
	instance_spec_put_user(doc, &request->spec);
	json_object_set_new(doc, "start", json_boolean(request->start));
	json_put_string(doc, "pull", pull_policy_names[request->pull]);
	if (request->insecure)
		json_object_set_new(doc, "insecure", json_true());
	json_put_string(doc, "platform", request->platform);
	return doc;
}

void launch_request_free(struct launch_request *request)
{
	if (!request)
		return;
	free(request->name);
	strv_free(request->labels);
	instance_spec_done(&request->spec);
	free(request->platform);
	free(request);
}

int action_request_decode(const json_t *doc, struct action_request *request, struct error *err)
{
	struct json_reader in = { .err = err };
	struct action_request decoded = { .timeout_s = -1 };
	AUTO(free) char *text = NULL;
	unsigned int action = 0;

	member_read_enum(&in, doc, "action", action_names, &action);
	json_read_string(&in, doc, "action", &text);
	json_read_int(&in, doc, "timeout_s", -1, TIMEOUT_MAX_S, &decoded.timeout_s);
	json_read_bool(&in, doc, "force", &decoded.force);
	if (json_reader_finish(&in, doc) < 0)
		return in.result;
	if (!text)
		return error_say(err, -EINVAL,
				 "action: is missing, use start, stop, restart, pause or resume");
	decoded.action = action;
	*request = decoded;
	return 0;
}

json_t *action_request_encode(const struct action_request *request)
{
	json_t *doc = json_object();

	json_put_string(doc, "action", action_names[request->action]);
	if (request->timeout_s >= 0)
		json_object_set_new(doc, "timeout_s", json_integer(request->timeout_s));
	if (request->force)
		json_object_set_new(doc, "force", json_true());
	return doc;
}

int rename_request_decode(const json_t *doc, char **ret_name, struct error *err)
{
	struct json_reader in = { .err = err };
	AUTO(free) char *name = NULL;
	int r;

	member_read_text(&in, doc, "name", TEXT_MAX_BYTES, &name);
	r = json_reader_finish(&in, doc);
	if (r == 0 && !name)
		r = error_say(err, -EINVAL, "name: is missing");
	if (r == 0)
		r = name_check(name, "name", err);
	if (r < 0)
		return r;
	*ret_name = TAKE_PTR(name);
	return 0;
}

int pull_request_decode(const json_t *doc, struct pull_request **ret, struct error *err)
{
	AUTO(pull_request_free) struct pull_request *request = mem_new0(struct pull_request);
	struct json_reader in = { .err = err };

	member_read_text(&in, doc, "reference", TEXT_MAX_BYTES, &request->reference);
	member_read_text(&in, doc, "platform", TEXT_MAX_BYTES, &request->platform);
	json_read_bool(&in, doc, "insecure", &request->insecure);
	member_read_text(&in, doc, "username", SECRET_MAX_BYTES, &request->username);
	member_read_text(&in, doc, "password", SECRET_MAX_BYTES, &request->password);
	if (json_reader_finish(&in, doc) < 0)
		return in.result;
	if (!request->reference || !request->reference[0])
		return error_say(err, -EINVAL, "reference: must name the image to pull");
	*ret = TAKE_PTR(request);
	return 0;
}

json_t *pull_request_encode(const struct pull_request *request)
{
	json_t *doc = json_object();

	json_put_string(doc, "reference", request->reference);
	json_put_string(doc, "platform", request->platform);
	if (request->insecure)
		json_object_set_new(doc, "insecure", json_true());
	json_put_string(doc, "username", request->username);
	json_put_string(doc, "password", request->password);
	return doc;
}

void pull_request_free(struct pull_request *request)
{
	if (!request)
		return;
	free(request->reference);
	free(request->platform);
	free(request->username);
	free(request->password);
	free(request);
}

bool commit_request_is(const json_t *doc)
{
	return json_object_get(doc, "instance") != NULL;
}

int commit_request_decode(const json_t *doc, struct commit_request **ret, struct error *err)
{
	AUTO(commit_request_free) struct commit_request *request = mem_new0(struct commit_request);
	struct json_reader in = { .err = err };

	request->pause = true;
	member_read_text(&in, doc, "instance", TEXT_MAX_BYTES, &request->instance);
	member_read_text(&in, doc, "name", TEXT_MAX_BYTES, &request->name);
	json_read_strv(&in, doc, "changes", &request->changes);
	member_read_text(&in, doc, "message", COMMIT_TEXT_MAX, &request->message);
	member_read_text(&in, doc, "author", COMMIT_TEXT_MAX, &request->author);
	json_read_bool(&in, doc, "pause", &request->pause);
	if (json_reader_finish(&in, doc) < 0)
		return in.result;
	if (!request->instance || !request->instance[0])
		return error_say(err, -EINVAL, "instance: must name the instance to commit");
	if (!request->name || !request->name[0])
		return error_say(err, -EINVAL, "name: must name the new image");
	*ret = TAKE_PTR(request);
	return 0;
}

json_t *commit_request_encode(const struct commit_request *request)
{
	json_t *doc = json_object();

	json_put_string(doc, "instance", request->instance);
	json_put_string(doc, "name", request->name);
	json_put_strv(doc, "changes", request->changes);
	json_put_string(doc, "message", request->message);
	json_put_string(doc, "author", request->author);
	json_object_set_new(doc, "pause", json_boolean(request->pause));
	return doc;
}

void commit_request_free(struct commit_request *request)
{
	if (!request)
		return;
	free(request->instance);
	free(request->name);
	strv_free(request->changes);
	free(request->message);
	free(request->author);
	free(request);
}

int project_request_decode(const json_t *doc, struct project_request *request, struct error *err)
{
	struct json_reader in = { .err = err };
	struct project_request decoded = { .allow_privileged = -1 };
	bool allow = false;

	member_read_text(&in, doc, "description", TEXT_MAX_BYTES, &decoded.description);
	json_read_bool(&in, doc, "allow_privileged", &allow);
	if (json_is_boolean(json_object_get(doc, "allow_privileged")))
		decoded.allow_privileged = allow;
	if (in.result == 0 && json_is_object(doc) && json_object_size(doc) == 0)
		member_fail(&in, "allow_privileged", "nothing is given to be set");
	if (json_reader_finish(&in, doc) < 0) {
		project_request_done(&decoded);
		return in.result;
	}
	*request = decoded;
	return 0;
}

json_t *project_request_encode(const struct project_request *request)
{
	json_t *doc = json_object();

	if (request->description)
		json_object_set_new(doc, "description", json_string(request->description));
	if (request->allow_privileged >= 0)
		json_object_set_new(doc, "allow_privileged",
				    json_boolean(request->allow_privileged));
	return doc;
}

void project_request_done(struct project_request *request)
{
	free(request->description);
	*request = (struct project_request){};
}

struct network_request *network_request_new(void)
{
	struct network_request *request = mem_new0(struct network_request);

	network_spec_init(&request->spec);
	return request;
}

int network_request_decode(const json_t *doc, struct network_request **ret, struct error *err)
{
	AUTO(network_request_free) struct network_request *request = network_request_new();
	struct json_reader in = { .err = err };
	int r;

	member_read_text(&in, doc, "name", TEXT_MAX_BYTES, &request->name);
	member_read_map(&in, doc, "labels", &request->labels);
	network_spec_read_user(&in, doc, &request->spec);
	r = json_reader_finish(&in, doc);
	if (r == 0)
		r = name_check(request->name, "name", err);
	if (r == 0)
		r = labels_check(request->labels, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(request);
	return 0;
}

json_t *network_request_encode(const struct network_request *request)
{
	json_t *doc = json_object();

	json_put_string(doc, "name", request->name);
	member_put_map(doc, "labels", request->labels);
	network_spec_put_user(doc, &request->spec);
	return doc;
}

void network_request_free(struct network_request *request)
{
	if (!request)
		return;
	free(request->name);
	strv_free(request->labels);
	network_spec_done(&request->spec);
	free(request);
}

int group_request_decode(const json_t *doc, struct group_request **ret, struct error *err)
{
	AUTO(group_request_free) struct group_request *request = mem_new0(struct group_request);
	struct json_reader in = { .err = err };
	int r;

	member_read_text(&in, doc, "name", TEXT_MAX_BYTES, &request->name);
	member_read_map(&in, doc, "labels", &request->labels);
	security_group_spec_read_user(&in, doc, &request->spec);
	r = json_reader_finish(&in, doc);
	if (r == 0)
		r = name_check(request->name, "name", err);
	if (r == 0)
		r = labels_check(request->labels, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(request);
	return 0;
}

json_t *group_request_encode(const struct group_request *request)
{
	json_t *doc = json_object();

	json_put_string(doc, "name", request->name);
	member_put_map(doc, "labels", request->labels);
	security_group_spec_put_user(doc, &request->spec);
	return doc;
}

void group_request_free(struct group_request *request)
{
	if (!request)
		return;
	free(request->name);
	strv_free(request->labels);
	security_group_spec_done(&request->spec);
	free(request);
}
