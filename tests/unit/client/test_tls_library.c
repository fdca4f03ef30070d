#include "client/tls_library.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

/* Every function is there, and they are GnuTLS's. */
static void loads(void **state)
{
	struct tls_library library = {};
	struct error err = {};
	gnutls_session_t session = NULL;

	(void) state;
	assert_int_equal(tls_library_load(&library, &err), 0);
#define TLS_LIBRARY_CHECK(name) assert_non_null(library.name);
	TLS_LIBRARY_FUNCTIONS(TLS_LIBRARY_CHECK)
#undef TLS_LIBRARY_CHECK
	assert_non_null(*library.free);
	assert_string_equal(library.strerror(GNUTLS_E_SUCCESS), "Success.");
	assert_int_equal(library.init(&session, GNUTLS_CLIENT), 0);
	library.deinit(session);
	tls_library_done(&library);
	assert_null(library.handle);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(loads) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
