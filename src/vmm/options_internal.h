#pragma once
/*
 * vmm/options_internal.h - the pieces of the command line's parser, for options.c,
 * options_devices.c and ctl.c.
 */
#include "vmm/options.h"

enum options_kind { OPTIONS_DISK, OPTIONS_NET, OPTIONS_VSOCK, OPTIONS_NO_BALLOON };

/* --disk, --net, --vsock, or what `option` calls them; `text` is changed. */
int options_device(struct options *options, enum options_kind kind, const char *option, char *text,
		   struct error *err);

/* Keeps a text (owned) or a descriptor until options_done(); give it back. */
char *options_keep(struct options *options, char *text);
int options_keep_fd(struct options *options, int fd, struct error *err);

int options_number(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *ret,
		   struct error *err);
int options_size(const char *option, const char *text, uint64_t *ret, struct error *err);
/* A path or fd:N. */
int options_open(struct options *options, const char *option, const char *name, int flags,
		 struct error *err);
/* Cuts the next "name" or "name=value" off a list with commas; false: there is none. */
bool options_word(char **at, char **ret_name, char **ret_value);
int options_add_port(struct options *options, const char *name, int in_fd, int out_fd,
		     struct error *err);
