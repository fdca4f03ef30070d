/* Tokens and peers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/auth.h"
#include "base/error.h"
#include "base/file.h"

static void tokens_plain_and_hashed(void **state)
{
	AUTO(auth_tokens_free) struct auth_tokens *tokens = NULL;

	(void) state;
	assert_int_equal(
		auth_tokens_parse(
			"# who may\n\n"
			"alice  abcdefghijklmnopqrst\r\n"
			"bob\tsha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e88"
			"6266e7ae\n",
			&tokens, NULL),
		0);
	assert_string_equal(auth_tokens_check(tokens, "Bearer abcdefghijklmnopqrst"), "alice");
	assert_string_equal(auth_tokens_check(tokens, "bearer   foo"), "bob");
	assert_null(auth_tokens_check(tokens, "Bearer abcdefghijklmnopqrs"));
	assert_null(auth_tokens_check(tokens, "Bearer abcdefghijklmnopqrstu"));
	assert_null(auth_tokens_check(tokens, "Bearer "));
	assert_null(auth_tokens_check(tokens, "Basic abcdefghijklmnopqrst"));
	assert_null(auth_tokens_check(tokens, ""));
	assert_null(auth_tokens_check(tokens, NULL));
	assert_null(auth_tokens_check(NULL, "Bearer abcdefghijklmnopqrst"));
	/* The hash itself opens nothing. */
	assert_null(auth_tokens_check(tokens,
				      "Bearer sha256:2c26b46b68ffc68ff99b453c1d30413413422d7"
				      "06483bfa0f98a5e886266e7ae"));
}

static void bad_lines_are_named(void **state)
{
	static const struct {
		const char *text, *words;
	} cases[] = {
		{ "alice\n", "token file: line 1: must be 'NAME TOKEN'" },
		{ "\nalice a b\n", "token file: line 2: must be 'NAME TOKEN'" },
		{ "alice short\n",
		  "token file: line 1: the token must have at least 20 characters, or "
		  "be 'sha256:' and 64 hex digits" },
		{ "a sha256:00\n",
		  "token file: line 1: the token must have at least 20 characters, or "
		  "be 'sha256:' and 64 hex digits" },
	};
	struct auth_tokens *tokens = NULL;
	struct error err = {};

	(void) state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		assert_int_equal(auth_tokens_parse(cases[i].text, &tokens, &err), -EINVAL);
		assert_string_equal(err.msg, cases[i].words);
		assert_null(tokens);
	}
}

static void readable_files_are_refused(void **state)
{
	char path[] = "/tmp/brume-test-tokens-XXXXXX";
	AUTO(auth_tokens_free) struct auth_tokens *tokens = NULL;
	AUTO(fd_close) int fd = mkstemp(path);
	struct error err = {};

	(void) state;
	assert_int_equal(file_write_all(fd, "a abcdefghijklmnopqrst\n", 23), 0);
	assert_int_equal(auth_tokens_read(path, &tokens, &err), 0);
	assert_int_equal(fchmod(fd, 0640), 0);
	struct auth_tokens *none = NULL;
	assert_int_equal(auth_tokens_read(path, &none, &err), -EPERM);
	assert_non_null(strstr(err.msg, "its mode must be 0600"));
	unlink(path);
	assert_int_equal(auth_tokens_read(path, &none, &err), -ENOENT);
}

static void the_kernel_names_the_peer(void **state)
{
	struct auth_peer peer = {};
	int fds[2];

	(void) state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(auth_peer_read(fds[0], &peer), 0);
	assert_int_equal(peer.uid, geteuid());
	assert_int_equal(peer.gid, getegid());
	assert_int_equal(peer.group_count, getgroups(0, NULL));
	auth_peer_done(&peer);
	close(fds[0]);
	close(fds[1]);
	assert_true(auth_peer_read(0, &peer) < 0);
}

static void who_is_let_in(void **state)
{
	gid_t groups[] = { 20, 30 };
	struct auth_peer root = { .uid = 0 };
	struct auth_peer self = { .uid = 77 };
	struct auth_peer member = { .uid = 5, .gid = 30 };
	struct auth_peer other = { .uid = 5, .gid = 5, .groups = groups, .group_count = 2 };

	(void) state;
	assert_true(auth_peer_allowed(&root, 77, (gid_t) -1));
	assert_true(auth_peer_allowed(&self, 77, (gid_t) -1));
	assert_true(auth_peer_allowed(&member, 77, 30));
	assert_true(auth_peer_allowed(&other, 77, 20));
	assert_false(auth_peer_allowed(&other, 77, 40));
	assert_false(auth_peer_allowed(&other, 77, (gid_t) -1));
	other.gid = (gid_t) -1;
	assert_false(auth_peer_allowed(&other, 77, (gid_t) -1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_plain_and_hashed),
		cmocka_unit_test(bad_lines_are_named),
		cmocka_unit_test(readable_files_are_refused),
		cmocka_unit_test(the_kernel_names_the_peer),
		cmocka_unit_test(who_is_let_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
