#include "client/tls_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/error.h"

/* The ABI of GnuTLS 3. */
static const char library_name[] = "libgnutls.so.30";

struct symbol {
	const char *name;
	size_t offset; /* of its pointer in struct tls_library */
};

static const struct symbol symbols[] = { { "gnutls_free", offsetof(struct tls_library, free) },
#define TLS_LIBRARY_SYMBOL(name) { "gnutls_" #name, offsetof(struct tls_library, name) },
					 TLS_LIBRARY_FUNCTIONS(TLS_LIBRARY_SYMBOL)
#undef TLS_LIBRARY_SYMBOL
};

int tls_library_load(struct tls_library *ret, struct error *err)
{
	struct tls_library library = { .handle = dlopen(library_name, RTLD_NOW | RTLD_LOCAL) };

	if (!library.handle)
		return error_say(
			err, -ENOPKG,
			"an https server needs the library %s, which cannot be loaded (%s); "
			"install the package libgnutls30",
			library_name, dlerror());
	for (size_t i = 0; i < ARRAY_COUNT(symbols); i++) {
		void *address = dlsym(library.handle, symbols[i].name);

		if (!address) {
			error_say(err, -ENOPKG, "the library %s has no function %s", library_name,
				  symbols[i].name);
			tls_library_done(&library);
			return -ENOPKG;
		}
		memcpy((char *) &library + symbols[i].offset, &address, sizeof(address));
	}
	*ret = library;
	return 0;
}

void tls_library_done(struct tls_library *library)
{
	if (library->handle)
		dlclose(library->handle);
	*library = (struct tls_library){};
}
