#pragma once
/*
 * image/challenge_internal.h - the WWW-Authenticate header of a registry, taken apart.
 * Decodes what a stranger wrote; pure, thread-safe.
 */

struct challenge {
	enum { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER } kind;
	char *realm, *service, *scope; /* of a bearer challenge; NULL when absent */
};

/* What cannot be understood is CHALLENGE_NONE. */
void challenge_parse(const char *header, struct challenge *ret);

void challenge_done(struct challenge *challenge);
static inline void challenge_done_autop(struct challenge *challenge)
{
	challenge_done(challenge);
}
