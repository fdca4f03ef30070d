#pragma once
/*
 * cli/cp_path.h - what the two words of `brume cp` mean.  Pure functions.
 *
 * The rules are those of docker cp, which those of cp -r follow.
 */
#include <stdbool.h>

struct error;

/* "web:/etc" is in the instance web; "./a:b", "/a:b" and "-" are here. */
struct cp_place {
	char *instance;
	char *path; /* absolute */
};

/* True: it is in an instance. */
bool cp_place_parse(const char *word, struct cp_place *ret);

void cp_place_done(struct cp_place *place);
static inline void cp_place_done_autop(struct cp_place *place)
{
	cp_place_done(place);
}

enum cp_kind { CP_NOTHING, CP_FILE, CP_FOLDER };

/* Where the copy goes: into `folder`, and what it is called there; NULL: only what is in it. */
struct cp_target {
	char *folder, *name;
};

/* -EINVAL and others: it cannot go there. */
int cp_plan(const char *source, enum cp_kind source_kind, const char *dest, enum cp_kind dest_kind,
	    struct cp_target *ret, struct error *err);

void cp_target_done(struct cp_target *target);
static inline void cp_target_done_autop(struct cp_target *target)
{
	cp_target_done(target);
}
