/*
 * test_view_make.c - a committed checkpoint of random tensors, cut into random boxes. Elements are
 * written one by one, by the definition of strides, so that nothing here is done as the views do
 * it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "ckpt_test.h"
#include "format/format.h"
#include "store/manifest.h"
#include "store/sums.h"
#include "test_view.h"

#define TENSOR_COUNT 40
/* The last two lie in a pack. Now and then there are more than are held open, or kept, at a time. */
#define SHARD_COUNT 6
#define SHARD_COUNT_MANY 700
#define PACKED_COUNT 2
#define PACK_FILE ".ckptfs/pack-00000"
#define DIMS_MAX 5
#define ELEMENTS_MAX 200000

struct making {
	uint64_t seed;
	struct ckpt_manifest manifest;
	struct ckpt_buf shards[SHARD_COUNT_MANY];
	size_t shard_count;
};

static uint64_t pick(struct making *it, uint64_t count)
{
	return test_random(&it->seed) % count;
}

void test_view_element(const char *fqn, uint64_t idx, unsigned char out[16])
{
	uint64_t state = idx * 31;

	for (; *fqn; fqn++)
		state = state * 131 + (unsigned char)*fqn;
	for (int i = 0; i < 16; i += 8) {
		uint64_t word = test_random(&state);

		memcpy(out + i, &word, sizeof(word));
	}
}

/* --- boxes ----------------------------------------------------------------------------------- */

static uint64_t *copy_extents(const uint64_t *from, uint32_t dim_count)
{
	uint64_t *copy = array_alloc(dim_count + 1, sizeof(*copy));

	if (!copy)
		exit(1);
	memcpy(copy, from, dim_count * sizeof(*copy));
	return copy;
}

static void add_chunk(struct ckpt_tensor *tensor, size_t *cap, const uint64_t *start,
		      const uint64_t *size)
{
	if (array_grow(&tensor->chunks, cap, tensor->chunk_count, sizeof(*tensor->chunks)) < 0)
		exit(1);
	tensor->chunks[tensor->chunk_count++] =
		(struct ckpt_chunk){ .start = copy_extents(start, tensor->dim_count),
				     .size = copy_extents(size, tensor->dim_count) };
}

/* Cut a box at random places, @depth times; some pieces are empty. */
static void cut(struct making *it, struct ckpt_tensor *tensor, size_t *cap, uint64_t *start,
		uint64_t *size, int depth)
{
	uint32_t axis = tensor->dim_count > 0 ? (uint32_t)pick(it, tensor->dim_count) : 0;
	uint64_t whole;
	uint64_t first;

	if (depth == 0 || tensor->dim_count == 0) {
		add_chunk(tensor, cap, start, size);
		return;
	}
	whole = size[axis];
	first = pick(it, whole + 1);
	size[axis] = first;
	cut(it, tensor, cap, start, size, depth - 1);
	start[axis] += first;
	size[axis] = whole - first;
	cut(it, tensor, cap, start, size, depth - 1);
	start[axis] -= first;
	size[axis] = whole;
}

/* As a mesh of ranks cuts it: along every axis into so many, the last of them smaller or empty. */
static void cut_mesh(struct making *it, struct ckpt_tensor *tensor, size_t *cap)
{
	uint64_t parts[DIMS_MAX];
	uint64_t count = 1;

	for (uint32_t d = 0; d < tensor->dim_count; d++) {
		parts[d] = 1 + pick(it, 4);
		count *= parts[d];
	}
	for (uint64_t i = 0; i < count; i++) {
		uint64_t start[DIMS_MAX];
		uint64_t size[DIMS_MAX];
		uint64_t rest = i;

		for (uint32_t d = tensor->dim_count; d-- > 0; rest /= parts[d]) {
			uint64_t each = num_div_up(tensor->shape[d], parts[d]);

			start[d] = num_min(rest % parts[d] * each, tensor->shape[d]);
			size[d] = num_min(each, tensor->shape[d] - start[d]);
		}
		add_chunk(tensor, cap, start, size);
	}
}

/* Five boxes around each other, which no plane takes apart. */
static void cut_wheel(struct ckpt_tensor *tensor, size_t *cap)
{
	uint64_t a = tensor->shape[0];
	uint64_t b = tensor->shape[1];
	const uint64_t boxes[5][4] = { { 0, 0, 1, b - 1 },
				       { 0, b - 1, a - 1, 1 },
				       { 1, 0, a - 1, 1 },
				       { 1, 1, a - 2, b - 2 },
				       { a - 1, 1, 1, b - 1 } };

	for (int i = 0; i < 5; i++)
		add_chunk(tensor, cap, boxes[i], boxes[i] + 2);
}

static int compare_chunks(const void *left, const void *right, void *tensor)
{
	const struct ckpt_chunk *a = left;
	const struct ckpt_chunk *b = right;

	for (uint32_t d = 0; d < ((const struct ckpt_tensor *)tensor)->dim_count; d++) {
		if (a->start[d] != b->start[d])
			return a->start[d] < b->start[d] ? -1 : 1;
	}
	return 0;
}

/* --- bytes ----------------------------------------------------------------------------------- */

/* Strides of any order of the axes, with gaps now and then; how many elements they span. */
static uint64_t pick_strides(struct making *it, const struct ckpt_chunk *chunk, uint32_t dim_count,
			     uint64_t *out)
{
	uint32_t order[DIMS_MAX];
	uint64_t span = 1;

	for (uint32_t d = 0; d < dim_count; d++)
		order[d] = d;
	for (uint32_t d = dim_count; d > 1; d--) {
		uint32_t other = (uint32_t)pick(it, d);
		uint32_t kept = order[d - 1];

		order[d - 1] = order[other];
		order[other] = kept;
	}
	for (uint32_t i = 0; i < dim_count; i++) {
		out[order[i]] = span;
		span = span * num_max(chunk->size[order[i]], 1) + (pick(it, 4) == 0);
	}
	return span;
}

/* The index along each axis of element number @i of @size. */
static void unravel(uint64_t i, const uint64_t *size, uint32_t dim_count, uint64_t *out)
{
	for (uint32_t d = dim_count; d-- > 0;) {
		out[d] = i % size[d];
		i /= size[d];
	}
}

static void put_elements(const struct ckpt_tensor *tensor, const struct ckpt_chunk *chunk,
			 const uint64_t *stride, unsigned char *out)
{
	uint64_t element_bytes = ckpt_dtype_size(tensor->dtype);
	uint64_t volume = 1;

	for (uint32_t d = 0; d < tensor->dim_count; d++)
		volume *= chunk->size[d];
	for (uint64_t i = 0; i < volume; i++) {
		unsigned char element[16];
		uint64_t local[DIMS_MAX];
		uint64_t number = 0;
		uint64_t where = 0;

		unravel(i, chunk->size, tensor->dim_count, local);
		for (uint32_t d = 0; d < tensor->dim_count; d++) {
			number = number * tensor->shape[d] + chunk->start[d] + local[d];
			where += local[d] * stride[d];
		}
		test_view_element(tensor->fqn, number, element);
		memcpy(out + where * element_bytes, element, element_bytes);
	}
}

static void store_chunk(struct making *it, const struct ckpt_tensor *tensor,
			struct ckpt_chunk *chunk)
{
	/* Half of all in one, where there are few: it has several blocks. */
	uint64_t shard = it->shard_count == SHARD_COUNT && pick(it, 2) ? 0
								       : pick(it, it->shard_count);
	struct ckpt_buf *bytes = &it->shards[shard];
	uint64_t stride[DIMS_MAX];
	uint64_t span = 1;
	CKPT_FREE unsigned char *data = NULL;

	if (pick(it, 3) == 0) {
		span = pick_strides(it, chunk, tensor->dim_count, stride);
		chunk->stride = copy_extents(stride, tensor->dim_count);
	} else {
		for (uint32_t d = tensor->dim_count; d-- > 0; span *= chunk->size[d])
			stride[d] = span;
	}
	/* Nothing is aligned. */
	ckpt_buf_add(bytes, "padding", pick(it, 8));
	chunk->offset_bytes = bytes->len_bytes;
	chunk->shard = strdup(it->manifest.shards[shard].path);
	data = calloc(span + 1, ckpt_dtype_size(tensor->dtype));
	if (!data || !chunk->shard)
		exit(1);
	put_elements(tensor, chunk, stride, data);
	ckpt_buf_add(bytes, data, span * ckpt_dtype_size(tensor->dtype));
}

/* --- tensors --------------------------------------------------------------------------------- */

static void pick_shape(struct making *it, struct ckpt_tensor *tensor)
{
	uint64_t shape[DIMS_MAX];
	uint64_t left = 1 + pick(it, ELEMENTS_MAX);

	tensor->dim_count = (uint32_t)pick(it, DIMS_MAX + 1);
	for (uint32_t d = 0; d < tensor->dim_count; d++) {
		shape[d] = 1 + pick(it, d + 1 == tensor->dim_count ? left : num_min(left, 40));
		left /= shape[d];
	}
	if (tensor->dim_count > 0 && pick(it, 12) == 0)
		shape[pick(it, tensor->dim_count)] = 0;
	tensor->shape = copy_extents(shape, tensor->dim_count);
}

static void make_tensor(struct making *it, size_t idx)
{
	static const char *const dtypes[] = { "F32", "BF16", "I64", "U8", "F8_E4M3", "BOOL", "F64" };
	struct ckpt_tensor *tensor = &it->manifest.tensors[idx];
	uint64_t start[DIMS_MAX] = { 0 };
	uint64_t size[DIMS_MAX];
	char fqn[32];
	size_t cap = 0;

	(void)snprintf(fqn, sizeof(fqn), "layers.%02zu.w", idx);
	tensor->fqn = strdup(fqn);
	tensor->set = strdup("");
	(void)snprintf(tensor->dtype, sizeof(tensor->dtype), "%s", dtypes[pick(it, 7)]);
	pick_shape(it, tensor);
	memcpy(size, tensor->shape, tensor->dim_count * sizeof(*size));
	if (tensor->dim_count == 2 && tensor->shape[0] > 2 && tensor->shape[1] > 2 &&
	    pick(it, 2) == 0)
		cut_wheel(tensor, &cap);
	else if (pick(it, 2) == 0)
		cut_mesh(it, tensor, &cap);
	else
		cut(it, tensor, &cap, start, size, (int)pick(it, 5));
	for (size_t i = 0; i < tensor->chunk_count; i++)
		store_chunk(it, tensor, &tensor->chunks[i]);
	qsort_r(tensor->chunks, tensor->chunk_count, sizeof(*tensor->chunks), compare_chunks,
		tensor);
}

/* --- the checkpoint -------------------------------------------------------------------------- */

static int put_file(int dirfd, const char *path, const void *data, size_t len)
{
	CKPT_CLOSE int fd = ckpt_io_openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	int rc = fd < 0 ? fd : ckpt_io_pwrite_full(fd, data, len, 0);

	return rc < 0 ? test_failed(-rc, "cannot write", path) : 0;
}

static int put_shards(struct making *it, int dirfd)
{
	struct ckpt_buf pack;
	int status = 0;

	ckpt_buf_init(&pack);
	for (size_t i = 0; i < it->shard_count && status == 0; i++) {
		struct ckpt_shard *shard = &it->manifest.shards[i];
		const struct ckpt_buf *bytes = &it->shards[i];

		shard->size_bytes = bytes->len_bytes;
		if (ckpt_buf_check(bytes) < 0 ||
		    ckpt_sums_bytes(bytes->data, bytes->len_bytes, shard) < 0)
			status = 1;
		if (i < it->shard_count - PACKED_COUNT) {
			status |= put_file(dirfd, shard->path, bytes->data, bytes->len_bytes);
			continue;
		}
		shard->pack = strdup(PACK_FILE);
		shard->pack_offset_bytes = pack.len_bytes;
		ckpt_buf_add(&pack, bytes->data, bytes->len_bytes);
	}
	if (status == 0)
		status = put_file(dirfd, PACK_FILE, pack.data, pack.len_bytes);
	ckpt_buf_release(&pack);
	return status;
}

static int put_manifest(struct making *it, int dirfd)
{
	struct ckpt_buf text;
	int status = 1;

	ckpt_buf_init(&text);
	if (ckpt_manifest_print(&it->manifest, &text) == 0)
		status = put_file(dirfd, CKPT_MANIFEST_FILE, text.data, text.len_bytes);
	ckpt_buf_release(&text);
	return status;
}

static void begin(struct making *it)
{
	struct ckpt_manifest *manifest = &it->manifest;
	struct ckpt_manifest_head *head = &manifest->head;

	(void)snprintf(head->id, sizeof(head->id), "00000000-0000-4000-8000-%012" PRIx64,
		       it->seed & 0xffffffff);
	(void)snprintf(head->created, sizeof(head->created), "2026-01-01T00:00:00.000000000Z");
	(void)snprintf(head->committed, sizeof(head->committed), "2026-01-01T00:00:00.000000000Z");
	head->name = strdup("made");
	head->writer = strdup("ckpt-test");
	head->meta = strdup("{}");
	head->seq = 1;
	manifest->shards = array_alloc(it->shard_count, sizeof(*manifest->shards));
	manifest->tensors = array_alloc(TENSOR_COUNT, sizeof(*manifest->tensors));
	if (!manifest->shards || !manifest->tensors)
		exit(1);
	manifest->shard_count = it->shard_count;
	manifest->tensor_count = TENSOR_COUNT;
	for (size_t i = 0; i < it->shard_count; i++) {
		char path[32];

		(void)snprintf(path, sizeof(path), "part-%03zu", i);
		manifest->shards[i].path = strdup(path);
		manifest->shards[i].mode = 0644;
		ckpt_buf_init(&it->shards[i]);
	}
}

int test_view_make(const char *path, uint64_t seed)
{
	struct making it = { .seed = seed,
			     .shard_count = seed % 3 ? SHARD_COUNT : SHARD_COUNT_MANY };
	CKPT_CLOSE int dirfd = -1;
	int status;

	if (mkdir(path, 0777) < 0)
		return test_failed(errno, "cannot make", path);
	dirfd = ckpt_io_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	if (dirfd < 0 || ckpt_io_mkdirat(dirfd, ".ckptfs", 0777) < 0)
		return test_failed(EIO, "cannot write into", path);
	begin(&it);
	for (size_t i = 0; i < TENSOR_COUNT; i++)
		make_tensor(&it, i);
	status = put_shards(&it, dirfd);
	if (status == 0)
		status = put_manifest(&it, dirfd);
	for (size_t i = 0; i < it.shard_count; i++)
		ckpt_buf_release(&it.shards[i]);
	ckpt_manifest_release(&it.manifest);
	return status;
}
