/*
 * candidates.h - the folders that autocommit.c watches until they are quiet, in
 * the order in which they were seen. Not thread-safe: they are its thread's own.
 */
#ifndef CKPT_FS_CANDIDATES_H
#define CKPT_FS_CANDIDATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

/* A folder that may be complete. Times are of ckpt_clock_mono_ms(). */
struct candidate {
	char *name;
	uint64_t due_ms;   /* when to look again */
	uint64_t calm_ms;  /* nothing in it has changed since */
	uint64_t again_ms; /* how long to wait after the next failure */
	struct ckpt_calm calm;
	bool looked; /* calm and calm_ms are set */
};

struct candidates {
	struct candidate *items;
	size_t count, cap;
};

/** candidates_add - look at it now; @again_ms is for a new one. -ENOMEM. */
int candidates_add(struct candidates *list, const char *name, uint64_t again_ms);
/** candidates_drop - number @idx; the others stay in their order. */
void candidates_drop(struct candidates *list, size_t idx);
/** candidates_release - all of them. */
void candidates_release(struct candidates *list);

/**
 * candidates_older - the first one of @candidate's group that was seen before it and is still
 * there; NULL: none
 */
const struct candidate *candidates_older(const struct candidates *list,
					 const struct candidate *candidate);

#endif
