/*
 * latest.c - ckpt_mpi_latest(): from the newest committed checkpoint of a group
 * to older ones, until one verifies on all ranks.
 *
 * Nothing is locked: what is found may be removed, or replaced, while it is
 * verified. Then it counts neither as sound nor as damaged, and the group is
 * listed anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "base/path.h"
#include "collective.h"
#include "job.h"
#include "store/store.h"
#include "verify_shared.h"
#include "wire.h"

/* Who removes checkpoints as fast as we verify them does not do it so often by accident. */
#define LIST_TRIES_MAX 16

struct candidate {
	char *name; /* below the store */
	char id[37];
	char committed[CKPT_RFC3339_SIZE];
	uint64_t seq;
};

enum verdict {
	VERDICT_SOUND,
	VERDICT_DAMAGED,
	VERDICT_GONE, /* it is no more what was listed */
	VERDICT_NONE_LEFT,
};

struct latest {
	struct ckpt_mpi *job;
	const char *group;
	char *out_path;
	size_t out_size;
	/* Coordinator: */
	struct ckpt_store *store;
	char *below; /* the group's name */
	struct candidate *candidates;
	size_t count, cap;
	size_t next; /* of them, to verify */
	/* The same on every rank: */
	struct ckpt_buf store_path;
	uint64_t store_ino;
	struct ckpt_buf folder; /* of the candidate at hand; "" when there is none left */
	struct ckpt_mpi_result result;
	enum verdict verdict;
	struct ckpt_verify_shared verify;
};

static void forget_candidates(struct latest *latest)
{
	for (size_t i = 0; i < latest->count; i++)
		free(latest->candidates[i].name);
	latest->count = 0;
	latest->next = 0;
}

static void pass_over(struct latest *latest, const char *line)
{
	/* With its NUL, behind which the next one begins. */
	ckpt_buf_add(&latest->job->passed_over, line, strlen(line) + 1);
}

/* --- the coordinator's list ---------------------------------------------------------------- */

/* Newest first, by the order of `ckptfs latest`. */
static int by_age(const void *a, const void *b)
{
	const struct candidate *x = a;
	const struct candidate *y = b;
	int order;

	if (x->seq != y->seq)
		return x->seq > y->seq ? -1 : 1;
	order = strcmp(y->committed, x->committed);
	return order != 0 ? order : strcmp(y->id, x->id);
}

static int add_candidate(struct latest *latest, const struct ckpt_found *found)
{
	struct candidate *it;

	if (array_grow(&latest->candidates, &latest->cap, latest->count,
		       sizeof(*latest->candidates)) < 0)
		return -ENOMEM;
	it = &latest->candidates[latest->count];
	*it = (struct candidate){ .name = strdup(found->name), .seq = found->row->seq };
	if (!it->name)
		return -ENOMEM;
	memcpy(it->id, found->row->id, sizeof(it->id));
	memcpy(it->committed, found->row->committed, sizeof(it->committed));
	latest->count++;
	return 0;
}

/* A manifest that cannot be used has no place in the order: it is passed over, wherever it was. */
static int note_found(void *ctx, const struct ckpt_found *found)
{
	struct latest *latest = ctx;

	if (found->row)
		return add_candidate(latest, found);
	if (found->problem)
		pass_over(latest, found->problem->msg);
	return 0;
}

/* Damage of an earlier try would be said twice. */
static int list(void *ctx, struct ckpt_err *err)
{
	struct latest *latest = ctx;
	int rc;

	if (!ckpt_job_is_coordinator(latest->job))
		return 0;
	forget_candidates(latest);
	ckpt_buf_reset(&latest->job->passed_over);
	rc = ckpt_store_walk(latest->store, latest->below, note_found, latest, err);
	if (rc == -ENOMEM)
		return ckpt_err_sys(err, rc, "cannot list '%s'", latest->group);
	if (rc < 0)
		return rc;
	if (latest->count > 1)
		qsort(latest->candidates, latest->count, sizeof(*latest->candidates), by_age);
	return 0;
}

static int check_place(const struct latest *latest, const struct ckpt_place *place,
		       struct ckpt_err *err)
{
	if (!place->store_path)
		return ckpt_err_set(
			err, -ENXIO,
			"'%s' is in no store; give the folder that holds the checkpoints of a run",
			latest->group);
	if (place->kind == CKPT_PLACE_NOTHING)
		return ckpt_err_set(err, -ENOENT,
				    "nothing is committed in '%s' yet: there is no such folder",
				    latest->group);
	if (place->kind == CKPT_PLACE_ENTRY || place->kind == CKPT_PLACE_LOOSE)
		return ckpt_err_set(
			err, -EINVAL,
			"'%s' is a file; give the folder that holds the checkpoints of a run",
			latest->group);
	return 0;
}

static int open_group(struct latest *latest, const struct ckpt_place *place, struct ckpt_err *err)
{
	struct stat st;
	int rc = check_place(latest, place, err);

	if (rc == 0)
		rc = ckpt_store_open(place->store_path, 0, NULL, &latest->store, err);
	if (rc < 0)
		return rc;
	latest->below = strdup(place->name);
	ckpt_buf_add_str(&latest->store_path, place->store_path);
	if (!latest->below)
		return ckpt_err_sys(err, -ENOMEM, "cannot list '%s'", latest->group);
	rc = ckpt_io_fstat(ckpt_store_fd(latest->store), &st);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot look at '%s'", place->store_path);
	latest->store_ino = st.st_ino;
	return ckpt_buf_check(&latest->store_path);
}

static int find_group(struct latest *latest, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	int rc = ckpt_place_find(latest->group, latest->job->config.store, &place, err);

	/* Inside a store, what does not exist is found as nothing: this lies in none. */
	if (rc == -ENXIO || rc == -ENOENT)
		return ckpt_err_set(err, -ENXIO,
				    "'%s' is in no store; run 'ckptfs init' on a folder above it",
				    latest->group);
	if (rc < 0)
		return rc;
	rc = open_group(latest, &place, err);
	ckpt_place_release(&place);
	return rc;
}

static int set_up(void *ctx, struct ckpt_err *err)
{
	struct latest *latest = ctx;

	return ckpt_job_is_coordinator(latest->job) ? find_group(latest, err) : 0;
}

/* --- the same store everywhere --------------------------------------------------------------- */

static int tell_store(struct latest *latest)
{
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&text);
	ckpt_wire_put_str(&text, latest->store_path.data);
	ckpt_wire_put_u64(&text, latest->store_ino);
	rc = ckpt_coll_bcast(latest->job, &text);
	if (rc == 0) {
		struct ckpt_wire in = ckpt_wire_over(&text);

		ckpt_buf_reset(&latest->store_path);
		ckpt_buf_add_str(&latest->store_path, ckpt_wire_str(&in));
		latest->store_ino = ckpt_wire_u64(&in);
	}
	ckpt_buf_release(&text);
	return rc;
}

static int check_store(void *ctx, struct ckpt_err *err)
{
	const struct latest *latest = ctx;
	const char *path = latest->store_path.data;
	const struct ckpt_mpi *job = latest->job;
	struct stat st;
	int rc = ckpt_io_fstatat(AT_FDCWD, path, &st, 0);

	if (rc < 0 && rc != -ENOENT)
		return ckpt_err_sys(err, rc, "cannot look at store '%s'", path);
	if (rc == -ENOENT || st.st_ino != latest->store_ino)
		return ckpt_err_set(
			err, -ENXIO,
			"this host sees another file system at '%s' than rank %d on %s does; the store must be on storage that all ranks share",
			path, job->config.coordinator, job->hosts[job->config.coordinator]);
	return 0;
}

/* --- one candidate after the other ------------------------------------------------------- */

/* The coordinator's next one becomes everybody's. */
static int tell_next(struct latest *latest)
{
	struct ckpt_buf text;
	struct ckpt_wire in;
	const char *name;
	int rc;

	ckpt_buf_init(&text);
	if (latest->next < latest->count) {
		const struct candidate *it = &latest->candidates[latest->next];

		ckpt_wire_put_str(&text, it->name);
		ckpt_wire_put_str(&text, it->id);
		ckpt_wire_put_u64(&text, it->seq);
	}
	rc = ckpt_coll_bcast(latest->job, &text);
	in = ckpt_wire_over(&text);
	ckpt_buf_reset(&latest->folder);
	latest->result = (struct ckpt_mpi_result){ .seq = 0 };
	if (rc == 0 && text.len_bytes > 0) {
		name = ckpt_wire_str(&in);
		ckpt_path_join(&latest->folder, latest->store_path.data, name);
		memcpy(latest->result.name, name, strlen(name) + 1);
		memcpy(latest->result.id, ckpt_wire_str(&in), sizeof(latest->result.id));
		latest->result.seq = ckpt_wire_u64(&in);
	}
	ckpt_buf_release(&text);
	return rc;
}

/* Is it still what was listed? */
static int look_again(struct latest *latest, enum verdict *out, struct ckpt_err *err)
{
	const struct candidate *it = &latest->candidates[latest->next];
	struct ckpt_db_checkpoint row;
	int rc = ckpt_store_lookup(latest->store, it->name, &row, err);

	if (rc == -ENOENT) {
		*out = VERDICT_GONE;
		return 0;
	}
	if (rc == -EBADMSG || rc == -ENOTSUP) {
		*out = VERDICT_DAMAGED;
		return 0;
	}
	if (rc < 0)
		return rc;
	*out = strcmp(row.id, it->id) != 0	  ? VERDICT_GONE
	       : latest->verify.finding_count > 0 ? VERDICT_DAMAGED
						  : VERDICT_SOUND;
	ckpt_db_checkpoint_release(&row);
	return 0;
}

/* The first finding, and how many more there are. */
static void print_damage(const struct latest *latest, const struct ckpt_err *why,
			 struct ckpt_buf *out)
{
	uint64_t count = latest->verify.finding_count;

	ckpt_buf_add_str(out, count > 0 ? latest->verify.lines[0] : why->msg);
	if (count > 1)
		ckpt_buf_printf(out, " (and %llu more; 'ckptfs verify %s' lists all)",
				(unsigned long long)(count - 1), latest->folder.data);
}

struct judging {
	struct latest *latest;
	struct ckpt_buf text;
};

static int judge(void *ctx, struct ckpt_err *err)
{
	struct judging *judging = ctx;
	struct latest *latest = judging->latest;
	struct ckpt_err why = CKPT_ERR_INIT;
	struct ckpt_buf line;
	enum verdict verdict;
	int rc = look_again(latest, &verdict, &why);

	if (rc < 0)
		return ckpt_err_set(err, rc, "%s", why.msg);
	ckpt_buf_init(&line);
	if (verdict == VERDICT_DAMAGED)
		print_damage(latest, &why, &line);
	ckpt_wire_put_u64(&judging->text, verdict);
	ckpt_wire_put_str(&judging->text, line.data);
	rc = ckpt_buf_check(&line);
	ckpt_buf_release(&line);
	return rc < 0 ? rc : ckpt_buf_check(&judging->text);
}

/* What the coordinator makes of it becomes everybody's verdict. */
static int share_verdict(struct latest *latest)
{
	struct judging judging = { .latest = latest };
	int rc;

	ckpt_buf_init(&judging.text);
	rc = ckpt_job_go_on(latest->job, ckpt_job_is_coordinator(latest->job), judge, &judging);
	if (rc == 0)
		rc = ckpt_coll_bcast(latest->job, &judging.text);
	if (rc == 0) {
		struct ckpt_wire in = ckpt_wire_over(&judging.text);
		const char *line;

		latest->verdict = (enum verdict)ckpt_wire_u64(&in);
		line = ckpt_wire_str(&in);
		if (latest->verdict == VERDICT_DAMAGED)
			pass_over(latest, line);
	}
	ckpt_buf_release(&judging.text);
	return rc;
}

static int try_next(struct latest *latest)
{
	int rc = tell_next(latest);

	if (rc < 0)
		return rc;
	latest->verdict = VERDICT_NONE_LEFT;
	if (latest->folder.len_bytes == 0)
		return 0;
	ckpt_verify_shared_init(&latest->verify, latest->job, latest->folder.data,
				latest->result.name);
	latest->verify.any_failure_is_damage = true;
	rc = ckpt_verify_shared_run(&latest->verify);
	if (rc == 0)
		rc = share_verdict(latest);
	latest->result.shard_count = latest->verify.shard_count;
	latest->result.size_bytes = latest->verify.size_bytes;
	ckpt_verify_shared_release(&latest->verify);
	latest->next++;
	return rc;
}

/* --- all of them ------------------------------------------------------------------------------ */

/* What the coordinator met while it listed becomes everybody's, too. */
static int list_all(struct latest *latest)
{
	struct ckpt_mpi *job = latest->job;
	int rc = ckpt_job_run(job, CKPT_MPI_READ_METADATA, true, list, latest);

	return rc < 0 ? rc : ckpt_coll_bcast(job, &job->passed_over);
}

static int say_none(void *ctx, struct ckpt_err *err)
{
	const struct latest *latest = ctx;
	const char *first = latest->job->passed_over.data;

	if (latest->verdict == VERDICT_GONE)
		return ckpt_err_set(
			err, -ESTALE,
			"checkpoints of '%s' go on being removed while they are verified; end what removes them",
			latest->group);
	if (latest->job->passed_over.len_bytes == 0)
		return ckpt_err_set(err, -ENOENT, "nothing is committed in '%s' yet",
				    latest->group);
	return ckpt_err_set(
		err, -ENOENT,
		"no committed checkpoint in '%s' is sound; restore one from another copy (the newest: %s)",
		latest->group, first);
}

static int copy_path(void *ctx, struct ckpt_err *err)
{
	const struct latest *latest = ctx;

	if (latest->folder.len_bytes >= latest->out_size)
		return ckpt_err_set(err, -ENAMETOOLONG,
				    "the path of '%s' takes %zu bytes, and there is room for %zu",
				    latest->result.name, latest->folder.len_bytes + 1,
				    latest->out_size);
	memcpy(latest->out_path, latest->folder.data, latest->folder.len_bytes + 1);
	return 0;
}

static int search(struct latest *latest)
{
	int rc = 0;

	latest->verdict = VERDICT_GONE;
	for (int tries = 0; rc == 0 && latest->verdict == VERDICT_GONE && tries < LIST_TRIES_MAX;
	     tries++) {
		rc = list_all(latest);
		do {
			if (rc == 0)
				rc = try_next(latest);
		} while (rc == 0 && latest->verdict == VERDICT_DAMAGED);
	}
	return rc;
}

static int run(struct latest *latest, struct ckpt_mpi_result *out)
{
	struct ckpt_mpi *job = latest->job;
	int rc = ckpt_job_run(job, CKPT_MPI_SET_UP_STORAGE_READER, true, set_up, latest);

	if (rc == 0)
		rc = tell_store(latest);
	if (rc == 0)
		rc = ckpt_job_go_on(job, true, check_store, latest);
	if (rc == 0)
		rc = search(latest);
	if (rc == 0 && latest->verdict != VERDICT_SOUND)
		rc = ckpt_job_go_on(job, ckpt_job_is_coordinator(job), say_none, latest);
	if (rc == 0)
		rc = ckpt_job_go_on(job, true, copy_path, latest);
	if (rc == 0 && out)
		*out = latest->result;
	return rc;
}

int ckpt_mpi_latest(struct ckpt_mpi *job, const char *group, char *out_path, size_t out_size,
		    struct ckpt_mpi_result *out)
{
	struct latest latest = {
		.job = job, .group = group, .out_path = out_path, .out_size = out_size
	};
	int rc = ckpt_job_begin(job);

	if (rc < 0)
		return rc;
	ckpt_buf_reset(&job->passed_over);
	ckpt_buf_init(&latest.store_path);
	ckpt_buf_init(&latest.folder);
	rc = run(&latest, out);
	forget_candidates(&latest);
	free(latest.candidates);
	free(latest.below);
	ckpt_store_free(latest.store);
	ckpt_buf_release(&latest.folder);
	ckpt_buf_release(&latest.store_path);
	return rc;
}

const char *ckpt_mpi_passed_over(const struct ckpt_mpi *job, size_t idx)
{
	const char *line = job->passed_over.data;
	const char *end = line + job->passed_over.len_bytes;

	while (line < end && idx > 0) {
		line += strlen(line) + 1;
		idx--;
	}
	return line < end ? line : NULL;
}
