#pragma once
/*
 * cli/resource.h - reads the JSON of resources by path, for display.
 *
 * Used by the verbs.  Display takes what it knows and leaves the rest, so that an older brume works
 * with a newer server; this is why the decoders of model/, which refuse unknown members, are not
 * used.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/strbuf.h"

/* The value at "status.state"; NULL when it is not there.  Borrowed. */
const json_t *resource_at(const json_t *resource, const char *path);

/* A string, NULL when it is not there or no string.  Borrowed. */
const char *resource_text(const json_t *resource, const char *path);

/* A number, `otherwise` when it is not there. */
int64_t resource_int(const json_t *resource, const char *path, int64_t otherwise);

/* "10.90.0.2, fd00::2": the addresses of an instance's ports. */
void resource_put_addresses(struct strbuf *out, const json_t *instance, bool ipv4, bool ipv6);

/* "8080->80, 127.0.0.1:53->53/udp" */
void resource_put_ports(struct strbuf *out, const json_t *instance);

/* "a b c" with shell quotes where needed; for commands. */
void resource_put_words(struct strbuf *out, const json_t *list);

/* Name of a resource for messages, "?" when it has none. */
const char *resource_name(const json_t *resource);
