#include "api/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/base16.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mem.h"

enum { TOKEN_FILE_MAX = 256 * 1024, TOKEN_SIZE_MIN = 20, TOKENS_MAX = 1024, GROUPS_MAX = 65536 };

struct token {
	char *name;
	uint8_t hash[SHA256_DIGEST_SIZE];
};

struct auth_tokens {
	struct token *tokens;
	size_t count;
};

int auth_peer_read(int fd, struct auth_peer *ret)
{
	AUTO(free) gid_t *groups = NULL;
	struct ucred cred;
	socklen_t size = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return -errno;
	size = 64 * sizeof(gid_t);
	groups = mem_zalloc(size);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0) {
		if (errno != ERANGE || size > GROUPS_MAX * sizeof(gid_t))
			return -errno;
		groups = mem_realloc(groups, size, 1);
		if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
			return -errno;
	}
	*ret = (struct auth_peer){ .uid = cred.uid,
				   .gid = cred.gid,
				   .pid = cred.pid,
				   .groups = TAKE_PTR(groups),
				   .group_count = size / sizeof(gid_t) };
	return 0;
}

void auth_peer_done(struct auth_peer *peer)
{
	free(peer->groups);
	*peer = (struct auth_peer){};
}

bool auth_peer_allowed(const struct auth_peer *peer, uid_t own_uid, gid_t group)
{
	if (peer->uid == 0 || peer->uid == own_uid)
		return true;
	if (group == (gid_t) -1)
		return false;
	if (peer->gid == group)
		return true;
	for (size_t i = 0; i < peer->group_count; i++)
		if (peer->groups[i] == group)
			return true;
	return false;
}

static void hash_token(const char *token, size_t size, uint8_t ret[SHA256_DIGEST_SIZE])
{
	struct sha256_ctx sha256;

	sha256_init(&sha256);
	sha256_update(&sha256, size, (const uint8_t *) token);
	sha256_digest(&sha256, SHA256_DIGEST_SIZE, ret);
}

static int parse_token(const char *text, uint8_t ret[SHA256_DIGEST_SIZE])
{
	static const char prefix[] = "sha256:";
	struct base16_decode_ctx decode;
	size_t size = SHA256_DIGEST_SIZE;

	if (strncmp(text, prefix, sizeof(prefix) - 1) != 0) {
		if (strlen(text) < TOKEN_SIZE_MIN)
			return -EINVAL;
		hash_token(text, strlen(text), ret);
		return 0;
	}
	text += sizeof(prefix) - 1;
	base16_decode_init(&decode);
	if (strlen(text) != 2 * SHA256_DIGEST_SIZE ||
	    !base16_decode_update(&decode, &size, ret, strlen(text), text) ||
	    !base16_decode_final(&decode))
		return -EINVAL;
	return 0;
}

static int parse_line(struct auth_tokens *tokens, char *line, unsigned int number,
		      struct error *err)
{
	char *save = NULL;
	const char *name = strtok_r(line, " \t\r", &save);
	const char *text = strtok_r(NULL, " \t\r", &save);
	struct token token = {};

	if (!name || name[0] == '#')
		return 0;
	if (!text || strtok_r(NULL, " \t\r", &save))
		return error_say(err, -EINVAL, "token file: line %u: must be 'NAME TOKEN'", number);
	if (parse_token(text, token.hash) < 0)
		return error_say(err, -EINVAL,
				 "token file: line %u: the token must have at least %d characters, "
				 "or be 'sha256:' and 64 hex digits",
				 number, TOKEN_SIZE_MIN);
	if (tokens->count == TOKENS_MAX)
		return error_say(err, -EINVAL, "token file: more than %d tokens", TOKENS_MAX);
	token.name = mem_strdup(name);
	tokens->tokens = mem_realloc(tokens->tokens, tokens->count + 1, sizeof(token));
	tokens->tokens[tokens->count++] = token;
	return 0;
}

int auth_tokens_parse(const char *text, struct auth_tokens **ret, struct error *err)
{
	AUTO(auth_tokens_free) struct auth_tokens *tokens = mem_new0(struct auth_tokens);
	AUTO(free) char *copy = mem_strdup(text);
	unsigned int number = 0;

	for (char *line = copy, *next; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		int r = parse_line(tokens, line, ++number, err);
		if (r < 0)
			return r;
	}
	*ret = TAKE_PTR(tokens);
	return 0;
}

int auth_tokens_read(const char *path, struct auth_tokens **ret, struct error *err)
{
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	AUTO(free) char *text = NULL;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "token file %s", path);
	if (st.st_mode & 077)
		return error_say(err, -EPERM,
				 "token file %s: others may read it; its mode must be 0600", path);
	r = file_read_fd(fd, TOKEN_FILE_MAX, &text, NULL);
	if (r < 0)
		return error_set(err, r, "token file %s", path);
	return auth_tokens_parse(text, ret, err);
}

const char *auth_tokens_check(const struct auth_tokens *tokens, const char *authorization)
{
	static const char scheme[] = "Bearer ";
	uint8_t hash[SHA256_DIGEST_SIZE];
	const char *found = NULL;

	if (!tokens || !authorization ||
	    strncasecmp(authorization, scheme, sizeof(scheme) - 1) != 0)
		return NULL;
	authorization += sizeof(scheme) - 1;
	authorization += strspn(authorization, " ");
	hash_token(authorization, strlen(authorization), hash);
	/* All are compared, each in constant time: the time taken says nothing about the tokens. */
	for (size_t i = 0; i < tokens->count; i++)
		if (memeql_sec(hash, tokens->tokens[i].hash, sizeof(hash)))
			found = tokens->tokens[i].name;
	return found;
}

void auth_tokens_free(struct auth_tokens *tokens)
{
	if (!tokens)
		return;
	for (size_t i = 0; i < tokens->count; i++)
		free(tokens->tokens[i].name);
	free(tokens->tokens);
	free(tokens);
}
