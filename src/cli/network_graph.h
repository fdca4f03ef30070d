#pragma once
/*
 * cli/network_graph.h - `brume network show --graph`: asks for what there is, and prints it drawn.
 *
 * Used by cli/network.  `names` (NULL-terminated, or NULL) are the networks to draw; none: all.
 */
#include <stdbool.h>

struct cli;
struct error;

int network_graph(struct cli *cli, char *const *names, bool svg, struct error *err);
