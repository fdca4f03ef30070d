#pragma once
/*
 * cli/listing.h - the verbs that show a collection or one resource, in every format.
 *
 * Used by list, image list, network list, operation list, and their info verbs.
 */
#include <jansson.h>
#include <stdbool.h>

#include "cli/table.h"

struct cli;
struct error;
struct strbuf;

/* Adds the cells of one resource. */
typedef void (*listing_row_fn)(struct cli *cli, struct table *table, const json_t *resource);

/* Gets a collection and prints it; with --quiet only the names, one a line. */
int listing_print(struct cli *cli, const char *path, const struct column *columns,
		  listing_row_fn row, bool wide, struct error *err);

/* One fact for listing_print_facts(); nothing when the text is empty or NULL. */
void listing_fact(struct strbuf *out, const char *title, const char *text);
void listing_fact_time(struct strbuf *out, const char *title, const json_t *resource,
		       const char *path);
void listing_fact_bytes(struct strbuf *out, const char *title, const json_t *resource,
			const char *path);

/* "key=value" pairs of an object, one fact each. */
void listing_fact_map(struct strbuf *out, const char *title, const json_t *map);

/* "title   text" for people; else two columns, in which a title that is left out is the one above.
 */
void listing_print_facts(struct cli *cli, const struct strbuf *facts);

/* What the node's peers are told of a network or a router; nothing when nobody wants that. */
void listing_advertised(struct strbuf *out, const json_t *resource);

/* Gets COLLECTION/NAME; the name is percent-encoded here. */
int listing_get(struct cli *cli, const char *collection, const char *name, json_t **ret,
		struct error *err);
