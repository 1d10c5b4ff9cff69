/* numbers.c - see numbers.h. */
#include "cli/numbers.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bar.h"
#include "base/box.h"
#include "base/cleanup.h"
#include "base/cover.h"
#include "base/num.h"
#include "base/path.h"
#include "cli/progress.h"
#include "cli/side.h"
#include "cli/signals.h"
#include "cli/suggest.h"
#include "cli/table.h"
#include "view/view.h"

/* What stands in front of the bars of a histogram: two edges and a count. */
#define EDGES_WIDTH 38U
/* A terminal that is wider gains nothing by longer bars. */
#define BAR_MAX 60U

/* Digits of an extreme: in a table, by itself, and what tells every double from its neighbours. */
#define DIGITS_TABLE 4
#define DIGITS_SHOWN 9
#define DIGITS_ALL 17

/* A checkpoint's tensors, and the statistics of those that are shown. */
struct numbers {
	struct side side;
	const struct ckpt_contents *contents;
	size_t *tensors; /* indices in contents */
	size_t count;
	struct ckpt_stats *stats;
};

static int no_memory(struct ckpt_err *err)
{
	return ckpt_err_set(err, -ENOMEM, "out of memory while reading tensors");
}

static void numbers_release(struct numbers *numbers)
{
	free(numbers->tensors);
	free(numbers->stats);
	side_release(&numbers->side);
}

/* @times: how often each of them may be asked for. */
static int numbers_init(struct numbers *numbers, const struct cli_checkpoint *checkpoint,
			size_t times, struct ckpt_err *err)
{
	uint64_t most;
	int rc;

	*numbers = (struct numbers){ .side = SIDE_INIT };
	rc = side_read(checkpoint, &numbers->side, err);
	if (rc < 0)
		return rc;
	numbers->contents = ckpt_views_contents(numbers->side.views);
	if (!num_mul(numbers->contents->tensor_count, times, &most))
		return no_memory(err);
	most = num_max(most, 1);
	numbers->tensors = array_alloc(most, sizeof(*numbers->tensors));
	numbers->stats = array_alloc(most, sizeof(*numbers->stats));
	return numbers->tensors && numbers->stats ? 0 : no_memory(err);
}

static struct ckpt_stats_request request_of(const struct numbers *numbers)
{
	return (struct ckpt_stats_request){ .views = numbers->side.views,
					    .reader = numbers->side.reader,
					    .tensors = numbers->tensors,
					    .tensor_count = numbers->count,
					    .progress = progress_update };
}

static int compute(struct numbers *numbers, struct ckpt_err *err)
{
	const struct ckpt_stats_request request = request_of(numbers);
	int rc;

	signals_catch();
	progress_start("reading tensors");
	rc = ckpt_tensors_stats(&request, numbers->stats, err);
	progress_end();
	return rc;
}

/* --- one value ------------------------------------------------------------------------------ */

/* An extreme with @digits of a real; 64-bit integers in full. False where no element is finite. */
static bool print_extreme(const struct ckpt_stats *stats, bool is_max, int digits, char out[32])
{
	uint64_t bits = is_max ? stats->exact_max : stats->exact_min;

	if (ckpt_stats_finite(stats) == 0)
		return false;
	if (stats->kind == CKPT_VALUE_SIGNED)
		ckpt_ignore(snprintf(out, 32, "%" PRId64, (int64_t)bits));
	else if (stats->kind == CKPT_VALUE_UNSIGNED)
		ckpt_ignore(snprintf(out, 32, "%" PRIu64, bits));
	else
		ckpt_ignore(snprintf(out, 32, "%.*g", digits, is_max ? stats->max : stats->min));
	return true;
}

static double sparsity_of(const struct ckpt_stats *stats)
{
	return stats->count > 0 ? (double)stats->zero_count / (double)stats->count : 0;
}

/* --- a line for each ------------------------------------------------------------------------ */

static const struct table_column columns[] = {
	{ "FQN", 0 },
	{ "DTYPE", 0 },
	{ "SHAPE", 0 },
	{ "MIN", TABLE_RIGHT },
	{ "MAX", TABLE_RIGHT },
	{ "MEAN", TABLE_RIGHT },
	{ "STD", TABLE_RIGHT },
	{ "NAN", TABLE_RIGHT },
	{ "INF", TABLE_RIGHT },
	{ "SPARSITY", TABLE_RIGHT },
	{ "SET", TABLE_JSON_ONLY },
	{ "GROUP", TABLE_JSON_ONLY },
	{ "COUNT", TABLE_JSON_ONLY },
	{ "ZEROS", TABLE_JSON_ONLY },
	{ "L2", TABLE_JSON_ONLY },
};

static void add_extreme(struct table *table, const struct ckpt_stats *stats, bool is_max, bool json)
{
	char text[32];

	if (print_extreme(stats, is_max, json ? DIGITS_ALL : DIGITS_TABLE, text))
		table_raw(table, text);
	else
		table_text(table, NULL);
}

static void add_row(struct table *table, const struct ckpt_tensor *tensor,
		    const struct ckpt_stats *stats, bool json)
{
	bool any = ckpt_stats_finite(stats) > 0;
	char shape[CKPT_BOX_TEXT_MAX];

	table_text(table, tensor->fqn);
	table_text(table, tensor->dtype);
	table_raw(table, ckpt_extents_text(tensor->shape, tensor->dim_count, shape));
	add_extreme(table, stats, false, json);
	add_extreme(table, stats, true, json);
	table_real(table, any, stats->mean);
	table_real(table, any, ckpt_stats_std(stats));
	table_number(table, true, stats->nan_count);
	table_number(table, true, stats->inf_count);
	table_real(table, true, sparsity_of(stats));
	table_text(table, tensor->set);
	table_text(table, tensor->group);
	table_number(table, true, stats->count);
	table_number(table, true, stats->zero_count);
	table_real(table, true, ckpt_stats_norm(stats));
}

static int print_table(const struct numbers *numbers, bool json, struct ckpt_err *err)
{
	struct table table;
	int rc;

	table_init(&table, columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < numbers->count; i++)
		add_row(&table, &numbers->contents->tensors[numbers->tensors[i]],
			&numbers->stats[i], json);
	rc = table_print(&table, json, err);
	table_release(&table);
	return rc;
}

int numbers_print_all(const struct cli_checkpoint *checkpoint, bool json, struct ckpt_err *err)
{
	struct numbers numbers;
	int rc = numbers_init(&numbers, checkpoint, 1, err);

	for (size_t i = 0; rc == 0 && i < numbers.contents->tensor_count; i++)
		numbers.tensors[numbers.count++] = i;
	if (rc == 0)
		rc = compute(&numbers, err);
	if (rc == 0)
		rc = print_table(&numbers, json, err);
	numbers_release(&numbers);
	return rc;
}

/* --- one by one ----------------------------------------------------------------------------- */

static int no_such_tensor(const struct numbers *numbers, const char *fqn, struct ckpt_err *err)
{
	const char *best = NULL;
	size_t best_distance = SIZE_MAX;

	for (size_t i = 0; i < numbers->contents->tensor_count; i++) {
		size_t distance = suggest_distance(fqn, numbers->contents->tensors[i].fqn);

		if (distance < best_distance) {
			best_distance = distance;
			best = numbers->contents->tensors[i].fqn;
		}
	}
	if (best && suggest_near(fqn, best_distance))
		return ckpt_err_set(err, -ENOENT, "there is no tensor '%s'; did you mean '%s'?",
				    fqn, best);
	return ckpt_err_set(err, -ENOENT,
			    "there is no tensor '%s'; 'ckptfs show --tensors' lists them", fqn);
}

/* In every set that has one of that name. */
static int find_tensors(struct numbers *numbers, const char *fqn, struct ckpt_err *err)
{
	size_t before = numbers->count;

	for (size_t i = 0; i < numbers->contents->tensor_count; i++) {
		if (strcmp(numbers->contents->tensors[i].fqn, fqn) == 0)
			numbers->tensors[numbers->count++] = i;
	}
	return numbers->count > before ? 0 : no_such_tensor(numbers, fqn, err);
}

static int make_histogram(struct numbers *numbers, size_t idx, struct ckpt_histogram *out,
			  struct ckpt_err *err)
{
	struct ckpt_stats_request request = request_of(numbers);
	const struct ckpt_stats *stats = &numbers->stats[idx];
	int rc;

	*out = (struct ckpt_histogram){ .low = stats->min, .high = stats->max };
	if (ckpt_stats_finite(stats) == 0)
		return 0;
	request.tensors = &numbers->tensors[idx];
	request.tensor_count = 1;
	progress_start("counting");
	rc = ckpt_tensor_histogram(&request, out, err);
	progress_end();
	return rc;
}

/* Two bins of the histogram are one bar. */
static void print_bar(const struct ckpt_histogram *histogram, size_t idx, uint64_t most,
		      size_t width, struct ckpt_buf *out)
{
	double step = (histogram->high - histogram->low) / CKPT_HISTOGRAM_BINS;
	uint64_t count = histogram->bins[idx] + histogram->bins[idx + 1];
	uint64_t len = (uint64_t)((double)count / (double)most * (double)width);

	ckpt_buf_printf(out, "%11.4g ..%11.4g %12" PRIu64 " ", histogram->low + step * (double)idx,
			histogram->low + step * (double)(idx + 2), count);
	/* What is there at all shows. */
	len = count > 0 ? num_max(len, 1) : 0;
	for (uint64_t i = 0; i < len; i++)
		ckpt_buf_add_char(out, '#');
	while (out->data[out->len_bytes - 1] == ' ')
		out->data[--out->len_bytes] = '\0';
	ckpt_buf_add_char(out, '\n');
}

static void print_bars(const struct ckpt_histogram *histogram, struct ckpt_buf *out)
{
	size_t columns_there = num_max(ckpt_bar_width(STDOUT_FILENO), EDGES_WIDTH + 2);
	size_t width = num_min(columns_there - EDGES_WIDTH - 1, BAR_MAX);
	uint64_t most = 1;

	for (size_t i = 0; i < CKPT_HISTOGRAM_BINS; i += 2)
		most = num_max(most, histogram->bins[i] + histogram->bins[i + 1]);
	ckpt_buf_add_str(out, "histogram:\n");
	for (size_t i = 0; i < CKPT_HISTOGRAM_BINS; i += 2)
		print_bar(histogram, i, most, width, out);
}

static void print_text(const struct ckpt_tensor *tensor, const struct ckpt_stats *stats,
		       const struct ckpt_histogram *histogram, struct ckpt_buf *out)
{
	char shape[CKPT_BOX_TEXT_MAX];
	char text[32];
	bool any = ckpt_stats_finite(stats) > 0;

	ckpt_buf_add_str(out, "fqn: ");
	ckpt_path_escape(out, tensor->fqn);
	if (tensor->set[0])
		ckpt_buf_printf(out, "\nset: %s", tensor->set);
	ckpt_buf_printf(out, "\ndtype: %s\nshape: %s\nelements: %" PRIu64 "\n", tensor->dtype,
			ckpt_extents_text(tensor->shape, tensor->dim_count, shape), stats->count);
	if (print_extreme(stats, false, DIGITS_SHOWN, text))
		ckpt_buf_printf(out, "min: %s\n", text);
	if (print_extreme(stats, true, DIGITS_SHOWN, text))
		ckpt_buf_printf(out, "max: %s\n", text);
	if (any)
		ckpt_buf_printf(out, "mean: %.9g\nstd: %.9g\nl2: %.9g\n", stats->mean,
				ckpt_stats_std(stats), ckpt_stats_norm(stats));
	ckpt_buf_printf(out,
			"nan: %" PRIu64 "\ninf: %" PRIu64 "\nsparsity: %.4g (%" PRIu64 " zeros)\n",
			stats->nan_count, stats->inf_count, sparsity_of(stats), stats->zero_count);
	if (stats->kind == CKPT_VALUE_COMPLEX)
		ckpt_buf_add_str(out, "values: magnitudes of complex numbers\n");
	if (any)
		print_bars(histogram, out);
}

static void print_json(const struct ckpt_tensor *tensor, const struct ckpt_stats *stats,
		       const struct ckpt_histogram *histogram, struct ckpt_buf *out)
{
	char shape[CKPT_BOX_TEXT_MAX];
	char text[32];
	bool any = ckpt_stats_finite(stats) > 0;

	ckpt_buf_add_str(out, "{\"fqn\":");
	json_text(out, tensor->fqn);
	ckpt_buf_add_str(out, ",\"set\":");
	json_text(out, tensor->set);
	ckpt_buf_printf(out, ",\"dtype\":\"%s\",\"shape\":%s,\"count\":%" PRIu64, tensor->dtype,
			ckpt_extents_text(tensor->shape, tensor->dim_count, shape), stats->count);
	ckpt_buf_printf(out, ",\"min\":%s",
			print_extreme(stats, false, DIGITS_ALL, text) ? text : "null");
	ckpt_buf_printf(out, ",\"max\":%s",
			print_extreme(stats, true, DIGITS_ALL, text) ? text : "null");
	ckpt_buf_add_str(out, ",\"mean\":");
	json_real(out, any ? stats->mean : NAN);
	ckpt_buf_add_str(out, ",\"std\":");
	json_real(out, any ? ckpt_stats_std(stats) : NAN);
	ckpt_buf_add_str(out, ",\"l2\":");
	json_real(out, ckpt_stats_norm(stats));
	ckpt_buf_printf(out, ",\"nan\":%" PRIu64 ",\"inf\":%" PRIu64 ",\"zeros\":%" PRIu64,
			stats->nan_count, stats->inf_count, stats->zero_count);
	ckpt_buf_add_str(out, ",\"sparsity\":");
	json_real(out, sparsity_of(stats));
	ckpt_buf_add_str(out, ",\"histogram\":{\"low\":");
	json_real(out, any ? histogram->low : NAN);
	ckpt_buf_add_str(out, ",\"high\":");
	json_real(out, any ? histogram->high : NAN);
	ckpt_buf_add_str(out, ",\"counts\":");
	for (size_t i = 0; i < CKPT_HISTOGRAM_BINS; i++)
		ckpt_buf_printf(out, "%s%" PRIu64, i == 0 ? "[" : ",", histogram->bins[i]);
	ckpt_buf_add_str(out, "]}}");
}

static int print_one(struct numbers *numbers, size_t idx, bool json, struct ckpt_buf *out,
		     struct ckpt_err *err)
{
	const struct ckpt_tensor *tensor = &numbers->contents->tensors[numbers->tensors[idx]];
	struct ckpt_histogram histogram;
	int rc = make_histogram(numbers, idx, &histogram, err);

	if (rc < 0)
		return rc;
	if (json) {
		ckpt_buf_add_str(out, idx == 0 ? "[\n" : ",\n");
		print_json(tensor, &numbers->stats[idx], &histogram, out);
	} else {
		ckpt_buf_add_str(out, idx == 0 ? "" : "\n");
		print_text(tensor, &numbers->stats[idx], &histogram, out);
	}
	return 0;
}

static int print_some(struct numbers *numbers, bool json, struct ckpt_err *err)
{
	struct ckpt_buf out;
	int rc = 0;

	ckpt_buf_init(&out);
	for (size_t i = 0; rc == 0 && i < numbers->count; i++)
		rc = print_one(numbers, i, json, &out, err);
	if (json)
		ckpt_buf_add_str(&out, "\n]\n");
	if (rc == 0 && ckpt_buf_check(&out) < 0)
		rc = no_memory(err);
	if (rc == 0)
		rc = cli_write(out.data, out.len_bytes, err);
	ckpt_buf_release(&out);
	return rc;
}

int numbers_print_some(const struct cli_checkpoint *checkpoint, const struct option_list *fqns,
		       bool json, struct ckpt_err *err)
{
	struct numbers numbers;
	int rc = numbers_init(&numbers, checkpoint, fqns->count, err);

	for (size_t i = 0; rc == 0 && i < fqns->count; i++)
		rc = find_tensors(&numbers, fqns->items[i], err);
	if (rc == 0)
		rc = compute(&numbers, err);
	if (rc == 0)
		rc = print_some(&numbers, json, err);
	numbers_release(&numbers);
	return rc;
}
