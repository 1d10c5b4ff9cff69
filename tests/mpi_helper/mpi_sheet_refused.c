/* mpi_sheet_refused.c - plans that cannot be, and what every rank is told of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mpi_sheet.h"

/* 2-D and 1-D are all that is needed. */
static void put(struct sheet *sheet, struct ckpt_mpi_entry *entry, uint64_t row, uint64_t column,
		uint64_t rows, uint64_t columns)
{
	sheet_chunk(sheet, entry, (const uint64_t[]){ row, column },
		    (const uint64_t[]){ rows, columns });
}

static void build_overlap(struct sheet *sheet)
{
	struct ckpt_mpi_entry *entry = sheet_matrix(sheet, "w", 8, 4);
	int rank = mpi_test_rank();

	put(sheet, entry, 2 * (uint64_t)rank, 0, rank == 1 ? 3 : 2, 4);
}

static void build_hole(struct sheet *sheet)
{
	struct ckpt_mpi_entry *entry = sheet_matrix(sheet, "w", 8, 4);
	int rank = mpi_test_rank();

	put(sheet, entry, 2 * (uint64_t)rank, 0, 2, rank == 2 ? 3 : 4);
}

static void build_unheld(struct sheet *sheet)
{
	(void)sheet_matrix(sheet, "w", 8, 4);
}

static void build_outside(struct sheet *sheet)
{
	put(sheet, sheet_matrix(sheet, "w", 8, 4), 2 * (uint64_t)mpi_test_rank(), 0,
	    mpi_test_rank() == 3 ? 3 : 2, 4);
}

static void build_shape_differs(struct sheet *sheet)
{
	put(sheet, sheet_matrix(sheet, "w", 8, mpi_test_rank() == 3 ? 5 : 4), 0, 0, 8, 4);
}

static void build_dtype_differs(struct sheet *sheet)
{
	(void)sheet_entry(sheet, "w", mpi_test_rank() == 1 ? "I32" : "F32", 1,
			  (const uint64_t[]){ 4 });
}

static void build_twice(struct sheet *sheet)
{
	sheet_whole(sheet, "w", 4);
	if (mpi_test_rank() == 2)
		sheet_whole(sheet, "w", 4);
}

static void build_unknown(struct sheet *sheet)
{
	if (mpi_test_rank() == 1)
		(void)sheet_entry(sheet, "w", "F33", 1, (const uint64_t[]){ 4 });
}

static void build_no_data(struct sheet *sheet)
{
	sheet_whole(sheet, "w", 4);
	if (mpi_test_rank() == 2)
		sheet->chunks[0][0].data = NULL;
}

static void build_nameless(struct sheet *sheet)
{
	if (mpi_test_rank() == 0)
		sheet_whole(sheet, "", 4);
}

static void build_blob_is_tensor(struct sheet *sheet)
{
	if (mpi_test_rank() == 1)
		sheet_whole(sheet, "state", 4);
	if (mpi_test_rank() == 2)
		sheet_blob(sheet, "state", "x");
}

static void build_blob_twice(struct sheet *sheet)
{
	sheet_blob(sheet, "state", "x");
	if (mpi_test_rank() == 3)
		sheet_blob(sheet, "state", "y");
}

static void build_blob_like_chunk(struct sheet *sheet)
{
	if (mpi_test_rank() == 3)
		sheet_blob(sheet, "w@0_0", "y");
}

struct refused_case {
	const char *name;
	void (*build)(struct sheet *sheet);
	int rank; /* whose row it is; the coordinator is 0 */
	const char *message;
};

static const struct refused_case refused_cases[] = {
	{ "overlap", build_overlap, 0,
	  "tensor 'w': chunk [2..5)x[0..4) of rank 1 and chunk [4..6)x[0..4) of rank 2 overlap "
	  "without being equal; check how it is cut" },
	{ "hole", build_hole, 0,
	  "tensor 'w' of shape [8, 4]: element [4, 3] is in no chunk of any rank, chunk "
	  "[2..4)x[0..4) of rank 1 ends before it; check how it is cut" },
	{ "unheld", build_unheld, 0,
	  "tensor 'w' of shape [8, 4]: element [0, 0] is in no chunk of any rank; check how it "
	  "is cut" },
	{ "outside", build_outside, 3,
	  "tensor 'w': chunk 0, [6..9)x[0..4), reaches out of the tensor's shape [8, 4]; check "
	  "its start and size" },
	{ "shape-differs", build_shape_differs, 0,
	  "tensor 'w' is F32 of shape [8, 4] on rank 2, and F32 of shape [8, 5] on rank 3; all "
	  "ranks must agree" },
	{ "dtype-differs", build_dtype_differs, 0,
	  "tensor 'w' is F32 of shape [4] on rank 0, and I32 of shape [4] on rank 1; all ranks "
	  "must agree" },
	{ "twice", build_twice, 0, "rank 2 gives tensor 'w' twice; give its chunks in one entry" },
	{ "unknown", build_unknown, 1,
	  "tensor 'w' has the element type 'F33', which is not known; convert it" },
	{ "no-data", build_no_data, 2,
	  "tensor 'w': chunk 0 has no data, and there is no read function; give one of them" },
	{ "nameless", build_nameless, 0,
	  "a tensor's name is empty, or no UTF-8 text without control characters; rename it" },
	{ "blob-is-tensor", build_blob_is_tensor, 0,
	  "'state' is a blob on rank 2 and a tensor on rank 1; rename one of them" },
	{ "blob-twice", build_blob_twice, 0,
	  "rank 3 gives blob 'state' twice; name them differently" },
	{ "blob-like-chunk", build_blob_like_chunk, 3,
	  "blob 'w@0_0' ends in '@' and numbers, as only the shards of tensors may; rename it" },
	{ .name = NULL },
};

static int check_refusal(const struct ckpt_mpi *job, const struct refused_case *it, int rc)
{
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);
	bool local = it->rank != 0 || strcmp(it->name, "nameless") == 0;
	enum ckpt_mpi_phase phase = local ? CKPT_MPI_PREPARE_LOCAL_PLAN
					  : CKPT_MPI_PREPARE_GLOBAL_PLAN;

	if (rc != -EINVAL || count != 1)
		return mpi_test_fail("case %s: code %d, %zu rows", it->name, rc, count);
	if (rows[0].rank != it->rank || rows[0].phase != phase || rows[0].code != -EINVAL)
		return mpi_test_fail("case %s: row of rank %d: %s", it->name, rows[0].rank,
				     ckpt_mpi_phase_name(rows[0].phase));
	return strcmp(rows[0].message, it->message) == 0
		       ? 0
		       : mpi_test_fail("case %s: the message is:\n%s\nbut should be:\n%s", it->name,
				       rows[0].message, it->message);
}

static int run_refused(struct ckpt_mpi *job, const struct refused_case *it, const char *path)
{
	struct sheet *sheet = calloc(1, sizeof(*sheet));
	int failed;

	if (!sheet)
		return mpi_test_fail("out of memory");
	it->build(sheet);
	failed = check_refusal(job, it, sheet_save(job, sheet, path));
	free(sheet);
	return failed;
}

int sheet_refused(struct ckpt_mpi *job, const char *path)
{
	int failed = 0;

	for (const struct refused_case *it = refused_cases; it->name; it++)
		failed |= run_refused(job, it, path);
	return failed;
}
