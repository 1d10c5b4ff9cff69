/* candidates.c - see candidates.h. */
#include "candidates.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"

int candidates_add(struct candidates *list, const char *name, uint64_t again_ms)
{
	struct candidate candidate = { .due_ms = ckpt_clock_mono_ms(), .again_ms = again_ms };

	for (size_t i = 0; i < list->count; i++) {
		/* Look at once: it has changed, and counts as quiet from now on. */
		if (strcmp(list->items[i].name, name) == 0) {
			list->items[i].due_ms = candidate.due_ms;
			return 0;
		}
	}
	candidate.name = strdup(name);
	if (!candidate.name ||
	    array_grow(&list->items, &list->cap, list->count, sizeof(candidate)) < 0) {
		free(candidate.name);
		return -ENOMEM;
	}
	list->items[list->count++] = candidate;
	return 0;
}

void candidates_drop(struct candidates *list, size_t idx)
{
	free(list->items[idx].name);
	list->count--;
	memmove(&list->items[idx], &list->items[idx + 1],
		(list->count - idx) * sizeof(list->items[idx]));
}

void candidates_release(struct candidates *list)
{
	while (list->count > 0)
		candidates_drop(list, list->count - 1);
	free(list->items);
}

static bool are_siblings(const char *a, const char *b)
{
	const char *a_end = strrchr(a, '/');
	const char *b_end = strrchr(b, '/');
	size_t len = a_end ? (size_t)(a_end - a) : 0;

	return len == (b_end ? (size_t)(b_end - b) : 0) && memcmp(a, b, len) == 0;
}

const struct candidate *candidates_older(const struct candidates *list,
					 const struct candidate *candidate)
{
	for (const struct candidate *older = list->items; older < candidate; older++) {
		if (are_siblings(older->name, candidate->name))
			return older;
	}
	return NULL;
}
