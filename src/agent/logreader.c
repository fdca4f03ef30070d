#include "agent/logreader.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"

enum { CHUNK_SIZE = 64 * 1024, CURSOR_UID_SIZE = 8 };

void logreader_init(struct logreader *reader, const char *path, const struct logreader_range *range)
{
	*reader = (struct logreader){ .path = mem_strdup(path), .range = *range };
	if (reader->range.streams == 0)
		reader->range.streams = LOGREADER_ALL_STREAMS;
}

void logreader_open(struct logreader *reader)
{
	const struct logreader_range *range = &reader->range;
	struct logchain *chain = &reader->chain;

	logchain_open(chain, reader->path);
	if (range->has_cursor) {
		reader->position = range->position;
		reader->inside = range->inside;
		return;
	}
	reader->position = range->since_ns ? logchain_find_time(chain, range->since_ns)
					   : logchain_begin(chain);
	if (range->tail < 0)
		return;
	uint64_t end = range->until_ns ? logchain_find_time(chain, range->until_ns + 1)
				       : logchain_end(chain);
	reader->position =
		logchain_find_tail(chain, reader->position, end, range->tail, range->streams);
}

static void reopen(struct logreader *reader)
{
	uint64_t begin;

	logchain_close(&reader->chain);
	logchain_open(&reader->chain, reader->path);
	begin = logchain_begin(&reader->chain);
	/* What was to be read next is gone: a half line in hand goes with it. */
	if (reader->chain.count > 0 && reader->position < begin) {
		reader->dropped += begin - reader->position + reader->text.size;
		strbuf_consume(&reader->text, reader->text.size);
		reader->position = begin;
	}
}

void logreader_catch_up(struct logreader *reader)
{
	if (logchain_is_outdated(&reader->chain, reader->path))
		reopen(reader);
}

bool logreader_fill(struct logreader *reader)
{
	/* Asked before reading: what is written before a rotation is read from the old file. */
	bool outdated = logchain_is_outdated(&reader->chain, reader->path);
	uint64_t before = reader->position;
	size_t left = reader->text.size, n;

	if (reader->over)
		return false;
	n = logchain_read(&reader->chain, &reader->position,
			  strbuf_reserve(&reader->text, CHUNK_SIZE), CHUNK_SIZE);
	if (n > 0) {
		strbuf_grown(&reader->text, n);
		/* Behind a hole no line goes on. */
		if (reader->position != before)
			strbuf_consume(&reader->text, left);
		reader->position += n;
		logchain_drop(&reader->chain, reader->position);
		return true;
	}
	if (!outdated)
		return false;
	reopen(reader);
	return reader->chain.count > 0;
}

static void put_line(struct logreader *reader, const struct logline *line, struct strbuf *out)
{
	unsigned int bit = 1U << line->stream;
	char time[LOGLINE_TIME_SIZE];

	if (reader->range.timestamps && !(reader->inside & bit)) {
		logline_format_time(line->time_ns, time);
		strbuf_printf(out, "%s ", time);
	}
	strbuf_append(out, line->text, line->text_size);
	if (!line->partial)
		strbuf_puts(out, "\n");
	reader->inside = line->partial ? reader->inside | bit : reader->inside & ~bit;
}

int logreader_take(struct logreader *reader, size_t room, enum logline_stream *ret_stream,
		   struct strbuf *out)
{
	size_t used = 0, before = out->size;
	int r = 0;

	while (used < reader->text.size && !reader->over) {
		const char *start = reader->text.data + used;
		const char *end = memchr(start, '\n', reader->text.size - used);
		struct logline line;

		if (!end)
			break;
		size_t size = (size_t) (end - start);
		/* A file's head, or a line that a crash has cut, or not asked for. */
		if (logline_parse(start, size, &line) < 0 ||
		    !(reader->range.streams & 1U << line.stream)) {
			used += size + 1;
			continue;
		}
		if (reader->range.until_ns && line.time_ns > reader->range.until_ns) {
			reader->over = true;
			break;
		}
		if (r > 0 && line.stream != *ret_stream)
			break;
		if (out->size - before + line.text_size + LOGLINE_TIME_SIZE + 1 > room) {
			r = r > 0 ? r : -ENOBUFS;
			break;
		}
		*ret_stream = line.stream;
		r = 1;
		put_line(reader, &line, out);
		used += size + 1;
	}
	strbuf_consume(&reader->text, used);
	return r;
}

void logreader_cursor(const struct logreader *reader, const char *uid,
		      char ret[LOGREADER_CURSOR_SIZE])
{
	snprintf(ret, LOGREADER_CURSOR_SIZE, "%.*s-%" PRIu64 "-%u", CURSOR_UID_SIZE, uid,
		 reader->position - reader->text.size, reader->inside);
}

int logreader_parse_cursor(const char *text, const char *uid, struct logreader_range *range,
			   struct error *err)
{
	uint64_t position;
	unsigned int inside;
	char end;

	if (strlen(text) >= LOGREADER_CURSOR_SIZE || strlen(text) <= CURSOR_UID_SIZE + 1 ||
	    !isdigit((unsigned char) text[CURSOR_UID_SIZE + 1]) ||
	    sscanf(text + CURSOR_UID_SIZE, "-%19" SCNu64 "-%1u%c", &position, &inside, &end) != 2 ||
	    inside & ~(unsigned int) LOGREADER_ALL_STREAMS)
		return error_say(err, -EINVAL, "cursor: \"%.48s\" is not one that logs gave", text);
	if (strncmp(text, uid, CURSOR_UID_SIZE) != 0)
		return error_say(err, -EINVAL,
				 "cursor: \"%.48s\" is of an instance of that name before this one",
				 text);
	range->has_cursor = true;
	range->position = position;
	range->inside = inside;
	return 0;
}

void logreader_done(struct logreader *reader)
{
	logchain_close(&reader->chain);
	strbuf_done(&reader->text);
	free(reader->path);
	reader->path = NULL;
}
