/*
 * view_sources.h - files that bytes of views come from, opened as they are needed.
 * May be included only by index/view/<anything>.c.
 */
#ifndef CKPT_VIEW_VIEW_SOURCES_H
#define CKPT_VIEW_VIEW_SOURCES_H

#include <stdint.h>
#include <time.h>

#include "base/err.h"
#include "store/sums.h"
#include "view/view.h"

struct view_sources;

/* An open source; it stays so while it is pinned. Two may be open at once. */
struct view_source {
	uint32_t idx;
	struct ckpt_view_source info;
	struct ckpt_shard_reader *reader; /* NULL: nothing is known to verify it with */
	int fd;				  /* the reader's, where there is one */
	uint32_t pins;
	uint64_t used;
};

/* Of a source without sums: what tells that it was not written since. */
struct view_stamp {
	struct timespec mtime;
	struct timespec ctime;
};

int ckpt_view_sources_new(const struct ckpt_views *views, const struct ckpt_views_from *from,
			  struct view_sources **out, struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_view_sources_free(struct view_sources *sources);
const char *ckpt_view_sources_label(const struct view_sources *sources);

/** ckpt_view_source_get - open and pin source @source; ckpt_view_source_put() it. Thread-safe. */
int ckpt_view_source_get(struct view_sources *sources, uint32_t source, struct view_source **out,
			 struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_view_source_put(struct view_sources *sources, struct view_source *slot);
/** ckpt_view_source_check - the stamps of a source that has no sums; -ESTALE another size. */
int ckpt_view_source_check(struct view_sources *sources, struct view_source *slot,
			   struct view_stamp *out, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
