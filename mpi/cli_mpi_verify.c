/*
 * cli_mpi_verify.c - ckptfs-mpi verify: committed checkpoints against their
 * sums, the shards of each shared among the ranks. Output as `ckptfs verify`.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "base/pool.h"
#include "cli_mpi.h"
#include "collective.h"
#include "job.h"
#include "store/store.h"
#include "wire.h"

struct verify {
	struct ckpt_mpi *job;
	const struct mpi_options *options;
	const char *path;     /* at hand */
	struct ckpt_buf list; /* folders and names of the checkpoints behind it */
	const char *folder;   /* at hand */
	const char *name;
	struct ckpt_buf found; /* this rank's findings, each a string */
	struct ckpt_verify_result result;
	uint64_t finding_count; /* coordinator: of all checkpoints */
	uint64_t damaged_count;
	uint64_t checked_count;
};

/* --- which checkpoints ---------------------------------------------------------------------- */

static void add_checkpoint(struct verify *verify, const char *folder, const char *name)
{
	ckpt_wire_put_str(&verify->list, folder);
	ckpt_wire_put_str(&verify->list, name);
}

struct below {
	struct verify *verify;
	const char *store_path;
};

/* Where the manifest cannot be used, or the folder not entered, verifying says why. */
static int add_found(void *ctx, const struct ckpt_found *found)
{
	const struct below *below = ctx;
	struct ckpt_buf folder;

	if (found->state != CKPT_STATE_COMMITTED && !found->problem)
		return 0;
	ckpt_buf_init(&folder);
	ckpt_path_join(&folder, below->store_path, found->name);
	add_checkpoint(below->verify, folder.data, found->name);
	ckpt_buf_release(&folder);
	return 0;
}

static int list_place(struct verify *verify, const struct ckpt_place *place, struct ckpt_err *err)
{
	struct below below = { .verify = verify, .store_path = place->store_path };
	bool is_folder = place->kind == CKPT_PLACE_STORE || place->kind == CKPT_PLACE_GROUP;
	enum ckpt_state state = CKPT_STATE_COMMITTED;
	struct ckpt_store *store;
	int rc;

	if (!is_folder && place->kind != CKPT_PLACE_CHECKPOINT)
		return ckpt_err_set(
			err, -ENOENT,
			"'%s' is no checkpoint, group or store; 'ckptfs ls' lists what is there",
			verify->path);
	if (!place->store_path) {
		add_checkpoint(verify, place->folder, place->name);
		return 0;
	}
	rc = ckpt_store_open(place->store_path, 0, NULL, &store, err);
	if (rc < 0)
		return rc;
	if (is_folder)
		rc = ckpt_store_walk(store, place->name, add_found, &below, err);
	else
		rc = ckpt_state_of(ckpt_store_fd(store), place->name, &state, NULL, err);
	if (rc == 0 && !is_folder && state == CKPT_STATE_COMMITTED)
		add_checkpoint(verify, place->folder, place->name);
	else if (rc == 0 && !is_folder)
		(void)printf("%s: %s, has no sums yet\n", place->name, ckpt_state_name(state));
	ckpt_store_free(store);
	return rc;
}

static int list(void *ctx, struct ckpt_err *err)
{
	struct verify *verify = ctx;
	struct ckpt_place place = { .name = NULL };
	int rc = ckpt_place_find(verify->path, verify->options->base, &place, err);

	if (rc < 0)
		return rc;
	rc = list_place(verify, &place, err);
	ckpt_place_release(&place);
	return rc < 0 ? rc : ckpt_buf_check(&verify->list);
}

/* --- one checkpoint --------------------------------------------------------------------------- */

static void keep_finding(void *ctx, const char *line)
{
	struct verify *verify = ctx;

	ckpt_wire_put_str(&verify->found, line);
}

static int watch_signals(void *ctx, uint64_t bytes_done, uint64_t bytes_total)
{
	const struct verify *verify = ctx;
	const struct ckpt_mpi_config *config = &verify->job->config;

	(void)bytes_done;
	(void)bytes_total;
	return config->cancel && *config->cancel;
}

/* This rank's shards, on its share of the processors. */
static int verify_part(void *ctx, struct ckpt_err *err)
{
	struct verify *verify = ctx;
	const struct ckpt_mpi_rank_info *rank = ckpt_mpi_rank(verify->job);
	const struct ckpt_verify_options options = {
		.thread_count = num_max(1, ckpt_cpu_count() / (size_t)rank->local_world_size),
		.finding = keep_finding,
		.progress = watch_signals,
		.ctx = verify,
		.part_idx = (uint64_t)rank->global_rank,
		.part_count = (uint64_t)rank->global_world_size,
	};
	CKPT_CLOSE int fd = ckpt_io_openat(AT_FDCWD, verify->folder, O_RDONLY | O_DIRECTORY, 0);
	int rc;

	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open checkpoint '%s'", verify->folder);
	rc = ckpt_verify(fd, verify->name, &options, &verify->result, err);
	return rc < 0 ? rc : ckpt_buf_check(&verify->found);
}

/* Block 9 before block 10. */
static int by_natural_order(const void *a, const void *b)
{
	return strverscmp(*(const char *const *)a, *(const char *const *)b);
}

static int collect_lines(const struct ckpt_buf *all, size_t world_size, const char ***out,
			 size_t *out_count)
{
	const char **lines = NULL;
	size_t count = 0;
	size_t cap = 0;

	for (size_t rank = 0; rank < world_size; rank++) {
		struct ckpt_wire in = ckpt_wire_over(&all[rank]);

		while (in.at < in.len_bytes) {
			if (array_grow(&lines, &cap, count, sizeof(*lines)) < 0) {
				free(lines);
				return -ENOMEM;
			}
			lines[count++] = ckpt_wire_str(&in);
		}
	}
	*out = lines;
	*out_count = count;
	return 0;
}

/* What concerns the whole checkpoint every rank has found: it is said once. */
static int print_findings(struct verify *verify, const struct ckpt_buf *all)
{
	const char **lines = NULL;
	size_t count = 0;
	uint64_t printed = 0;
	int rc = collect_lines(all, (size_t)verify->job->info.global_world_size, &lines, &count);

	if (rc < 0)
		return rc;
	if (count > 1)
		qsort(lines, count, sizeof(*lines), by_natural_order);
	for (size_t i = 0; i < count; i++) {
		if (i > 0 && strcmp(lines[i], lines[i - 1]) == 0)
			continue;
		(void)puts(lines[i]);
		printed++;
	}
	free(lines);
	verify->checked_count++;
	verify->damaged_count += printed > 0;
	verify->finding_count += printed;
	return 0;
}

static void print_ok(const struct verify *verify, uint64_t shard_count, uint64_t size_bytes)
{
	(void)printf("%s: ok (%llu shards, %llu bytes)\n", verify->name,
		     (unsigned long long)shard_count, (unsigned long long)size_bytes);
}

static int gather_findings(struct verify *verify, struct ckpt_buf *all)
{
	struct ckpt_mpi *job = verify->job;
	bool coordinates = ckpt_job_is_coordinator(job);
	uint64_t before = verify->finding_count;
	uint64_t shard_count = 0;
	uint64_t size_bytes = 0;
	int rc = ckpt_coll_gather(job, &verify->found, all);

	if (rc == 0)
		rc = ckpt_coll_sum(job, verify->result.shard_count, &shard_count);
	if (rc == 0)
		rc = ckpt_coll_sum(job, verify->result.size_bytes, &size_bytes);
	if (rc < 0)
		return rc;
	rc = ckpt_job_agree(job, coordinates ? print_findings(verify, all) : 0, NULL);
	if (rc == 0 && coordinates && verify->finding_count == before)
		print_ok(verify, shard_count, size_bytes);
	/* Each line as it comes, also into a pipe: this takes long. */
	(void)fflush(stdout);
	return rc;
}

static int verify_one(struct verify *verify)
{
	struct ckpt_mpi *job = verify->job;
	size_t world_size = (size_t)job->info.global_world_size;
	struct ckpt_buf *all = array_alloc(world_size, sizeof(*all));
	int rc;

	for (size_t i = 0; all && i < world_size; i++)
		ckpt_buf_init(&all[i]);
	ckpt_buf_reset(&verify->found);
	verify->result = (struct ckpt_verify_result){ .shard_count = 0 };
	job->phase = CKPT_MPI_READ_DATA;
	rc = ckpt_job_agree(job, all ? 0 : -ENOMEM, NULL);
	if (rc == 0)
		rc = ckpt_job_run(job, CKPT_MPI_READ_DATA, true, verify_part, verify);
	if (rc == 0)
		rc = gather_findings(verify, all);
	for (size_t i = 0; all && i < world_size; i++)
		ckpt_buf_release(&all[i]);
	free(all);
	return rc;
}

/* All checkpoints behind one path. */
static int verify_path(struct verify *verify)
{
	struct ckpt_mpi *job = verify->job;
	struct ckpt_wire in;
	int rc = ckpt_job_begin(job);

	ckpt_buf_reset(&verify->list);
	if (rc == 0)
		rc = ckpt_job_run(job, CKPT_MPI_SET_UP_STORAGE_READER, ckpt_job_is_coordinator(job),
				  list, verify);
	if (rc == 0)
		rc = ckpt_coll_bcast(job, &verify->list);
	in = ckpt_wire_over(&verify->list);
	while (rc == 0 && in.at < in.len_bytes) {
		verify->folder = ckpt_wire_str(&in);
		verify->name = ckpt_wire_str(&in);
		rc = verify_one(verify);
	}
	return rc;
}

static int verify_all(struct ckpt_mpi *job, const struct mpi_options *options)
{
	struct verify verify = { .job = job, .options = options };
	int code = MPI_EXIT_OK;
	uint64_t finding_count = 0;

	ckpt_buf_init(&verify.list);
	ckpt_buf_init(&verify.found);
	/* One path that cannot be checked does not keep the others from it. */
	for (size_t i = 0; i < options->arg_count && ckpt_mpi_usable(job); i++) {
		verify.path = options->args[i];
		if (verify_path(&verify) < 0)
			code = mpi_report(job);
	}
	if (verify.finding_count > 0)
		mpi_say("%llu %s in %llu of %llu %s; restore what is named above from another copy",
			(unsigned long long)verify.finding_count,
			verify.finding_count == 1 ? "finding" : "findings",
			(unsigned long long)verify.damaged_count,
			(unsigned long long)verify.checked_count,
			verify.checked_count == 1 ? "checkpoint" : "checkpoints");
	if (ckpt_mpi_usable(job) && ckpt_coll_max(job, verify.finding_count, &finding_count) < 0)
		code = mpi_report(job);
	ckpt_buf_release(&verify.found);
	ckpt_buf_release(&verify.list);
	return finding_count > 0 ? MPI_EXIT_FAILED : code;
}

const struct mpi_command mpi_verify_command = {
	.name = "verify",
	.args = "PATH...",
	.summary = "check committed checkpoints against their sums, on all ranks",
	.details = "PATH is a checkpoint, or a store or group: then every committed one below it.",
	.options = "cwC",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.run = verify_all,
};
