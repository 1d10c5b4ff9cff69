/* global_sums.c - see global_sums.h. */
#include "global_sums.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/num.h"
#include "collective.h"
#include "wire.h"

int ckpt_global_sums_init(struct ckpt_global_sums *sums, const struct ckpt_global_layout *layout,
			  int idx)
{
	uint64_t blocks = layout->window_bytes / layout->block_bytes;

	sums->block_bytes = layout->block_bytes;
	sums->items = array_alloc(ckpt_global_layout_share(layout, idx) * blocks + 1,
				  sizeof(*sums->items));
	if (layout->aggregator_count == 1)
		sums->whole = ckpt_hash128_new();
	return sums->items && (sums->whole || layout->aggregator_count > 1) ? 0 : -ENOMEM;
}

void ckpt_global_sums_release(struct ckpt_global_sums *sums)
{
	ckpt_hash128_free(sums->whole);
	free(sums->items);
}

void ckpt_global_sums_add(struct ckpt_global_sums *sums, const struct ckpt_global_window *window)
{
	for (uint64_t at = 0; at < window->bytes; at += sums->block_bytes) {
		uint64_t len = num_min(sums->block_bytes, window->bytes - at);

		sums->items[sums->count++] = ckpt_hash64(window->data + at, len);
		if (sums->whole)
			ckpt_hash128_update(sums->whole, window->data + at, len);
	}
}

/* Read by read_share(). */
static void print(const struct ckpt_global_sums *sums, struct ckpt_buf *out)
{
	ckpt_wire_put_u64s(out, sums->items, sums->count);
	if (sums->whole) {
		struct ckpt_digest digest = ckpt_hash128_digest(sums->whole);

		ckpt_wire_put_u64(out, digest.hi);
		ckpt_wire_put_u64(out, digest.lo);
	}
}

/* --- the record --------------------------------------------------------------------------- */

/* One aggregator's sums, of every so many windows. */
static int read_share(const struct ckpt_global_layout *layout, int idx, const struct ckpt_buf *from,
		      struct ckpt_shard *out)
{
	uint64_t blocks = layout->window_bytes / layout->block_bytes;
	struct ckpt_wire in = ckpt_wire_over(from);

	for (uint64_t w = (uint64_t)idx; w < layout->window_count;
	     w += (uint64_t)layout->aggregator_count) {
		uint64_t bytes;

		(void)ckpt_global_layout_window(layout, w, &bytes);
		ckpt_wire_u64s(&in, out->sums + w * blocks,
			       ckpt_block_count(bytes, layout->block_bytes));
	}
	if (layout->aggregator_count == 1) {
		out->has_xxh128 = true;
		out->xxh128.hi = ckpt_wire_u64(&in);
		out->xxh128.lo = ckpt_wire_u64(&in);
	}
	return ckpt_wire_end(&in);
}

struct gathered {
	const struct ckpt_global_layout *layout;
	const int *aggregators;
	struct ckpt_shard_out *out;
	struct ckpt_buf *all; /* coordinator; one a rank */
};

static int fill_record(const struct gathered *it, const struct stat *st,
		       struct ckpt_known_shard *record)
{
	const struct ckpt_global_layout *layout = it->layout;
	struct ckpt_shard *shard = &record->shard;
	int rc = 0;

	ckpt_record_stamp(record, st);
	shard->path = strdup(CKPT_GLOBAL_FILE);
	shard->block_bytes = layout->block_bytes;
	shard->sums = array_alloc(ckpt_block_count(layout->file_bytes, layout->block_bytes),
				  sizeof(uint64_t));
	if (!shard->path || !shard->sums)
		return -ENOMEM;
	for (int i = 0; i < layout->aggregator_count && rc == 0; i++)
		rc = read_share(layout, i, &it->all[it->aggregators[i]], shard);
	return rc;
}

static int add_record(void *ctx, struct ckpt_err *err)
{
	struct gathered *it = ctx;
	const struct ckpt_target *target = it->out->target;
	struct ckpt_known_shard *record;
	struct stat st;
	int rc = ckpt_io_fstatat(target->dirfd, CKPT_GLOBAL_FILE, &st, AT_SYMLINK_NOFOLLOW);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot stat '%s/" CKPT_GLOBAL_FILE "'",
				    target->name.data);
	if ((uint64_t)st.st_size != it->layout->file_bytes)
		return ckpt_err_set(err, -EIO,
				    "'%s/" CKPT_GLOBAL_FILE
				    "' has %lld bytes after it was written, should have %llu",
				    target->name.data, (long long)st.st_size,
				    (unsigned long long)it->layout->file_bytes);
	record = ckpt_record_add(it->out->records);
	return record ? fill_record(it, &st, record) : -ENOMEM;
}

static int gather(struct gathered *it, const struct ckpt_buf *mine)
{
	struct ckpt_mpi *job = it->out->job;
	bool coordinates = ckpt_job_is_coordinator(job);
	size_t count = coordinates ? (size_t)job->info.global_world_size : 0;
	int rc;

	it->all = array_alloc(count + 1, sizeof(*it->all));
	for (size_t i = 0; it->all && i < count; i++)
		ckpt_buf_init(&it->all[i]);
	rc = ckpt_job_agree(job, it->all ? ckpt_buf_check(mine) : -ENOMEM, NULL);
	if (rc == 0)
		rc = ckpt_coll_gather(job, mine, it->all);
	if (rc == 0)
		rc = ckpt_job_go_on(job, coordinates, add_record, it);
	for (size_t i = 0; it->all && i < count; i++)
		ckpt_buf_release(&it->all[i]);
	free(it->all);
	return rc;
}

int ckpt_global_sums_record(const struct ckpt_global_sums *sums,
			    const struct ckpt_global_layout *layout, const int *aggregators,
			    struct ckpt_shard_out *out)
{
	struct gathered it = { .layout = layout, .aggregators = aggregators, .out = out };
	struct ckpt_buf mine;
	int rc;

	ckpt_buf_init(&mine);
	print(sums, &mine);
	rc = gather(&it, &mine);
	ckpt_buf_release(&mine);
	return rc;
}
