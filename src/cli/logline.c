#include "cli/logline.h"

#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "cli/human.h"

static json_t *text_value(const char *text, size_t size)
{
	json_t *value = json_stringn(text, size);
	AUTO(strbuf_done) struct strbuf harmless = {};

	if (value)
		return value;
	/* Not UTF-8, which JSON cannot say. */
	AUTO(free) char *copy = mem_strndup(text, size);
	human_text(&harmless, copy);
	return json_string(strbuf_str(&harmless));
}

static int print_line(FILE *out, bool is_err, const char *line, size_t size)
{
	const char *space = memchr(line, ' ', size);
	size_t time = space ? (size_t) (space - line) : 0;
	size_t skip = space ? time + 1 : 0;
	AUTO(json_decref) json_t *object = json_object();

	json_object_set_new(object, "time", text_value(line, time));
	json_object_set_new(object, "stream", json_string(is_err ? "stderr" : "stdout"));
	json_object_set_new(object, "line", text_value(line + skip, size - skip));
	AUTO(free) char *text = json_text(object);
	return fprintf(out, "%s\n", text) < 0 ? -EIO : 0;
}

int logline_print(struct logline_printer *printer, FILE *out, bool is_err, const char *data,
		  size_t size)
{
	struct strbuf *line = &printer->line[is_err];
	const char *end;
	int r = 0;

	for (; r == 0 && (end = memchr(data, '\n', size));
	     size -= (size_t) (end + 1 - data), data = end + 1) {
		strbuf_append(line, data, (size_t) (end - data));
		r = print_line(out, is_err, strbuf_str(line), line->size);
		strbuf_consume(line, line->size);
	}
	strbuf_append(line, data, size);
	return r == 0 && fflush(out) != 0 ? -errno : r;
}

void logline_printer_done(struct logline_printer *printer)
{
	strbuf_done(&printer->line[0]);
	strbuf_done(&printer->line[1]);
}
