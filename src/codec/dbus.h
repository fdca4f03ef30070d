#pragma once
/*
 * codec/dbus.h - messages of D-Bus, as much of them as asking systemd for a scope takes.
 *
 * Calls are written, replies and signals are read.  Only the byte order of this machine: both ends
 * are on it.  Used by container/systemd.c, because brume-oci is linked statically and Debian has no
 * static libsystemd.  Pure; what is read is bounded and checked.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"

enum { DBUS_MESSAGE_MAX = 1 << 20 };

enum dbus_type { DBUS_CALL = 1, DBUS_RETURN = 2, DBUS_ERROR = 3, DBUS_SIGNAL = 4 };

/* ---- writing: values are appended to a body, which begins aligned ---- */

void dbus_put_u32(struct strbuf *body, uint32_t value);
void dbus_put_u64(struct strbuf *body, uint64_t value);
void dbus_put_text(struct strbuf *body, const char *text);      /* s and o */
void dbus_put_signature(struct strbuf *body, const char *text); /* g, also of a variant */
void dbus_put_align(struct strbuf *body, size_t alignment);

/* An array: remember what begin gives; `alignment` is of its elements. */
size_t dbus_array_begin(struct strbuf *body, size_t alignment);
void dbus_array_end(struct strbuf *body, size_t begun);

/* One (sv) of a list of properties. */
void dbus_put_property_text(struct strbuf *body, const char *name, const char *value);
void dbus_put_property_bool(struct strbuf *body, const char *name, int value);
void dbus_put_property_u64(struct strbuf *body, const char *name, uint64_t value);
void dbus_put_property_pid(struct strbuf *body, const char *name, uint32_t pid); /* au of one */

struct dbus_call {
	uint32_t serial;
	const char *destination;
	const char *path;
	const char *interface;
	const char *member;
	const char *signature; /* of the body; NULL: there is none */
};

void dbus_call_encode(struct strbuf *out, const struct dbus_call *call, const struct strbuf *body);

/* ---- reading ---- */

struct dbus_message { /* borrows from the bytes */
	enum dbus_type type;
	uint32_t serial;
	uint32_t reply_serial; /* 0: none */
	const char *member;    /* "" when absent, as the following */
	const char *error;     /* name of the error */
	const char *signature;
	const uint8_t *body;
	size_t body_size;
};

/* Size of the message that begins here; 0: more bytes are needed to know; -EBADMSG, -EMSGSIZE. */
int64_t dbus_message_size(const void *data, size_t size);

int dbus_message_decode(const void *data, size_t size, struct dbus_message *ret);

/* Values of the body, in order; `at` begins as 0.  -EBADMSG. */
int dbus_read_u32(const struct dbus_message *message, size_t *at, uint32_t *ret);
int dbus_read_text(const struct dbus_message *message, size_t *at, const char **ret);
