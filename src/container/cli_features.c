#include <stdio.h>

#include "base/capname.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/oci_spec.h"
#include "container/cli_internal.h"
#include "container/mount_options.h"

/* features.md of the specification: what this runtime can do, whatever the host can. */

static json_t *strings(const char *const *list, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_string(list[i]));
	return array;
}

static json_t *linux_features(void)
{
	static const char *const actions[] = { "SCMP_ACT_ALLOW",       "SCMP_ACT_ERRNO",
					       "SCMP_ACT_KILL",        "SCMP_ACT_KILL_PROCESS",
					       "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG",
					       "SCMP_ACT_NOTIFY",      "SCMP_ACT_TRACE",
					       "SCMP_ACT_TRAP" };
	static const char *const operators[] = { "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
						 "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
						 "SCMP_CMP_NE" };
	static const char *const flags[] = { "SECCOMP_FILTER_FLAG_LOG",
					     "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
					     "SECCOMP_FILTER_FLAG_TSYNC",
					     "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" };
	static const char *const archs[] = {
		"SCMP_ARCH_AARCH64",  "SCMP_ARCH_ARM",         "SCMP_ARCH_MIPS",
		"SCMP_ARCH_MIPS64",   "SCMP_ARCH_MIPS64N32",   "SCMP_ARCH_MIPSEL",
		"SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PARISC",
		"SCMP_ARCH_PARISC64", "SCMP_ARCH_PPC",         "SCMP_ARCH_PPC64",
		"SCMP_ARCH_PPC64LE",  "SCMP_ARCH_RISCV64",     "SCMP_ARCH_S390",
		"SCMP_ARCH_S390X",    "SCMP_ARCH_X32",         "SCMP_ARCH_X86",
		"SCMP_ARCH_X86_64",
	};
	static const char *const modes[] = {
		"MPOL_DEFAULT",
		"MPOL_PREFERRED",
		"MPOL_BIND",
		"MPOL_INTERLEAVE",
		"MPOL_LOCAL",
		"MPOL_PREFERRED_MANY",
		"MPOL_WEIGHTED_INTERLEAVE",
	};
	static const char *const mode_flags[] = { "MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES",
						  "MPOL_F_NUMA_BALANCING" };
	json_t *object = json_object(), *namespaces = json_array(), *caps = json_array();

	for (size_t i = 0; i < OCI_NS_COUNT; i++)
		json_array_append_new(namespaces, json_string(oci_ns_name((enum oci_ns) i)));
	for (unsigned int i = 0; i < CAPNAME_COUNT; i++)
		json_array_append_new(caps, json_string(capname(i)));
	json_object_set_new(object, "namespaces", namespaces);
	json_object_set_new(object, "capabilities", caps);
	json_object_set_new(object, "cgroup",
			    json_pack("{s:b,s:b,s:b,s:b,s:b}", "v1", 1, "v2", 1, "systemd", 1,
				      "systemdUser", 1, "rdma", 1));
	json_object_set_new(object, "seccomp",
			    json_pack("{s:b,s:o,s:o,s:o,s:o,s:o}", "enabled", 1, "actions",
				      strings(actions, ARRAY_COUNT(actions)), "operators",
				      strings(operators, ARRAY_COUNT(operators)), "archs",
				      strings(archs, ARRAY_COUNT(archs)), "supportedFlags",
				      strings(flags, ARRAY_COUNT(flags)), "knownFlags",
				      strings(flags, ARRAY_COUNT(flags))));
	json_object_set_new(object, "apparmor", json_pack("{s:b}", "enabled", 1));
	json_object_set_new(object, "selinux", json_pack("{s:b}", "enabled", 1));
	json_object_set_new(
		object, "intelRdt",
		json_pack("{s:b,s:b,s:b}", "enabled", 1, "schemata", 1, "monitoring", 0));
	json_object_set_new(object, "netDevices", json_pack("{s:b}", "enabled", 1));
	json_object_set_new(object, "memoryPolicy",
			    json_pack("{s:o,s:o}", "modes", strings(modes, ARRAY_COUNT(modes)),
				      "flags", strings(mode_flags, ARRAY_COUNT(mode_flags))));
	json_object_set_new(object, "mountExtensions",
			    json_pack("{s:{s:b}}", "idmap", "enabled", 1));
	return object;
}

static int features(const struct runtime_options *options, int argc, char **argv)
{
	static const struct option none[] = { {} };
	AUTO(json_decref) json_t *object = json_object();
	json_t *hooks = json_array(), *mounts = json_array();
	AUTO(free) char *text = NULL;
	const char *name;

	if (cli_option(options, argc, argv, "+", none) != -1)
		return CLI_USAGE;
	if (optind != argc)
		return cli_usage(options, "features: takes no words");
	for (size_t i = 0; i < OCI_HOOK_COUNT; i++)
		json_array_append_new(hooks, json_string(oci_hook_name((enum oci_hook_kind) i)));
	for (unsigned int i = 0; (name = mount_options_name(i)); i++)
		json_array_append_new(mounts, json_string(name));
	json_object_set_new(object, "ociVersionMin", json_string("1.0.0"));
	json_object_set_new(object, "ociVersionMax", json_string(OCI_SPEC_VERSION));
	json_object_set_new(object, "hooks", hooks);
	json_object_set_new(object, "mountOptions", mounts);
	json_object_set_new(object, "linux", linux_features());
	/* No annotation changes what is done. */
	json_object_set_new(object, "potentiallyUnsafeConfigAnnotations", json_array());
	json_object_set_new(object, "annotations",
			    json_pack("{s:s,s:s}", "dev.brume.oci.version", BRUME_VERSION,
				      "dev.brume.oci.checkpoint.enabled", "true"));
	text = json_dumps(object, JSON_INDENT(2));
	puts(text ? text : "");
	return CLI_OK;
}

const struct cli_verb cli_features = {
	.name = "features",
	.usage = "",
	.help = "print what this runtime can do, as JSON",
	.examples = "brume-oci features",
	.run = features,
};
