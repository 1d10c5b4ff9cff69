/*
 * statistics.h - what can be said of the numbers in a tensor: part of the layer header view.h.
 *
 * Statistics are of the finite elements; those of complex tensors are of the magnitudes. Elements
 * may be added in any order and pieces in any division: results differ in the last bits at most.
 */
#ifndef CKPT_VIEW_STATISTICS_H
#define CKPT_VIEW_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "view/values.h"

struct ckpt_stats {
	enum ckpt_value_kind kind;
	uint64_t count; /* elements, of whatever value */
	uint64_t nan_count;
	uint64_t inf_count;
	uint64_t zero_count;
	/* Of the finite elements; they mean nothing where there is none. */
	double min;
	double max;
	double mean;
	double m2; /* sum of the squares of the distances to the mean */
	/* Of SIGNED and UNSIGNED, where a double may be rounded: the bits of the exact ones. */
	uint64_t exact_min;
	uint64_t exact_max;
};

/** ckpt_stats_init - of no element yet of @dtype; -EINVAL the type is unknown. */
int ckpt_stats_init(struct ckpt_stats *stats, const char *dtype) CKPT_MUST_CHECK;
/** ckpt_stats_add - @count elements of @dtype, as given to ckpt_stats_init, little-endian. */
void ckpt_stats_add(struct ckpt_stats *stats, const char *dtype, const void *data, size_t count);
/** ckpt_stats_merge - what was said of other elements of the same tensor. */
void ckpt_stats_merge(struct ckpt_stats *into, const struct ckpt_stats *from);
/** ckpt_stats_finite - elements that are neither NaN nor infinite. */
uint64_t ckpt_stats_finite(const struct ckpt_stats *stats);
/** ckpt_stats_std - standard deviation of the population, as numpy.std; NaN where none is finite. */
double ckpt_stats_std(const struct ckpt_stats *stats);
/** ckpt_stats_norm - L2 norm of the finite elements. */
double ckpt_stats_norm(const struct ckpt_stats *stats);

/* Whose statistics, and how they are read. */
struct ckpt_views;
struct ckpt_view_reader;
struct ckpt_stats_request {
	struct ckpt_views *views;
	struct ckpt_view_reader *reader;
	const size_t *tensors; /* indices in ckpt_views_contents() */
	size_t tensor_count;
	/* Bytes read of all; non-zero cancels (-ECANCELED). NULL: none. */
	int (*progress)(void *ctx, uint64_t bytes_done, uint64_t bytes_total);
	void *progress_ctx;
};

/**
 * ckpt_tensors_stats - the statistics of whole tensors, on all cores
 * @out: one for each of @request->tensors
 * Errors: as ckpt_view_read; -ECANCELED. Cost: every byte of them is read, and verified, once.
 */
int ckpt_tensors_stats(const struct ckpt_stats_request *request, struct ckpt_stats *out,
		       struct ckpt_err *err) CKPT_MUST_CHECK;

/* Finite elements by value, in bins of one width from low to high; high belongs to the last. */
#define CKPT_HISTOGRAM_BINS 40
struct ckpt_histogram {
	double low;
	double high;
	uint64_t bins[CKPT_HISTOGRAM_BINS];
};

/** ckpt_histogram_add - @count elements of @dtype; what is outside of low to high is not counted. */
void ckpt_histogram_add(struct ckpt_histogram *histogram, const char *dtype, const void *data,
			size_t count);

/**
 * ckpt_tensor_histogram - of one whole tensor, on all cores
 * @request: of one tensor
 * @out:     low and high are given; bins are zero
 * Errors: as ckpt_tensors_stats.
 */
int ckpt_tensor_histogram(const struct ckpt_stats_request *request, struct ckpt_histogram *out,
			  struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
