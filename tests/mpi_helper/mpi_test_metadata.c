/*
 * mpi_test_metadata.c - what every rank is told after a save: tensors, their
 * chunks, blobs, and where all that is stored.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mpi_sheet.h"

#define TEXT_MAX 8192

/* --- building ------------------------------------------------------------------------------ */

/* 2-D and 1-D are all that is needed. */
static void put(struct sheet *sheet, struct ckpt_mpi_entry *entry, uint64_t row, uint64_t column,
		uint64_t rows, uint64_t columns)
{
	sheet_chunk(sheet, entry, (const uint64_t[]){ row, column },
		    (const uint64_t[]){ rows, columns });
}

static void placed(struct sheet *sheet, const char *fqn, const int *extents, const int *placements,
		   const uint64_t *shape)
{
	const struct ckpt_mpi_mesh mesh = { .extents = extents,
					    .placements = placements,
					    .axis_count = 2 };
	struct ckpt_mpi_entry *entry = sheet_entry(sheet, fqn, "F32", 2, shape);
	uint64_t start[2];
	uint64_t size[2];

	if (ckpt_mpi_mesh_chunk(shape, 2, &mesh, mpi_test_rank(), start, size) == 0)
		sheet_chunk(sheet, entry, start, size);
}

/* Along dimension 0 of a matrix among the ranks of @placements. */
static void specified(struct sheet *sheet, struct ckpt_mpi_entry *entry, const int *placements,
		      size_t count)
{
	uint64_t start[2];
	uint64_t size[2];

	if (ckpt_mpi_spec_chunk(entry->shape, 2, 0, placements, count, mpi_test_rank(), start,
				size) == 0)
		sheet_chunk(sheet, entry, start, size);
}

/* --- what is saved ------------------------------------------------------------------------- */

/* The first two are of two ranks; more hold nothing. */
static void build_default(struct sheet *sheet)
{
	if (mpi_test_rank() > 1)
		return;
	specified(sheet, sheet_matrix(sheet, "sharded", 10, 10), (const int[]){ 0, 1 }, 2);
	sheet_whole(sheet, "replicated", 4);
	sheet_blob(sheet, "bytes", "\1\2\3\4");
}

static void build_missing(struct sheet *sheet)
{
	specified(sheet, sheet_entry(sheet, "sharded", "F64", 2, (const uint64_t[]){ 4, 4 }),
		  (const int[]){ 1 }, 1);
}

static void build_alone(struct sheet *sheet)
{
	if (mpi_test_rank() == 2)
		sheet_whole(sheet, "alone", 5);
	if (mpi_test_rank() == 1)
		sheet_whole(sheet, "ALONE", 6);
}

static void build_spread(struct sheet *sheet)
{
	static const char *const names[] = { "a", "b", "c", "d", "e", "f", "g", "h" };

	/* Backwards on odd ranks: the order of the entries is nobody's business. */
	for (size_t i = 0; i < 8; i++) {
		size_t k = mpi_test_rank() % 2 ? 7 - i : i;

		sheet_whole(sheet, names[k], 100 + k);
	}
}

static void build_shapes(struct sheet *sheet)
{
	int rank = mpi_test_rank();
	struct ckpt_mpi_entry *entry;
	uint64_t start;
	uint64_t size;

	if (rank == 3)
		return;
	sheet_chunk(sheet, sheet_entry(sheet, "scalar", "F64", 0, NULL), NULL, NULL);
	entry = sheet_entry(sheet, "empty", "F32", 2, (const uint64_t[]){ 3, 0 });
	put(sheet, entry, 0, 0, 3, 0);
	/* 4, 4, 2 and for two ranks nothing */
	ckpt_mpi_cut(10, rank, 3, &start, &size);
	entry = sheet_entry(sheet, "uneven", "U8", 1, (const uint64_t[]){ 10 });
	sheet_chunk(sheet, entry, &start, &size);
	ckpt_mpi_cut(2, rank, 3, &start, &size);
	entry = sheet_entry(sheet, "short", "U8", 1, (const uint64_t[]){ 2 });
	sheet_chunk(sheet, entry, &start, &size);
	/* Columns, and two chunks of one rank. */
	entry = sheet_matrix(sheet, "columns", 3, 8);
	put(sheet, entry, 0, 2 * (uint64_t)rank, 3, 2);
	if (rank == 0)
		put(sheet, entry, 0, 6, 3, 2);
}

static void build_mesh(struct sheet *sheet)
{
	static const int extents[] = { 2, 2 };

	placed(sheet, "hsdp", extents, (const int[]){ CKPT_MPI_REPLICATE, 0 },
	       (const uint64_t[]){ 5, 3 });
	placed(sheet, "grid", extents, (const int[]){ 0, 1 }, (const uint64_t[]){ 5, 3 });
	placed(sheet, "twice", extents, (const int[]){ 0, 0 }, (const uint64_t[]){ 5, 3 });
}

/* A tiling that no straight cut takes apart. */
static void build_pinwheel(struct sheet *sheet)
{
	struct ckpt_mpi_entry *entry = sheet_matrix(sheet, "wheel", 3, 3);
	int rank = mpi_test_rank();

	if (rank == 0) {
		put(sheet, entry, 0, 0, 1, 2);
		put(sheet, entry, 1, 1, 1, 1);
	}
	if (rank == 1)
		put(sheet, entry, 0, 2, 2, 1);
	if (rank == 2)
		put(sheet, entry, 2, 1, 1, 2);
	if (rank == 3)
		put(sheet, entry, 1, 0, 2, 1);
}

static void build_blobs(struct sheet *sheet)
{
	int rank = mpi_test_rank();

	if (rank == 1)
		sheet_blob(sheet, "rng/state", "one");
	if (rank == 3)
		sheet_blob(sheet, "rng/state", "three!");
	if (rank == 0)
		sheet_blob(sheet, "nothing", "");
}

static void build_ragged(struct sheet *sheet)
{
	static const uint64_t counts[] = { 3, 0, 5, 2 };
	uint64_t count = counts[mpi_test_rank()];
	struct ckpt_mpi_entry *entry;
	uint64_t start;
	uint64_t total;

	if (ckpt_mpi_ragged(sheet->job, count, &start, &total) < 0)
		return;
	entry = sheet_entry(sheet, "particles", "F64", 1, &total);
	sheet_chunk(sheet, entry, &start, &count);
}

struct save_case {
	const char *name;
	void (*build)(struct sheet *sheet);
	const char *expected;
};

/* Chunks as "[start..end)" and the rank that wrote them. */
static const struct save_case save_cases[] = {
	{ "default", build_default,
	  "replicated F32 [4]: [0..4)@0\n"
	  "sharded F32 [10,10]: [0..5)[0..10)@0 [5..10)[0..10)@1\n"
	  "bytes 4@0\nbytes 4@1\n" },
	{ "missing-rank-spec", build_missing, "sharded F64 [4,4]: [0..4)[0..4)@1\n" },
	{ "alone", build_alone, "ALONE F32 [6]: [0..6)@1\nalone F32 [5]: [0..5)@2\n" },
	{ "spread", build_spread,
	  "a F32 [100]: [0..100)@0\nb F32 [101]: [0..101)@1\n"
	  "c F32 [102]: [0..102)@2\nd F32 [103]: [0..103)@3\n"
	  "e F32 [104]: [0..104)@3\nf F32 [105]: [0..105)@2\n"
	  "g F32 [106]: [0..106)@1\nh F32 [107]: [0..107)@0\n" },
	{ "shapes", build_shapes,
	  "columns F32 [3,8]: [0..3)[0..2)@0 [0..3)[2..4)@1 [0..3)[4..6)@2 [0..3)[6..8)@0\n"
	  "empty F32 [3,0]:\nscalar F64 []: @2\n"
	  "short U8 [2]: [0..1)@0 [1..2)@1\n"
	  "uneven U8 [10]: [0..4)@0 [4..8)@1 [8..10)@2\n" },
	{ "mesh", build_mesh,
	  "grid F32 [5,3]: [0..3)[0..2)@0 [0..3)[2..3)@1 [3..5)[0..2)@2 [3..5)[2..3)@3\n"
	  "hsdp F32 [5,3]: [0..3)[0..3)@2 [3..5)[0..3)@3\n"
	  "twice F32 [5,3]: [0..2)[0..3)@0 [2..3)[0..3)@1 [3..4)[0..3)@2 [4..5)[0..3)@3\n" },
	{ "pinwheel", build_pinwheel,
	  "wheel F32 [3,3]: [0..1)[0..2)@0 [0..2)[2..3)@1 [1..3)[0..1)@3 [1..2)[1..2)@0 "
	  "[2..3)[1..3)@2\n" },
	{ "blobs", build_blobs, "nothing 0@0\nrng/state 3@1\nrng/state 6@3\n" },
	{ "ragged", build_ragged, "particles F64 [10]: [0..3)@0 [3..8)@2 [8..10)@3\n" },
	{ .name = NULL },
};

/* --- looking ------------------------------------------------------------------------------- */

static void say(char *text, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(char *text, const char *fmt, ...)
{
	size_t used = strlen(text);
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text + used, TEXT_MAX - used, fmt, args);
	va_end(args);
}

/* What lies at a location; the number of bytes, or -1. */
static ssize_t fetch(const char *path, const struct ckpt_mpi_location *at, unsigned char *out)
{
	char name[4096];
	ssize_t got;
	int fd;

	(void)snprintf(name, sizeof(name), "%s/%s", path, at->file);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : pread(fd, out, at->size_bytes, (off_t)at->offset_bytes);
	if (fd >= 0)
		(void)close(fd);
	return got == (ssize_t)at->size_bytes ? got : -1;
}

/* The bytes at the location are those of the box. */
static int check_bytes(const char *path, const struct ckpt_mpi_tensor *tensor,
		       const struct ckpt_mpi_stored_chunk *chunk)
{
	unsigned char bytes[SHEET_CHUNK_BYTES];
	const struct sheet_box box = { tensor->fqn,	  tensor->dtype, tensor->shape,
				       tensor->dim_count, chunk->start,	 chunk->size };
	ssize_t len = fetch(path, &chunk->location, bytes);

	if (len < 0)
		return mpi_test_fail("a chunk of '%s' is not in '%s'", tensor->fqn,
				     chunk->location.file);
	for (ssize_t i = 0; i < len; i++) {
		if (bytes[i] != sheet_byte(&box, (uint64_t)i))
			return mpi_test_fail("a chunk of '%s' has other bytes at %s:%" PRIu64,
					     tensor->fqn, chunk->location.file,
					     chunk->location.offset_bytes);
	}
	return 0;
}

static int look_at_tensor(const struct ckpt_mpi_reader *reader, size_t idx, const char *path,
			  char *text)
{
	struct ckpt_mpi_tensor tensor;
	int failed = 0;

	ckpt_mpi_reader_tensor(reader, idx, &tensor);
	say(text, "%s %s [", tensor.fqn, tensor.dtype);
	for (uint32_t d = 0; d < tensor.dim_count; d++)
		say(text, "%s%" PRIu64, d ? "," : "", tensor.shape[d]);
	say(text, "]:");
	for (size_t c = 0; c < tensor.chunk_count; c++) {
		struct ckpt_mpi_stored_chunk chunk;

		ckpt_mpi_reader_chunk(reader, idx, c, &chunk);
		say(text, " ");
		for (uint32_t d = 0; d < tensor.dim_count; d++)
			say(text, "[%" PRIu64 "..%" PRIu64 ")", chunk.start[d],
			    chunk.start[d] + chunk.size[d]);
		say(text, "@%" PRId64, chunk.location.rank);
		failed |= check_bytes(path, &tensor, &chunk);
	}
	say(text, "\n");
	return failed;
}

static int look_at_blob(const struct ckpt_mpi_reader *reader, size_t idx, const char *path,
			char *text)
{
	struct ckpt_mpi_stored_blob stored;
	unsigned char bytes[64] = "";
	const char *expected;

	ckpt_mpi_reader_blob(reader, idx, &stored);
	say(text, "%s %" PRIu64 "@%" PRId64 "\n", stored.fqn, stored.location.size_bytes,
	    stored.location.rank);
	if (fetch(path, &stored.location, bytes) < 0)
		return mpi_test_fail("blob '%s' is not in '%s'", stored.fqn, stored.location.file);
	expected = strcmp(stored.fqn, "bytes") == 0 ? "\1\2\3\4"
		   : stored.location.rank == 1	    ? "one"
		   : stored.location.rank == 3	    ? "three!"
						    : "";
	return strcmp((const char *)bytes, expected) == 0
		       ? 0
		       : mpi_test_fail("blob '%s' has other bytes", stored.fqn);
}

static int print_failures(const struct ckpt_mpi *job, const char *what)
{
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);

	for (size_t i = 0; i < count; i++)
		(void)mpi_test_fail("%s: rank %d: %s: %s", what, rows[i].rank,
				    ckpt_mpi_phase_name(rows[i].phase), rows[i].message);
	return 1;
}

static int look(struct ckpt_mpi *job, const char *path, const char *expected)
{
	struct ckpt_mpi_reader *reader = NULL;
	char text[TEXT_MAX] = "";
	int failed = 0;

	if (ckpt_mpi_reader_new(job, path, &reader) < 0)
		return print_failures(job, "open");
	for (size_t i = 0; i < ckpt_mpi_reader_tensor_count(reader); i++)
		failed |= look_at_tensor(reader, i, path, text);
	for (size_t i = 0; i < ckpt_mpi_reader_blob_count(reader); i++)
		failed |= look_at_blob(reader, i, path, text);
	if (strcmp(text, expected) != 0)
		failed = mpi_test_fail("the metadata is:\n%sbut should be:\n%s", text, expected);
	ckpt_mpi_reader_free(reader);
	return failed;
}

static int run_save(struct ckpt_mpi *job, const struct save_case *it, const char *path)
{
	struct sheet *sheet = calloc(1, sizeof(*sheet));
	int failed;

	if (!sheet)
		return mpi_test_fail("out of memory");
	sheet->job = job;
	it->build(sheet);
	failed = sheet_save(job, sheet, path) < 0 ? print_failures(job, "save")
						  : look(job, path, it->expected);
	free(sheet);
	return failed ? mpi_test_fail("case %s failed", it->name) : 0;
}

/* --- all of it ----------------------------------------------------------------------------- */

/* What cannot be, then what can, under the name that was refused. */
static int run_refused(struct ckpt_mpi *job, const char *path)
{
	char name[4096];
	int failed;

	(void)snprintf(name, sizeof(name), "%s/step-1", path);
	failed = sheet_refused(job, name);
	return failed | run_save(job, &save_cases[2], name);
}

static int run_cases(struct ckpt_mpi *job, const char *wanted, const char *path)
{
	bool all = strcmp(wanted, "all") == 0;
	char name[4096];
	int failed = 0;
	int count = 0;

	for (const struct save_case *it = save_cases; it->name; it++) {
		if (!all && strcmp(it->name, wanted) != 0)
			continue;
		(void)snprintf(name, sizeof(name), all ? "%s/%s" : "%s", path, it->name);
		failed |= run_save(job, it, name);
		count++;
	}
	return count > 0 ? failed : mpi_test_fail("no case '%s'", wanted);
}

int mpi_test_metadata(int argc, char **argv)
{
	struct ckpt_mpi *job = NULL;
	int failed;

	if (argc != 3)
		return mpi_test_fail("metadata CASE|all|refused PATH");
	if (ckpt_mpi_new(MPI_COMM_WORLD, NULL, &job, NULL) < 0)
		return mpi_test_fail("no job");
	failed = strcmp(argv[1], "refused") == 0 ? run_refused(job, argv[2])
						 : run_cases(job, argv[1], argv[2]);
	return failed | (ckpt_mpi_close(&job) < 0);
}
