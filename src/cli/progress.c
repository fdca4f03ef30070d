#include "cli/progress.h"

#include "cli/cli.h"
#include "cli/human.h"
#include "cli/resource.h"
#include "cli/terminal.h"

enum { PROGRESS_BAR = 24 };

static void progress_put_bar(struct strbuf *out, uint64_t done, uint64_t total)
{
	char have[HUMAN_SIZE], all[HUMAN_SIZE];
	uint64_t filled = done >= total ? PROGRESS_BAR : done / (total / PROGRESS_BAR + 1);

	strbuf_puts(out, "  [");
	for (uint64_t i = 0; i < PROGRESS_BAR; i++)
		strbuf_puts(out, i < filled ? "#" : ".");
	human_bytes(done, have);
	human_bytes(total, all);
	strbuf_printf(out, "]  %s / %s", have, all);
}

/* Cuts at `width` characters, never inside one. */
static void progress_cut(struct strbuf *out, size_t width)
{
	size_t columns = 0;

	for (size_t i = 0; i < out->size; i++) {
		columns += ((unsigned char) out->data[i] & 0xc0) != 0x80;
		if (columns > width) {
			out->data[i] = '\0';
			out->size = i;
			return;
		}
	}
}

void progress_put_line(struct strbuf *out, const char *title, const json_t *operation, size_t width)
{
	const char *text = resource_text(operation, "status.progress.text");
	int64_t done = resource_int(operation, "status.progress.done_bytes", 0);
	int64_t total = resource_int(operation, "status.progress.total_bytes", 0);

	human_text(out, title);
	if (text && *text) {
		strbuf_puts(out, ": ");
		human_text(out, text);
	}
	if (total > 0 && done >= 0)
		progress_put_bar(out, (uint64_t) done, (uint64_t) total);
	progress_cut(out, width);
}

void progress_update(struct progress *progress, const json_t *operation)
{
	AUTO(strbuf_done) struct strbuf line = {};
	FILE *err = progress->cli->err;

	if (!progress->cli->progress)
		return;
	/* The last column stays free: writing there makes some terminals wrap. */
	progress_put_line(&line, progress->title, operation, terminal_width(fileno(err)) - 1);
	fprintf(err, "\r%s\033[K", strbuf_str(&line));
	fflush(err);
	progress->drawn = line.size;
}

void progress_clear(struct progress *progress)
{
	if (progress->drawn == 0)
		return;
	fputs("\r\033[K", progress->cli->err);
	fflush(progress->cli->err);
	progress->drawn = 0;
}
