/*
 * diff.c - which tensors of two checkpoints differ; see diff.h. First the FQNs are paired, then
 * what the sums prove equal is left out, and the rest is read side by side.
 */
#include "view/diff.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "format/format.h"
#include "view/slices.h"
#include "view/view.h"

/* Elements that are compared at a time: two stretches of doubles stay in the first-level cache. */
#define STRETCH 1024U

struct pairing {
	const struct ckpt_contents *a;
	const struct ckpt_contents *b;
	bool ignore_sets;
	struct ckpt_diff *diff;
	size_t cap;
};

/* What is found while elements are compared. */
struct tally {
	uint64_t changed_count;
	uint64_t nan_count;
	double squares_a;
	double squares; /* of the differences */
	double max_abs;
};

struct job {
	const struct ckpt_diff_side *a;
	const struct ckpt_diff_side *b;
	struct ckpt_diff *diff;
	struct ckpt_view_file **a_files; /* one an item; NULL: it is not read */
	struct ckpt_view_file **b_files;
	struct tally *tallies;
	pthread_mutex_t mu; /* over tallies */
};

/* --- pairs ---------------------------------------------------------------------------------- */

static bool has_one_set(const struct ckpt_contents *contents)
{
	for (size_t i = 1; i < contents->tensor_count; i++) {
		if (strcmp(contents->tensors[0].set, contents->tensors[i].set) != 0)
			return false;
	}
	return true;
}

static int order(const struct pairing *pairing, const struct ckpt_tensor *a,
		 const struct ckpt_tensor *b)
{
	int rc = pairing->ignore_sets ? 0 : strcmp(a->set, b->set);

	return rc != 0 ? rc : strcmp(a->fqn, b->fqn);
}

static enum ckpt_diff_kind kind_of(const struct ckpt_tensor *a, const struct ckpt_tensor *b)
{
	if (!a)
		return CKPT_DIFF_ADDED;
	if (!b)
		return CKPT_DIFF_REMOVED;
	if (a->dim_count != b->dim_count ||
	    memcmp(a->shape, b->shape, a->dim_count * sizeof(*a->shape)) != 0)
		return CKPT_DIFF_RESHAPED;
	return strcmp(a->dtype, b->dtype) == 0 ? CKPT_DIFF_EQUAL : CKPT_DIFF_RECAST;
}

/* Either may be NULL. */
static int add_pair(struct pairing *pairing, const struct ckpt_tensor *a,
		    const struct ckpt_tensor *b)
{
	struct ckpt_diff *diff = pairing->diff;
	int rc = array_grow(&diff->items, &pairing->cap, diff->item_count, sizeof(*diff->items));

	if (rc < 0)
		return rc;
	diff->items[diff->item_count++] = (struct ckpt_diff_item){
		.kind = kind_of(a, b),
		.a = a,
		.b = b,
		.a_idx = a ? (size_t)(a - pairing->a->tensors) : 0,
		.b_idx = b ? (size_t)(b - pairing->b->tensors) : 0,
	};
	return 0;
}

/* Both lists are in order by (set, FQN). */
static int pair_up(struct pairing *pairing)
{
	size_t i = 0;
	size_t k = 0;
	int rc = 0;

	while (rc == 0 && (i < pairing->a->tensor_count || k < pairing->b->tensor_count)) {
		const struct ckpt_tensor *a = i < pairing->a->tensor_count ? &pairing->a->tensors[i]
									   : NULL;
		const struct ckpt_tensor *b = k < pairing->b->tensor_count ? &pairing->b->tensors[k]
									   : NULL;
		int which = !a ? 1 : !b ? -1 : order(pairing, a, b);

		rc = add_pair(pairing, which <= 0 ? a : NULL, which >= 0 ? b : NULL);
		i += which <= 0;
		k += which >= 0;
	}
	return rc;
}

/* --- equal by their sums -------------------------------------------------------------------- */

bool ckpt_shards_equal(const struct ckpt_shard *a, const struct ckpt_shard *b)
{
	uint64_t count;

	if (a->size_bytes != b->size_bytes || a->block_bytes != b->block_bytes)
		return false;
	count = ckpt_block_count(a->size_bytes, a->block_bytes);
	/* Empty ones have no sums to point at. */
	return count == 0 || memcmp(a->sums, b->sums, count * sizeof(*a->sums)) == 0;
}

static bool extents_are_equal(const uint64_t *a, const uint64_t *b, uint32_t dim_count)
{
	if (!a || !b)
		return !a && !b;
	return memcmp(a, b, dim_count * sizeof(*a)) == 0;
}

/* NULL: there are no sums of it. */
static const struct ckpt_shard *find_shard(const struct ckpt_manifest *manifest,
					   const struct ckpt_chunk *chunk)
{
	return manifest ? ckpt_manifest_find_shard(manifest, chunk->shard) : NULL;
}

static bool chunks_are_equal(const struct job *job, const struct ckpt_chunk *a,
			     const struct ckpt_chunk *b, uint32_t dim_count)
{
	const struct ckpt_manifest *a_manifest = ckpt_views_manifest(job->a->views);
	const struct ckpt_manifest *b_manifest = ckpt_views_manifest(job->b->views);
	const struct ckpt_shard *a_shard = find_shard(a_manifest, a);
	const struct ckpt_shard *b_shard = find_shard(b_manifest, b);

	return a_shard && b_shard && a->offset_bytes == b->offset_bytes &&
	       extents_are_equal(a->start, b->start, dim_count) &&
	       extents_are_equal(a->size, b->size, dim_count) &&
	       extents_are_equal(a->stride, b->stride, dim_count) &&
	       ckpt_shards_equal(a_shard, b_shard);
}

/*
 * A bit that has flipped in a stored shard since is `ckptfs verify`'s business: what was committed
 * is equal.
 */
static bool is_equal_unread(const struct job *job, const struct ckpt_diff_item *item)
{
	if (item->kind != CKPT_DIFF_EQUAL || item->a->chunk_count != item->b->chunk_count)
		return false;
	for (size_t i = 0; i < item->a->chunk_count; i++) {
		if (!chunks_are_equal(job, &item->a->chunks[i], &item->b->chunks[i],
				      item->a->dim_count))
			return false;
	}
	return true;
}

/* --- elements ------------------------------------------------------------------------------- */

/* How the elements of both sides are taken for numbers. */
struct comparison {
	ckpt_decode a_decode, b_decode;
	uint64_t a_bytes, b_bytes; /* of an element */
	size_t parts;		   /* numbers of an element: 2 where both sides are complex */
	bool same_type;
	enum ckpt_value_kind kind; /* of a */
};

static const char *part_type(const char *dtype)
{
	if (strcmp(dtype, "C64") == 0)
		return "F32";
	return strcmp(dtype, "C128") == 0 ? "F64" : dtype;
}

/* Complex elements are compared by their parts; with real ones by their magnitudes. */
static struct comparison comparison_of(const struct ckpt_diff_item *item)
{
	const char *a = item->a->dtype;
	const char *b = item->b->dtype;
	bool both_complex = ckpt_value_kind_of(a) == CKPT_VALUE_COMPLEX &&
			    ckpt_value_kind_of(b) == CKPT_VALUE_COMPLEX;

	return (struct comparison){
		.a_decode = ckpt_decoder_of(both_complex ? part_type(a) : a),
		.b_decode = ckpt_decoder_of(both_complex ? part_type(b) : b),
		.a_bytes = ckpt_dtype_size(a),
		.b_bytes = ckpt_dtype_size(b),
		.parts = both_complex ? 2 : 1,
		.same_type = item->kind == CKPT_DIFF_EQUAL,
		.kind = ckpt_value_kind_of(a),
	};
}

static bool any_nan(const double *parts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (isnan(parts[i]))
			return true;
	}
	return false;
}

/* Do two elements differ: in their bits, or, where the types do, in their values? */
static bool differ(const struct comparison *how, const unsigned char *a, const unsigned char *b,
		   const double *a_parts, const double *b_parts)
{
	if (how->same_type)
		return memcmp(a, b, how->a_bytes) != 0;
	for (size_t i = 0; i < how->parts; i++) {
		if (a_parts[i] < b_parts[i] || a_parts[i] > b_parts[i])
			return true;
	}
	return any_nan(a_parts, how->parts) != any_nan(b_parts, how->parts);
}

static void tally_element(const struct comparison *how, const double *a, const double *b,
			  struct tally *tally)
{
	bool a_nan = any_nan(a, how->parts);
	bool b_nan = any_nan(b, how->parts);
	double distance = 0;

	if (a_nan && b_nan)
		return;
	tally->changed_count++;
	if (a_nan || b_nan) {
		tally->nan_count++;
		return;
	}
	for (size_t i = 0; i < how->parts; i++) {
		/* Two infinities of one sign are equal, though their distance is NaN. */
		double part = a[i] < b[i] || a[i] > b[i] ? b[i] - a[i] : 0;

		tally->squares += part * part;
		distance = i == 0 ? fabs(part) : hypot(distance, part);
	}
	tally->max_abs = distance > tally->max_abs ? distance : tally->max_abs;
}

/* Doubles round 64-bit integers: two that differ could be equal, or their distance be lost. */
static bool is_rounded(const struct comparison *how)
{
	return how->same_type &&
	       (how->kind == CKPT_VALUE_SIGNED || how->kind == CKPT_VALUE_UNSIGNED);
}

static double exact_distance(const struct comparison *how, const unsigned char *a,
			     const unsigned char *b)
{
	uint64_t left;
	uint64_t right;
	bool is_less;

	memcpy(&left, a, sizeof(left));
	memcpy(&right, b, sizeof(right));
	is_less = how->kind == CKPT_VALUE_SIGNED ? (int64_t)left < (int64_t)right : left < right;
	return (double)(is_less ? right - left : left - right);
}

static double squares_of(const double *values, size_t count)
{
	double squares = 0;

	for (size_t i = 0; i < count; i++)
		squares += isfinite(values[i]) ? values[i] * values[i] : 0;
	return squares;
}

/* @count elements of both sides. */
static void compare(const struct comparison *how, const unsigned char *a, const unsigned char *b,
		    size_t count, struct tally *tally)
{
	double a_values[2 * STRETCH];
	double b_values[2 * STRETCH];

	while (count > 0) {
		size_t some = num_min(count, STRETCH);
		bool equal = how->same_type && memcmp(a, b, some * how->a_bytes) == 0;

		how->a_decode(a, some * how->parts, a_values);
		tally->squares_a += squares_of(a_values, some * how->parts);
		if (!equal)
			how->b_decode(b, some * how->parts, b_values);
		for (size_t i = 0; !equal && i < some; i++) {
			const double *a_parts = a_values + i * how->parts;
			const double *b_parts = b_values + i * how->parts;
			if (!differ(how, a + i * how->a_bytes, b + i * how->b_bytes, a_parts,
				    b_parts))
				continue;
			if (is_rounded(how)) {
				const double zero = 0;
				const double distance = exact_distance(how, a + i * how->a_bytes,
								       b + i * how->b_bytes);

				tally_element(how, &zero, &distance, tally);
			} else {
				tally_element(how, a_parts, b_parts, tally);
			}
		}
		a += some * how->a_bytes;
		b += some * how->b_bytes;
		count -= some;
	}
}

static void add_tally(struct tally *into, const struct tally *from)
{
	into->changed_count += from->changed_count;
	into->nan_count += from->nan_count;
	into->squares_a += from->squares_a;
	into->squares += from->squares;
	into->max_abs = from->max_abs > into->max_abs ? from->max_abs : into->max_abs;
}

/* --- reading -------------------------------------------------------------------------------- */

static uint64_t size_of(void *ctx, size_t item)
{
	const struct job *job = ctx;

	return job->a_files[item] ? ckpt_view_file_size(job->a_files[item]) : 0;
}

/* Elements of one side, as many as @room holds. */
static int read_side(const struct ckpt_diff_side *side, const struct ckpt_view_file *file,
		     uint64_t offset, struct ckpt_view_room *room, struct ckpt_err *err)
{
	int rc = ckpt_view_read(side->reader, file, offset, room, err);

	/* Both have the size of their shape. */
	assert(rc < 0 || room->got_bytes == room->len_bytes);
	return rc;
}

/* Compare @count elements from @first on, which fit into the room on both sides. */
static int compare_some(struct job *job, const struct ckpt_slice *slice, uint64_t first,
			size_t count, struct ckpt_err *err)
{
	const struct comparison how = comparison_of(&job->diff->items[slice->item]);
	struct ckpt_view_room a = { .data = slice->room, .len_bytes = count * how.a_bytes };
	struct ckpt_view_room b = { .data = (char *)slice->room + CKPT_SLICE_BYTES,
				    .len_bytes = count * how.b_bytes };
	struct tally tally = { 0 };
	int rc = read_side(job->a, job->a_files[slice->item], first * how.a_bytes, &a, err);

	if (rc == 0)
		rc = read_side(job->b, job->b_files[slice->item], first * how.b_bytes, &b, err);
	if (rc < 0)
		return rc;
	compare(&how, a.data, b.data, count, &tally);
	pthread_mutex_lock(&job->mu);
	add_tally(&job->tallies[slice->item], &tally);
	pthread_mutex_unlock(&job->mu);
	return 0;
}

/* A slice of a; the same elements of b may be longer. */
static int work(void *ctx, const struct ckpt_slice *slice, struct ckpt_err *err)
{
	struct job *job = ctx;
	const struct ckpt_diff_item *item = &job->diff->items[slice->item];
	uint64_t a_bytes = ckpt_dtype_size(item->a->dtype);
	uint64_t at = slice->offset_bytes / a_bytes;
	uint64_t end = at + slice->len_bytes / a_bytes;
	uint64_t most = CKPT_SLICE_BYTES / num_max(a_bytes, ckpt_dtype_size(item->b->dtype));
	int rc = 0;

	while (rc == 0 && at < end) {
		size_t count = num_min(end - at, most);

		rc = compare_some(job, slice, at, count, err);
		at += count;
	}
	return rc;
}

/* --- all of it ------------------------------------------------------------------------------ */

static bool is_compared(const struct job *job, const struct ckpt_diff_item *item)
{
	return item->kind == CKPT_DIFF_RECAST ||
	       (item->kind == CKPT_DIFF_EQUAL && !is_equal_unread(job, item));
}

static int open_items(struct job *job, struct ckpt_err *err)
{
	struct ckpt_diff *diff = job->diff;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < diff->item_count; i++) {
		const struct ckpt_diff_item *item = &diff->items[i];

		if (!is_compared(job, item))
			continue;
		rc = ckpt_view_tensor_open(job->a->views, item->a_idx, &job->a_files[i], err);
		if (rc == 0)
			rc = ckpt_view_tensor_open(job->b->views, item->b_idx, &job->b_files[i],
						   err);
		if (rc == 0)
			diff->read_bytes += ckpt_view_file_size(job->a_files[i]);
	}
	return rc;
}

static void conclude(struct job *job)
{
	struct ckpt_diff *diff = job->diff;

	for (size_t i = 0; i < diff->item_count; i++) {
		const struct tally *tally = &job->tallies[i];
		struct ckpt_diff_item *item = &diff->items[i];

		item->changed_count = tally->changed_count;
		item->nan_count = tally->nan_count;
		item->max_abs = tally->max_abs;
		if (tally->squares > 0)
			item->rel_l2 = tally->squares_a > 0
					       ? sqrt(tally->squares) / sqrt(tally->squares_a)
					       : INFINITY;
		if (item->kind == CKPT_DIFF_EQUAL && tally->changed_count > 0)
			item->kind = CKPT_DIFF_CHANGED;
		diff->differ_count += item->kind != CKPT_DIFF_EQUAL;
	}
}

static void job_release(struct job *job)
{
	for (size_t i = 0; job->a_files && job->b_files && i < job->diff->item_count; i++) {
		ckpt_view_file_close(job->a_files[i]);
		ckpt_view_file_close(job->b_files[i]);
	}
	free(job->a_files);
	free(job->b_files);
	free(job->tallies);
}

static int compare_all(struct job *job, const struct ckpt_diff_options *options,
		       struct ckpt_err *err)
{
	const struct ckpt_slices slices = { .item_count = job->diff->item_count,
					    .size_bytes = size_of,
					    .work = work,
					    .progress = options->progress,
					    .ctx = job,
					    .progress_ctx = options->progress_ctx };
	size_t count = num_max(job->diff->item_count, 1);
	int rc;

	job->a_files = array_alloc(count, sizeof(struct ckpt_view_file *));
	job->b_files = array_alloc(count, sizeof(struct ckpt_view_file *));
	job->tallies = array_alloc(count, sizeof(*job->tallies));
	if (!job->a_files || !job->b_files || !job->tallies)
		return ckpt_err_set(err, -ENOMEM, "out of memory while comparing tensors");
	rc = open_items(job, err);
	pthread_mutex_init(&job->mu, NULL);
	if (rc == 0)
		rc = ckpt_slices_run(&slices, err);
	pthread_mutex_destroy(&job->mu);
	if (rc == 0)
		conclude(job);
	return rc;
}

int ckpt_diff_run(const struct ckpt_diff_side *a, const struct ckpt_diff_side *b,
		  const struct ckpt_diff_options *options, struct ckpt_diff *out,
		  struct ckpt_err *err)
{
	struct ckpt_diff diff = { .items = NULL };
	struct job job = { .a = a, .b = b, .diff = &diff };
	struct pairing pairing = { .a = ckpt_views_contents(a->views),
				   .b = ckpt_views_contents(b->views),
				   .diff = &diff };
	int rc;

	pairing.ignore_sets = has_one_set(pairing.a) && has_one_set(pairing.b);
	rc = pair_up(&pairing);
	if (rc < 0)
		rc = ckpt_err_sys(err, rc, "cannot compare the tensors");
	else
		rc = compare_all(&job, options, err);
	job_release(&job);
	if (rc < 0)
		ckpt_diff_release(&diff);
	else
		*out = diff;
	return rc;
}

void ckpt_diff_release(struct ckpt_diff *diff)
{
	free(diff->items);
	*diff = (struct ckpt_diff){ .items = NULL };
}

/* --- showing it ----------------------------------------------------------------------------- */

const char *ckpt_diff_word(enum ckpt_diff_kind kind)
{
	static const char *const words[] = {
		[CKPT_DIFF_EQUAL] = "equal",   [CKPT_DIFF_CHANGED] = "changed",
		[CKPT_DIFF_RECAST] = "recast", [CKPT_DIFF_RESHAPED] = "reshaped",
		[CKPT_DIFF_ADDED] = "added",   [CKPT_DIFF_REMOVED] = "removed",
	};

	return words[kind];
}

static const struct ckpt_tensor *any_of(const struct ckpt_diff_item *item)
{
	return item->a ? item->a : item->b;
}

static int by_change(const void *left, const void *right)
{
	const struct ckpt_diff_item *a = left;
	const struct ckpt_diff_item *b = right;
	const struct ckpt_tensor *a_tensor = any_of(a);
	const struct ckpt_tensor *b_tensor = any_of(b);

	if (a->kind != b->kind)
		return a->kind > b->kind ? -1 : 1;
	if (a->rel_l2 < b->rel_l2 || a->rel_l2 > b->rel_l2)
		return a->rel_l2 > b->rel_l2 ? -1 : 1;
	return strcmp(a_tensor->set, b_tensor->set) != 0 ? strcmp(a_tensor->set, b_tensor->set)
							 : strcmp(a_tensor->fqn, b_tensor->fqn);
}

void ckpt_diff_sort(struct ckpt_diff *diff)
{
	if (diff->item_count > 0)
		qsort(diff->items, diff->item_count, sizeof(*diff->items), by_change);
}
