/*
 * mpi_test_placement.c - ckpt_mpi_mesh_chunk() and ckpt_mpi_spec_chunk() give
 * what PyTorch gives: every line of a file that tests/fixtures/make-placements.py
 * has printed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpi_test.h"

#define LIST_MAX 16

/* A list of a line: "8,4", "-" for an empty one. */
struct list {
	long long items[LIST_MAX];
	size_t count;
};

static struct list parse(const char *text)
{
	struct list list = { .count = 0 };

	if (strcmp(text, "-") == 0)
		return list;
	while (*text && list.count < LIST_MAX) {
		char *end;

		list.items[list.count++] = strtoll(text, &end, 10);
		text = *end == ',' ? end + 1 : end;
	}
	return list;
}

static void as_u64(const struct list *list, uint64_t *out)
{
	for (size_t i = 0; i < list->count; i++)
		out[i] = (uint64_t)list->items[i];
}

static void as_int(const struct list *list, int *out)
{
	for (size_t i = 0; i < list->count; i++)
		out[i] = (int)list->items[i];
}

/* One line: what the library says. */
static int ask(const char *kind, const struct list lists[4], uint64_t *start, uint64_t *size)
{
	uint32_t dim_count = (uint32_t)lists[0].count;
	int rank = (int)lists[3].items[0];
	uint64_t shape[LIST_MAX] = { 0 };
	int extents[LIST_MAX] = { 0 };
	int placements[LIST_MAX];

	as_u64(&lists[0], shape);
	as_int(&lists[1], extents);
	as_int(&lists[2], placements);
	if (strcmp(kind, "spec") == 0)
		return ckpt_mpi_spec_chunk(shape, dim_count, (uint32_t)extents[0], placements,
					   lists[2].count, rank, start, size);
	return ckpt_mpi_mesh_chunk(shape, dim_count,
				   &(const struct ckpt_mpi_mesh){ .extents = extents,
								  .placements = placements,
								  .axis_count = lists[1].count },
				   rank, start, size);
}

/* Where an empty chunk begins is nobody's business. */
static bool equal(const struct list *start, const struct list *size, const uint64_t *is_start,
		  const uint64_t *is_size)
{
	bool empty = false;

	for (size_t d = 0; d < size->count; d++)
		empty = empty || size->items[d] == 0;
	for (size_t d = 0; d < size->count; d++) {
		if (is_size[d] != (uint64_t)size->items[d] ||
		    (!empty && is_start[d] != (uint64_t)start->items[d]))
			return false;
	}
	return true;
}

static int check_line(const char *line)
{
	char kind[8];
	char words[6][128];
	struct list lists[4];
	uint64_t start[LIST_MAX];
	uint64_t size[LIST_MAX];
	struct list want_start;
	struct list want_size;

	if (sscanf(line, "%7s %127s %127s %127s %127s %127s %127s", kind, words[0], words[1],
		   words[2], words[3], words[4], words[5]) != 7)
		return mpi_test_fail("no line of placements: %s", line);
	for (size_t i = 0; i < 4; i++)
		lists[i] = parse(words[i]);
	want_start = parse(words[4]);
	want_size = parse(words[5]);
	if (ask(kind, lists, start, size) < 0 || !equal(&want_start, &want_size, start, size))
		return mpi_test_fail("PyTorch says otherwise: %s", line);
	return 0;
}

/* What cannot be a placement is refused; what need not be is nothing. */
static int check_refused(void)
{
	const uint64_t shape[] = { 8, 4 };
	const int twice[] = { 1, 1 };
	const int mesh_axis[] = { 2, 2 };
	const int beyond[] = { 5, 0 };
	const int wrong[] = { -2, 0 };
	const int no_extent[] = { 2, 0 };
	struct ckpt_mpi_mesh mesh = { .extents = mesh_axis, .placements = wrong, .axis_count = 2 };
	uint64_t start[2];
	uint64_t size[2];

	if (ckpt_mpi_spec_chunk(shape, 2, 2, twice, 1, 0, start, size) != -EINVAL ||
	    ckpt_mpi_spec_chunk(shape, 2, 0, twice, 0, 0, start, size) != -EINVAL ||
	    ckpt_mpi_spec_chunk(shape, 2, 0, twice, 2, 1, start, size) != -EINVAL ||
	    ckpt_mpi_mesh_chunk(shape, 2, &mesh, 0, start, size) != -EINVAL)
		return mpi_test_fail("a placement that cannot be is not refused");
	mesh.placements = mesh_axis;
	mesh.extents = no_extent;
	if (ckpt_mpi_mesh_chunk(shape, 2, &mesh, 0, start, size) != -EINVAL)
		return mpi_test_fail("an extent of 0 is not refused");
	mesh = (struct ckpt_mpi_mesh){ mesh_axis, beyond, 2 };
	if (ckpt_mpi_mesh_chunk(shape, 2, &mesh, 3, start, size) != 0 || size[0] != 4 ||
	    size[1] != 4 || start[0] != 4)
		return mpi_test_fail("a placement beyond the dimensions does not replicate");
	if (ckpt_mpi_mesh_chunk(shape, 2, &mesh, 4, start, size) != 0 || size[0] != 0 ||
	    ckpt_mpi_spec_chunk(shape, 2, 1, twice, 1, 0, start, size) != 0 || size[1] != 0)
		return mpi_test_fail("a rank that is nowhere holds something");
	ckpt_mpi_cut(UINT64_MAX, 6, 7, start, size);
	if (start[0] + size[0] != UINT64_MAX)
		return mpi_test_fail("the last part of the longest extent does not end with it");
	return 0;
}

int mpi_test_placement(int argc, char **argv)
{
	char line[1024];
	int failed = check_refused();
	int count = 0;
	FILE *file;

	file = argc == 2 ? fopen(argv[1], "re") : NULL;
	if (!file)
		return mpi_test_fail("cannot open the placements");
	for (; fgets(line, sizeof(line), file); count++)
		failed |= check_line(line);
	(void)fclose(file);
	(void)printf("%d placements compared\n", count);
	return failed || count == 0;
}
