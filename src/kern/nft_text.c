#include "kern/nft_text.h"

#include <errno.h>
#include <fcntl.h>
#include <nftables/libnftables.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"

enum { TEXT_MAX = 256 * 1024, ALL_MAX = 2 * 1024 * 1024, CHILDREN_MAX = 8 };

/* What the child writes before each text. */
struct piece {
	uint32_t chain, size;
};

/* ---- what nft writes ---- */

/* One blank instead of several, and of line ends. */
static void squeeze(char *text)
{
	char *to = text;
	bool blank = true;

	for (const char *from = text; *from; from++) {
		bool is_blank = strchr(" \t\n", *from) != NULL;

		if (!is_blank || !blank)
			*to++ = is_blank ? ' ' : *from;
		blank = is_blank;
	}
	while (to > text && to[-1] == ' ')
		to--;
	*to = '\0';
}

/* Cuts ` comment "..."` off the end of a rule and returns what stands in it, "" for none. */
static char *cut_comment(char *rule)
{
	static const char begin[] = " comment \"";
	size_t size = strlen(rule);
	char *found = NULL;

	if (size == 0 || rule[size - 1] != '"')
		return rule + size;
	for (char *next = strstr(rule, begin); next; next = strstr(next + 1, begin))
		found = next;
	if (!found || found + sizeof(begin) - 1 >= rule + size)
		return rule + size;
	rule[size - 1] = '\0';
	*found = '\0';
	return found + sizeof(begin) - 1;
}

/* A rule's lines up to here, when it ends with its handle. */
static bool take_rule(char *rule, size_t chain, nft_text_fn fn, void *data)
{
	static const char mark[] = " # handle ";
	char *found = NULL, *end, *comment;
	unsigned long long handle;

	for (char *next = strstr(rule, mark); next; next = strstr(next + 1, mark))
		found = next;
	if (!found)
		return false;
	handle = strtoull(found + sizeof(mark) - 1, &end, 10);
	if (*end != '\0' || end == found + sizeof(mark) - 1)
		return false;
	*found = '\0';
	squeeze(rule);
	comment = cut_comment(rule);
	if (rule[0] && handle > 0)
		fn(chain, handle, rule, comment, data);
	return true;
}

/* Lines of a chain stand two tabs deep; its head and the table's end likewise with a handle. */
void nft_text_parse(char *text, size_t chain, nft_text_fn fn, void *data)
{
	AUTO(strbuf_done) struct strbuf rule = {};
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n"))) {
		bool deep = line[0] == '\t' && line[1] == '\t';

		if (!deep || (rule.size == 0 && strncmp(line, "\t\ttype ", 7) == 0 &&
			      strstr(line, " hook "))) {
			strbuf_consume(&rule, rule.size);
			continue;
		}
		/* The comment of the chain itself. */
		if (rule.size == 0 && strncmp(line, "\t\tcomment \"", 11) == 0 &&
		    !strstr(line, "\" # handle "))
			continue;
		strbuf_printf(&rule, "%s%s", rule.size > 0 ? "\n" : "", line);
		if (take_rule(rule.data, chain, fn, data))
			strbuf_consume(&rule, rule.size);
	}
}

/* ---- the child ---- */

/* Names are put into commands. */
static bool is_plain(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789_.-";

	return name[0] && name[strspn(name, allowed)] == '\0';
}

static bool write_all(int fd, const void *data, size_t size)
{
	for (const char *at = data; size > 0;) {
		ssize_t n = write(fd, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		size -= (size_t) n;
	}
	return true;
}

static void list_chain(const struct nft_text_chain *chain, uint32_t number, int out_fd)
{
	struct nft_ctx *context = nft_ctx_new(NFT_CTX_DEFAULT);
	AUTO(free)
	char *command =
		mem_printf("list chain %s %s %s", chain->family, chain->table, chain->chain);
	struct piece piece = { .chain = number };
	const char *text = NULL;

	if (!context)
		_exit(1);
	nft_ctx_buffer_output(context);
	nft_ctx_buffer_error(context);
	nft_ctx_output_set_flags(context, NFT_CTX_OUTPUT_HANDLE | NFT_CTX_OUTPUT_STATELESS |
						  NFT_CTX_OUTPUT_TERSE);
	if (nft_run_cmd_from_buffer(context, command) == 0)
		text = nft_ctx_get_output_buffer(context);
	piece.size = text ? (uint32_t) strnlen(text, TEXT_MAX) : 0;
	if (!write_all(out_fd, &piece, sizeof(piece)) || !write_all(out_fd, text, piece.size))
		_exit(1);
	nft_ctx_free(context);
}

/*
 * The C library sets its own locks right after a fork, so memory and files can be used here; should
 * something else be held for ever, the parent ends us.
 */
static _Noreturn void child(const struct nft_text_chain *chains, size_t first, size_t count,
			    int out_fd)
{
	static const int quiet[] = { SIGABRT, SIGPIPE };
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void) prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void) prctl(PR_SET_DUMPABLE, 0);
	for (size_t i = 0; i < ARRAY_COUNT(quiet); i++)
		(void) signal(quiet[i], SIG_DFL);
	/* What libnftables says when it aborts is no news for the agent's log. */
	if (null_fd < 0 || dup2(null_fd, STDERR_FILENO) < 0 || dup2(null_fd, STDOUT_FILENO) < 0)
		_exit(1);
	for (size_t i = first; i < count; i++) {
		if (setns(chains[i].netns_fd, CLONE_NEWNET) < 0)
			_exit(1);
		if (is_plain(chains[i].family) && is_plain(chains[i].table) &&
		    is_plain(chains[i].chain))
			list_chain(&chains[i], (uint32_t) i, out_fd);
	}
	_exit(0);
}

/* ---- the parent ---- */

/* Returns how many chains were read from `first` on. */
static size_t read_pieces(const struct strbuf *text, size_t first, size_t count, nft_text_fn fn,
			  void *data)
{
	size_t at = 0, chain = first;

	while (text->size - at >= sizeof(struct piece)) {
		struct piece piece;
		AUTO(free) char *copy = NULL;

		memcpy(&piece, text->data + at, sizeof(piece));
		at += sizeof(piece);
		if (piece.chain < chain || piece.chain >= count || piece.size > text->size - at)
			break;
		copy = mem_strndup(text->data + at, piece.size);
		at += piece.size;
		nft_text_parse(copy, piece.chain, fn, data);
		chain = piece.chain + 1;
	}
	return chain - first;
}

/* Until the child has ended, or the time is up. */
static void collect(int fd, uint64_t end_us, struct strbuf *text)
{
	while (text->size < ALL_MAX) {
		uint64_t now_us = clock_monotonic_us(clock_system());
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		char buffer[16384];
		ssize_t n;

		if (now_us >= end_us)
			return;
		if (poll(&poll_fd, 1, (int) ((end_us - now_us) / 1000) + 1) <= 0)
			continue;
		n = read(fd, buffer, sizeof(buffer));
		if (n == 0 || (n < 0 && errno != EINTR))
			return;
		if (n > 0)
			strbuf_append(text, buffer, (size_t) n);
	}
}

/* One child, that reads from `first` on: how many chains, or -errno. */
static ssize_t run_child(const struct nft_text_chain *chains, size_t first, size_t count,
			 uint64_t end_us, nft_text_fn fn, void *data)
{
	AUTO(strbuf_done) struct strbuf text = {};
	AUTO(fd_close) int in = -1, out = -1;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	in = fds[0];
	out = fds[1];
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		child(chains, first, count, out);
	fd_close(TAKE_FD(out));
	collect(in, end_us, &text);
	(void) kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	return (ssize_t) read_pieces(&text, first, count, fn, data);
}

int nft_text_read(const struct nft_text_chain *chains, size_t count, unsigned int timeout_ms,
		  nft_text_fn fn, void *data)
{
	uint64_t end_us = clock_monotonic_us(clock_system()) + timeout_ms * 1000ULL;
	size_t first = 0;

	for (int i = 0; i < CHILDREN_MAX && first < count; i++) {
		ssize_t n = run_child(chains, first, count, end_us, fn, data);

		if (n < 0)
			return (int) n;
		if (clock_monotonic_us(clock_system()) >= end_us)
			return 0;
		/* Where it died the next one goes on behind. */
		first += (size_t) n + 1;
	}
	return 0;
}
