/* record.c - see record.h. */
#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "collective.h"
#include "wire.h"

#define NS_PER_SEC INT64_C(1000000000)

struct ckpt_known_shard *ckpt_record_add(struct ckpt_record_list *list)
{
	struct ckpt_known_shard *record;

	if (array_grow(&list->items, &list->cap, list->count, sizeof(*list->items)) < 0)
		return NULL;
	record = &list->items[list->count++];
	*record = (struct ckpt_known_shard){ .ino = 0 };
	return record;
}

void ckpt_record_stamp(struct ckpt_known_shard *record, const struct stat *st)
{
	record->shard.size_bytes = (uint64_t)st->st_size;
	record->shard.mode = st->st_mode & 07777;
	record->shard.mtime_ns = st->st_mtim.tv_sec * NS_PER_SEC + st->st_mtim.tv_nsec;
	record->ctime_ns = st->st_ctim.tv_sec * NS_PER_SEC + st->st_ctim.tv_nsec;
	record->ino = st->st_ino;
}

void ckpt_record_list_release(struct ckpt_record_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		ckpt_shard_release(&list->items[i].shard);
	free(list->items);
	*list = (struct ckpt_record_list){ .items = NULL };
}

/* --- as bytes; print() and read_one() go together ---------------------------------------- */

static void print(const struct ckpt_known_shard *record, struct ckpt_buf *out)
{
	const struct ckpt_shard *shard = &record->shard;
	uint64_t sum_count = ckpt_block_count(shard->size_bytes, shard->block_bytes);
	const uint64_t numbers[] = {
		shard->size_bytes,	  shard->mode,	    (uint64_t)shard->mtime_ns,
		shard->has_rank,	  shard->rank,	    shard->has_xxh128,
		shard->xxh128.hi,	  shard->xxh128.lo, shard->block_bytes,
		shard->pack_offset_bytes, record->ino,	    (uint64_t)record->ctime_ns,
	};

	ckpt_wire_put_str(out, shard->path);
	ckpt_wire_put_str(out, shard->pack);
	ckpt_wire_put_u64s(out, numbers, sizeof(numbers) / sizeof(numbers[0]));
	ckpt_wire_put_u64(out, sum_count);
	ckpt_wire_put_u64s(out, shard->sums, sum_count);
}

static void read_numbers(struct ckpt_wire *in, struct ckpt_known_shard *out)
{
	struct ckpt_shard *shard = &out->shard;

	shard->size_bytes = ckpt_wire_u64(in);
	shard->mode = (uint32_t)ckpt_wire_u64(in);
	shard->mtime_ns = (int64_t)ckpt_wire_u64(in);
	shard->has_rank = ckpt_wire_u64(in) != 0;
	shard->rank = ckpt_wire_u64(in);
	shard->has_xxh128 = ckpt_wire_u64(in) != 0;
	shard->xxh128.hi = ckpt_wire_u64(in);
	shard->xxh128.lo = ckpt_wire_u64(in);
	shard->block_bytes = ckpt_wire_u64(in);
	shard->pack_offset_bytes = ckpt_wire_u64(in);
	out->ino = ckpt_wire_u64(in);
	out->ctime_ns = (int64_t)ckpt_wire_u64(in);
}

static int read_one(struct ckpt_wire *in, struct ckpt_known_shard *out)
{
	const char *path = ckpt_wire_str(in);
	const char *pack = ckpt_wire_str(in);
	size_t sum_count;

	read_numbers(in, out);
	sum_count = ckpt_wire_count(in, sizeof(uint64_t));
	if (in->bad || !path)
		return -EBADMSG;
	out->shard.path = strdup(path);
	out->shard.pack = pack ? strdup(pack) : NULL;
	out->shard.sums = array_alloc(sum_count + 1, sizeof(uint64_t));
	if (!out->shard.path || (pack && !out->shard.pack) || !out->shard.sums)
		return -ENOMEM;
	ckpt_wire_u64s(in, out->shard.sums, sum_count);
	return 0;
}

static int read_all(const struct ckpt_buf *from, struct ckpt_record_list *out)
{
	struct ckpt_wire in = ckpt_wire_over(from);
	int rc = 0;

	while (rc == 0 && in.at < in.len_bytes) {
		struct ckpt_known_shard *record = ckpt_record_add(out);

		rc = record ? read_one(&in, record) : -ENOMEM;
	}
	return rc;
}

static int gather_into(struct ckpt_mpi *job, const struct ckpt_buf *mine, struct ckpt_buf *all,
		       struct ckpt_record_list *out)
{
	int world_size = job->info.global_world_size;
	int rc = ckpt_coll_gather(job, mine, all);

	for (int rank = 0; rank < world_size && rc == 0 && ckpt_job_is_coordinator(job); rank++) {
		rc = read_all(&all[rank], out);
		ckpt_buf_release(&all[rank]);
	}
	/* In the failing case the others have left the gather with the same code. */
	return job->failure_count > 0 ? rc : ckpt_job_agree(job, rc, NULL);
}

int ckpt_record_gather(struct ckpt_mpi *job, const struct ckpt_record_list *mine,
		       struct ckpt_record_list *out)
{
	size_t world_size = (size_t)job->info.global_world_size;
	struct ckpt_buf *all = array_alloc(world_size, sizeof(*all));
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&text);
	for (size_t i = 0; i < mine->count; i++)
		print(&mine->items[i], &text);
	for (size_t rank = 0; all && rank < world_size; rank++)
		ckpt_buf_init(&all[rank]);
	rc = ckpt_job_agree(job, all ? ckpt_buf_check(&text) : -ENOMEM, NULL);
	if (rc == 0)
		rc = gather_into(job, &text, all, out);
	for (size_t rank = 0; all && rank < world_size; rank++)
		ckpt_buf_release(&all[rank]);
	free(all);
	ckpt_buf_release(&text);
	return rc;
}
