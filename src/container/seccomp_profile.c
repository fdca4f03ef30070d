#include "container/seccomp_profile.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "codec/oci_seccomp.h"

static int add_rule(struct seccomp_builder *builder, const struct oci_seccomp_rule *rule,
		    struct error *err)
{
	uint32_t data = rule->errno_ret.set ? (uint32_t) rule->errno_ret.value : EPERM;
	AUTO(free)
	struct seccomp_arg *args = mem_new0_array(struct seccomp_arg, rule->arg_count + 1);

	for (size_t i = 0; i < rule->arg_count; i++)
		args[i] = (struct seccomp_arg){ rule->args[i].index, rule->args[i].op,
						rule->args[i].value, rule->args[i].value_two };
	for (oci_strings name = rule->names; *name; name++) {
		int r;

		/* It is how the listener is told. */
		if (strcmp(rule->action, "SCMP_ACT_NOTIFY") == 0 && strcmp(*name, "sendmsg") == 0)
			return error_say(
				err, -EINVAL,
				"SCMP_ACT_NOTIFY cannot be for sendmsg: the listener could "
				"not be reached any more");
		r = seccomp_builder_add_rule(builder, *name, rule->action, data, args,
					     rule->arg_count, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int build(const struct oci_seccomp *seccomp, struct seccomp_filter **ret, struct error *err)
{
	AUTO(seccomp_builder_free) struct seccomp_builder *builder = NULL;
	uint32_t data = seccomp->default_errno_ret.set ? (uint32_t) seccomp->default_errno_ret.value
						       : EPERM;
	int r = seccomp_builder_new(seccomp->default_action, data, &builder, err);

	if (r < 0)
		return error_wrap(err, r, "linux.seccomp.defaultAction");
	for (oci_strings arch = seccomp->architectures; arch && *arch; arch++) {
		r = seccomp_builder_add_arch(builder, *arch, err);
		if (r < 0)
			return error_wrap(err, r, "linux.seccomp.architectures");
	}
	for (size_t i = 0; i < seccomp->rule_count; i++) {
		r = add_rule(builder, &seccomp->rules[i], err);
		if (r < 0)
			return error_wrap(err, r, "linux.seccomp.syscalls[%zu]", i);
	}
	r = seccomp_builder_build(builder, seccomp->flags, ret, err);
	return r < 0 ? error_wrap(err, r, "linux.seccomp") : 0;
}

/* Keeping is only for speed: what fails there is not worth an error. */
static void keep(const char *dir, const char *key, const struct seccomp_filter *filter)
{
	if (seccomp_cache_put(dir, key, filter) == -ENOENT && file_mkdir_all(dir, 0700) == 0)
		(void) seccomp_cache_put(dir, key, filter);
}

static int get_listener(const struct oci_seccomp *seccomp, struct seccomp_profile *profile,
			struct error *err)
{
	if (!profile->filter->notify)
		return 0;
	if (!seccomp->listener_path || seccomp->listener_path[0] != '/')
		return error_say(err, -EINVAL,
				 "linux.seccomp.listenerPath: must be an absolute path when a rule "
				 "has the action SCMP_ACT_NOTIFY");
	profile->listener_path = mem_strdup(seccomp->listener_path);
	profile->listener_metadata = mem_strdup(seccomp->listener_metadata);
	return 0;
}

int seccomp_profile_get(const char *root, const struct oci_spec *spec, struct seccomp_profile *ret,
			struct error *err)
{
	AUTO(free) char *dir = mem_printf("%s/.seccomp", root);
	AUTO(free) char *dumped = spec->linux_.seccomp ? json_text(spec->linux_.seccomp) : NULL;
	const char *text = dumped ? dumped : spec->linux_.seccomp_text;
	size_t size = dumped ? strlen(dumped) : spec->linux_.seccomp_size;
	AUTO(oci_seccomp_free) struct oci_seccomp *seccomp = NULL;
	AUTO(seccomp_filter_free) struct seccomp_filter *filter = NULL;
	struct seccomp_profile profile = {};
	char key[SECCOMP_KEY_SIZE];
	bool kept;
	int r;

	*ret = profile;
	if (!text)
		return 0;
	seccomp_cache_key(text, size, key);
	kept = seccomp_cache_get(dir, key, &filter) == 0;
	if (!kept || filter->notify) {
		r = oci_seccomp_decode(text, size, &seccomp, err);
		if (r < 0)
			return r;
	}
	if (!kept) {
		r = build(seccomp, &filter, err);
		if (r < 0)
			return r;
		keep(dir, key, filter);
	}
	profile.filter = filter;
	r = seccomp ? get_listener(seccomp, &profile, err) : 0;
	if (r < 0)
		return r;
	(void) TAKE_PTR(filter);
	*ret = profile;
	return 0;
}

void seccomp_profile_done(struct seccomp_profile *profile)
{
	seccomp_filter_free(profile->filter);
	free(profile->listener_path);
	free(profile->listener_metadata);
	*profile = (struct seccomp_profile){};
}
