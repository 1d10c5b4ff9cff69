/*
 * cli_mpi_verify.c - ckptfs-mpi verify: committed checkpoints against their
 * sums, the shards of each shared among the ranks. Output as `ckptfs verify`.
 */
#include <errno.h>
#include <stdio.h>

#include "base/path.h"
#include "cli_mpi.h"
#include "collective.h"
#include "job.h"
#include "store/store.h"
#include "verify_shared.h"
#include "wire.h"

struct verify {
	struct ckpt_mpi *job;
	const struct mpi_options *options;
	const char *path;	/* at hand */
	struct ckpt_buf list;	/* folders and names of the checkpoints behind it */
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

static void print_findings(struct verify *verify, const struct ckpt_verify_shared *shared)
{
	if (shared->finding_count == 0)
		(void)printf("%s: ok (%llu shards, %llu bytes)\n", shared->name,
			     (unsigned long long)shared->shard_count,
			     (unsigned long long)shared->size_bytes);
	for (uint64_t i = 0; i < shared->finding_count; i++)
		(void)puts(shared->lines[i]);
	/* Each as it comes, also into a pipe: this takes long. */
	(void)fflush(stdout);
	verify->checked_count++;
	verify->damaged_count += shared->finding_count > 0;
	verify->finding_count += shared->finding_count;
}

static int verify_one(struct verify *verify, const char *folder, const char *name)
{
	struct ckpt_verify_shared shared;
	int rc;

	ckpt_verify_shared_init(&shared, verify->job, folder, name);
	rc = ckpt_verify_shared_run(&shared);
	if (rc == 0 && ckpt_job_is_coordinator(verify->job))
		print_findings(verify, &shared);
	ckpt_verify_shared_release(&shared);
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
		const char *folder = ckpt_wire_str(&in);

		rc = verify_one(verify, folder, ckpt_wire_str(&in));
	}
	return rc;
}

static int verify_all(struct ckpt_mpi *job, const struct mpi_options *options)
{
	struct verify verify = { .job = job, .options = options };
	int code = MPI_EXIT_OK;
	uint64_t finding_count = 0;

	ckpt_buf_init(&verify.list);
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
	ckpt_buf_release(&verify.list);
	return finding_count > 0 ? MPI_EXIT_FAILED : code;
}

const struct mpi_command mpi_verify_command = {
	.name = "verify",
	.args = "PATH...",
	.summary = "check committed checkpoints against their sums, on all ranks",
	.details = "PATH is a checkpoint, or a store or group: then every committed one below it.",
	.doing = "verifying",
	.options = "cwrFgC",
	.min_args = 1,
	.max_args = SIZE_MAX,
	.run = verify_all,
};
