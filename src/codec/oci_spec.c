#include "codec/oci_spec.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "codec/oci_cut.h"
#include "codec/oci_spec_internal.h"

static const char *const hook_names[OCI_HOOK_COUNT] = {
	"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
};

const char *oci_hook_name(enum oci_hook_kind kind)
{
	return hook_names[kind];
}

static int decode_root(struct oci_spec *spec, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "root" };

	oci_read_text(&in, object, "path", &spec->root_path);
	json_read_bool(&in, object, "readonly", &spec->root_readonly);
	if (in.result == 0 && (!spec->root_path || !spec->root_path[0]))
		oci_fail(&in, "path", "is missing; the folder of the root file system");
	spec->has_root = true;
	return in.result;
}

static void decode_mount(struct oci_spec *spec, struct json_reader *in, const json_t *object,
			 void *ret)
{
	struct oci_mount *mount = ret;

	oci_read_text(in, object, "destination", &mount->destination);
	oci_read_text(in, object, "type", &mount->type);
	oci_read_text(in, object, "source", &mount->source);
	oci_read_texts(spec, in, object, "options", &mount->options);
	oci_decode_id_maps(spec, in, object, "uidMappings", &mount->uid_maps);
	oci_decode_id_maps(spec, in, object, "gidMappings", &mount->gid_maps);
	if (in->result == 0 && (!mount->destination || !mount->destination[0]))
		oci_fail(in, "destination", "is missing; the place inside the container");
	if (in->result == 0 && !mount->uid_maps.count != !mount->gid_maps.count)
		oci_fail(in, "uidMappings", "needs gidMappings too, and the other way round");
}

static void decode_hook(struct oci_spec *spec, struct json_reader *in, const json_t *object,
			void *ret)
{
	struct oci_hook *hook = ret;

	oci_read_text(in, object, "path", &hook->path);
	oci_read_texts(spec, in, object, "args", &hook->args);
	oci_read_texts(spec, in, object, "env", &hook->env);
	json_read_int(in, object, "timeout", 1, 86400, &hook->timeout_s);
	if (in->result == 0 && (!hook->path || hook->path[0] != '/'))
		oci_fail(in, "path", "must be an absolute path");
}

static int decode_hooks(struct oci_spec *spec, const json_t *object, struct error *err)
{
	struct json_reader in = { .err = err, .where = "hooks" };

	for (size_t kind = 0; kind < OCI_HOOK_COUNT; kind++) {
		struct oci_hooks *hooks = &spec->hooks[kind];

		hooks->list = oci_read_list(spec, &in, object, hook_names[kind],
					    sizeof(*hooks->list), decode_hook, &hooks->count);
	}
	return in.result;
}

/* The specification is versioned by SemVer: everything of major version 1 is for us. */
static int check_version(struct json_reader *in, const char *version)
{
	static const char digits[] = "0123456789";
	const char *at = version;

	if (!version)
		return oci_fail(in, "ociVersion", "is missing; like \"1.0.2\"");
	for (int part = 0; part < 3; part++) {
		size_t size = strspn(at, digits);

		at += size;
		if (size == 0 || (part < 2 && *at++ != '.') ||
		    (part == 2 && *at && *at != '-' && *at != '+'))
			return oci_fail(in, "ociVersion",
					"\"%.32s\" is not a version like \"1.0.2\"", version);
	}
	if (strncmp(version, "1.", 2) != 0)
		return oci_fail(in, "ociVersion", "%.32s is not supported, 1.x is", version);
	return 0;
}

static int decode_annotations(struct oci_spec *spec, struct json_reader *in, const json_t *document)
{
	json_t *object = NULL, *value;
	const char *key;

	json_read_object(in, document, "annotations", &object);
	if (in->result < 0 || !object)
		return in->result;
	json_object_foreach(object, key, value)
	{
		if (!json_is_string(value))
			return oci_fail(in, "annotations", "%.64s: must be a string", key);
		if (!key[0])
			return oci_fail(in, "annotations", "a key must not be empty");
	}
	spec->annotations = object;
	return 0;
}

static int decode_document(struct oci_spec *spec, struct error *err)
{
	struct json_reader in = { .err = err, .where = "" };
	json_t *root = NULL, *process = NULL, *hooks = NULL, *linux_ = NULL;
	const json_t *document = spec->document;
	int r = 0;

	oci_read_text(&in, document, "ociVersion", &spec->version);
	json_read_object(&in, document, "root", &root);
	json_read_object(&in, document, "process", &process);
	spec->mounts = oci_read_list(spec, &in, document, "mounts", sizeof(*spec->mounts),
				     decode_mount, &spec->mount_count);
	json_read_object(&in, document, "hooks", &hooks);
	json_read_object(&in, document, "linux", &linux_);
	oci_read_text(&in, document, "hostname", &spec->hostname);
	oci_read_text(&in, document, "domainname", &spec->domainname);
	oci_refuse(&in, document, "vm", "virtual machines are not run by this runtime");
	if (in.result < 0)
		return in.result;
	r = check_version(&in, spec->version);
	if (r == 0)
		r = decode_annotations(spec, &in, document);
	if (r == 0 && root)
		r = decode_root(spec, root, err);
	if (r == 0 && process)
		r = oci_decode_process(spec, process, "process", err);
	if (r == 0 && hooks)
		r = decode_hooks(spec, hooks, err);
	if (r == 0 && linux_)
		r = oci_decode_linux(spec, linux_, err);
	return r;
}

int oci_spec_decode(const char *text, size_t size, struct oci_spec **ret, struct error *err)
{
	AUTO(oci_spec_free) struct oci_spec *spec = mem_new0(struct oci_spec);
	AUTO(free) char *work = NULL;
	size_t start, length;
	int r;

	if (size > OCI_CONFIG_MAX)
		return error_say(err, -EFBIG, "%zu bytes, at most %d are allowed", size,
				 OCI_CONFIG_MAX);
	/* The profile is nearly all of a usual file; leave it out of the parsing. */
	if (oci_cut_seccomp(text, size, &start, &length)) {
		work = mem_zalloc(size);
		memcpy(work, text, size);
		memset(work + start, ' ', length);
		memcpy(work + start, "{}", 2);
		/* Not as a string: a NUL in it would make it shorter than it is said to be. */
		spec->text = mem_zalloc(length + 1);
		memcpy(spec->text, text + start, length);
		spec->linux_.seccomp_text = spec->text;
		spec->linux_.seccomp_size = length;
	}
	r = oci_parse(work ? work : text, size, &spec->document, err);
	if (r < 0)
		return r;
	r = decode_document(spec, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(spec);
	return 0;
}

int oci_spec_decode_process(const char *text, size_t size, struct oci_spec **ret, struct error *err)
{
	AUTO(oci_spec_free) struct oci_spec *spec = mem_new0(struct oci_spec);
	int r = oci_parse(text, size, &spec->document, err);

	if (r == 0)
		r = oci_decode_process(spec, spec->document, "process", err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(spec);
	return 0;
}

void oci_spec_free(struct oci_spec *spec)
{
	if (!spec)
		return;
	for (size_t i = 0; i < spec->allocation_count; i++)
		free(spec->allocations[i]);
	free(spec->allocations);
	json_decref(spec->document);
	free(spec->text);
	free(spec);
}
