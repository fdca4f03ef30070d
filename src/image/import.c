#include "image/import.h"

#include <errno.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/oci_platform.h"
#include "image/job_internal.h"

static int run(struct job *job, const struct image_import *import, const char *platform,
	       struct error *err)
{
	json_t *request = json_object();
	int r = store_claim_begin(job->store, &job->claim);

	if (r < 0) {
		json_decref(request);
		return error_set(err, r, "image store");
	}
	json_put_string(request, "name", import->name);
	json_put_string(request, "platform", platform);
	json_put_string(request, "format", import->format);
	job_put_limits(request, &import->limits);
	r = job_run(job, request, err);
	return r < 0 ? r : store_put_record(job->store, import->uid, &job->info, err);
}

int image_import(struct image_store *store, const struct image_import *import,
		 image_progress_fn progress, void *progress_data, struct image_info *ret,
		 struct error *err)
{
	AUTO(free)
	char *platform = import->platform && import->platform[0] ? mem_strdup(import->platform)
								 : job_native_platform();
	AUTO(job_done)
	struct job job = {
		.store = store,
		.action = "import",
		.input_fd = import->input_fd,
		.cancel_fd = import->cancel_fd,
		.progress = progress,
		.progress_data = progress_data,
		.dir_fd = -1,
		.work_fd = -1,
		.blobs_fd = -1,
		.wire = { .fd = -1 },
	};
	int r = oci_platform_check(platform, err);

	if (r == 0)
		r = run(&job, import, platform, err);
	if (r < 0)
		return error_wrap(err, r, "import %s", import->name);
	if (ret) {
		*ret = job.info;
		job.info = (struct image_info){};
	}
	return 0;
}
