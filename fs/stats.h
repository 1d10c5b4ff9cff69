/* stats.h - counters of the mount, shown as MNT/.ckptfs/stats in the text format of Prometheus. */
#ifndef CKPT_FS_STATS_H
#define CKPT_FS_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"

struct fs;

/*
 * Counts only ever grow; readers need no more than each value by itself, so relaxed order will do.
 */
struct stats {
	_Atomic uint64_t opens_file;
	_Atomic uint64_t opens_virtual;
	_Atomic uint64_t
		read_requests; /* for shards, views and plain files; control files are not counted */
	_Atomic uint64_t read_bytes;
	_Atomic uint64_t write_requests; /* that came to the daemon */
	_Atomic uint64_t written_bytes;
	_Atomic uint64_t verified_bytes;
	_Atomic uint64_t corrupt_blocks;
	_Atomic uint64_t block_hits;
	_Atomic uint64_t block_misses;
	_Atomic uint64_t interrupted_requests;
	_Atomic uint64_t entry_loads;
};

static inline void stats_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/** stats_print - append all of them. Source: Prometheus "Text-based format". Thread-safe. */
void stats_print(struct fs *fs, struct ckpt_buf *out);

#endif
