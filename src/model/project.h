#pragma once
/*
 * model/project.h - a tenant: owns resources.  "default" always exists.
 *
 * No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "model/meta.h"

struct project {
	struct meta meta; /* project "_" */
	char *description;
	bool allow_privileged; /* its instances may give up their seat belts */
};

int project_decode(const json_t *doc, struct project **ret, struct error *err);
json_t *project_encode(const struct project *project);
void project_free(struct project *project);
DEFINE_AUTO(struct project *, project_free)
