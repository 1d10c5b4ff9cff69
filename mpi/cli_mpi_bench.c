/*
 * cli_mpi_bench.c - ckptfs-mpi bench: how fast all ranks save and load, worded as MLPerf Storage
 * does: what is saved is durable when the clock stops, a duration is that of the slowest
 * rank, a throughput that of the slowest. Sums are made and checked as ever. What it writes it
 * removes, also when it fails.
 */
#include "cli_mpi_bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "cli_mpi_progress.h"
#include "collective.h"
#include "job.h"
#include "store/store.h"

/* Seconds of one round: each the most that any rank took. */
struct sample {
	double save;
	double load;
	double stopped; /* --async: by ckpt_mpi_save_start() */
	double copy;	/* --async: a memcpy of the same state */
};

struct bench {
	struct ckpt_mpi *job;
	const struct mpi_options *options;
	struct mpi_bench_state state;
	unsigned char *copy;  /* --async: as large as the state */
	struct ckpt_buf path; /* of the checkpoint at hand */
	struct ckpt_mpi_result result;
	struct sample *samples;
	uint64_t round;
};

/* --- the clock ------------------------------------------------------------------------------ */

/* All ranks begin together. */
static int start_clock(struct ckpt_mpi *job, double *out)
{
	uint64_t nothing;
	int rc = ckpt_coll_max(job, 0, &nothing);

	*out = MPI_Wtime();
	return rc;
}

static int stop_clock(struct ckpt_mpi *job, double began, double *out)
{
	uint64_t ns = (uint64_t)((MPI_Wtime() - began) * 1e9);
	int rc = ckpt_coll_max(job, ns, &ns);

	*out = (double)ns / 1e9;
	return rc;
}

/* --- saving and loading --------------------------------------------------------------------- */

static int measure_copy(struct bench *bench)
{
	double began;
	int rc = start_clock(bench->job, &began);

	if (rc < 0)
		return rc;
	memcpy(bench->copy, bench->state.data, bench->state.rank_bytes);
	return stop_clock(bench->job, began, &bench->samples[bench->round].copy);
}

static int save_in_background(struct bench *bench, const struct ckpt_mpi_save_request *request,
			      double began)
{
	struct ckpt_mpi_future *future = NULL;
	uint64_t stopped_ns;
	int rc = ckpt_mpi_save_start(bench->job, request, CKPT_MPI_COPY, &future);

	stopped_ns = (uint64_t)((MPI_Wtime() - began) * 1e9);
	if (rc == 0)
		rc = mpi_await(&future, &bench->result);
	if (rc == 0)
		rc = ckpt_coll_max(bench->job, stopped_ns, &stopped_ns);
	bench->samples[bench->round].stopped = (double)stopped_ns / 1e9;
	return rc;
}

static int measure_save(struct bench *bench)
{
	const struct ckpt_mpi_save_request request = {
		.path = bench->path.data,
		.entries = bench->state.entries,
		.entry_count = bench->state.tensor_count,
		.layout = bench->options->layout,
	};
	double began;
	int rc = start_clock(bench->job, &began);

	if (rc == 0)
		rc = bench->options->is_async ? save_in_background(bench, &request, began)
					      : ckpt_mpi_save(bench->job, &request, &bench->result);
	return rc < 0 ? rc : stop_clock(bench->job, began, &bench->samples[bench->round].save);
}

static int check_state(void *ctx, struct ckpt_err *err)
{
	const struct bench *bench = ctx;

	return mpi_bench_state_check(&bench->state, err);
}

static int measure_load(struct bench *bench)
{
	const struct ckpt_mpi_read_request request = { .wants = bench->state.wants,
						       .want_count = bench->state.tensor_count };
	struct ckpt_mpi_reader *reader = NULL;
	double began;
	int rc;

	mpi_bench_state_clear(&bench->state);
	rc = start_clock(bench->job, &began);
	if (rc == 0)
		rc = ckpt_mpi_reader_new(bench->job, bench->path.data, &reader);
	if (rc == 0)
		rc = ckpt_mpi_reader_read(reader, &request, NULL);
	if (rc == 0)
		rc = stop_clock(bench->job, began, &bench->samples[bench->round].load);
	ckpt_mpi_reader_free(reader);
	bench->job->phase = CKPT_MPI_READ_DATA;
	return rc < 0 ? rc : ckpt_job_go_on(bench->job, true, check_state, bench);
}

/* --- removing what it wrote -------------------------------------------------------------------- */

/* Committed, or open as a failed save leaves it; neither is fine. */
static int remove_named(struct ckpt_store *store, const char *name, struct ckpt_err *err)
{
	const struct ckpt_purge_options purge = { .below = name, .last_too = true };
	struct ckpt_purge_result purged;
	struct ckpt_buf open_name;
	int rc = ckpt_trash_remove(store, name, NULL, err);

	if (rc == 0)
		return ckpt_trash_purge(store, &purge, &purged, err);
	if (rc != -ENOENT)
		return rc;
	ckpt_buf_init(&open_name);
	ckpt_buf_printf(&open_name, "%s" CKPT_PARTIAL_SUFFIX, name);
	rc = ckpt_buf_check(&open_name);
	if (rc == 0)
		rc = ckpt_abort(store, open_name.data, err);
	ckpt_buf_release(&open_name);
	return rc == -ENOENT ? 0 : rc;
}

static int remove_checkpoint(void *ctx, struct ckpt_err *err)
{
	const struct bench *bench = ctx;
	struct ckpt_place place = { .name = NULL };
	struct ckpt_store *store = NULL;
	int rc = ckpt_place_find(bench->path.data, bench->options->base, &place, err);

	if (rc == 0 && place.store_path)
		rc = ckpt_store_open(place.store_path, 0, NULL, &store, err);
	if (rc == 0 && store)
		rc = remove_named(store, place.name, err);
	ckpt_store_free(store);
	ckpt_place_release(&place);
	return rc < 0 ? ckpt_err_prefix(err, rc, "cannot remove what the measurement wrote") : 0;
}

/* Behind a failure, when no rank listens any more; the failure is what is reported. */
static void clean_up(struct bench *bench)
{
	struct ckpt_err err = CKPT_ERR_INIT;

	if (ckpt_job_is_coordinator(bench->job) && bench->path.len_bytes > 0 &&
	    remove_checkpoint(bench, &err) < 0 && err.msg[0])
		mpi_say("'%s': %s; drop it by hand", bench->path.data, err.msg);
}

/* --- rounds ----------------------------------------------------------------------------------- */

/* One name on every rank, that no other run takes. */
static int name_checkpoint(struct bench *bench)
{
	bool names = ckpt_mpi_rank(bench->job)->global_rank == 0;
	uint64_t pid;
	int rc = ckpt_coll_max(bench->job, names ? (uint64_t)getpid() : 0, &pid);

	if (rc < 0)
		return rc;
	ckpt_buf_reset(&bench->path);
	ckpt_buf_printf(&bench->path, "%s/ckptfs-bench-%llu-step-%llu", bench->options->args[0],
			(unsigned long long)pid, (unsigned long long)bench->round);
	return ckpt_job_agree(bench->job, ckpt_buf_check(&bench->path), NULL);
}

static int run_round(struct bench *bench)
{
	struct ckpt_mpi *job = bench->job;
	int rc = name_checkpoint(bench);

	if (rc == 0 && bench->options->is_async)
		rc = measure_copy(bench);
	if (rc == 0)
		rc = measure_save(bench);
	if (rc == 0)
		rc = measure_load(bench);
	if (rc == 0)
		rc = ckpt_job_go_on(job, ckpt_job_is_coordinator(job), remove_checkpoint, bench);
	return rc;
}

static int set_up(void *ctx, struct ckpt_err *err)
{
	struct bench *bench = ctx;
	const struct mpi_options *options = bench->options;
	int rc = mpi_bench_state_init(&bench->state, options, ckpt_mpi_rank(bench->job), err);

	if (rc < 0)
		return rc;
	bench->samples = array_alloc(options->rounds, sizeof(*bench->samples));
	bench->copy = options->is_async ? malloc(bench->state.rank_bytes) : NULL;
	return bench->samples && (bench->copy || !options->is_async) ? 0 : -ENOMEM;
}

static int run_all(struct bench *bench)
{
	int rc;

	bench->job->phase = CKPT_MPI_SET_UP_STORAGE_WRITER;
	rc = ckpt_job_go_on(bench->job, true, set_up, bench);
	for (; rc == 0 && bench->round < bench->options->rounds; bench->round++)
		rc = run_round(bench);
	if (rc < 0)
		clean_up(bench);
	return rc;
}

/* --- output ----------------------------------------------------------------------------------- */

#define FIELD(name) offsetof(struct sample, name)

static double field_of(const struct sample *sample, size_t field)
{
	double value;

	memcpy(&value, (const char *)sample + field, sizeof(value));
	return value;
}

static void print_list(const struct bench *bench, const char *name, size_t field)
{
	(void)printf("\"%s\":[", name);
	for (uint64_t i = 0; i < bench->options->rounds; i++)
		(void)printf("%s%.6f", i ? "," : "", field_of(&bench->samples[i], field));
	(void)printf("]");
}

static uint64_t all_bytes(const struct bench *bench)
{
	return bench->state.rank_bytes * (uint64_t)ckpt_mpi_rank(bench->job)->global_world_size;
}

static const char *layout_name(const struct bench *bench)
{
	return bench->options->layout == CKPT_MPI_LAYOUT_GLOBAL ? "global" : "shards";
}

static void print_json(const struct bench *bench)
{
	(void)printf(
		"{\"ranks\":%d,\"bytes\":%llu,\"shards\":%llu,\"layout\":\"%s\",\"io\":\"%s\",",
		ckpt_mpi_rank(bench->job)->global_world_size, (unsigned long long)all_bytes(bench),
		(unsigned long long)bench->result.shard_count, layout_name(bench),
		bench->options->io == CKPT_MPI_IO_MPIIO ? "mpiio" : "posix");
	(void)printf("\"save\":{");
	print_list(bench, "seconds", FIELD(save));
	(void)printf("},\"load\":{");
	print_list(bench, "seconds", FIELD(load));
	(void)printf("}");
	if (bench->options->is_async) {
		(void)printf(",\"async\":{");
		print_list(bench, "stopped_seconds", FIELD(stopped));
		(void)printf(",");
		print_list(bench, "memcpy_seconds", FIELD(copy));
		(void)printf("}");
	}
	(void)printf("}\n");
}

static void print_row(const struct bench *bench, const char *what, uint64_t round, double secs)
{
	double rank_rate = (double)bench->state.rank_bytes / (secs > 0 ? secs : 1e-9);
	int ranks = ckpt_mpi_rank(bench->job)->global_world_size;
	char all[16];
	char one[16];

	(void)printf("%-10s  %5llu  %9.3f  %10s/s  %10s/s\n", what, (unsigned long long)round + 1,
		     secs, num_format_size((uint64_t)(rank_rate * ranks), all, sizeof(all)),
		     num_format_size((uint64_t)rank_rate, one, sizeof(one)));
}

static void print_table(const struct bench *bench)
{
	int ranks = ckpt_mpi_rank(bench->job)->global_world_size;
	char size[16];

	(void)printf("%d %s, %s in %llu shards, layout %s\n", ranks, ranks == 1 ? "rank" : "ranks",
		     num_format_size(all_bytes(bench), size, sizeof(size)),
		     (unsigned long long)bench->result.shard_count, layout_name(bench));
	(void)printf("%-10s  %5s  %9s  %12s  %12s\n", "WORK", "ROUND", "SECONDS", "ALL_RANKS",
		     "SLOWEST_RANK");
	for (uint64_t i = 0; i < bench->options->rounds; i++) {
		const struct sample *sample = &bench->samples[i];

		print_row(bench, "save", i, sample->save);
		if (bench->options->is_async) {
			print_row(bench, "  stopped", i, sample->stopped);
			print_row(bench, "  memcpy", i, sample->copy);
		}
		print_row(bench, "load", i, sample->load);
	}
}

static int run_bench(struct ckpt_mpi *job, const struct mpi_options *options)
{
	struct bench bench = { .job = job, .options = options };
	int rc;

	ckpt_buf_init(&bench.path);
	rc = run_all(&bench);
	mpi_progress_erase();
	if (rc == 0 && mpi_is_speaker(job)) {
		if (options->json)
			print_json(&bench);
		else
			print_table(&bench);
	}
	free(bench.samples);
	free(bench.copy);
	mpi_bench_state_release(&bench.state);
	ckpt_buf_release(&bench.path);
	return rc < 0 ? mpi_report(job) : MPI_EXIT_OK;
}

const struct mpi_command mpi_bench_command = {
	.name = "bench",
	.args = "STORE",
	.summary = "measure how fast all ranks save and load",
	.details =
		"STORE is a store or a group in one; what is written there is removed, also when it\n"
		"fails. What is saved is durable when the clock stops, loads find it in memory, a\n"
		"duration is that of the slowest rank, and sums are made and checked. With --async\n"
		"it tells, too, how long the start of a save stops an application.",
	.options = "zNnlyiAcwrFgjC",
	.min_args = 1,
	.max_args = 1,
	.run = run_bench,
};
