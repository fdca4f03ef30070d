#pragma once
/*
 * image/download_internal.h - several blobs at once from a registry into spools.
 *
 * A transfer that breaks is gone on with where it stopped, after a pause that grows; so is one of
 * an earlier pull, whose bytes are in the spool already.  All callbacks come from download_wait(),
 * on its thread; only download_wake() may be called from elsewhere.  Used by the worker.
 */
#include <curl/curl.h>
#include <stdbool.h>

#include "base/error.h"
#include "codec/digest.h"
#include "image/registry_internal.h"
#include "image/spool_internal.h"

struct downloads;

struct download {
	/* Set by the owner. */
	struct digest digest;
	uint64_t size_bytes;
	struct spool *spool; /* is ended, with the download's result, by us */

	/* Valid when `ended`. */
	bool ended;
	int result;
	struct error err;

	/* Ours. */
	struct downloads *set;
	struct download *next;
	CURL *easy;
	struct curl_slist *headers;
	char error_text[CURL_ERROR_SIZE];
	struct strbuf error_body;
	uint64_t base, skip; /* size of the spool at the start; bytes to ignore of the answer */
	unsigned int attempts;
	bool renewed;
	uint64_t retry_at_us; /* 0: running */
	int append_result;
};

int downloads_new(struct registry *registry, struct downloads **ret, struct error *err);
void downloads_free(struct downloads *set); /* ends what still runs with -ECANCELED */
DEFINE_AUTO(struct downloads *, downloads_free)

void download_start(struct downloads *set, struct download *download);

/* Gives up on one that has not ended. */
void download_cancel(struct download *download);

/* Transfers until something happened or the time is over. */
int downloads_wait(struct downloads *set, unsigned int timeout_ms, struct error *err);

/* Makes downloads_wait() return.  From any thread. */
void downloads_wake(struct downloads *set);
