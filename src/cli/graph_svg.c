#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/graph.h"

/*
 * Networks are horizontal lines below each other.  A thing is a box in the gap below the first of
 * its networks, and a vertical line leads from it to each.  Things whose lines would not meet
 * share a column.
 */
enum {
	MARGIN = 24,
	LINE_LABEL = 34, /* a network's name and subnets stand above its line, on the left */
	LABELS = 200,
	GAP_EMPTY = 26,
	GAP_BOX = 84,  /* room for a box and the addresses below it */
	BOX_DOWN = 40, /* from the line */
	BOX_HEIGHT = 44,
	COLUMN = 190,
	BOX_WIDTH = 160,
	DETAIL_MAX = 23, /* letters in a box */
};

static const char style[] =
	"<style>svg{background:#fff}text{font:12px sans-serif;fill:#222}.n{font-weight:600}"
	".a,.d{font-size:10px;fill:#555}.l{stroke-width:5;stroke-linecap:round}"
	".w{stroke:#667;stroke-width:1.5;fill:none}rect{fill:#fff;stroke:#667;stroke-width:1.5}"
	".router rect,.node rect{fill:#eef3fb}</style>\n";

static const char *const colours[] = { "#3b78c3", "#c3703b", "#4d9a55", "#8a57b0",
				       "#b0474f", "#2f9599", "#a88f22" };

struct layout {
	const struct graph *graph;
	int *y;      /* of each network's line */
	int *column; /* of each thing */
	int columns, height;
};

/* Names are checked where they are made; a drawing is opened by browsers all the same. */
static void put_escaped(struct strbuf *out, const char *text, size_t most)
{
	size_t size = strlen(text), letters = 0;

	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char) text[i];

		letters += (c & 0xc0) != 0x80;
		if (letters > most) {
			strbuf_puts(out, "…");
			return;
		}
		if (strchr("<>&\"'", c))
			strbuf_printf(out, "&#%d;", c);
		else if (c >= ' ' && c != 0x7f)
			strbuf_append(out, &text[i], 1);
	}
}

static void put_text(struct strbuf *out, int x, int y, const char *class, const char *text,
		     size_t most)
{
	strbuf_printf(out, "<text x=\"%d\" y=\"%d\" class=\"%s\">", x, y, class);
	put_escaped(out, text, most);
	strbuf_puts(out, "</text>\n");
}

static size_t first_of(const struct graph_thing *thing)
{
	return thing->link_count > 0 ? thing->links[0].network : 0;
}

static size_t last_of(const struct graph_thing *thing)
{
	return thing->link_count > 0 ? thing->links[thing->link_count - 1].network : 0;
}

/* In one gap, or between the same lines. */
static bool meet(const struct graph_thing *a, const struct graph_thing *b)
{
	size_t a_end = last_of(a) > first_of(a) ? last_of(a) : first_of(a) + 1;
	size_t b_end = last_of(b) > first_of(b) ? last_of(b) : first_of(b) + 1;

	return first_of(a) < b_end && first_of(b) < a_end;
}

static void arrange(const struct graph *graph, struct layout *layout)
{
	int y = MARGIN + LINE_LABEL;

	layout->graph = graph;
	layout->y = mem_new0_array(int, graph->network_count);
	layout->column = mem_new0_array(int, graph->thing_count + 1);
	for (size_t i = 0; i < graph->thing_count; i++) {
		int *column = &layout->column[i];
		bool taken = true;

		for (*column = -1; taken;) {
			taken = false;
			++*column;
			for (size_t k = 0; k < i && !taken; k++)
				taken = layout->column[k] == *column &&
					meet(&graph->things[k], &graph->things[i]);
		}
		if (*column + 1 > layout->columns)
			layout->columns = *column + 1;
	}
	for (size_t n = 0; n < graph->network_count; n++) {
		bool boxes = false;

		layout->y[n] = y;
		for (size_t i = 0; i < graph->thing_count; i++)
			boxes = boxes || first_of(&graph->things[i]) == n;
		y += (boxes ? GAP_BOX + BOX_DOWN : GAP_EMPTY) + LINE_LABEL;
	}
	layout->height = y - LINE_LABEL;
}

static int column_x(int column)
{
	return MARGIN + LABELS + COLUMN * column + COLUMN / 2;
}

static void put_wires(const struct layout *layout, const struct graph_thing *thing, int x,
		      struct strbuf *out)
{
	int box = layout->y[first_of(thing)] + BOX_DOWN, middle = box + BOX_HEIGHT / 2;
	int labels = 0;

	for (size_t i = 0; i < thing->link_count; i++) {
		int y = layout->y[thing->links[i].network];

		strbuf_printf(out,
			      "<path class=\"w\" d=\"M%d %dV%d\"/>"
			      "<circle cx=\"%d\" cy=\"%d\" r=\"4\" fill=\"#667\"/>\n",
			      x, y, middle, x, y);
		if (y < middle)
			put_text(out, x + 6, y + 18, "a", thing->links[i].label, 30);
		else
			put_text(out, x + 6, box + BOX_HEIGHT + 14 + 13 * labels++, "a",
				 thing->links[i].label, 30);
	}
}

static void put_thing(const struct layout *layout, size_t number, struct strbuf *out)
{
	static const char *const classes[] = {
		[GRAPH_NODE] = "node", [GRAPH_ROUTER] = "router", [GRAPH_INSTANCE] = "instance"
	};
	static const char *const says[] = {
		[GRAPH_NODE] = "", [GRAPH_ROUTER] = "router ", [GRAPH_INSTANCE] = ""
	};
	const struct graph_thing *thing = &layout->graph->things[number];
	int x = column_x(layout->column[number]), y = layout->y[first_of(thing)] + BOX_DOWN;
	AUTO(free) char *name = mem_printf("%s%s", says[thing->type], thing->name);

	strbuf_printf(out, "<g class=\"%s\">\n", classes[thing->type]);
	put_wires(layout, thing, x, out);
	strbuf_printf(out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"%d\"/>\n",
		      x - BOX_WIDTH / 2, y, BOX_WIDTH, BOX_HEIGHT,
		      thing->type == GRAPH_INSTANCE ? 4 : BOX_HEIGHT / 2);
	x -= BOX_WIDTH / 2 - 14;
	put_text(out, x, y + (*thing->detail ? 18 : 27), "n", name, DETAIL_MAX);
	if (*thing->detail) {
		put_text(out, x, y + 34, "d", thing->detail, DETAIL_MAX);
		strbuf_puts(out, "<title>");
		put_escaped(out, thing->detail, 1000);
		strbuf_puts(out, "</title>\n");
	}
	strbuf_puts(out, "</g>\n");
}

void graph_put_svg(const struct graph *graph, struct strbuf *out)
{
	struct layout layout = {};
	int width, height;

	arrange(graph, &layout);
	width = 2 * MARGIN + LABELS + COLUMN * (layout.columns > 2 ? layout.columns : 2);
	height = layout.height;
	strbuf_printf(out,
		      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
		      "viewBox=\"0 0 %d %d\">\n%s",
		      width, height, width, height, style);
	for (size_t i = 0; i < graph->network_count; i++) {
		const struct graph_network *network = &graph->networks[i];
		const char *colour =
			i == 0 ? "#888" : colours[(i - 1) % (sizeof(colours) / sizeof(*colours))];
		AUTO(free)
		char *label = mem_printf("%s  %s%s%s", network->kind, network->subnets,
					 network->tunnel ? "  " : "",
					 network->tunnel ? network->tunnel : "");

		strbuf_printf(out, "<path class=\"l\" stroke=\"%s\" d=\"M%d %dH%d\"/>\n", colour,
			      MARGIN, layout.y[i], width - MARGIN);
		put_text(out, MARGIN, layout.y[i] - 22, "n", network->name, 64);
		put_text(out, MARGIN, layout.y[i] - 8, "a", label, 400);
	}
	for (size_t i = 0; i < graph->thing_count; i++)
		put_thing(&layout, i, out);
	strbuf_puts(out, "</svg>\n");
	free(layout.y);
	free(layout.column);
}
