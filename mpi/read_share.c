/* read_share.c - see read_share.h. */
#include "read_share.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/num.h"
#include "collective.h"
#include "job_progress.h"
#include "node_share.h"

/* Smaller wants are read by every rank: measured, handing them round takes as long. */
#define SHARE_MIN (UINT64_C(64) << 10)
/* What a rank reads in one round: two slots of each rank of a node should fit in its caches. */
#define SLOT_BYTES (UINT64_C(4) << 20)
/* What is handed round as one: several fit in a slot, and a block is not much of it. */
#define SLAB_BYTES (UINT64_C(1) << 20)
/* From here on each of those who want it reads a part of it. */
#define SPLIT_MIN (UINT64_C(2) * SLOT_BYTES)
#define ENTRY_MAX 255
/* Of a cache: where slabs begin in a slot. */
#define LINE_BYTES 64
#define LINE_NUMBERS 3

/* A slab in a slot. */
struct entry {
	uint64_t group_idx;
	uint64_t offset; /* in what is wanted */
	uint64_t len;
	uint64_t at; /* in the slot's bytes */
};

/* What a rank has read in a round. */
struct slot {
	uint64_t entry_count;
	struct entry entries[ENTRY_MAX];
	_Alignas(LINE_BYTES) unsigned char bytes[SLOT_BYTES];
};
_Static_assert(SLOT_BYTES % LINE_BYTES == 0, "the last slab would not fit");

/* One want of one rank of this node. */
struct line {
	struct ckpt_digest key; /* of what it is */
	uint64_t bytes;
	bool in_order; /* its bytes are handed out, and must come one after the other */
	int rank;      /* on this node */
	size_t idx;    /* among that rank's lines */
};

/* Lines with one key, of several ranks. */
struct group {
	size_t first; /* line */
	size_t line_count;
	int holder_count;
	uint64_t bytes;
	bool in_order;
};

/* What this rank reads of a group. */
struct task {
	size_t group_idx;
	const struct ckpt_read_item *item;
	uint64_t from;
	uint64_t to;
};

struct ckpt_read_share {
	struct ckpt_mpi *job;
	struct ckpt_read_list *list;
	size_t *items; /* of this rank's lines: their index in the list */
	size_t item_count;
	struct line *lines; /* of all ranks, by key, rank and index */
	size_t line_count;
	struct group *groups; /* by key */
	size_t group_count;
	struct task *tasks;
	size_t task_count;
	struct ckpt_node_room room; /* two slots a rank */
	/* How far this rank is with its tasks. */
	size_t task_idx;
	uint64_t task_at;
};

void ckpt_read_share_free(struct ckpt_read_share *share)
{
	if (!share)
		return;
	ckpt_node_room_release(&share->room);
	free(share->items);
	free(share->lines);
	free(share->groups);
	free(share->tasks);
	free(share);
}

/* --- who wants what -------------------------------------------------------------------------------- */

/* The same on every rank that wants the same. */
static struct ckpt_digest key_of(const struct ckpt_read_item *item)
{
	uint64_t words[2 + 2 * CKPT_DIM_MAX] = { item->tensor != NULL, item->manifest_idx };
	size_t count = 2;

	for (uint32_t d = 0; item->tensor && d < item->tensor->dim_count; d++) {
		words[count++] = item->box.start[d];
		words[count++] = item->box.size[d];
	}
	return ckpt_hash128(words, count * sizeof(*words));
}

static int describe(struct ckpt_read_share *share, struct ckpt_buf *out)
{
	const struct ckpt_read_list *list = share->list;

	share->items = array_alloc(list->count + 1, sizeof(*share->items));
	if (!share->items)
		return -ENOMEM;
	for (size_t i = 0; i < list->count; i++) {
		const struct ckpt_read_item *item = &list->items[i];
		bool in_order = !item->to.data && item->tensor && list->request->write;
		struct ckpt_digest key;

		if (item->bytes < SHARE_MIN)
			continue;
		key = key_of(item);
		share->items[share->item_count++] = i;
		/* Ranks of one node have one byte order. */
		ckpt_buf_add(out,
			     (const uint64_t[LINE_NUMBERS]){ key.hi, key.lo,
							     item->bytes << 1 | in_order },
			     LINE_NUMBERS * sizeof(uint64_t));
	}
	return ckpt_buf_check(out);
}

static int compare_keys(const struct line *a, const struct line *b)
{
	if (a->key.hi != b->key.hi)
		return a->key.hi < b->key.hi ? -1 : 1;
	if (a->key.lo != b->key.lo)
		return a->key.lo < b->key.lo ? -1 : 1;
	return 0;
}

static int compare_lines(const void *left, const void *right)
{
	const struct line *a = left;
	const struct line *b = right;
	int by_key = compare_keys(a, b);

	if (by_key != 0)
		return by_key;
	if (a->rank != b->rank)
		return a->rank - b->rank;
	return (a->idx > b->idx) - (a->idx < b->idx);
}

static int read_lines(struct ckpt_read_share *share, const struct ckpt_node_bytes *bytes)
{
	const size_t line_bytes = LINE_NUMBERS * sizeof(uint64_t);
	const unsigned char *at = bytes->data;
	uint64_t total = 0;

	for (int rank = 0; rank < share->job->info.local_world_size; rank++)
		total += bytes->lens[rank] / line_bytes;
	share->lines = array_alloc(total + 1, sizeof(*share->lines));
	if (!share->lines)
		return -ENOMEM;
	for (int rank = 0; rank < share->job->info.local_world_size; rank++) {
		for (size_t i = 0; i < bytes->lens[rank] / line_bytes; i++, at += line_bytes) {
			uint64_t numbers[LINE_NUMBERS];

			memcpy(numbers, at, line_bytes);
			share->lines[share->line_count++] = (struct line){
				.key = { .hi = numbers[0], .lo = numbers[1] },
				.bytes = numbers[2] >> 1,
				.in_order = numbers[2] & 1,
				.rank = rank,
				.idx = i,
			};
		}
	}
	if (share->line_count > 0)
		qsort(share->lines, share->line_count, sizeof(*share->lines), compare_lines);
	return 0;
}

/* The lines with the key of line @first; those that are one rank's alone are no group. */
static struct group group_at(const struct ckpt_read_share *share, size_t first)
{
	struct group group = { .first = first, .bytes = share->lines[first].bytes };
	int rank = -1;

	for (size_t i = first; i < share->line_count; i++) {
		const struct line *line = &share->lines[i];

		if (compare_keys(line, &share->lines[first]) != 0)
			break;
		group.line_count++;
		group.holder_count += line->rank != rank;
		group.in_order = group.in_order || line->in_order;
		rank = line->rank;
	}
	return group;
}

static int find_groups(struct ckpt_read_share *share)
{
	share->groups = array_alloc(share->line_count + 1, sizeof(*share->groups));
	if (!share->groups)
		return -ENOMEM;
	for (size_t i = 0; i < share->line_count;) {
		struct group group = group_at(share, i);

		if (group.holder_count > 1)
			share->groups[share->group_count++] = group;
		i += group.line_count;
	}
	return 0;
}

/* --- who reads what -------------------------------------------------------------------------------- */

/* What has been given to each rank of the node. */
struct loads {
	uint64_t *bytes;
	size_t *order; /* groups, the largest first */
	const struct ckpt_read_share *share;
};

static int compare_groups(const void *left, const void *right, void *ctx)
{
	const struct ckpt_read_share *share = ctx;
	size_t a = *(const size_t *)left;
	size_t b = *(const size_t *)right;

	if (share->groups[a].bytes != share->groups[b].bytes)
		return share->groups[a].bytes > share->groups[b].bytes ? -1 : 1;
	return (a > b) - (a < b);
}

/* This rank's first want of a group; NULL where it has none. */
static const struct ckpt_read_item *item_in(const struct ckpt_read_share *share,
					    const struct group *group)
{
	for (size_t i = group->first; i < group->first + group->line_count; i++) {
		const struct line *line = &share->lines[i];

		if (line->rank == share->job->info.local_rank)
			return &share->list->items[share->items[line->idx]];
	}
	return NULL;
}

static void add_task(struct ckpt_read_share *share, size_t group_idx, uint64_t from, uint64_t to)
{
	const struct ckpt_read_item *item = item_in(share, &share->groups[group_idx]);

	assert(item);
	if (from == to)
		return;
	share->tasks[share->task_count++] = (struct task){
		.group_idx = group_idx,
		.item = item,
		.from = from,
		.to = to,
	};
}

/* The beginning of part @part of @count: that of a slab. */
static uint64_t part_at(const struct ckpt_read_item *item, int part, int count)
{
	struct ckpt_slab slab;

	if (part == count)
		return item->bytes;
	ckpt_item_slab(item, item->bytes / (uint64_t)count * (uint64_t)part, SLAB_BYTES, &slab);
	return slab.offset;
}

/* Each of those who want a large group reads a part of it. */
static void split_group(struct ckpt_read_share *share, size_t group_idx, uint64_t *loads)
{
	const struct group *group = &share->groups[group_idx];
	const struct ckpt_read_item *item = item_in(share, group);
	int part = 0;
	int last = -1;

	for (size_t i = group->first; i < group->first + group->line_count; i++) {
		int rank = share->lines[i].rank;

		if (rank == last)
			continue;
		if (rank == share->job->info.local_rank)
			add_task(share, group_idx, part_at(item, part, group->holder_count),
				 part_at(item, part + 1, group->holder_count));
		loads[rank] += group->bytes / (uint64_t)group->holder_count;
		part++;
		last = rank;
	}
}

/* The one of those who want it that has least to read so far reads a group. */
static void give_group(struct ckpt_read_share *share, size_t group_idx, uint64_t *loads)
{
	const struct group *group = &share->groups[group_idx];
	int reader = share->lines[group->first].rank;

	for (size_t i = group->first; i < group->first + group->line_count; i++) {
		if (loads[share->lines[i].rank] < loads[reader])
			reader = share->lines[i].rank;
	}
	loads[reader] += group->bytes;
	if (reader == share->job->info.local_rank)
		add_task(share, group_idx, 0, group->bytes);
}

static int give_tasks(struct ckpt_read_share *share)
{
	uint64_t *loads = array_alloc((size_t)share->job->info.local_world_size, sizeof(*loads));
	size_t *order = array_alloc(share->group_count + 1, sizeof(*order));
	int rc = 0;

	share->tasks = array_alloc(share->group_count + 1, sizeof(*share->tasks));
	if (!share->tasks || !loads || !order)
		rc = -ENOMEM;
	for (size_t i = 0; i < share->group_count && rc == 0; i++)
		order[i] = i;
	if (rc == 0 && share->group_count > 0)
		qsort_r(order, share->group_count, sizeof(*order), compare_groups, share);
	for (size_t i = 0; i < share->group_count && rc == 0; i++) {
		const struct group *group = &share->groups[order[i]];

		if (group->bytes >= SPLIT_MIN && !group->in_order)
			split_group(share, order[i], loads);
		else
			give_group(share, order[i], loads);
	}
	free(order);
	free(loads);
	return rc;
}

static int plan(struct ckpt_read_share *share, const struct ckpt_node_bytes *bytes)
{
	int rc = read_lines(share, bytes);

	if (rc == 0)
		rc = find_groups(share);
	return rc < 0 ? rc : give_tasks(share);
}

/* Everybody's wants to everybody on the node; then each plans for itself. */
static int exchange(struct ckpt_read_share *share, const struct ckpt_buf *mine)
{
	struct ckpt_mpi *job = share->job;
	struct ckpt_node_bytes bytes = { .data = NULL };
	int rc = ckpt_node_gather(job, mine, &bytes);

	if (rc == 0)
		rc = ckpt_job_agree(job, plan(share, &bytes), NULL);
	if (!job->broken) {
		free(bytes.data);
		free(bytes.lens);
	}
	return rc;
}

int ckpt_read_share_plan(struct ckpt_mpi *job, struct ckpt_read_list *list,
			 struct ckpt_read_share **out)
{
	struct ckpt_read_share *share;
	struct ckpt_buf mine;
	uint64_t any = 0;
	int rc;

	*out = NULL;
	if (job->info.global_world_size == 1)
		return 0;
	share = array_alloc(1, sizeof(*share));
	ckpt_buf_init(&mine);
	if (share)
		*share = (struct ckpt_read_share){ .job = job, .list = list, .room = { .fd = -1 } };
	rc = ckpt_job_agree(job, share ? describe(share, &mine) : -ENOMEM, NULL);
	assert(rc < 0 || share);
	if (rc == 0)
		rc = ckpt_coll_max(job, job->info.local_world_size > 1 && share->item_count > 0,
				   &any);
	if (rc == 0 && any)
		rc = exchange(share, &mine);
	if (rc == 0 && any)
		rc = ckpt_coll_max(job, share->group_count, &any);
	ckpt_buf_release(&mine);
	if (rc < 0 || !any) {
		ckpt_read_share_free(share);
		return rc;
	}
	*out = share;
	return 0;
}

/* --- rounds ------------------------------------------------------------------------------------------ */

static struct slot *slot_of(const struct ckpt_read_share *share, int rank, uint64_t round)
{
	/* Memory that was mapped is aligned as a page is. */
	return (struct slot *)(void *)share->room.of[rank] + round % 2;
}

static void rewind_tasks(struct ckpt_read_share *share)
{
	share->task_idx = 0;
	share->task_at = share->task_count > 0 ? share->tasks[0].from : 0;
}

/*
 * The next slab of this rank's tasks into @slot, or, for counting, only its place there (@fill
 * NULL). *@out_full: it did not fit any more.
 */
static int add_slab(struct ckpt_read_share *share, struct ckpt_fill *fill, struct slot *slot,
		    uint64_t *used, bool *out_full, struct ckpt_err *err)
{
	const struct task *task = &share->tasks[share->task_idx];
	uint64_t from = share->task_at;
	struct ckpt_slab slab;
	int rc = 0;

	ckpt_item_slab(task->item, from, SLAB_BYTES, &slab);
	*out_full = slot->entry_count == ENTRY_MAX || *used + slab.len > SLOT_BYTES;
	if (*out_full)
		return 0;
	slot->entries[slot->entry_count++] = (struct entry){
		.group_idx = task->group_idx,
		.offset = slab.offset,
		.len = slab.len,
		.at = *used,
	};
	if (fill)
		rc = ckpt_item_load(task->item, fill, &slab, slot->bytes + *used, err);
	*used += num_div_up(slab.len, LINE_BYTES) * LINE_BYTES;
	share->task_at += slab.len;
	if (share->task_at == task->to && ++share->task_idx < share->task_count)
		share->task_at = share->tasks[share->task_idx].from;
	return rc;
}

/* As much of this rank's tasks as fits. */
static int fill_slot(struct ckpt_read_share *share, struct ckpt_fill *fill, struct slot *slot,
		     struct ckpt_err *err)
{
	uint64_t used = 0;
	bool full = false;
	int rc = 0;

	slot->entry_count = 0;
	while (rc == 0 && !full && share->task_idx < share->task_count)
		rc = add_slab(share, fill, slot, &used, &full, err);
	return rc;
}

/* Rounds that this rank needs for its tasks. */
static uint64_t count_rounds(struct ckpt_read_share *share)
{
	struct slot *scratch = slot_of(share, share->job->info.local_rank, 0);
	uint64_t count = 0;

	rewind_tasks(share);
	while (share->task_idx < share->task_count) {
		ckpt_ignore(fill_slot(share, NULL, scratch, NULL)); /* it reads nothing */
		count++;
	}
	rewind_tasks(share);
	return count;
}

/* One slab of a slot to every want of this rank that it is of. */
static int take_entry(const struct ckpt_read_share *share, const struct slot *slot,
		      const struct entry *entry, struct ckpt_err *err)
{
	const struct group *group = &share->groups[entry->group_idx];
	int rc = 0;

	assert(entry->group_idx < share->group_count);
	assert(entry->at < SLOT_BYTES && entry->len <= SLOT_BYTES - entry->at);
	for (size_t i = group->first; i < group->first + group->line_count && rc == 0; i++) {
		const struct line *line = &share->lines[i];
		const struct ckpt_read_item *item;
		struct ckpt_slab slab;

		if (line->rank != share->job->info.local_rank)
			continue;
		item = &share->list->items[share->items[line->idx]];
		ckpt_item_slab(item, entry->offset, SLAB_BYTES, &slab);
		assert(slab.offset == entry->offset && slab.len == entry->len);
		rc = ckpt_item_place(share->list, item, &slab, slot->bytes + entry->at, err);
		ckpt_progress_add(share->job, slab.len);
	}
	return rc;
}

/* What all ranks of the node have read in a round; the own slot first, it is still in the cache. */
static int take_round(const struct ckpt_read_share *share, uint64_t round, struct ckpt_err *err)
{
	int rc = ckpt_job_cancelled(share->job, err);

	for (int i = 0; i < share->room.count; i++) {
		int rank = (share->job->info.local_rank + i) % share->room.count;
		const struct slot *slot = slot_of(share, rank, round);

		for (uint64_t k = 0; k < slot->entry_count && rc == 0; k++)
			rc = take_entry(share, slot, &slot->entries[k], err);
	}
	return rc;
}

/* Everything that is handed round is done, for this rank. */
static void mark_done(struct ckpt_read_share *share)
{
	for (size_t g = 0; g < share->group_count; g++) {
		const struct group *group = &share->groups[g];

		for (size_t i = group->first; i < group->first + group->line_count; i++) {
			if (share->lines[i].rank == share->job->info.local_rank)
				share->list->items[share->items[share->lines[i].idx]].done = true;
		}
	}
}

int ckpt_read_share_run(struct ckpt_read_share *share, struct ckpt_fill *fill,
			struct ckpt_read_share_end *out, struct ckpt_err *err)
{
	struct ckpt_mpi *job = share->job;
	struct ckpt_read_share_end end = { .code = 0 };
	uint64_t round_count = 0;
	bool shared;
	int rc = ckpt_node_room_open(job, 2 * sizeof(struct slot), &share->room, &shared);

	*out = end;
	if (rc < 0 || !shared)
		return rc;
	rc = ckpt_coll_max(job, count_rounds(share), &round_count);
	for (uint64_t round = 0; round < round_count && rc == 0; round++) {
		uint64_t failed = 0;

		if (!end.ended && end.code == 0)
			end.code = fill_slot(share, fill,
					     slot_of(share, job->info.local_rank, round), err);
		/* All have filled theirs of this round, and taken what they want of the last one. */
		atomic_thread_fence(memory_order_seq_cst);
		rc = ckpt_coll_node_sum(job, end.code < 0, &failed);
		atomic_thread_fence(memory_order_seq_cst);
		end.ended = end.ended || failed > 0;
		if (rc == 0 && !end.ended)
			end.code = take_round(share, round, err);
	}
	mark_done(share);
	*out = end;
	return rc;
}
