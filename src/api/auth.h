#pragma once
/*
 * api/auth.h - who is asking, and may they?
 *
 * Two ways in: the Unix socket, where the kernel tells the peer's user and groups (root and members
 * of one group are let in), and TLS with a bearer token from a file that was read at start.
 * Everybody who is let in may do everything in project default; roles come with projects.
 * Pure but for the socket options it reads.
 */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct auth_tokens;
struct error;

struct auth_peer {
	uid_t uid;
	gid_t gid;
	pid_t pid;
	gid_t *groups; /* supplementary groups */
	size_t group_count;
};

/* The other end of a connected Unix socket.  *ret is released with auth_peer_done(). */
int auth_peer_read(int fd, struct auth_peer *ret);
void auth_peer_done(struct auth_peer *peer);

/* Root, the daemon's own user, and members of `group` (or nobody else when it is (gid_t) -1). */
bool auth_peer_allowed(const struct auth_peer *peer, uid_t own_uid, gid_t group);

/*
 * One token per line, "NAME TOKEN" or "NAME sha256:HEX"; '#' starts a comment.  Tokens have at
 * least 20 characters.  -EINVAL names the line; -EPERM when others than the owner may read the
 * file.
 */
int auth_tokens_read(const char *path, struct auth_tokens **ret, struct error *err);
int auth_tokens_parse(const char *text, struct auth_tokens **ret, struct error *err);

/*
 * The name that belongs to an Authorization header (borrowed), or NULL.  Takes the same time for
 * every wrong token; `tokens` may be NULL: nobody.
 */
const char *auth_tokens_check(const struct auth_tokens *tokens, const char *authorization);

void auth_tokens_free(struct auth_tokens *tokens);
DEFINE_AUTO(struct auth_tokens *, auth_tokens_free)
