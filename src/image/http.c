#include "image/http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"

enum {
	CONNECT_TIMEOUT_S = 20,
	STALL_S = 60, /* less than a byte per second for that long */
	DOCUMENT_TIMEOUT_S = 120,
	REDIRECTS_MAX = 5,
	HEADER_MAX = 8192,
	BUFFER_SIZE = 512 << 10,
};

DEFINE_AUTO(struct curl_slist *, curl_slist_free_all)

struct receiver {
	const struct http_request *request;
	struct http_reply *response;
	bool too_large;
};

void http_prepare(CURL *easy, const char *url, bool insecure, char *error_text)
{
	const char *protocols = insecure ? "http,https" : "https";

	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_text);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, protocols);
	curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long) REDIRECTS_MAX);
	/* Parallel blobs are faster over connections of their own. */
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long) CONNECT_TIMEOUT_S);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long) STALL_S);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long) BUFFER_SIZE);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "brume/" BRUME_VERSION);
	if (insecure) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
		curl_easy_setopt(easy, CURLOPT_CAINFO, NULL); /* reading it takes 20 ms */
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
}

static size_t take_body(char *data, size_t size, size_t count, void *user)
{
	struct receiver *receiver = user;
	struct strbuf *body = &receiver->response->body;

	if (size * count > receiver->request->body_max - body->size) {
		receiver->too_large = true;
		return 0;
	}
	strbuf_append(body, data, size * count);
	return size * count;
}

/* The value when the line is the header `name`; new. */
static char *header_value(const char *line, size_t size, const char *name)
{
	size_t length = strlen(name);

	if (size <= length || line[length] != ':' || strncasecmp(line, name, length) != 0)
		return NULL;
	line += length + 1;
	size -= length + 1;
	while (size > 0 && (*line == ' ' || *line == '\t'))
		line++, size--;
	while (size > 0 && strchr(" \t\r\n", line[size - 1]))
		size--;
	return mem_strndup(line, size);
}

static void forget_headers(struct http_reply *response)
{
	free(response->content_type);
	free(response->digest);
	free(response->challenge);
	response->content_type = response->digest = response->challenge = NULL;
}

static size_t take_header(char *data, size_t size, size_t count, void *user)
{
	struct http_reply *response = ((struct receiver *) user)->response;
	size_t total = size * count;
	char *value;

	if (total > HEADER_MAX)
		return total;
	/* A redirect's headers are not the answer's. */
	if (total > 5 && strncmp(data, "HTTP/", 5) == 0)
		forget_headers(response);
	if ((value = header_value(data, total, "content-type"))) {
		free(response->content_type);
		response->content_type = value;
	} else if ((value = header_value(data, total, "docker-content-digest"))) {
		free(response->digest);
		response->digest = value;
	} else if ((value = header_value(data, total, "www-authenticate"))) {
		/* Of several the one that we like best. */
		if (!response->challenge || strncasecmp(value, "bearer", 6) == 0) {
			free(response->challenge);
			response->challenge = value;
		} else {
			free(value);
		}
	}
	return total;
}

int http_error(CURLcode code, const char *url, bool insecure, const char *error_text,
	       struct error *err)
{
	AUTO(free) char *host = NULL;
	const char *start = strstr(url, "://");
	const char *text = error_text[0] ? error_text : curl_easy_strerror(code);

	start = start ? start + 3 : url;
	host = mem_strndup(start, strcspn(start, "/?"));
	switch (code) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
		return error_say(err, -EKEYREJECTED, "%s: its certificate is not trusted: %s", host,
				 text);
	case CURLE_SSL_CONNECT_ERROR:
		return error_say(err, -EPROTO, "%s: no TLS connection: %s%s", host, text,
				 insecure ? ""
					  : "; if the registry speaks plain http, say --insecure");
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
		return error_say(err, -EHOSTUNREACH, "%s: cannot be reached: %s", host, text);
	case CURLE_OPERATION_TIMEDOUT:
		return error_say(err, -ETIMEDOUT, "%s: does not answer: %s", host, text);
	case CURLE_UNSUPPORTED_PROTOCOL:
		return error_say(err, -EPROTO, "%s: wants plain http: %s; --insecure allows it",
				 host, text);
	default:
		return error_say(err, -EIO, "%s: %s", host, text);
	}
}

int http_perform(CURL *easy, const struct http_request *request, struct http_reply *ret,
		 struct error *err)
{
	AUTO(curl_slist_free_all) struct curl_slist *headers = NULL;
	struct receiver receiver = { .request = request, .response = ret };
	char error_text[CURL_ERROR_SIZE] = "";

	curl_easy_reset(easy);
	http_prepare(easy, request->url, request->insecure, error_text);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT, (long) DOCUMENT_TIMEOUT_S);
	if (request->head)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	if (request->authorization) {
		AUTO(free) char *line = mem_printf("Authorization: %s", request->authorization);
		headers = curl_slist_append(headers, line);
	}
	if (request->accept) {
		AUTO(free) char *line = mem_printf("Accept: %s", request->accept);
		headers = curl_slist_append(headers, line);
	}
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, &receiver);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, &receiver);
	http_reply_done(ret);
	ret->code = curl_easy_perform(easy);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
	if (receiver.too_large)
		return error_say(err, -EFBIG, "%s: the answer is larger than %zu bytes",
				 request->url, request->body_max);
	if (ret->code != CURLE_OK)
		return http_error(ret->code, request->url, request->insecure, error_text, err);
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &ret->status);
	return 0;
}

void http_reply_done(struct http_reply *response)
{
	strbuf_done(&response->body);
	forget_headers(response);
	*response = (struct http_reply){};
}
