#include "image/pull.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strv.h"
#include "codec/image_ref.h"
#include "codec/oci_platform.h"
#include "image/job_internal.h"

static json_t *make_request(const struct image_pull *pull, const struct image_ref *reference,
			    const char *name, const char *platform, char *const *known)
{
	json_t *request = json_object();

	json_put_string(request, "name", name);
	json_put_string(request, "platform", platform);
	json_put_string(request, "host", reference->host);
	json_put_string(request, "path", reference->path);
	json_put_string(request, "tag", reference->tag);
	json_put_string(request, "digest", reference->digest);
	json_object_set_new(request, "insecure", json_boolean(pull->insecure));
	json_put_string(request, "username", pull->username);
	json_put_string(request, "password", pull->password);
	json_put_strv(request, "known", known);
	job_put_limits(request, &pull->limits);
	return request;
}

static int run(struct job *job, const struct image_pull *pull, const struct image_ref *reference,
	       const char *platform, struct error *err)
{
	AUTO(free) char *name = image_ref_text(reference);
	AUTO(strv_free) char **known = NULL;
	int r = store_claim_begin(job->store, &job->claim);

	if (r < 0)
		return error_set(err, r, "image store");
	r = store_claim_known(job->store, &job->claim, name, platform, &known);
	if (r < 0)
		return error_set(err, r, "image store");
	r = job_run(job, make_request(pull, reference, name, platform, known), err);
	if (r == 0 && job->unchanged.kind != DIGEST_NONE)
		r = store_find_known(job->store, name, platform, &job->unchanged, &job->info, err);
	if (r == 0)
		r = store_put_record(job->store, pull->uid, &job->info, err);
	return r;
}

int image_pull(struct image_store *store, const struct image_pull *pull, image_progress_fn progress,
	       void *progress_data, struct image_info *ret, struct error *err)
{
	AUTO(image_ref_done) struct image_ref reference = {};
	AUTO(free)
	char *platform = pull->platform && pull->platform[0] ? mem_strdup(pull->platform)
							     : job_native_platform();
	AUTO(job_done)
	struct job job = {
		.store = store,
		.action = "pull",
		.input_fd = -1,
		.cancel_fd = pull->cancel_fd,
		.progress = progress,
		.progress_data = progress_data,
		.dir_fd = -1,
		.work_fd = -1,
		.blobs_fd = -1,
		.wire = { .fd = -1 },
	};
	int r = image_ref_parse(pull->reference, pull->default_registry, &reference, err);

	if (r == 0)
		r = oci_platform_check(platform, err);
	if (r < 0)
		return r;
	r = run(&job, pull, &reference, platform, err);
	if (r < 0)
		return error_wrap(err, r, "pull %s", pull->reference);
	if (ret) {
		*ret = job.info;
		job.info = (struct image_info){};
	}
	return 0;
}
