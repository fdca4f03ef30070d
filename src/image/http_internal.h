#pragma once
/*
 * image/http_internal.h - small documents over HTTP, and the options that every transfer has.
 *
 * Certificates are verified unless `insecure`; then also plain http is spoken.  Credentials are a
 * header that libcurl does not send on to another host, port or scheme after a redirect.  Proxies
 * come from the environment.  One thread.  Used by registry.c and download.c in the worker.
 */
#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

struct error;

struct http_request {
	const char *url;
	const char *authorization; /* the header's value, or NULL */
	const char *accept;        /* likewise */
	bool insecure;
	bool head;
	size_t body_max;
};

struct http_reply {
	CURLcode code; /* of the transfer */
	long status;
	struct strbuf body;
	char *content_type; /* NULL when not given */
	char *digest;       /* Docker-Content-Digest */
	char *challenge;    /* WWW-Authenticate */
};

/* Sets what all transfers have in common; `error_text` has CURL_ERROR_SIZE bytes. */
void http_prepare(CURL *easy, const char *url, bool insecure, char *error_text);

/*
 * Transfers once, with a handle that is used again and again (connections stay open).  Any status
 * is a success; 0 or an error that says what happened.
 */
int http_perform(CURL *easy, const struct http_request *request, struct http_reply *ret,
		 struct error *err);

/* What a failed transfer is in our terms, and in words. */
int http_error(CURLcode code, const char *url, bool insecure, const char *error_text,
	       struct error *err);

void http_reply_done(struct http_reply *response);
static inline void http_reply_done_autop(struct http_reply *response)
{
	http_reply_done(response);
}
