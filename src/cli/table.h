#pragma once
/*
 * cli/table.h - rows and columns for people, csv for spreadsheets, plain for shell scripts.
 *
 * Used by the verbs that list.  One thread; prints to the stream it is given.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/cleanup.h"

enum format { FORMAT_TABLE, FORMAT_JSON, FORMAT_CSV, FORMAT_PLAIN };

struct column {
	const char *title; /* NULL ends a list of columns */
	bool right;        /* numbers */
	bool elastic;      /* may be cut when the terminal is narrow */
	bool wide;         /* only shown when asked for */
	bool state;        /* gets a colour by what it says */
};

struct table_style {
	enum format format;
	size_t width; /* of the terminal; 0: no limit */
	bool colour;
	bool wide;
	bool untitled; /* csv: rows only */
};

struct table;

/* `columns` is borrowed as long as the table lives. */
struct table *table_new(const struct column *columns);

/* Cells come in the order of the columns; `text` is copied and made harmless. NULL gives "-". */
void table_cell(struct table *table, const char *text);

/*
 * Table: titles, two spaces between columns, the longest elastic cells cut with "…" until it fits.
 * Csv: RFC 4180 with titles.  Plain: no titles, one tab between cells.
 */
void table_print(struct table *table, FILE *out, const struct table_style *style);

void table_free(struct table *table);
DEFINE_AUTO(struct table *, table_free)

/* The escape sequence for a state's colour, "" for none. */
const char *table_state_colour(const char *state);
