#include "model/capability.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/strbuf.h"

enum { PREFIX_SIZE = 4, NEAR_MAX = 3, DIFFERENT_MAX = 2 };

static const char *const names[CAPABILITY_COUNT] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};

const char *capability_name(unsigned int n)
{
	return n < CAPABILITY_COUNT ? names[n] : NULL;
}

/* Are the letters of `part` in `whole`, in this order? */
static bool is_within(const char *part, const char *whole)
{
	for (; *part; part++, whole++) {
		while (*whole && strncasecmp(part, whole, 1) != 0)
			whole++;
		if (!*whole)
			return false;
	}
	return true;
}

/* Letters left out, letters too many, or a few wrong ones. */
static bool looks_like(const char *text, const char *name)
{
	unsigned int different = 0;
	size_t size = strlen(text);

	if (size < 2)
		return false;
	if (size != strlen(name))
		return is_within(text, name) || is_within(name, text);
	for (size_t i = 0; i < size; i++)
		different += strncasecmp(text + i, name + i, 1) != 0;
	return different <= DIFFERENT_MAX;
}

static int refuse(const char *text, const char *word, struct error *err)
{
	AUTO(strbuf_done) struct strbuf near = {};
	unsigned int found = 0;

	for (size_t i = 0; i < CAPABILITY_COUNT && found < NEAR_MAX; i++)
		if (looks_like(word, names[i] + PREFIX_SIZE))
			strbuf_printf(&near, "%s%s", found++ ? ", " : "", names[i] + PREFIX_SIZE);
	if (found == 0)
		return error_say(err, -EINVAL,
				 "\"%.40s\" is not a capability; an example is NET_ADMIN", text);
	return error_say(err, -EINVAL, "\"%.40s\" is not a capability; near: %s", text,
			 strbuf_str(&near));
}

int capability_parse(const char *text, const char **ret, struct error *err)
{
	const char *word = strncasecmp(text, "CAP_", PREFIX_SIZE) == 0 ? text + PREFIX_SIZE : text;

	if (strcasecmp(text, "ALL") == 0) {
		*ret = "ALL";
		return 0;
	}
	for (size_t i = 0; i < CAPABILITY_COUNT; i++) {
		if (strcasecmp(word, names[i] + PREFIX_SIZE) == 0) {
			*ret = names[i];
			return 0;
		}
	}
	return refuse(text, word, err);
}
