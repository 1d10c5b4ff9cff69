/* target.c - see target.h. */
#include "target.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/control.h"
#include "base/io.h"
#include "base/path.h"
#include "base/version.h"
#include "collective.h"
#include "job_progress.h"
#include "rollcall.h"
#include "wire.h"

/* A session is due every 10 seconds; people want to see it move. */
#define TOUCH_MS 1000

void ckpt_target_init(struct ckpt_target *target, struct ckpt_mpi *job, const char *path,
		      bool is_new)
{
	*target = (struct ckpt_target){ .job = job, .path = path, .is_new = is_new, .dirfd = -1 };
	ckpt_buf_init(&target->store_path);
	ckpt_buf_init(&target->mount_path);
	ckpt_buf_init(&target->name);
}

void ckpt_target_release(struct ckpt_target *target)
{
	target->job->tick = NULL;
	if (target->dirfd >= 0)
		ckpt_ignore(close(target->dirfd)); /* a folder: nothing can be lost */
	ckpt_store_free(target->store);
	ckpt_buf_release(&target->name);
	ckpt_buf_release(&target->mount_path);
	ckpt_buf_release(&target->store_path);
}

/* --- set up --------------------------------------------------------------------------- */

/* Of what there is at a path that shall become a checkpoint, or is to be committed. */
static int check_kind(const struct ckpt_target *target, const struct ckpt_place *place,
		      struct ckpt_err *err)
{
	const char *what = place->kind == CKPT_PLACE_STORE   ? "a store"
			   : place->kind == CKPT_PLACE_GROUP ? "a folder that is no checkpoint"
			   : place->kind == CKPT_PLACE_LOOSE ? "a file"
							     : "inside a checkpoint";

	if (place->mount_path && strcmp(place->mount_path, place->store_path) == 0)
		return ckpt_err_set(
			err, -EBUSY,
			"the store '%s' is mounted over itself, where ranks cannot reach it; mount it at a folder of its own",
			place->store_path);
	if (place->kind == CKPT_PLACE_CHECKPOINT)
		return 0;
	if (target->is_new)
		return place->kind == CKPT_PLACE_NOTHING
			       ? 0
			       : ckpt_err_set(err, -EEXIST,
					      "cannot save '%s': it is %s; choose another name",
					      target->path, what);
	if (place->kind == CKPT_PLACE_NOTHING)
		return ckpt_err_set(err, -ENOENT, "cannot commit '%s': it does not exist",
				    target->path);
	return place->kind == CKPT_PLACE_GROUP
		       ? 0
		       : ckpt_err_set(
				 err, -EINVAL,
				 "cannot commit '%s': it is %s; give the folder of a checkpoint",
				 target->path, what);
}

/* Committed already? Better said before anything is hashed. */
static int check_open(struct ckpt_target *target, struct ckpt_err *err)
{
	enum ckpt_state state;
	int rc = ckpt_state_of(ckpt_store_fd(target->store), target->name.data, &state, NULL, err);

	if (rc == 0 && state == CKPT_STATE_COMMITTED)
		return ckpt_err_set(err, -EEXIST, "'%s' is committed already", target->path);
	return rc;
}

static int open_folder(struct ckpt_target *target, struct stat *st, struct ckpt_err *err)
{
	int rc = ckpt_store_open_checkpoint(target->store, target->name.data, &target->dirfd, err);

	if (rc == 0)
		rc = ckpt_io_fstat(target->dirfd, st);
	return rc;
}

/* Into the session: `ckptfs ls` and the status of a mount show it. */
static void tell_progress(const struct ckpt_target *target)
{
	const struct ckpt_mpi *job = target->job;
	struct ckpt_mpi_progress known = { .bytes_total = 0 };
	struct ckpt_save_progress told = { .rank_count = (uint64_t)job->info.global_world_size };

	if (ckpt_progress_known(job, &known)) {
		told.bytes_done = known.bytes_done;
		told.bytes_total = known.bytes_total;
		told.slowest_rank = (uint64_t)known.slowest_rank;
	}
	memcpy(told.since, target->since, sizeof(told.since));
	/* Where the folder is gone, the next write or the commit says so. */
	ckpt_ignore(ckpt_open_tell(target->store, target->name.data, &told, NULL));
}

/* The session stays alive while this process waits or writes. Any thread; one of several does it. */
static void touch(void *ctx)
{
	struct ckpt_target *target = ctx;
	uint_fast64_t before_ms = atomic_load(&target->touched_ms);
	uint64_t now_ms = ckpt_clock_mono_ms();

	if (now_ms - before_ms >= TOUCH_MS &&
	    atomic_compare_exchange_strong(&target->touched_ms, &before_ms, now_ms))
		tell_progress(target);
}

static int begin_in_store(struct ckpt_target *target, const struct ckpt_place *place,
			  struct ckpt_err *err)
{
	struct stat st;
	int rc = ckpt_store_open(place->store_path, 0, NULL, &target->store, err);

	if (rc < 0)
		return rc;
	if (target->is_new) {
		rc = ckpt_open_begin(target->store, place->name, &target->name, err);
	} else {
		ckpt_buf_add_str(&target->name, place->name);
		rc = check_open(target, err);
	}
	if (rc < 0)
		return rc;
	if (target->is_new) {
		(void)ckpt_clock_rfc3339(target->since);
		tell_progress(target);
		atomic_store(&target->touched_ms, ckpt_clock_mono_ms());
		target->job->tick = touch;
		target->job->tick_ctx = target;
	}
	rc = open_folder(target, &st, err);
	if (rc == 0)
		target->ino = st.st_ino;
	return rc;
}

static int no_store(const struct ckpt_target *target, struct ckpt_err *err)
{
	return ckpt_err_set(err, -ENXIO,
			    "'%s' is in no store; run 'ckptfs init' on a folder above it",
			    target->path);
}

/* The coordinator's part. */
static int begin(void *ctx, struct ckpt_err *err)
{
	struct ckpt_target *target = ctx;
	struct ckpt_place place = { .name = NULL };
	int rc = ckpt_place_find(target->path, target->job->config.store, &place, err);

	/* Inside a store, what does not exist is found as nothing: this lies in none. */
	if (rc == -ENXIO || (rc == -ENOENT && target->is_new))
		return no_store(target, err);
	if (rc < 0)
		return rc;
	rc = place.store_path ? check_kind(target, &place, err) : no_store(target, err);
	if (rc == 0)
		rc = begin_in_store(target, &place, err);
	if (rc == 0) {
		ckpt_buf_add_str(&target->store_path, place.store_path);
		ckpt_buf_add_str(&target->mount_path, place.mount_path ? place.mount_path : "");
	}
	ckpt_place_release(&place);
	return rc;
}

static int tell(struct ckpt_target *target)
{
	bool tells = ckpt_job_is_coordinator(target->job);
	struct ckpt_wire in;
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&text);
	if (tells) {
		ckpt_wire_put_str(&text, target->store_path.data);
		ckpt_wire_put_str(&text, target->name.data);
		ckpt_wire_put_u64(&text, target->ino);
	}
	rc = ckpt_coll_bcast(target->job, &text);
	if (rc == 0 && !tells) {
		in = ckpt_wire_over(&text);
		ckpt_buf_add_str(&target->store_path, ckpt_wire_str(&in));
		ckpt_buf_add_str(&target->name, ckpt_wire_str(&in));
		target->ino = ckpt_wire_u64(&in);
	}
	ckpt_buf_release(&text);
	return rc;
}

/* Every other rank's part. */
static int attach(void *ctx, struct ckpt_err *err)
{
	struct ckpt_target *target = ctx;
	struct stat st;
	int rc = ckpt_store_open(target->store_path.data, CKPT_STORE_NO_INDEX, NULL, &target->store,
				 err);

	if (rc == 0)
		rc = open_folder(target, &st, err);
	if (rc == -ENOENT || (rc == 0 && st.st_ino != target->ino))
		return ckpt_err_set(
			err, -ENXIO,
			"this host sees another file system at '%s' than rank %d on %s does; the store must be on storage that all ranks share",
			target->store_path.data, target->job->config.coordinator,
			target->job->hosts[target->job->config.coordinator]);
	return rc;
}

int ckpt_target_set_up(struct ckpt_target *target)
{
	bool coordinates = ckpt_job_is_coordinator(target->job);
	int rc = ckpt_job_run(target->job, CKPT_MPI_SET_UP_STORAGE_WRITER, true,
			      coordinates ? begin : NULL, target);

	if (rc == 0)
		rc = tell(target);
	if (rc == 0)
		rc = ckpt_job_go_on(target->job, !coordinates, attach, target);
	return rc;
}

/* --- vote ------------------------------------------------------------------------------ */

static int call_hook(struct ckpt_target *target, ckpt_mpi_hook hook, const char *name,
		     struct ckpt_err *err)
{
	struct ckpt_mpi *job = target->job;
	char message[CKPT_MPI_MESSAGE_MAX] = "";
	struct ckpt_buf folder;
	struct ckpt_mpi_hook_call call = {
		.phase = job->phase,
		.path = target->path,
		.rank = &job->info,
		.args = job->config.args,
		.arg_count = job->config.arg_count,
	};
	int rc;

	if (!hook)
		return 0;
	ckpt_buf_init(&folder);
	ckpt_path_join(&folder, target->store_path.data, name);
	rc = ckpt_buf_check(&folder);
	if (rc == 0) {
		call.folder = folder.data;
		rc = hook(job->config.hook_ctx, &call, message);
		message[sizeof(message) - 1] = '\0';
	}
	ckpt_buf_release(&folder);
	/* A positive code would be taken for success further on. */
	if (rc > 0)
		rc = -EIO;
	return rc < 0 ? ckpt_err_set(err, rc, "%s", message[0] ? message : "the hook failed") : 0;
}

static int pre_commit(void *ctx, struct ckpt_err *err)
{
	struct ckpt_target *target = ctx;

	return call_hook(target, target->job->config.pre_commit, target->name.data, err);
}

int ckpt_target_vote(struct ckpt_target *target)
{
	struct ckpt_mpi *job = target->job;
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc = ckpt_job_run(job, CKPT_MPI_PRE_COMMIT, true, pre_commit, target);
	int local;

	if (rc < 0)
		return rc;
	/* A rank that fails here enters the barrier all the same: nobody shall wait for it. */
	job->phase = CKPT_MPI_BARRIER;
	local = ckpt_fault_hit(&job->faults, CKPT_MPI_BARRIER, job->info.global_rank, &err);
	rc = ckpt_coll_barrier(job);
	return rc < 0 ? rc : ckpt_job_agree(job, local, &err);
}

/* --- finish ------------------------------------------------------------------------------- */

struct finish {
	struct ckpt_target *target;
	const struct ckpt_target_commit *what;
	struct ckpt_record_list all;
	struct ckpt_mpi_result result;
};

/*
 * A mount that the caller's path runs through shall show the checkpoint at once; the others see it
 * within a second.
 */
static void refresh_mount(const struct ckpt_target *target, const char *name)
{
	CKPT_CLOSE int fd = target->mount_path.len_bytes > 0
				    ? ckpt_io_openat(AT_FDCWD, target->mount_path.data,
						     O_RDONLY | O_DIRECTORY, 0)
				    : -1;
	struct ckpt_control control = { .version = CKPT_CONTROL_VERSION,
					.op = CKPT_CONTROL_REFRESH };

	if (fd < 0 || strlen(name) >= sizeof(control.name))
		return;
	memcpy(control.name, name, strlen(name) + 1);
	/* It only hastens what happens anyway. */
	ckpt_ignore(ioctl(fd, CKPT_IOC_CONTROL, &control));
}

static void keep_result(struct finish *f, const struct ckpt_commit_result *result)
{
	struct ckpt_mpi_result *out = &f->result;

	assert(strlen(result->name) < sizeof(out->name)); /* 8 components of 255 bytes */
	memcpy(out->id, result->id, sizeof(out->id));
	memcpy(out->name, result->name, strlen(result->name) + 1);
	out->seq = result->seq;
	out->shard_count = result->shard_count;
	out->size_bytes = result->size_bytes;
}

static int is_cancelled(void *ctx, uint64_t bytes_done, uint64_t bytes_total)
{
	const struct ckpt_mpi *job = ctx;

	(void)bytes_done;
	(void)bytes_total;
	return job->config.cancel && *job->config.cancel;
}

/* A coordinator that was stopped may wake up when the others have given up on it, and said so. */
static int check_wanted(const struct ckpt_target *target, struct ckpt_err *err)
{
	enum ckpt_state state;
	int rc = ckpt_state_of(ckpt_store_fd(target->store), target->name.data, &state, NULL, err);

	if (rc == 0 && target->is_new && state == CKPT_STATE_ABORTED)
		return ckpt_err_set(
			err, -ECANCELED,
			"the other ranks gave up waiting and marked '%s' aborted; save it again",
			target->name.data);
	return rc;
}

static int commit(void *ctx, struct ckpt_err *err)
{
	struct finish *f = ctx;
	struct ckpt_target *target = f->target;
	const struct ckpt_commit_options options = {
		.has_step = f->what->has_step,
		.step = f->what->step,
		.meta = f->what->meta,
		.has_world_size = f->what->has_world_size,
		.world_size = (uint64_t)target->job->info.global_world_size,
		.writer = "ckptfs-mpi " CKPTFS_VERSION,
		.known = f->all.items,
		.known_count = f->all.count,
		.tensors = f->what->tensors,
		.tensor_count = f->what->tensor_count,
		.bytes_entries = f->what->bytes_entries,
		.bytes_entry_count = f->what->bytes_entry_count,
		.progress = is_cancelled,
		.progress_ctx = target->job,
	};
	struct ckpt_commit_result result = { .name = NULL };
	int rc = check_wanted(target, err);

	if (rc == 0)
		rc = ckpt_commit(target->store, target->name.data, &options, &result, err);
	/* Its remedy is for a checkpoint that stays open; a save's is marked aborted. */
	if (rc == -ENOSPC && target->is_new)
		return ckpt_err_prefix(err, rc,
				       "cannot save '%s'; free some space, then save it again",
				       target->path);
	if (rc < 0)
		return rc;
	assert(result.name);
	target->committed = true;
	target->job->tick = NULL;
	refresh_mount(target, result.name);
	keep_result(f, &result);
	free(result.name);
	return 0;
}

/* The coordinator's result becomes everybody's. */
static int share_result(struct finish *f)
{
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&text);
	ckpt_buf_add(&text, &f->result, sizeof(f->result));
	rc = ckpt_coll_bcast(f->target->job, &text);
	if (rc == 0)
		memcpy(&f->result, text.data, sizeof(f->result));
	f->target->committed = rc == 0 || f->target->committed;
	ckpt_buf_release(&text);
	return rc;
}

static int post_commit(void *ctx, struct ckpt_err *err)
{
	struct finish *f = ctx;

	return call_hook(f->target, f->target->job->config.post_commit, f->result.name, err);
}

int ckpt_target_finish(struct ckpt_target *target, const struct ckpt_record_list *mine,
		       const struct ckpt_target_commit *what, struct ckpt_mpi_result *out)
{
	struct ckpt_mpi *job = target->job;
	struct finish f = { .target = target, .what = what };
	int rc;

	job->phase = CKPT_MPI_FINISH;
	rc = ckpt_record_gather(job, mine, &f.all);
	if (rc == 0)
		rc = ckpt_job_run(job, CKPT_MPI_FINISH, ckpt_job_is_coordinator(job), commit, &f);
	if (rc == 0)
		rc = share_result(&f);
	if (rc == 0) {
		if (out)
			*out = f.result;
		rc = ckpt_job_run(job, CKPT_MPI_POST_COMMIT, true, post_commit, &f);
	}
	ckpt_record_list_release(&f.all);
	return rc;
}

/* --- failure ------------------------------------------------------------------------------- */

/* The table into the open checkpoint, if this job made it. */
static void mark_aborted(struct ckpt_target *target)
{
	struct ckpt_buf table;

	if (!target->is_new || target->committed || !target->store || target->name.len_bytes == 0)
		return;
	ckpt_buf_init(&table);
	ckpt_job_print_failures(target->job, &table);
	/*
	 * The failure that is reported is the one that led here; the name can be saved again
	 * either way.
	 */
	if (ckpt_buf_check(&table) == 0)
		ckpt_ignore(
			ckpt_open_mark_aborted(target->store, target->name.data, table.data, NULL));
	ckpt_buf_release(&table);
}

int ckpt_target_fail(struct ckpt_target *target, int code)
{
	struct ckpt_mpi *job = target->job;
	int marker = job->broken ? job->reporter : job->config.coordinator;

	if (job->info.global_rank == marker)
		mark_aborted(target);
	ckpt_roll_part(job);
	return code;
}
