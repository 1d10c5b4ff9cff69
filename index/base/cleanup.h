/*
 * cleanup.h - the scope-bound cleanups that are allowed here: free() and close().
 * (The third, sqlite3_finalize, lives in db/, the only place that knows SQLite.)
 * Everything else is released at a single `out:` label.
 */
#ifndef CKPT_BASE_CLEANUP_H
#define CKPT_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void ckpt_cleanup_free(void *slot)
{
	free(*(void **)slot);
}

static inline void ckpt_cleanup_close(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* free() the pointer when it leaves its scope; set it to NULL to keep it. */
#define CKPT_FREE __attribute__((cleanup(ckpt_cleanup_free)))
/* close() the descriptor when it leaves its scope; set it to -1 to keep it. */
#define CKPT_CLOSE __attribute__((cleanup(ckpt_cleanup_close)))

/* Hand a descriptor out of a CKPT_CLOSE variable. */
static inline int ckpt_steal_fd(int *fd)
{
	int kept = *fd;
	*fd = -1;
	return kept;
}

/* Hand a pointer out of a CKPT_FREE variable. */
#define ckpt_steal_ptr(slot)                      \
	({                                        \
		__typeof__(*(slot)) p_ = *(slot); \
		*(slot) = NULL;                   \
		p_;                               \
	})

#endif
