#include "cli/table.h"

#include <string.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/human.h"

enum { TABLE_GAP = 2, TABLE_ELASTIC_MIN = 8 };

struct table {
	const struct column *columns;
	size_t column_count;
	char **cells; /* all rows, one after the other */
	size_t cell_count, capacity;
};

struct table *table_new(const struct column *columns)
{
	struct table *table = mem_new0(struct table);

	table->columns = columns;
	while (columns[table->column_count].title)
		table->column_count++;
	return table;
}

void table_cell(struct table *table, const char *text)
{
	AUTO(strbuf_done) struct strbuf clean = {};

	human_text(&clean, text && *text ? text : "-");
	if (table->cell_count == table->capacity) {
		table->capacity = table->capacity ? table->capacity * 2 : 64;
		table->cells = mem_realloc(table->cells, table->capacity, sizeof(char *));
	}
	table->cells[table->cell_count++] = strbuf_take(&clean);
}

static bool table_shows(const struct table *table, size_t column, const struct table_style *style)
{
	return style->wide || !table->columns[column].wide;
}

const char *table_state_colour(const char *state)
{
	static const struct {
		const char *state, *colour;
	} colours[] = {
		{ "running", "\033[32m" }, { "ready", "\033[32m" },    { "done", "\033[32m" },
		{ "online", "\033[32m" },  { "failed", "\033[31m" },   { "offline", "\033[31m" },
		{ "pulling", "\033[33m" }, { "pending", "\033[33m" },  { "creating", "\033[33m" },
		{ "paused", "\033[33m" },  { "stopping", "\033[33m" },
	};
	/* "running (unhealthy)" */
	size_t size = strcspn(state, " ");

	if (strcmp(state + size, " (unhealthy)") == 0)
		return "\033[31m";

	for (size_t i = 0; i < ARRAY_COUNT(colours); i++)
		if (strlen(colours[i].state) == size && strncmp(colours[i].state, state, size) == 0)
			return colours[i].colour;
	return "";
}

static size_t table_total(const struct table *table, const size_t *widths,
			  const struct table_style *style)
{
	size_t total = 0;

	for (size_t c = 0; c < table->column_count; c++)
		if (table_shows(table, c, style))
			total += widths[c] + TABLE_GAP;
	return total > 0 ? total - TABLE_GAP : 0;
}

/* Takes from the widest elastic column until the table fits or nothing is left to take. */
static void table_fit(const struct table *table, size_t *widths, const struct table_style *style)
{
	while (style->width > 0 && table_total(table, widths, style) > style->width) {
		size_t widest = table->column_count;

		for (size_t c = 0; c < table->column_count; c++) {
			if (!table->columns[c].elastic || !table_shows(table, c, style) ||
			    widths[c] <= TABLE_ELASTIC_MIN)
				continue;
			if (widest == table->column_count || widths[c] > widths[widest])
				widest = c;
		}
		if (widest == table->column_count)
			return;
		widths[widest]--;
	}
}

/* Appends `text` in `width` columns, cut with an ellipsis; returns how many columns it took. */
static size_t table_put_cut(struct strbuf *line, const char *text, size_t width)
{
	size_t have = human_width(text), taken = 0;

	if (have <= width) {
		strbuf_puts(line, text);
		return have;
	}
	for (const char *p = text; *p; p++) {
		taken += ((unsigned char) *p & 0xc0) != 0x80;
		if (taken == width)
			break;
		strbuf_append(line, p, 1);
	}
	strbuf_puts(line, "…");
	return width;
}

static void table_put_row(const struct table *table, char *const *cells, const size_t *widths,
			  const struct table_style *style, FILE *out)
{
	AUTO(strbuf_done) struct strbuf line = {};
	size_t owed = 0; /* spaces that are only written when something follows */

	for (size_t c = 0; c < table->column_count; c++) {
		const char *text = cells ? cells[c] : table->columns[c].title;
		const char *colour = "";
		size_t width = human_width(text);

		if (!table_shows(table, c, style))
			continue;
		if (style->colour && cells && table->columns[c].state)
			colour = table_state_colour(text);
		if (table->columns[c].right && width < widths[c])
			owed += widths[c] - width;
		strbuf_printf(&line, "%*s%s", (int) owed, "", colour);
		width = table_put_cut(&line, text, widths[c]);
		strbuf_puts(&line, *colour ? "\033[0m" : "");
		owed = TABLE_GAP + (table->columns[c].right ? 0 : widths[c] - width);
	}
	fprintf(out, "%s\n", strbuf_str(&line));
}

static void table_print_aligned(const struct table *table, FILE *out,
				const struct table_style *style)
{
	AUTO(free) size_t *widths = mem_new0_array(size_t, table->column_count);

	for (size_t c = 0; c < table->column_count; c++)
		widths[c] = human_width(table->columns[c].title);
	for (size_t i = 0; i < table->cell_count; i++) {
		size_t width = human_width(table->cells[i]);

		if (width > widths[i % table->column_count])
			widths[i % table->column_count] = width;
	}
	table_fit(table, widths, style);
	table_put_row(table, NULL, widths, style, out);
	for (size_t i = 0; i + table->column_count <= table->cell_count; i += table->column_count)
		table_put_row(table, table->cells + i, widths, style, out);
}

static void table_put_csv(FILE *out, const char *text)
{
	if (!strpbrk(text, "\",\r\n")) {
		fputs(text, out);
		return;
	}
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"')
			fputc('"', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

static void table_print_separated(const struct table *table, FILE *out,
				  const struct table_style *style)
{
	bool csv = style->format == FORMAT_CSV;
	size_t start = csv && !style->untitled ? 0 : table->column_count;

	/* The titles count as the row before the cells. */
	for (size_t i = start; i < table->cell_count + table->column_count; i++) {
		size_t c = i % table->column_count;
		const char *text = i < table->column_count ? table->columns[c].title
							   : table->cells[i - table->column_count];

		if (csv)
			table_put_csv(out, strcmp(text, "-") == 0 ? "" : text);
		else
			fputs(text, out);
		fputs(c + 1 < table->column_count ? (csv ? "," : "\t") : (csv ? "\r\n" : "\n"),
		      out);
	}
}

void table_print(struct table *table, FILE *out, const struct table_style *style)
{
	if (style->format == FORMAT_TABLE)
		table_print_aligned(table, out, style);
	else
		table_print_separated(table, out, style);
}

void table_free(struct table *table)
{
	if (!table)
		return;
	for (size_t i = 0; i < table->cell_count; i++)
		free(table->cells[i]);
	free(table->cells);
	free(table);
}
