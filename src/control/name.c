#include "control/name.h"

#include <stdio.h>

static const char *const adjectives[64] = {
	"agile", "amber",  "azure",  "bold",  "brave",   "bright", "brisk",  "calm",
	"clear", "clever", "cosy",   "crisp", "daring",  "deep",   "early",  "eager",
	"fair",  "fast",   "fine",   "fond",  "free",    "fresh",  "gentle", "glad",
	"gold",  "grand",  "green",  "happy", "hardy",   "honest", "ideal",  "jolly",
	"keen",  "kind",   "late",   "light", "lively",  "loyal",  "lucky",  "mellow",
	"merry", "mild",   "neat",   "noble", "patient", "plain",  "proud",  "quick",
	"quiet", "rapid",  "ready",  "rosy",  "silent",  "silver", "smart",  "snowy",
	"solid", "spry",   "steady", "sunny", "swift",   "tidy",   "warm",   "wise",
};

static const char *const nouns[64] = {
	"acorn",  "alder",   "badger", "bay",     "beaver", "birch",  "bison",  "brook",
	"cedar",  "cliff",   "cloud",  "comet",   "crane",  "creek",  "delta",  "dove",
	"dune",   "eagle",   "elm",    "falcon",  "fern",   "field",  "finch",  "fjord",
	"forest", "fox",     "gull",   "harbour", "hare",   "hazel",  "heron",  "hill",
	"island", "ivy",     "jay",    "lake",    "lark",   "linden", "lynx",   "maple",
	"marten", "meadow",  "mist",   "moss",    "oak",    "otter",  "owl",    "pebble",
	"pine",   "plover",  "rain",   "raven",   "reef",   "river",  "robin",  "seal",
	"shore",  "sparrow", "stone",  "swan",    "tern",   "valley", "willow", "wren",
};

void name_make(struct rng *rng, unsigned int attempt, char ret[NAME_TEXT_SIZE])
{
	unsigned char bytes[4];

	rng->fill(rng, bytes, sizeof(bytes));
	int size = snprintf(ret, NAME_TEXT_SIZE, "%s-%s", adjectives[bytes[0] % 64],
			    nouns[bytes[1] % 64]);
	if (attempt >= 4)
		snprintf(ret + size, NAME_TEXT_SIZE - (size_t) size, "-%u",
			 2 + (attempt - 4) * 100 + bytes[2] % 100);
}
