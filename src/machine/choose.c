/*
 * Which back end runs a machine here, and what it has to see.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "machine/command_internal.h"
#include "machine/probe.h"

#if defined(__x86_64__)
#define HOST_ARCHITECTURE "amd64"
#elif defined(__aarch64__)
#define HOST_ARCHITECTURE "arm64"
#else
#define HOST_ARCHITECTURE "none"
#endif

const char *machine_host_architecture(void)
{
	return HOST_ARCHITECTURE;
}

static bool have_vmm(void)
{
	AUTO(free) char *program = NULL;

	return command_own_program("brume-vmm", &program, NULL) == 0 && access(program, X_OK) == 0;
}

static int check_qemu(const char *architecture, struct error *err)
{
	const char *program = command_qemu_program(architecture);

	if (!program)
		return error_say(err, -EINVAL, "%s: no such machine; there are amd64 and arm64",
				 architecture);
	if (access(program, X_OK) < 0)
		return error_say(err, -ENOENT, "%s is not installed (package %s)", program,
				 strcmp(architecture, "amd64") == 0 ? "qemu-system-x86"
								    : "qemu-system-arm");
	return 0;
}

int machine_preference_parse(const char *name, enum machine_preference *ret)
{
	static const char *const names[] = { [MACHINE_ANY] = "auto",
					     [MACHINE_PREFER_BRUME_VMM] = "brume-vmm",
					     [MACHINE_PREFER_QEMU] = "qemu" };

	for (unsigned int i = 0; i < ARRAY_COUNT(names); i++)
		if (strcmp(name, names[i]) == 0) {
			*ret = (enum machine_preference) i;
			return 0;
		}
	return -EINVAL;
}

/* The back end for the host's own architecture: by what was measured, or by what is set. */
static int choose_own(enum machine_preference preference, struct machine_choice *choice,
		      struct error *err)
{
	struct probe_verdict verdict;
	struct probe_facts facts;

	probe_host(&facts, &verdict);
	const char *missing = !verdict.usable ? verdict.why
			      : !have_vmm()   ? "brume-vmm is not installed"
					      : NULL;
	if (preference == MACHINE_PREFER_BRUME_VMM && missing)
		return error_say(err, -EOPNOTSUPP,
				 "the node is set to brume-vmm (--vm-backend), but %s", missing);
	choice->kvm = verdict.usable;
	choice->no_xsave = facts.xsetbv_lost;
	choice->backend =
		missing || preference == MACHINE_PREFER_QEMU ? MACHINE_QEMU : MACHINE_BRUME_VMM;
	if (preference == MACHINE_PREFER_QEMU)
		snprintf(choice->why, sizeof(choice->why), "set by --vm-backend; %.135s",
			 verdict.why);
	else
		snprintf(choice->why, sizeof(choice->why), "%s", missing ? missing : verdict.why);
	return 0;
}

int machine_choose(const char *architecture, bool emulate, enum machine_preference preference,
		   struct machine_choice *ret, struct error *err)
{
	struct machine_choice choice = { .backend = MACHINE_QEMU };
	int r = 0;

	if (!command_qemu_program(architecture))
		return error_say(err, -EINVAL, "%s: no such machine; there are amd64 and arm64",
				 architecture);
	if (strcmp(architecture, HOST_ARCHITECTURE) != 0) {
		if (!emulate)
			return error_say(err, -ENOEXEC, "%s does not run on this node (%s)",
					 architecture, HOST_ARCHITECTURE);
		snprintf(choice.why, sizeof(choice.why), "%.16s is emulated on %s", architecture,
			 HOST_ARCHITECTURE);
	} else {
		r = choose_own(preference, &choice, err);
	}
	if (r == 0 && choice.backend == MACHINE_QEMU)
		r = check_qemu(architecture, err);
	if (r == 0)
		*ret = choice;
	return r;
}

int machine_choose_firmware(const char *architecture, bool emulate, struct machine_choice *ret,
			    struct error *err)
{
	struct machine_choice choice = {};
	int r = machine_choose(architecture, emulate, MACHINE_ANY, &choice, err);

	if (r == 0 && choice.backend != MACHINE_QEMU)
		r = check_qemu(architecture, err);
	if (r < 0)
		return r;
	if (strcmp(architecture, HOST_ARCHITECTURE) == 0) {
		struct probe_verdict verdict;
		struct probe_facts facts;

		probe_host(&facts, &verdict);
		choice.kvm = verdict.usable;
		if (choice.kvm)
			snprintf(choice.why, sizeof(choice.why),
				 "it has firmware, which brume-vmm has not");
	}
	choice.backend = MACHINE_QEMU;
	*ret = choice;
	return 0;
}

void machine_host(enum machine_preference preference, struct machine_host *ret)
{
	struct machine_choice choice = {};
	struct probe_verdict verdict;
	struct probe_facts facts;
	struct error err = {};
	int r = machine_choose(HOST_ARCHITECTURE, false, preference, &choice, &err);

	probe_host(&facts, &verdict);
	*ret = (struct machine_host){ .usable = verdict.usable,
				      .nested_paging = facts.nested_paging,
				      .apicv = facts.apicv,
				      .iommu = facts.iommu_groups > 0,
				      .ring0_mips = facts.ring0_mips,
				      .ring3_mips = facts.ring3_mips,
				      .backend =
					      r < 0 ? "" : machine_backend_name(choice.backend) };
	if (r == -EOPNOTSUPP)
		snprintf(ret->why, sizeof(ret->why), "%.159s", err.msg);
	else if (r < 0)
		snprintf(ret->why, sizeof(ret->why), "%.78s; %.78s", verdict.why, err.msg);
	else
		snprintf(ret->why, sizeof(ret->why), "%s", choice.why);
}

int machine_paths(enum machine_backend backend, const char *architecture, char ***ret,
		  struct error *err)
{
	/* What dynamic programs need; QEMU's firmware is below /usr/share. */
	static const char *const folders[] = { "/usr", "/lib", "/lib64" };
	AUTO(strv_free) char **paths = NULL;
	AUTO(free) char *program = NULL;
	int r = command_own_program(backend == MACHINE_QEMU ? "brume-qemu" : "brume-vmm", &program,
				    err);

	if (r == 0 && backend == MACHINE_QEMU)
		r = check_qemu(architecture, err);
	if (r < 0)
		return r;
	if (access(program, X_OK) < 0)
		return error_set(err, -errno, "%s", program);
	for (size_t i = 0; i < ARRAY_COUNT(folders); i++)
		if (backend == MACHINE_QEMU && access(folders[i], F_OK) == 0)
			strv_append(&paths, folders[i]);
	if (backend != MACHINE_QEMU || strncmp(program, "/usr/", 5) != 0)
		strv_append_take(&paths, TAKE_PTR(program));
	*ret = TAKE_PTR(paths);
	return 0;
}
