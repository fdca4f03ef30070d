#pragma once
/*
 * client/tls_library.h - GnuTLS, loaded when the first TLS connection is made.
 *
 * Loading it costs 2 ms, more than all the rest of a short command's start, and nearly all commands
 * speak to a Unix socket.  So the programs are not linked with it; its headers still give the
 * types.
 *
 * Used by client/tls.  One thread.  Belongs to the caller until tls_library_done().
 */
#include <gnutls/gnutls.h>

#include "base/cleanup.h"

struct error;

#define TLS_LIBRARY_FUNCTIONS(F)                                                                   \
	F(alpn_set_protocols)                                                                      \
	F(certificate_allocate_credentials)                                                        \
	F(certificate_free_credentials)                                                            \
	F(certificate_set_x509_system_trust)                                                       \
	F(certificate_set_x509_trust_file)                                                         \
	F(certificate_verification_status_print)                                                   \
	F(credentials_set)                                                                         \
	F(deinit)                                                                                  \
	F(error_is_fatal)                                                                          \
	F(handshake)                                                                               \
	F(init)                                                                                    \
	F(record_check_pending)                                                                    \
	F(record_get_direction)                                                                    \
	F(record_recv)                                                                             \
	F(record_send)                                                                             \
	F(server_name_set)                                                                         \
	F(session_get_verify_cert_status)                                                          \
	F(session_set_verify_cert)                                                                 \
	F(set_default_priority)                                                                    \
	F(strerror)                                                                                \
	F(transport_set_int2)

/* The function gnutls_NAME is the member NAME. */
struct tls_library {
	void *handle;
	gnutls_free_function *free; /* a variable of the library */
#define TLS_LIBRARY_MEMBER(name) __typeof__(gnutls_##name) *name;
	TLS_LIBRARY_FUNCTIONS(TLS_LIBRARY_MEMBER)
#undef TLS_LIBRARY_MEMBER
};

/* -ENOPKG when the library is not installed or is another one than we were built for. */
int tls_library_load(struct tls_library *ret, struct error *err);
void tls_library_done(struct tls_library *library);
