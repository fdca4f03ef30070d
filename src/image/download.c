#include "image/download_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "image/http_internal.h"

enum {
	ATTEMPTS_MAX = 6,
	PAUSE_FIRST_US = 200 * 1000,
	PROGRESS_BYTES = 1 << 20, /* a transfer that came this far deserves fresh attempts */
	ERROR_BODY_MAX = 16 << 10,
};

struct downloads {
	struct registry *registry;
	CURLM *multi;
	struct download *list;
};

int downloads_new(struct registry *registry, struct downloads **ret, struct error *err)
{
	struct downloads *set = mem_new0(struct downloads);

	set->registry = registry;
	set->multi = curl_multi_init();
	if (!set->multi) {
		free(set);
		return error_set(err, -ENOMEM, "curl");
	}
	*ret = set;
	return 0;
}

/* Takes the transfer apart; what is in the spool stays. */
static void drop_transfer(struct download *download)
{
	if (download->easy) {
		curl_multi_remove_handle(download->set->multi, download->easy);
		curl_easy_cleanup(download->easy);
		download->easy = NULL;
	}
	curl_slist_free_all(download->headers);
	download->headers = NULL;
	strbuf_done(&download->error_body);
}

static void end(struct download *download, int result)
{
	struct download **link = &download->set->list;

	drop_transfer(download);
	while (*link != download)
		link = &(*link)->next;
	*link = download->next;
	download->result = result;
	download->ended = true;
	spool_end(download->spool, result);
}

void download_cancel(struct download *download)
{
	if (download->ended || !download->set)
		return;
	error_say(&download->err, -ECANCELED, "cancelled");
	end(download, -ECANCELED);
}

void downloads_free(struct downloads *set)
{
	if (!set)
		return;
	while (set->list)
		download_cancel(set->list);
	curl_multi_cleanup(set->multi);
	free(set);
}

static size_t take_error_body(struct download *download, const char *data, size_t size)
{
	if (download->error_body.size + size <= ERROR_BODY_MAX)
		strbuf_append(&download->error_body, data, size);
	return size;
}

static size_t take_data(char *data, size_t size, size_t count, void *user)
{
	struct download *download = user;
	size_t total = size * count, used = 0;
	long status = 0;

	curl_easy_getinfo(download->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200 && status != 206)
		return take_error_body(download, data, total);
	/* A server that does not know ranges sends everything again. */
	if (status == 200 && download->skip > 0) {
		used = download->skip < total ? (size_t) download->skip : total;
		download->skip -= used;
	}
	if (total - used > download->size_bytes - download->spool->size) {
		download->append_result = -EFBIG;
		return 0;
	}
	if (total > used)
		download->append_result = spool_append(download->spool, data + used, total - used);
	return download->append_result < 0 ? 0 : total;
}

static int begin_transfer(struct download *download)
{
	struct downloads *set = download->set;
	AUTO(free) char *url = NULL;
	AUTO(free) char *authorization = NULL;

	download->retry_at_us = 0;
	download->append_result = 0;
	download->base = download->skip = download->spool->size;
	download->error_text[0] = '\0';
	download->easy = curl_easy_init();
	if (!download->easy)
		return -ENOMEM;
	registry_blob_url(set->registry, &download->digest, &url, &authorization);
	http_prepare(download->easy, url, registry_is_insecure(set->registry),
		     download->error_text);
	if (authorization) {
		AUTO(free) char *line = mem_printf("Authorization: %s", authorization);
		download->headers = curl_slist_append(NULL, line);
	}
	curl_easy_setopt(download->easy, CURLOPT_HTTPHEADER, download->headers);
	if (download->base > 0) {
		AUTO(free) char *range = mem_printf("%llu-", (unsigned long long) download->base);
		curl_easy_setopt(download->easy, CURLOPT_RANGE, range);
	}
	curl_easy_setopt(download->easy, CURLOPT_WRITEFUNCTION, take_data);
	curl_easy_setopt(download->easy, CURLOPT_WRITEDATA, download);
	curl_easy_setopt(download->easy, CURLOPT_PRIVATE, download);
	return curl_multi_add_handle(set->multi, download->easy) == CURLM_OK ? 0 : -ENOMEM;
}

void download_start(struct downloads *set, struct download *download)
{
	int r = 0;

	download->set = set;
	download->ended = false;
	download->attempts = 0;
	download->renewed = false;
	download->next = set->list;
	set->list = download;
	if (download->spool->size == download->size_bytes) {
		end(download, 0);
		return;
	}
	r = begin_transfer(download);
	if (r < 0) {
		error_set(&download->err, r, "curl");
		end(download, r);
	}
}

static bool is_transient(CURLcode code, long status)
{
	switch (code) {
	case CURLE_OK:
		return status == 429 || status >= 500;
	case CURLE_COULDNT_CONNECT:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_PARTIAL_FILE:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_HTTP2_STREAM:
		return true;
	default:
		return false;
	}
}

/* 0 when the blob is complete, -EAGAIN when another attempt may help, else an error in
 * download->err. */
static int judge(struct download *download, CURLcode code)
{
	struct registry *registry = download->set->registry;
	struct error *err = &download->err;
	char text[DIGEST_TEXT_SIZE], *url = NULL;
	long status = 0;

	digest_format(&download->digest, text);
	curl_easy_getinfo(download->easy, CURLINFO_RESPONSE_CODE, &status);
	if (download->append_result == -EFBIG)
		return error_say(err, -EBADMSG,
				 "blob %s is larger than the %llu bytes that the manifest says",
				 text, (unsigned long long) download->size_bytes);
	if (download->append_result < 0)
		return error_set(err, download->append_result, "write blob %s", text);
	if (code == CURLE_OK && status == 401 && !download->renewed) {
		download->renewed = true;
		return registry_renew(registry, err) < 0 ? err->code : -EAGAIN;
	}
	if (download->spool->size - download->base >= PROGRESS_BYTES)
		download->attempts = 0;
	if (is_transient(code, status) && ++download->attempts < ATTEMPTS_MAX)
		return -EAGAIN;
	if (code != CURLE_OK) {
		curl_easy_getinfo(download->easy, CURLINFO_EFFECTIVE_URL, &url);
		return http_error(code, url ? url : "", registry_is_insecure(registry),
				  download->error_text, err);
	}
	if (status != 200 && status != 206) {
		AUTO(free) char *what = mem_printf("blob %s", text);

		return registry_status_error(registry, status, &download->error_body, what, err);
	}
	if (download->spool->size != download->size_bytes)
		return error_say(err, -EBADMSG,
				 "blob %s is truncated: it has %llu bytes, the manifest says %llu",
				 text, (unsigned long long) download->spool->size,
				 (unsigned long long) download->size_bytes);
	return 0;
}

static void transfer_ended(struct download *download, CURLcode code)
{
	int r = judge(download, code);

	if (r != -EAGAIN) {
		end(download, r);
		return;
	}
	drop_transfer(download);
	download->retry_at_us = clock_monotonic_us(clock_system()) +
				((uint64_t) PAUSE_FIRST_US << download->attempts);
}

/* Begins the attempts whose time has come; returns how long to wait at most. */
static unsigned int begin_due(struct downloads *set, unsigned int timeout_ms)
{
	uint64_t now = clock_monotonic_us(clock_system());
	struct download *next;

	for (struct download *download = set->list; download; download = next) {
		next = download->next;
		if (!download->retry_at_us)
			continue;
		if (download->retry_at_us > now) {
			uint64_t left_ms = (download->retry_at_us - now) / 1000 + 1;

			timeout_ms = left_ms < timeout_ms ? (unsigned int) left_ms : timeout_ms;
			continue;
		}
		int r = begin_transfer(download);
		if (r < 0) {
			error_set(&download->err, r, "curl");
			end(download, r);
		}
	}
	return timeout_ms;
}

int downloads_wait(struct downloads *set, unsigned int timeout_ms, struct error *err)
{
	int running, left;
	CURLMsg *message;

	timeout_ms = begin_due(set, timeout_ms);
	if (curl_multi_perform(set->multi, &running) != CURLM_OK ||
	    curl_multi_poll(set->multi, NULL, 0, (int) timeout_ms, NULL) != CURLM_OK ||
	    curl_multi_perform(set->multi, &running) != CURLM_OK)
		return error_say(err, -EIO, "curl cannot go on");
	while ((message = curl_multi_info_read(set->multi, &left))) {
		char *download = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &download);
		transfer_ended((struct download *) (void *) download, message->data.result);
	}
	return 0;
}

void downloads_wake(struct downloads *set)
{
	curl_multi_wakeup(set->multi);
}
