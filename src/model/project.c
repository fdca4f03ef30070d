#include "model/project.h"

#include "base/json.h"
#include "base/mem.h"
#include "model/member.h"

enum { DESCRIPTION_MAX_BYTES = 1024 };

int project_decode(const json_t *doc, struct project **ret, struct error *err)
{
	AUTO(project_free) struct project *project = mem_new0(struct project);
	struct json_reader in = { .err = err, .where = "spec" };
	json_t *spec, *status;
	int r;

	r = meta_decode_resource(doc, KIND_PROJECT, &project->meta, &spec, &status, err);
	if (r == 0)
		r = name_check(project->meta.name, "meta.name", err);
	if (r == 0 && spec) {
		member_read_text(&in, spec, "description", DESCRIPTION_MAX_BYTES,
				 &project->description);
		json_read_bool(&in, spec, "allow_privileged", &project->allow_privileged);
		r = json_reader_finish(&in, spec);
	}
	if (r < 0)
		return r;
	*ret = TAKE_PTR(project);
	return 0;
}

json_t *project_encode(const struct project *project)
{
	json_t *spec = json_object();

	json_put_string(spec, "description", project->description);
	if (project->allow_privileged)
		json_object_set_new(spec, "allow_privileged", json_true());
	return meta_encode_resource(KIND_PROJECT, &project->meta, spec, NULL);
}

void project_free(struct project *project)
{
	if (!project)
		return;
	meta_done(&project->meta);
	free(project->description);
	free(project);
}
