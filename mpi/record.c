/* record.c - see record.h. */
#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "collective.h"
#include "manifest_wire.h"

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

/* --- as bytes; print() and read_one() go together ------------------------------------------ */

static void print(const struct ckpt_known_shard *record, struct ckpt_buf *out)
{
	ckpt_wire_put_shard(out, &record->shard);
	ckpt_wire_put_u64(out, record->ino);
	ckpt_wire_put_u64(out, (uint64_t)record->ctime_ns);
}

static int read_one(struct ckpt_wire *in, struct ckpt_known_shard *out)
{
	int rc = ckpt_wire_shard(in, &out->shard);

	out->ino = ckpt_wire_u64(in);
	out->ctime_ns = (int64_t)ckpt_wire_u64(in);
	return rc == 0 && in->bad ? -EBADMSG : rc;
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
