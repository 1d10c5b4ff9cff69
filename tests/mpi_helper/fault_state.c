/* fault_state.c - see fault_state.h. */
#include "fault_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpi_test.h"

#define ROWS 20
#define COLS 20
#define SAME 100
#define BLOB_MAX 64

const struct fault_phase fault_phases[FAULT_PHASE_COUNT] = {
	{ .phase = CKPT_MPI_SET_UP_STORAGE_WRITER },
	{ .phase = CKPT_MPI_PREPARE_LOCAL_PLAN },
	{ .phase = CKPT_MPI_PREPARE_GLOBAL_PLAN, .coordinator_only = true },
	{ .phase = CKPT_MPI_WRITE_DATA },
	{ .phase = CKPT_MPI_WRITE_DATA_ASYNC, .in_background = true },
	{ .phase = CKPT_MPI_PRE_COMMIT },
	{ .phase = CKPT_MPI_BARRIER },
	{ .phase = CKPT_MPI_FINISH, .coordinator_only = true },
	{ .phase = CKPT_MPI_POST_COMMIT },
	{ .phase = CKPT_MPI_SET_UP_STORAGE_READER, .loads = true },
	{ .phase = CKPT_MPI_READ_METADATA, .loads = true },
	{ .phase = CKPT_MPI_PREPARE_LOCAL_PLAN, .loads = true },
	{ .phase = CKPT_MPI_PREPARE_GLOBAL_PLAN, .loads = true, .coordinator_only = true },
	{ .phase = CKPT_MPI_READ_DATA, .loads = true },
	{ .phase = CKPT_MPI_READ_DATA_ASYNC, .loads = true, .in_background = true },
};

const struct fault_phase *fault_phase_find(const char *name, bool loads)
{
	for (size_t i = 0; i < FAULT_PHASE_COUNT; i++) {
		if (fault_phases[i].loads == loads &&
		    strcmp(ckpt_mpi_phase_name(fault_phases[i].phase), name) == 0)
			return &fault_phases[i];
	}
	return NULL;
}

/* --- the state ------------------------------------------------------------------------------ */

struct state {
	uint64_t shape[2];
	uint64_t start[2];
	uint64_t size[2];
	uint64_t same_shape[1];
	uint64_t same_start[1];
	uint32_t cut[ROWS * COLS];
	uint32_t same[SAME];
	unsigned char blob[BLOB_MAX];
};

static uint32_t value(uint64_t row, uint64_t col)
{
	return (uint32_t)(row * COLS + col);
}

static void place(struct state *state, const struct ckpt_mpi *job)
{
	const struct ckpt_mpi_rank_info *me = ckpt_mpi_rank(job);

	*state = (struct state){ .shape = { ROWS, COLS }, .same_shape = { SAME } };
	state->size[1] = COLS;
	ckpt_mpi_cut(ROWS, me->global_rank, me->global_world_size, &state->start[0],
		     &state->size[0]);
}

static void fill(struct state *state, int rank)
{
	for (uint64_t row = 0; row < state->size[0]; row++) {
		for (uint64_t col = 0; col < COLS; col++)
			state->cut[row * COLS + col] = value(state->start[0] + row, col);
	}
	for (size_t i = 0; i < SAME; i++)
		state->same[i] = (uint32_t)i;
	memset(state->blob, 'a' + rank, sizeof(state->blob));
}

int fault_save(struct ckpt_mpi *job, const char *path, bool in_background)
{
	struct state state;
	struct ckpt_mpi_future *future = NULL;
	int rc;

	place(&state, job);
	fill(&state, ckpt_mpi_rank(job)->global_rank);
	const struct ckpt_mpi_chunk cut = { .start = state.start,
					    .size = state.size,
					    .data = state.cut };
	const struct ckpt_mpi_chunk same = { .start = state.same_start,
					     .size = state.same_shape,
					     .data = state.same };
	const struct ckpt_mpi_entry entries[] = {
		{ "replicated", "U32", state.same_shape, 1, &same, 1 },
		{ "sharded", "U32", state.shape, 2, &cut, 1 },
	};
	const struct ckpt_mpi_blob blob = { "bytes", state.blob, sizeof(state.blob) };
	const struct ckpt_mpi_save_request request = {
		.path = path,
		.entries = entries,
		.entry_count = 2,
		.blobs = &blob,
		.blob_count = 1,
	};

	if (!in_background)
		return ckpt_mpi_save(job, &request, NULL);
	rc = ckpt_mpi_save_start(job, &request, CKPT_MPI_BORROW, &future);
	return rc < 0 ? rc : ckpt_mpi_wait(&future, NULL);
}

static int read_state(struct ckpt_mpi_reader *reader, struct state *state, bool in_background)
{
	/* By set and FQN: "replicated", then "sharded". */
	const struct ckpt_mpi_want wants[] = {
		{ 0, state->same_start, state->same_shape, state->same, NULL },
		{ 1, state->start, state->size, state->cut, NULL },
	};
	const struct ckpt_mpi_read_request request = { .wants = wants, .want_count = 2 };
	struct ckpt_mpi_future *future = NULL;
	int rc;

	if (!in_background)
		return ckpt_mpi_reader_read(reader, &request, NULL);
	rc = ckpt_mpi_read_start(reader, &request, &future);
	return rc < 0 ? rc : ckpt_mpi_wait(&future, NULL);
}

int fault_load(struct ckpt_mpi *job, const char *path, bool in_background)
{
	struct ckpt_mpi_reader *reader = NULL;
	struct state found;
	struct state saved;
	int rc = ckpt_mpi_reader_new(job, path, &reader);

	place(&found, job);
	place(&saved, job);
	fill(&saved, 0);
	if (rc == 0)
		rc = read_state(reader, &found, in_background);
	ckpt_mpi_reader_free(reader);
	if (rc == 0 && (memcmp(found.cut, saved.cut, sizeof(found.cut)) != 0 ||
			memcmp(found.same, saved.same, sizeof(found.same)) != 0))
		rc = -EILSEQ;
	return rc;
}

int fault_run(struct ckpt_mpi *job, const struct fault_phase *phase, const char *path)
{
	return phase->loads ? fault_load(job, path, phase->in_background)
			    : fault_save(job, path, phase->in_background);
}

/* --- faults, and the tables that they make ------------------------------------------------------ */

void fault_set(enum ckpt_mpi_phase phase, unsigned ranks, const char *action)
{
	char text[256];
	int len = snprintf(text, sizeof(text), "%s", ckpt_mpi_phase_name(phase));

	for (int rank = 0; ranks >> rank; rank++) {
		if (ranks >> rank & 1)
			len += snprintf(text + len, sizeof(text) - (size_t)len, "%c%d",
					strchr(text, '@') ? ',' : '@', rank);
	}
	(void)snprintf(text + len, sizeof(text) - (size_t)len, ":%s", action);
	if (ranks == 0)
		(void)unsetenv("CKPTFS_FAULT");
	else
		(void)setenv("CKPTFS_FAULT", text, 1);
}

static int check_row(const struct ckpt_mpi *job, const struct ckpt_mpi_failure *row,
		     const struct fault_table *expected, const char *what)
{
	if (row->phase != expected->phase || row->code != expected->code)
		return mpi_test_fail("%s: the row of rank %d says %s: %s, should be %s: %s", what,
				     row->rank, ckpt_mpi_phase_name(row->phase),
				     strerrorname_np(-row->code),
				     ckpt_mpi_phase_name(expected->phase),
				     strerrorname_np(-expected->code));
	if (strcmp(row->host, ckpt_mpi_rank(job)->host) != 0)
		return mpi_test_fail("%s: the row of rank %d is of host '%s'", what, row->rank,
				     row->host);
	if (!strstr(row->message, expected->text))
		return mpi_test_fail("%s: the row of rank %d says '%s', which does not hold '%s'",
				     what, row->rank, row->message, expected->text);
	return 0;
}

int fault_check(const struct ckpt_mpi *job, const struct fault_table *expected, const char *what)
{
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);
	unsigned named = 0;

	for (size_t i = 0; i < count; i++) {
		if (i > 0 && rows[i].rank <= rows[i - 1].rank)
			return mpi_test_fail("%s: the rows are not in rank order", what);
		named |= 1U << rows[i].rank;
		if (check_row(job, &rows[i], expected, what))
			return 1;
	}
	return named == expected->bad
		       ? 0
		       : mpi_test_fail("%s: ranks in the table: 0x%x, should be 0x%x", what, named,
				       expected->bad);
}
