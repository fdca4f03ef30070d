#pragma once
/*
 * tests/unit/store/conformance.h - what every back end of the store must do.
 *
 * A back end's test says how one is opened and runs conformance_tests() with it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <systemd/sd-event.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "store/store.h"

struct bench {
	struct clock clock; /* first: the callbacks get it */
	uint64_t monotonic_us;
	sd_event *event;
	struct store *store;
	/* Opens bench->store anew; what was written before must be there. */
	int (*open)(struct bench *bench);
	void *backend;
};

struct answer {
	bool done;
	int error;
	bool succeeded;
	uint64_t revision;
	uint64_t lease;
	char text[2048]; /* "key=value@modified," of the entries */
};

static uint64_t bench_monotonic(struct clock *clock)
{
	return ((struct bench *) clock)->monotonic_us;
}

static void on_answer(const struct store_result *result, void *data)
{
	AUTO(strbuf_done) struct strbuf text = {};
	struct answer *answer = data;

	*answer = (struct answer){ .done = true,
				   .error = result->error,
				   .succeeded = result->succeeded,
				   .revision = result->revision,
				   .lease = result->lease };
	for (size_t i = 0; i < result->entry_count; i++)
		strbuf_printf(&text, "%s=%s@%llu,", result->entries[i].key,
			      result->entries[i].value,
			      (unsigned long long) result->entries[i].mod_revision);
	snprintf(answer->text, sizeof(answer->text), "%s", strbuf_str(&text));
}

static void await(struct bench *bench, const bool *done)
{
	while (!*done)
		assert_true(sd_event_run(bench->event, 20 * 1000 * 1000) > 0);
}

static struct answer commit(struct bench *bench, struct store_txn *txn)
{
	struct answer answer = {};

	store_commit(bench->store, txn, on_answer, &answer);
	assert_false(answer.done); /* never from inside the call */
	await(bench, &answer.done);
	return answer;
}

static struct answer put(struct bench *bench, const char *key, const char *value)
{
	struct store_txn txn = {};

	store_ops_put(&txn.then, key, value, 0);
	return commit(bench, &txn);
}

static struct answer erase(struct bench *bench, const char *key)
{
	struct store_txn txn = {};

	store_ops_delete(&txn.then, key);
	return commit(bench, &txn);
}

static struct answer list(struct bench *bench, const char *prefix)
{
	struct answer answer = {};

	store_list(bench->store, prefix, on_answer, &answer);
	await(bench, &answer.done);
	return answer;
}

static struct answer get(struct bench *bench, const char *key)
{
	struct answer answer = {};

	store_get(bench->store, key, on_answer, &answer);
	await(bench, &answer.done);
	return answer;
}

static void test_put_get_list(void **state)
{
	struct bench *bench = *state;
	uint64_t base = list(bench, "/").revision;
	char want[256];

	assert_int_equal(put(bench, "/l/b", "two").revision, base + 1);
	assert_int_equal(put(bench, "/l/a", "one").revision, base + 2);
	assert_int_equal(put(bench, "/la", "no").revision, base + 3);
	assert_string_equal(get(bench, "/l/none").text, "");
	snprintf(want, sizeof(want), "/l/a=one@%d,/l/b=two@%d,", (int) base + 2, (int) base + 1);
	assert_string_equal(list(bench, "/l/").text, want);
	assert_int_equal(erase(bench, "/l/a").revision, base + 4);
	assert_int_equal(erase(bench, "/l/a").revision, base + 4); /* nothing changed */
	snprintf(want, sizeof(want), "/l/b=two@%d,", (int) base + 1);
	assert_string_equal(list(bench, "/l/").text, want);
}

static void test_compares(void **state)
{
	struct bench *bench = *state;
	struct store_txn txn = {};
	struct answer answer;
	uint64_t first, second;

	store_txn_compare(&txn, STORE_MOD_REVISION, "/c/x", 0);
	store_ops_put(&txn.then, "/c/x", "1", 0);
	answer = commit(bench, &txn);
	assert_true(answer.succeeded);
	first = answer.revision;

	/* Absent no more: the other branch. */
	store_txn_compare(&txn, STORE_MOD_REVISION, "/c/x", 0);
	store_ops_put(&txn.then, "/c/x", "2", 0);
	store_ops_get(&txn.otherwise, "/c/x");
	answer = commit(bench, &txn);
	assert_false(answer.succeeded);
	assert_int_equal(answer.error, 0);
	assert_int_equal(answer.revision, first);
	assert_memory_equal(answer.text, "/c/x=1@", 7);

	store_txn_compare(&txn, STORE_MOD_REVISION, "/c/x", first);
	store_ops_put(&txn.then, "/c/x", "3", 0);
	answer = commit(bench, &txn);
	assert_true(answer.succeeded);
	second = answer.revision;
	store_txn_compare(&txn, STORE_CREATE_REVISION, "/c/x", first);
	store_txn_compare(&txn, STORE_MOD_REVISION, "/c/x", second);
	store_txn_compare(&txn, STORE_PREFIX_EMPTY, "/c/y", 0);
	store_ops_delete(&txn.then, "/c/x");
	store_ops_put(&txn.then, "/c/y1", "y", 0);
	assert_true(commit(bench, &txn).succeeded);
	store_txn_compare(&txn, STORE_PREFIX_EMPTY, "/c/y", 0);
	store_ops_put(&txn.then, "/c/z", "z", 0);
	assert_false(commit(bench, &txn).succeeded);
	assert_memory_equal(list(bench, "/c/").text, "/c/y1=y@", 8);
	assert_int_equal(strlen(get(bench, "/c/x").text), 0);
}

struct log {
	struct strbuf text;
	uint64_t revision;
	int ended;
	struct store_watch *free_at_first; /* freed inside the callback */
};

static void on_events(const struct store_event *events, size_t count, uint64_t revision, void *data)
{
	struct log *log = data;

	assert_true(count > 0);
	for (size_t i = 0; i < count; i++) {
		assert_true(events[i].mod_revision > log->revision || i > 0);
		strbuf_printf(&log->text, "%s%s%s,", events[i].key, events[i].deleted ? "-" : "=",
			      events[i].value);
	}
	log->revision = revision;
	if (log->free_at_first) {
		store_watch_free(log->free_at_first);
		log->free_at_first = NULL;
	}
}

static void on_ended(int error, const char *message, void *data)
{
	assert_true(strlen(message) > 0);
	((struct log *) data)->ended = error;
}

static const struct store_watch_ops log_ops = { on_events, on_ended };

static void test_watch(void **state)
{
	struct bench *bench = *state;
	struct log early = {}, late = {}, once = {};
	struct store_watch *watch, *resumed;
	struct store_txn txn = {};
	uint64_t base = list(bench, "/").revision;

	watch = store_watch_new(bench->store, "/w/", base + 1, &log_ops, &early);
	once.free_at_first = store_watch_new(bench->store, "/w/", base + 1, &log_ops, &once);
	put(bench, "/w/a", "1");
	put(bench, "/other", "x");
	assert_string_equal(strbuf_str(&early.text), "/w/a=1,"); /* before the answer of /other */
	assert_string_equal(strbuf_str(&once.text), "/w/a=1,");
	store_ops_put(&txn.then, "/w/b", "2", 0);
	store_ops_delete(&txn.then, "/w/a");
	assert_int_equal(commit(bench, &txn).error, 0);
	list(bench, "/");
	assert_string_equal(strbuf_str(&early.text), "/w/a=1,/w/b=2,/w/a-1,");
	assert_string_equal(strbuf_str(&once.text), "/w/a=1,");
	/* From a revision in the past: the same, in order. */
	resumed = store_watch_new(bench->store, "/w/", base + 1, &log_ops, &late);
	put(bench, "/w/c", "3");
	list(bench, "/");
	assert_int_equal(early.text.size, late.text.size);
	assert_non_null(strstr(strbuf_str(&late.text), "/w/c=3,"));
	store_watch_free(resumed);
	put(bench, "/w/d", "4");
	list(bench, "/");
	assert_null(strstr(strbuf_str(&late.text), "/w/d"));
	store_watch_free(watch);
	strbuf_done(&early.text);
	strbuf_done(&late.text);
	strbuf_done(&once.text);
}

static void test_compaction(void **state)
{
	struct bench *bench = *state;
	struct log log = {}, fresh = {};
	struct answer answer = {};
	struct store_watch *watch;
	uint64_t old, now;

	old = put(bench, "/k/a", "1").revision;
	now = put(bench, "/k/a", "2").revision;
	store_compact(bench->store, now, on_answer, &answer);
	await(bench, &answer.done);
	assert_int_equal(answer.error, 0);
	watch = store_watch_new(bench->store, "/k/", old, &log_ops, &log);
	list(bench, "/");
	assert_int_equal(log.ended, -ESTALE);
	store_watch_free(watch);
	watch = store_watch_new(bench->store, "/k/", now, &log_ops, &fresh);
	list(bench, "/");
	assert_int_equal(fresh.ended, 0);
	assert_string_equal(strbuf_str(&fresh.text), "/k/a=2,");
	store_watch_free(watch);
	strbuf_done(&fresh.text);
	assert_memory_equal(get(bench, "/k/a").text, "/k/a=2@", 7);
}

static uint64_t grant(struct bench *bench, uint64_t ttl_ms)
{
	struct answer answer = {};

	store_lease_grant(bench->store, ttl_ms, on_answer, &answer);
	await(bench, &answer.done);
	assert_int_equal(answer.error, 0);
	assert_true(answer.lease > 0);
	return answer.lease;
}

static int keep_alive(struct bench *bench, uint64_t lease)
{
	struct answer answer = {};

	store_lease_keep_alive(bench->store, lease, on_answer, &answer);
	await(bench, &answer.done);
	return answer.error;
}

static void pass(struct bench *bench, uint64_t ms)
{
	bench->monotonic_us += ms * 1000;
	store_lease_expire(bench->store);
}

/* A lock: taken if absent, fenced by its create revision, gone with its lease. */
static void test_leases(void **state)
{
	struct bench *bench = *state;
	uint64_t lease = grant(bench, 1000), other = grant(bench, 100000);
	struct store_txn txn = {};
	struct answer answer;
	uint64_t token;

	assert_true(lease != other);
	store_txn_compare(&txn, STORE_CREATE_REVISION, "/lease/lock", 0);
	store_ops_put(&txn.then, "/lease/lock", "me", lease);
	answer = commit(bench, &txn);
	assert_true(answer.succeeded);
	token = answer.revision;
	store_txn_compare(&txn, STORE_CREATE_REVISION, "/lease/lock", token);
	store_ops_put(&txn.then, "/lease/data", "1", 0);
	assert_true(commit(bench, &txn).succeeded);

	pass(bench, 900);
	assert_int_equal(keep_alive(bench, lease), 0);
	pass(bench, 900);
	assert_memory_equal(get(bench, "/lease/lock").text, "/lease/lock=me", 14);
	pass(bench, 200);
	assert_string_equal(get(bench, "/lease/lock").text, "");
	assert_int_equal(keep_alive(bench, lease), -ENOENT);
	/* The next owner has another token: the first one is fenced off. */
	store_ops_put(&txn.then, "/lease/lock", "you", other);
	assert_int_equal(commit(bench, &txn).error, 0);
	store_txn_compare(&txn, STORE_CREATE_REVISION, "/lease/lock", token);
	store_ops_put(&txn.then, "/lease/data", "2", 0);
	assert_false(commit(bench, &txn).succeeded);
	store_ops_put(&txn.then, "/lease/x", "x", lease);
	assert_int_equal(commit(bench, &txn).error, -ENOENT);

	answer = (struct answer){};
	store_lease_revoke(bench->store, other, on_answer, &answer);
	await(bench, &answer.done);
	assert_int_equal(answer.error, 0);
	assert_string_equal(get(bench, "/lease/lock").text, "");
	assert_memory_equal(get(bench, "/lease/data").text, "/lease/data=1", 13);
}

struct counter {
	unsigned int *answered;
	unsigned int number;
};

static void on_counted(const struct store_result *result, void *data)
{
	struct counter *counter = data;

	assert_int_equal(result->error, 0);
	assert_int_equal(*counter->answered, counter->number); /* in the order of the requests */
	(*counter->answered)++;
}

static void test_many_at_once(void **state)
{
	enum { COUNT = 500 };
	static struct counter counters[COUNT];
	struct bench *bench = *state;
	uint64_t base = list(bench, "/").revision;
	unsigned int answered = 0;
	char key[32];

	for (unsigned int i = 0; i < COUNT; i++) {
		struct store_txn txn = {};

		snprintf(key, sizeof(key), "/many/%u", i);
		store_ops_put(&txn.then, key, "x", 0);
		counters[i] = (struct counter){ &answered, i };
		store_commit(bench->store, &txn, on_counted, &counters[i]);
	}
	while (answered < COUNT)
		assert_true(sd_event_run(bench->event, 20 * 1000 * 1000) > 0);
	assert_int_equal(list(bench, "/many/").revision, base + COUNT);
}

/* What was answered is there after closing and opening; watches go on from where they were. */
static void test_reopen(void **state)
{
	struct bench *bench = *state;
	struct log log = {};
	struct store_watch *watch;
	uint64_t lease = grant(bench, 5000), base;
	struct store_txn txn = {};

	put(bench, "/r/a", "1");
	base = put(bench, "/r/b", "2").revision;
	store_ops_put(&txn.then, "/r/lock", "me", lease);
	commit(bench, &txn);
	store_free(TAKE_PTR(bench->store));
	assert_int_equal(bench->open(bench), 0);
	assert_int_equal(list(bench, "/").revision, base + 1);
	watch = store_watch_new(bench->store, "/r/", base, &log_ops, &log);
	list(bench, "/");
	assert_string_equal(strbuf_str(&log.text), "/r/b=2,/r/lock=me,");
	store_watch_free(watch);
	strbuf_done(&log.text);
	assert_int_equal(keep_alive(bench, lease), 0);
	pass(bench, 6000);
	assert_string_equal(get(bench, "/r/lock").text, "");
	assert_true(grant(bench, 1000) > lease);
}

static void on_cancelled(const struct store_result *result, void *data)
{
	assert_true(result->error == -ECANCELED || result->error == 0);
	(*(unsigned int *) data)++;
}

static void test_close_answers_everybody(void **state)
{
	struct bench *bench = *state;
	unsigned int answered = 0;

	for (int i = 0; i < 20; i++) {
		struct store_txn txn = {};

		store_ops_put(&txn.then, "/close", "x", 0);
		store_commit(bench->store, &txn, on_cancelled, &answered);
	}
	store_free(TAKE_PTR(bench->store));
	assert_int_equal(answered, 20);
	assert_int_equal(bench->open(bench), 0);
}

static int conformance_tests(struct bench *bench)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(test_put_get_list, bench),
		cmocka_unit_test_prestate(test_compares, bench),
		cmocka_unit_test_prestate(test_watch, bench),
		cmocka_unit_test_prestate(test_compaction, bench),
		cmocka_unit_test_prestate(test_leases, bench),
		cmocka_unit_test_prestate(test_many_at_once, bench),
		cmocka_unit_test_prestate(test_reopen, bench),
		cmocka_unit_test_prestate(test_close_answers_everybody, bench),
	};

	bench->clock.monotonic_us = bench_monotonic;
	bench->monotonic_us = 1000000;
	assert_true(sd_event_new(&bench->event) >= 0);
	assert_int_equal(bench->open(bench), 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
