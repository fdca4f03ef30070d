#include "image/registry_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/digest_stream.h"
#include "image/challenge_internal.h"
#include "image/http_internal.h"

enum { TOKEN_ANSWER_MAX = 1 << 20, TOKEN_MAX = 64 << 10, ERROR_BODY_MAX = 64 << 10 };

#define ACCEPT_MANIFEST                                                                            \
	OCI_TYPE_MANIFEST ", " OCI_TYPE_INDEX ", " OCI_TYPE_DOCKER_MANIFEST                        \
			  ", " OCI_TYPE_DOCKER_INDEX

struct registry {
	char *host, *path, *username, *password;
	bool insecure;
	bool scheme_known;
	const char *scheme, *other_scheme; /* the second when the first does not work */
	char *authorization;               /* the header's value, or NULL */
	char *challenge;                   /* the last one, for getting a new token */
	CURL *easy;
};

/*
 * Plain http is for those who asked for it, and even then TLS is tried first; but not where no
 * network lies between.
 */
static void choose_scheme(struct registry *registry)
{
	bool loopback = strncmp(registry->host, "127.", 4) == 0 ||
			strncmp(registry->host, "localhost", 9) == 0 ||
			strncmp(registry->host, "[::1]", 5) == 0;

	registry->scheme_known = !registry->insecure;
	registry->scheme = registry->insecure && loopback ? "http" : "https";
	registry->other_scheme = loopback ? "https" : "http";
}

int registry_new(const struct registry_config *config, struct registry **ret, struct error *err)
{
	AUTO(registry_free) struct registry *registry = mem_new0(struct registry);

	registry->host = mem_strdup(config->host);
	registry->path = mem_strdup(config->path);
	registry->username = mem_strdup(config->username);
	registry->password = mem_strdup(config->password);
	registry->insecure = config->insecure;
	choose_scheme(registry);
	registry->easy = curl_easy_init();
	if (!registry->easy)
		return error_set(err, -ENOMEM, "curl");
	*ret = TAKE_PTR(registry);
	return 0;
}

void registry_free(struct registry *registry)
{
	if (!registry)
		return;
	curl_easy_cleanup(registry->easy);
	free(registry->host);
	free(registry->path);
	free(registry->username);
	free(registry->password);
	free(registry->authorization);
	free(registry->challenge);
	free(registry);
}

bool registry_is_insecure(const struct registry *registry)
{
	return registry->insecure;
}

static char *basic_authorization(const struct registry *registry)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	AUTO(free)
	char *plain = mem_printf("%s:%s", registry->username,
				 registry->password ? registry->password : "");
	struct strbuf text = {};
	size_t size = strlen(plain);

	strbuf_puts(&text, "Basic ");
	for (size_t i = 0; i < size; i += 3) {
		unsigned int bits = (unsigned int) (unsigned char) plain[i] << 16;
		char group[4];

		if (i + 1 < size)
			bits |= (unsigned int) (unsigned char) plain[i + 1] << 8;
		if (i + 2 < size)
			bits |= (unsigned char) plain[i + 2];
		group[0] = digits[bits >> 18];
		group[1] = digits[bits >> 12 & 63];
		group[2] = i + 1 < size ? digits[bits >> 6 & 63] : '=';
		group[3] = i + 2 < size ? digits[bits & 63] : '=';
		strbuf_append(&text, group, sizeof(group));
	}
	return strbuf_take(&text);
}

static void append_query(CURL *easy, struct strbuf *url, const char *name, const char *value)
{
	char *escaped = value ? curl_easy_escape(easy, value, 0) : NULL;

	if (escaped)
		strbuf_printf(url, "%s%s=%s", strchr(strbuf_str(url), '?') ? "&" : "?", name,
			      escaped);
	curl_free(escaped);
}

static int parse_token(struct registry *registry, const struct strbuf *body, struct error *err)
{
	AUTO(json_decref) json_t *answer = NULL;
	const char *token;
	int r = json_parse(strbuf_str(body), body->size, TOKEN_ANSWER_MAX, &answer, err);

	if (r < 0)
		return error_wrap(err, r, "%s: the answer with the token", registry->host);
	token = json_string_value(json_object_get(answer, "token"));
	if (!token)
		token = json_string_value(json_object_get(answer, "access_token"));
	if (!token || !token[0] || strlen(token) > TOKEN_MAX || strpbrk(token, "\r\n"))
		return error_say(err, -EPROTO, "%s: the answer has no usable token",
				 registry->host);
	free(registry->authorization);
	registry->authorization = mem_printf("Bearer %s", token);
	return 0;
}

static int fetch_token(struct registry *registry, const struct challenge *challenge,
		       struct error *err)
{
	AUTO(strbuf_done) struct strbuf url = {};
	AUTO(http_reply_done) struct http_reply response = {};
	AUTO(free) char *scope = mem_printf("repository:%s:pull", registry->path);
	AUTO(free) char *basic = registry->username ? basic_authorization(registry) : NULL;
	int r;

	strbuf_puts(&url, challenge->realm);
	append_query(registry->easy, &url, "service", challenge->service);
	append_query(registry->easy, &url, "scope", challenge->scope ? challenge->scope : scope);
	const struct http_request request = {
		.url = strbuf_str(&url),
		.authorization = basic,
		.insecure = registry->insecure,
		.body_max = TOKEN_ANSWER_MAX,
	};
	r = http_perform(registry->easy, &request, &response, err);
	if (r < 0)
		return error_wrap(err, r, "%s: token", registry->host);
	if (response.status == 200)
		return parse_token(registry, &response.body, err);
	if (response.status == 401 || response.status == 403)
		return error_say(err, -EACCES, "%s: %s", registry->host,
				 registry->username ? "user name or password is wrong"
						    : "it wants a user name and a password");
	return error_say(err, -EIO, "%s: no token: HTTP status %ld", registry->host,
			 response.status);
}

int registry_renew(struct registry *registry, struct error *err)
{
	AUTO(challenge_done) struct challenge challenge = {};

	challenge_parse(registry->challenge ? registry->challenge : "", &challenge);
	if (challenge.kind == CHALLENGE_BEARER)
		return fetch_token(registry, &challenge, err);
	if (challenge.kind == CHALLENGE_BASIC && registry->username) {
		free(registry->authorization);
		registry->authorization = basic_authorization(registry);
		return 0;
	}
	return error_say(err, -EACCES, "%s: it wants %s", registry->host,
			 challenge.kind == CHALLENGE_BASIC
				 ? "a user name and a password"
				 : "a kind of authentication that is not known");
}

/* Words of the registry itself, for the error; "" when it has none. */
static void detail(const struct strbuf *body, char *ret, size_t size)
{
	AUTO(json_decref) json_t *answer = NULL;
	const char *message;

	ret[0] = '\0';
	if (body && json_parse(strbuf_str(body), body->size, ERROR_BODY_MAX, &answer, NULL) == 0) {
		json_t *first = json_array_get(json_object_get(answer, "errors"), 0);

		message = json_string_value(json_object_get(first, "message"));
		if (message)
			snprintf(ret, size, ": %.150s", message);
		ret[strcspn(ret, "\r\n")] = '\0';
	}
}

int registry_status_error(struct registry *registry, long status, const struct strbuf *body,
			  const char *what, struct error *err)
{
	char words[200];

	detail(body, words, sizeof(words));
	switch (status) {
	case 404:
		return error_say(err, -ENOENT, "%s does not exist in %s/%s%s", what, registry->host,
				 registry->path, words);
	case 401:
	case 403:
		return error_say(err, -EACCES, "%s: access to %s is denied%s%s", registry->host,
				 registry->path, words,
				 registry->username ? "" : "; a user name and a password may help");
	case 429:
		return error_say(err, -EBUSY, "%s: too many requests, try again later%s",
				 registry->host, words);
	default:
		return error_say(err, -EIO, "%s: %s: HTTP status %ld%s", registry->host, what,
				 status, words);
	}
}

/* Sends a request below the repository, with TLS first, and with credentials when they are wanted.
 */
static int perform(struct registry *registry, const char *path, const char *accept, bool head,
		   size_t body_max, struct http_reply *ret, struct error *err)
{
	bool renewed = false;

	for (;;) {
		AUTO(free)
		char *url = mem_printf("%s://%s/v2/%s/%s", registry->scheme, registry->host,
				       registry->path, path);
		const struct http_request request = {
			.url = url,
			.authorization = registry->authorization,
			.accept = accept,
			.insecure = registry->insecure,
			.head = head,
			.body_max = body_max,
		};
		int r = http_perform(registry->easy, &request, ret, err);

		if (!registry->scheme_known && r < 0) {
			registry->scheme_known = true;
			registry->scheme = registry->other_scheme;
			continue;
		}
		if (r < 0)
			return r;
		registry->scheme_known = true;
		if (ret->status != 401 || renewed || !ret->challenge)
			return 0;
		renewed = true;
		mem_replace(&registry->challenge, ret->challenge);
		r = registry_renew(registry, err);
		if (r < 0)
			return r;
	}
}

int registry_head(struct registry *registry, const char *tag_or_digest, struct digest *ret,
		  struct error *err)
{
	AUTO(http_reply_done) struct http_reply response = {};
	AUTO(free) char *path = mem_printf("manifests/%s", tag_or_digest);
	int r = perform(registry, path, ACCEPT_MANIFEST, true, 0, &response, err);

	if (r < 0)
		return r;
	/* Whatever it says: the GET that follows has better words. */
	*ret = (struct digest){};
	if (response.status == 200 && response.digest)
		digest_parse(response.digest, ret, NULL);
	return 0;
}

static int check_document(struct registry_document *document, const struct digest *expected,
			  const char *what, struct error *err)
{
	enum digest_kind kind = expected ? expected->kind : DIGEST_SHA256;
	char want[DIGEST_TEXT_SIZE], is[DIGEST_TEXT_SIZE];

	digest_compute(kind, strbuf_str(&document->body), document->body.size, &document->digest);
	if (!expected || digest_equal(expected, &document->digest))
		return 0;
	digest_format(expected, want);
	digest_format(&document->digest, is);
	return error_say(err, -EBADMSG, "digest mismatch: %s should be %s but is %s", what, want,
			 is);
}

int registry_manifest(struct registry *registry, const char *tag_or_digest,
		      const struct digest *expected, struct registry_document *ret,
		      struct error *err)
{
	AUTO(http_reply_done) struct http_reply response = {};
	AUTO(free) char *path = mem_printf("manifests/%s", tag_or_digest);
	AUTO(free) char *what = mem_printf("image '%s'", tag_or_digest);
	int r = perform(registry, path, ACCEPT_MANIFEST, false, OCI_DOCUMENT_MAX, &response, err);

	if (r < 0)
		return r;
	if (response.status != 200)
		return registry_status_error(registry, response.status, &response.body, what, err);
	ret->body = response.body;
	response.body = (struct strbuf){};
	if (response.content_type && strlen(response.content_type) < sizeof(ret->media_type))
		memcpy(ret->media_type, response.content_type, strlen(response.content_type) + 1);
	ret->media_type[strcspn(ret->media_type, "; ")] = '\0';
	return check_document(ret, expected, what, err);
}

int registry_document(struct registry *registry, const struct digest *digest, size_t size_max,
		      struct registry_document *ret, struct error *err)
{
	AUTO(http_reply_done) struct http_reply response = {};
	char text[DIGEST_TEXT_SIZE];
	int r;

	digest_format(digest, text);
	AUTO(free) char *path = mem_printf("blobs/%s", text);
	AUTO(free) char *what = mem_printf("blob %s", text);
	r = perform(registry, path, NULL, false, size_max, &response, err);
	if (r < 0)
		return r;
	if (response.status != 200)
		return registry_status_error(registry, response.status, &response.body, what, err);
	ret->body = response.body;
	response.body = (struct strbuf){};
	return check_document(ret, digest, what, err);
}

void registry_blob_url(struct registry *registry, const struct digest *digest, char **ret_url,
		       char **ret_authorization)
{
	char text[DIGEST_TEXT_SIZE];

	digest_format(digest, text);
	*ret_url = mem_printf("%s://%s/v2/%s/blobs/%s", registry->scheme, registry->host,
			      registry->path, text);
	*ret_authorization = mem_strdup(registry->authorization);
}

void registry_document_done(struct registry_document *document)
{
	strbuf_done(&document->body);
	*document = (struct registry_document){};
}
