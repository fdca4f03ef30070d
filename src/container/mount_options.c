#include "container/mount_options.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>

#include "base/mem.h"

#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

static const struct {
	const char *name;
	uint64_t set;
	uint64_t clear;
} attributes[] = {
	{ "ro", MOUNT_ATTR_RDONLY, 0 },
	{ "rw", 0, MOUNT_ATTR_RDONLY },
	{ "nosuid", MOUNT_ATTR_NOSUID, 0 },
	{ "suid", 0, MOUNT_ATTR_NOSUID },
	{ "nodev", MOUNT_ATTR_NODEV, 0 },
	{ "dev", 0, MOUNT_ATTR_NODEV },
	{ "noexec", MOUNT_ATTR_NOEXEC, 0 },
	{ "exec", 0, MOUNT_ATTR_NOEXEC },
	{ "nodiratime", MOUNT_ATTR_NODIRATIME, 0 },
	{ "diratime", 0, MOUNT_ATTR_NODIRATIME },
	{ "nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0 },
	{ "symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW },
	/* One of three values in one field, which is cleared first. */
	{ "noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME },
	{ "relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME },
	{ "strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
	{ "atime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME },
	{ "norelatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
	{ "nostrictatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME },
};

static const struct {
	const char *name;
	uint64_t flag;
} propagations[] = {
	{ "private", MS_PRIVATE },
	{ "shared", MS_SHARED },
	{ "slave", MS_SLAVE },
	{ "unbindable", MS_UNBINDABLE },
};

static const struct {
	const char *name;
	size_t offset; /* of the bool in struct mount_options */
} switches[] = {
	{ "bind", offsetof(struct mount_options, bind) },
	{ "rbind", offsetof(struct mount_options, recursive) },
	{ "remount", offsetof(struct mount_options, remount) },
	{ "tmpcopyup", offsetof(struct mount_options, copy_up) },
	{ "copy-symlink", offsetof(struct mount_options, copy_link) },
	{ "src-nofollow", offsetof(struct mount_options, source_nofollow) },
	{ "dest-nofollow", offsetof(struct mount_options, dest_nofollow) },
	{ "idmap", offsetof(struct mount_options, idmap) },
	{ "ridmap", offsetof(struct mount_options, idmap_recursive) },
};

/*
 * What mount(8) knows and what is so anyway: the defaults of every file system, messages in the
 * kernel's log, and change counters that file systems keep or do not.
 */
static const char *const without_effect[] = {
	"defaults", "async", "nolazytime", "nomand", "silent", "loud", "iversion", "noiversion",
};

/* Understood by the kernel for every new file system, and handed to it like the file system's own.
 */
static const char *const of_every_fs[] = { "sync", "dirsync", "lazytime", "mand" };

int mount_options_propagation(const char *name, uint64_t *ret, bool *ret_all)
{
	for (int all = 0; all < 2; all++) {
		if (all && name[0] != 'r')
			break;
		for (size_t i = 0; i < ARRAY_COUNT(propagations); i++) {
			if (strcmp(propagations[i].name, name + all) != 0)
				continue;
			*ret = propagations[i].flag;
			*ret_all = all;
			return 0;
		}
	}
	return -EINVAL;
}

/* A later option wins over an earlier one. */
static void apply(uint64_t *set, uint64_t *clear, size_t i)
{
	*set = (*set & ~attributes[i].clear) | attributes[i].set;
	*clear = (*clear & ~attributes[i].set) | attributes[i].clear;
}

static bool parse_attribute(const char *name, struct mount_options *options)
{
	for (size_t i = 0; i < ARRAY_COUNT(attributes); i++) {
		if (strcmp(attributes[i].name, name) == 0) {
			apply(&options->set, &options->clear, i);
			return true;
		}
		if (name[0] == 'r' && strcmp(attributes[i].name, name + 1) == 0) {
			apply(&options->set_all, &options->clear_all, i);
			return true;
		}
	}
	return false;
}

static bool parse_switch(const char *name, struct mount_options *options)
{
	for (size_t i = 0; i < ARRAY_COUNT(switches); i++) {
		if (strcmp(switches[i].name, name) != 0)
			continue;
		*(bool *) ((char *) options + switches[i].offset) = true;
		return true;
	}
	return false;
}

static bool has_no_effect(const char *name)
{
	for (size_t i = 0; i < ARRAY_COUNT(without_effect); i++)
		if (strcmp(without_effect[i], name) == 0)
			return true;
	return name[0] == '\0';
}

void mount_options_parse(oci_strings list, struct mount_options *ret)
{
	struct mount_options options = {};
	size_t count = 0;

	for (size_t i = 0; list && list[i]; i++)
		count++;
	options.data = mem_new0_array(const char *, count + 1);
	count = 0;
	for (; list && *list; list++) {
		if (has_no_effect(*list) || parse_switch(*list, &options) ||
		    parse_attribute(*list, &options) ||
		    mount_options_propagation(*list, &options.propagation,
					      &options.propagation_all) == 0)
			continue;
		options.data[count++] = *list;
	}
	options.bind = options.bind || options.recursive;
	options.idmap = options.idmap || options.idmap_recursive;
	*ret = options;
}

void mount_options_add(struct mount_options *options, const char *data)
{
	size_t count = 0;

	while (options->data[count])
		count++;
	options->data = mem_realloc(options->data, count + 2, sizeof(*options->data));
	options->data[count] = data;
	options->data[count + 1] = NULL;
}

void mount_options_done(struct mount_options *options)
{
	free(options->data);
	options->data = NULL;
}

const char *mount_options_name(unsigned int n)
{
	static const char *const recursive[] = {
		"rro",          "rrw",         "rnosuid",        "rsuid",       "rnodev",
		"rdev",         "rnoexec",     "rexec",          "rnodiratime", "rdiratime",
		"rnosymfollow", "rsymfollow",  "rnoatime",       "rrelatime",   "rstrictatime",
		"ratime",       "rnorelatime", "rnostrictatime", "rprivate",    "rshared",
		"rslave",       "runbindable",
	};

	if (n < ARRAY_COUNT(attributes))
		return attributes[n].name;
	n -= ARRAY_COUNT(attributes);
	if (n < ARRAY_COUNT(propagations))
		return propagations[n].name;
	n -= ARRAY_COUNT(propagations);
	if (n < ARRAY_COUNT(switches))
		return switches[n].name;
	n -= ARRAY_COUNT(switches);
	if (n < ARRAY_COUNT(without_effect))
		return without_effect[n];
	n -= ARRAY_COUNT(without_effect);
	if (n < ARRAY_COUNT(of_every_fs))
		return of_every_fs[n];
	n -= ARRAY_COUNT(of_every_fs);
	return n < ARRAY_COUNT(recursive) ? recursive[n] : NULL;
}
