#include "agent/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/bundle_internal.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

/* Strings of people and images; -EINVAL names what is not UTF-8 and so cannot be said in JSON. */
int bundle_texts(char *const *list, const char *what, json_t **ret, struct error *err)
{
	AUTO(json_decref) json_t *array = json_array();

	for (size_t i = 0; list && list[i]; i++)
		if (json_array_append_new(array, json_string(list[i])) < 0)
			return error_say(err, -EINVAL, "%s: entry %zu is not valid UTF-8", what,
					 i + 1);
	*ret = TAKE_PTR(array);
	return 0;
}

const char *bundle_host_name(const struct bundle *bundle)
{
	const char *hostname = bundle->spec->hostname;

	return hostname && hostname[0] ? hostname : bundle->name;
}

int bundle_config(const struct bundle *bundle, uint32_t *ret_owner, json_t **ret, struct error *err)
{
	AUTO(json_decref) json_t *linux_part = NULL;
	int r = bundle_linux(bundle, &linux_part, err);

	if (r < 0)
		return r;
	AUTO(json_decref)
	json_t *config = json_pack(
		"{s:s, s:{s:s, s:b}, s:s, s:o, s:O}", "ociVersion", "1.0.2", "root", "path",
		"rootfs", "readonly", bundle->spec->run.read_only, "hostname",
		bundle_host_name(bundle), "mounts", bundle_mounts(bundle), "linux", linux_part);

	if (!config)
		return error_say(err, -EINVAL, "hostname: is not valid UTF-8");
	r = bundle_add_process(bundle, bundle_host_name(bundle), ret_owner, config, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(config);
	return 0;
}

int bundle_write(const struct bundle *bundle, uint32_t *ret_owner, struct error *err)
{
	AUTO(json_decref) json_t *config = NULL;
	AUTO(fd_close) int dir_fd = open(bundle->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (dir_fd < 0)
		return error_set(err, -errno, "open %s", bundle->dir);
	r = bundle_config(bundle, ret_owner, &config, err);
	if (r < 0)
		return r;
	r = bundle_write_names(bundle, dir_fd);
	if (r < 0)
		return error_set(err, r, "write the names' files in %s", bundle->dir);
	AUTO(free) char *text = json_text(config);
	r = file_write_atomic(dir_fd, "config.json", text, strlen(text), 0600, 0);
	if (r < 0)
		return error_set(err, r, "write %s/config.json", bundle->dir);
	return 0;
}
