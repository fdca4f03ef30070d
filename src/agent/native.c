#include "agent/native.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"
#include "machine/machine.h"

enum { BINFMT_MAX = 4096 };

struct architecture {
	const char *name;
	const char *qemu; /* the name of its interpreter, without "qemu-" */
	const char *on;   /* runs there as well */
};

static const struct architecture architectures[] = {
	{ "386", "i386", "amd64" },         { "amd64", "x86_64", NULL },
	{ "arm", "arm", "arm64" },          { "arm64", "aarch64", NULL },
	{ "loong64", "loongarch64", NULL }, { "mips64le", "mips64el", NULL },
	{ "ppc64le", "ppc64le", NULL },     { "riscv64", "riscv64", NULL },
	{ "s390x", "s390x", NULL },
};

static bool line_has(const char *text, const char *start, const char *needle)
{
	const char *line = strstr(text, start);
	size_t size = line ? strcspn(line, "\n") : 0;

	return line && (line == text || line[-1] == '\n') &&
	       memmem(line, size, needle, strlen(needle));
}

/* Without the flag F the interpreter would have to be in the image itself. */
static bool has_interpreter(const struct architecture *it, const char *binfmt)
{
	AUTO(free) char *path = mem_printf("%s/qemu-%s", binfmt, it->qemu);
	AUTO(free) char *text = NULL;

	return file_read(AT_FDCWD, path, BINFMT_MAX, &text, NULL) == 0 &&
	       strncmp(text, "enabled\n", 8) == 0 && line_has(text, "flags:", "F");
}

int native_check(const char *architecture, const char *host, const char *binfmt, struct error *err)
{
	const struct architecture *it = NULL;

	if (!architecture || strcmp(architecture, host) == 0)
		return 0;
	for (size_t i = 0; i < ARRAY_COUNT(architectures); i++)
		if (strcmp(architectures[i].name, architecture) == 0)
			it = &architectures[i];
	if (!it || (it->on && strcmp(it->on, host) == 0) || has_interpreter(it, binfmt))
		return 0;
	if (machine_firmware_name(architecture))
		return error_say(
			err, -ENOEXEC,
			"the image is for %s and this node for %s: --vm --emulate runs it, "
			"many times slower",
			architecture, host);
	return error_say(err, -ENOEXEC,
			 "the image is for %s and this node for %s, which cannot run it",
			 architecture, host);
}
