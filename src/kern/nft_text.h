#pragma once
/*
 * kern/nft_text.h - rules as nft writes them, found by their handles.
 *
 * libnftables reads them, and aborts at what it does not know: tables of others may hold anything.
 * So a child process reads, which may die, or be ended when it takes too long: what it has told
 * until then is used, and another one goes on behind the chain at which it died.
 *
 * Used by net/.  Thread-safe; blocks for some milliseconds for each chain.  Returns 0 or -errno.
 */
#include <stddef.h>
#include <stdint.h>

struct nft_text_chain {
	int netns_fd; /* where it is */
	const char *family, *table, *chain;
};

/* Borrowed for the call; the comment is "" when there is none. */
typedef void (*nft_text_fn)(size_t chain, uint64_t handle, const char *expression,
			    const char *comment, void *data);

/* Hands the rules of these chains to `fn`; of chains that cannot be read there are none. */
int nft_text_read(const struct nft_text_chain *chains, size_t count, unsigned int timeout_ms,
		  nft_text_fn fn, void *data);

/* The output of `nft -a list chain` alone, which is overwritten. */
void nft_text_parse(char *text, size_t chain, nft_text_fn fn, void *data);
