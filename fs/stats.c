/* stats.c - see stats.h. */
#include "stats.h"

#include <inttypes.h>

#include "base/version.h"
#include "fs.h"
#include "inode.h"
#include "passthrough.h"
#include "verified.h"

static uint64_t value(_Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void head(struct ckpt_buf *out, const char *name, const char *type, const char *help)
{
	ckpt_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void counter(struct ckpt_buf *out, const char *name, uint64_t count, const char *help)
{
	head(out, name, "counter", help);
	ckpt_buf_printf(out, "%s %" PRIu64 "\n", name, count);
}

static void print_data(struct stats *stats, struct ckpt_buf *out)
{
	head(out, "ckptfs_opens_total", "counter", "Opens of stored files and of virtual ones.");
	ckpt_buf_printf(out, "ckptfs_opens_total{kind=\"file\"} %" PRIu64 "\n",
			value(&stats->opens_file));
	ckpt_buf_printf(out, "ckptfs_opens_total{kind=\"virtual\"} %" PRIu64 "\n",
			value(&stats->opens_virtual));
	counter(out, "ckptfs_read_requests_total", value(&stats->read_requests),
		"Reads that the kernel sent, control files left out.");
	counter(out, "ckptfs_read_bytes_total", value(&stats->read_bytes),
		"Bytes these reads were answered with.");
	counter(out, "ckptfs_write_requests_total", value(&stats->write_requests),
		"Writes that the kernel sent; with passthrough it writes by itself.");
	counter(out, "ckptfs_written_bytes_total", value(&stats->written_bytes),
		"Bytes that the daemon has written for them.");
	counter(out, "ckptfs_verified_bytes_total", value(&stats->verified_bytes),
		"Bytes of shards read from the store and found right.");
	counter(out, "ckptfs_corrupt_blocks_total", value(&stats->corrupt_blocks),
		"Blocks that were read and did not fit their sum.");
	counter(out, "ckptfs_block_cache_hits_total", value(&stats->block_hits),
		"Blocks found in the cache of verified blocks.");
	counter(out, "ckptfs_block_cache_misses_total", value(&stats->block_misses),
		"Blocks that had to be read and verified.");
}

void stats_print(struct fs *fs, struct ckpt_buf *out)
{
	struct stats *stats = &fs->stats;

	head(out, "ckptfs_info", "gauge", "Version of the daemon and id of the store.");
	ckpt_buf_printf(out, "ckptfs_info{version=\"%s\",store=\"%s\"} 1\n", CKPTFS_VERSION,
			ckpt_store_id(fs->store));
	head(out, "ckptfs_passthrough", "gauge", "Does the kernel read stored files by itself?");
	ckpt_buf_printf(out, "ckptfs_passthrough{state=\"%s\",reason=\"%s\"} 1\n",
			passthrough_active() ? "active" : "off", passthrough_reason());
	print_data(stats, out);
	counter(out, "ckptfs_interrupted_requests_total", value(&stats->interrupted_requests),
		"Requests given up because the caller was interrupted.");
	counter(out, "ckptfs_entry_loads_total", value(&stats->entry_loads),
		"Checkpoints whose entries were put into the index for this mount.");
	head(out, "ckptfs_verified_shards", "gauge", "Shards that are known to be verified.");
	ckpt_buf_printf(out, "ckptfs_verified_shards %zu\n", verified_count(fs->verified));
	head(out, "ckptfs_plain_nodes", "gauge",
	     "Files and folders outside committed checkpoints that the kernel holds.");
	ckpt_buf_printf(out, "ckptfs_plain_nodes %zu\n", inode_table_count(fs->inodes));
}
