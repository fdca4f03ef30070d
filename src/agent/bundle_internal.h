#pragma once
/*
 * agent/bundle_internal.h - how the files of a bundle work together.  Private to them.
 *
 *	bundle.c		the whole document
 *	bundle_names.c		the files of names beside it
 *	bundle_process.c	what is run, as whom, with which powers
 *	bundle_mounts.c		what is mounted
 *	bundle_linux.c		namespaces, control groups, what is hidden
 *	bundle_vm.c		the jail of a virtual machine's monitor
 *	bundle_guest.c		what its guest is told
 *	bundle_seed.c		the same for a guest with cloud-init in place of brume-init
 */
#include "agent/bundle.h"

/* Strings of people and images; -EINVAL names what is not UTF-8 and so cannot be said in JSON. */
int bundle_texts(char *const *list, const char *what, json_t **ret, struct error *err);

int bundle_add_process(const struct bundle *bundle, const char *hostname, uint32_t *ret_owner,
		       json_t *config, struct error *err);
/* "USER[:GROUP]" or NULL. */
const char *bundle_user(const struct bundle *bundle);
/* What a guest runs, as nobody in particular: users are looked up there. */
int bundle_guest_process(const struct bundle *bundle, const char *hostname, json_t **ret,
			 struct error *err);
const char *bundle_host_name(const struct bundle *bundle);
json_t *bundle_mount(const char *destination, const char *type, const char *source,
		     const char *options);
/* hosts, resolv.conf and hostname in the bundle's folder. */
int bundle_write_names(const struct bundle *bundle, int dir_fd);

/* The domains that names are looked for in; how many there are. */
enum { BUNDLE_SEARCH_MAX = 2 };
size_t bundle_search(const struct bundle *bundle, const char *ret[BUNDLE_SEARCH_MAX]);

/* Lines of /etc/hosts. */
struct strbuf;
void bundle_put_hosts(const struct bundle *bundle, struct strbuf *out);

/* What its root may do in its own user namespace, as bits. */
uint64_t bundle_capabilities(const struct run_options *run);
json_t *bundle_mounts(const struct bundle *bundle);
int bundle_linux(const struct bundle *bundle, json_t **ret, struct error *err);
