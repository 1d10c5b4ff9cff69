/* statistics.c - see statistics.h. */
#include "view/statistics.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/clones.h"
#include "base/num.h"
#include "format/format.h"

/* Elements that are decoded at a time: 16 KiB of doubles stay in the first-level cache. */
#define STRETCH 2048U
/* Sums side by side, so that the processor does several additions at once. */
#define LANES 8U

int ckpt_stats_init(struct ckpt_stats *stats, const char *dtype)
{
	enum ckpt_value_kind kind = ckpt_value_kind_of(dtype);

	if (kind == CKPT_VALUE_NONE)
		return -EINVAL;
	*stats = (struct ckpt_stats){ .kind = kind, .min = INFINITY, .max = -INFINITY };
	stats->exact_min = kind == CKPT_VALUE_SIGNED ? INT64_MAX : UINT64_MAX;
	stats->exact_max = kind == CKPT_VALUE_SIGNED ? (uint64_t)INT64_MIN : 0;
	return 0;
}

uint64_t ckpt_stats_finite(const struct ckpt_stats *stats)
{
	return stats->count - stats->nan_count - stats->inf_count;
}

double ckpt_stats_std(const struct ckpt_stats *stats)
{
	return sqrt(stats->m2 / (double)ckpt_stats_finite(stats));
}

double ckpt_stats_norm(const struct ckpt_stats *stats)
{
	double count = (double)ckpt_stats_finite(stats);

	return count > 0 ? sqrt(stats->m2 + count * stats->mean * stats->mean) : 0;
}

/* --- a stretch ------------------------------------------------------------------------------ */

/* Sums of LANES elements side by side. Counts are doubles: they are exact far beyond a stretch. */
struct lanes {
	double min[LANES];
	double max[LANES];
	double sum[LANES]; /* of the distances to the pivot */
	double squares[LANES];
	double finite[LANES];
	double nan[LANES];
	double zero[LANES];
};

/*
 * What is not finite counts as the pivot in the sums, whose distance is 0. Distances to an element
 * nearby keep what subtracting large sums would lose.
 */
CKPT_FOR_THIS_PROCESSOR static void sum_up(const double *values, size_t count, double pivot,
					   struct lanes *out)
{
	struct lanes lanes = *out;

	for (size_t i = 0; i + LANES <= count; i += LANES) {
		for (size_t l = 0; l < LANES; l++) {
			double value = values[i + l];
			/* Inf - Inf and NaN - NaN are NaN. */
			double is_finite = value - value == 0 ? 1.0 : 0.0;
			double taken = value - value == 0 ? value : pivot;
			double distance = taken - pivot;

			lanes.min[l] = taken < lanes.min[l] ? taken : lanes.min[l];
			lanes.max[l] = taken > lanes.max[l] ? taken : lanes.max[l];
			lanes.sum[l] += distance;
			lanes.squares[l] += distance * distance;
			lanes.finite[l] += is_finite;
			lanes.nan[l] += value != value ? 1.0 : 0.0;
			lanes.zero[l] += value == 0 ? 1.0 : 0.0;
		}
	}
	*out = lanes;
}

/* One that is finite; false where there is none. */
static bool find_pivot(const double *values, size_t count, double *out)
{
	for (size_t i = 0; i < count; i++) {
		if (isfinite(values[i])) {
			*out = values[i];
			return true;
		}
	}
	return false;
}

static void stats_of_lanes(const struct lanes *lanes, double pivot, uint64_t count,
			   struct ckpt_stats *out)
{
	double finite = 0;
	double sum = 0;
	double squares = 0;

	out->min = INFINITY;
	out->max = -INFINITY;
	for (size_t l = 0; l < LANES; l++) {
		finite += lanes->finite[l];
		sum += lanes->sum[l];
		squares += lanes->squares[l];
		out->min = lanes->min[l] < out->min ? lanes->min[l] : out->min;
		out->max = lanes->max[l] > out->max ? lanes->max[l] : out->max;
		out->nan_count += (uint64_t)lanes->nan[l];
		out->zero_count += (uint64_t)lanes->zero[l];
	}
	out->count = count;
	out->inf_count = count - out->nan_count - (uint64_t)finite;
	out->mean = pivot + sum / finite;
	out->m2 = squares - sum * (sum / finite);
	/* Rounding may leave less than nothing. */
	if (out->m2 < 0)
		out->m2 = 0;
}

/* @count ≤ STRETCH; behind them there is room up to a multiple of LANES. */
static void stats_of_stretch(double *values, size_t count, struct ckpt_stats *out)
{
	size_t rest = count % LANES;
	struct lanes lanes = { .min = { 0 } };
	double pivot = 0;

	if (!find_pivot(values, count, &pivot)) {
		out->count = count;
		for (size_t i = 0; i < count; i++)
			out->nan_count += isnan(values[i]) ? 1 : 0;
		out->inf_count = count - out->nan_count;
		return;
	}
	for (size_t l = 0; l < LANES; l++) {
		lanes.min[l] = pivot;
		lanes.max[l] = pivot;
	}
	/* What fills the last lanes is the pivot once more, and taken out of the counts again. */
	for (size_t l = rest; rest > 0 && l < LANES; l++) {
		values[count - rest + l] = pivot;
		lanes.finite[l] = -1;
		lanes.zero[l] = pivot == 0 ? -1 : 0;
	}
	sum_up(values, rest > 0 ? count - rest + LANES : count, pivot, &lanes);
	stats_of_lanes(&lanes, pivot, count, out);
}

/* --- all of them ---------------------------------------------------------------------------- */

static void merge_exact(struct ckpt_stats *into, uint64_t min, uint64_t max)
{
	if (into->kind == CKPT_VALUE_SIGNED) {
		into->exact_min = (int64_t)min < (int64_t)into->exact_min ? min : into->exact_min;
		into->exact_max = (int64_t)max > (int64_t)into->exact_max ? max : into->exact_max;
	} else {
		into->exact_min = num_min(into->exact_min, min);
		into->exact_max = num_max(into->exact_max, max);
	}
}

/* Chan, Golub, LeVeque: "Updating Formulae and a Pairwise Algorithm" (1979). */
static void merge_moments(struct ckpt_stats *into, const struct ckpt_stats *from)
{
	double a = (double)ckpt_stats_finite(into);
	double b = (double)ckpt_stats_finite(from);
	double distance = from->mean - into->mean;

	if (b == 0)
		return;
	if (a == 0) {
		into->mean = from->mean;
		into->m2 = from->m2;
		return;
	}
	into->mean += distance * (b / (a + b));
	into->m2 += from->m2 + distance * distance * (a * (b / (a + b)));
}

void ckpt_stats_merge(struct ckpt_stats *into, const struct ckpt_stats *from)
{
	merge_moments(into, from);
	into->count += from->count;
	into->nan_count += from->nan_count;
	into->inf_count += from->inf_count;
	into->zero_count += from->zero_count;
	into->min = from->min < into->min ? from->min : into->min;
	into->max = from->max > into->max ? from->max : into->max;
	merge_exact(into, from->exact_min, from->exact_max);
}

/* The exact extremes of 64-bit integers, which doubles round. */
static void add_exact(struct ckpt_stats *stats, const unsigned char *data, size_t count)
{
	uint64_t value;

	for (size_t i = 0; i < count; i++) {
		memcpy(&value, data + i * sizeof(value), sizeof(value));
		merge_exact(stats, value, value);
	}
}

void ckpt_stats_add(struct ckpt_stats *stats, const char *dtype, const void *data, size_t count)
{
	uint64_t element_bytes = ckpt_dtype_size(dtype);
	ckpt_decode decode = ckpt_decoder_of(dtype);
	const unsigned char *at = data;
	double values[STRETCH];

	while (count > 0) {
		size_t some = num_min(count, STRETCH);
		struct ckpt_stats part = { .kind = stats->kind,
					   .min = INFINITY,
					   .max = -INFINITY,
					   .exact_min = stats->exact_min,
					   .exact_max = stats->exact_max };

		decode(at, some, values);
		stats_of_stretch(values, some, &part);
		if (stats->kind == CKPT_VALUE_SIGNED || stats->kind == CKPT_VALUE_UNSIGNED)
			add_exact(&part, at, some);
		ckpt_stats_merge(stats, &part);
		at += some * element_bytes;
		count -= some;
	}
}

/* --- the histogram -------------------------------------------------------------------------- */

void ckpt_histogram_add(struct ckpt_histogram *histogram, const char *dtype, const void *data,
			size_t count)
{
	uint64_t element_bytes = ckpt_dtype_size(dtype);
	ckpt_decode decode = ckpt_decoder_of(dtype);
	double width = histogram->high - histogram->low;
	const unsigned char *at = data;
	double values[STRETCH];

	while (count > 0) {
		size_t some = num_min(count, STRETCH);

		decode(at, some, values);
		for (size_t i = 0; i < some; i++) {
			double place = width > 0 ? (values[i] - histogram->low) / width : 0;

			if (values[i] >= histogram->low && values[i] <= histogram->high)
				histogram->bins[num_min((uint64_t)(place * CKPT_HISTOGRAM_BINS),
							CKPT_HISTOGRAM_BINS - 1)]++;
		}
		at += some * element_bytes;
		count -= some;
	}
}
