/* config.json: whatever is accepted can be walked without leaving it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "codec/oci_seccomp.h"
#include "codec/oci_spec.h"
#include "codec/oci_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t walk(oci_strings list)
{
	size_t sum = 0;

	for (; list && *list; list++)
		sum += strlen(*list);
	return sum;
}

static size_t walk_process(const struct oci_process *process)
{
	size_t sum = walk(process->args) + walk(process->env) + strlen(process->cwd);

	for (size_t i = 0; i < OCI_CAPS_COUNT; i++)
		sum += walk(process->capabilities[i]);
	for (size_t i = 0; i < process->rlimit_count; i++)
		sum += strlen(process->rlimits[i].type);
	return sum;
}

static size_t walk_seccomp(const char *text, size_t size)
{
	AUTO(oci_seccomp_free) struct oci_seccomp *seccomp = NULL;
	size_t sum = 0;

	if (!text || oci_seccomp_decode(text, size, &seccomp, NULL) < 0)
		return 0;
	for (size_t i = 0; i < seccomp->rule_count; i++)
		sum += walk(seccomp->rules[i].names) + seccomp->rules[i].arg_count;
	return sum + walk(seccomp->architectures);
}

static size_t walk_spec(const struct oci_spec *spec)
{
	size_t sum = spec->process ? walk_process(spec->process) : 0;

	for (size_t i = 0; i < spec->mount_count; i++)
		sum += strlen(spec->mounts[i].destination) + walk(spec->mounts[i].options);
	for (size_t kind = 0; kind < OCI_HOOK_COUNT; kind++)
		for (size_t i = 0; i < spec->hooks[kind].count; i++)
			sum += strlen(spec->hooks[kind].list[i].path);
	for (size_t i = 0; i < spec->linux_.sysctl_count; i++)
		sum += strlen(spec->linux_.sysctl[i].value);
	for (size_t i = 0; i < spec->linux_.resources.device_count; i++)
		sum += strlen(spec->linux_.resources.devices[i].access);
	return sum + walk_seccomp(spec->linux_.seccomp_text, spec->linux_.seccomp_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(oci_spec_free) struct oci_spec *spec = NULL;
	AUTO(oci_spec_free) struct oci_spec *process = NULL;
	AUTO(oci_state_free) struct oci_state *state = NULL;
	struct error err = {};
	size_t sum = 0;

	if (oci_spec_decode((const char *) data, size, &spec, &err) == 0)
		sum += walk_spec(spec);
	else if (!err.msg[0])
		abort();
	if (oci_spec_decode_process((const char *) data, size, &process, &err) == 0)
		sum += walk_process(process->process);
	sum += walk_seccomp((const char *) data, size);
	(void) oci_state_decode((const char *) data, size, &state, &err);
	return sum == SIZE_MAX;
}
