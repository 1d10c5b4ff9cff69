/*
 * test_view.c - views without a mount: their tree, their bytes, and random reads from many threads
 * against the whole. Checkpoints whose every byte is known are made in test_view_make.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "ckpt_test.h"
#include "format/format.h"
#include "store/contents.h"
#include "test_view.h"

#define THREADS_MAX 64
/* Longest random read: crosses blocks, runs and tensors. */
#define READ_MAX ((size_t)200000)
/* What a whole view is read with. */
#define STEP_BYTES ((size_t)4 * 1024 * 1024)

/* An open checkpoint. */
struct opened {
	struct ckpt_views *views;
	struct ckpt_view_reader *reader;
};

static int fail(const struct ckpt_err *err)
{
	(void)fprintf(stderr, "ckpt-test: %s\n", err->msg);
	return 1;
}

static void close_views(struct opened *it)
{
	ckpt_view_reader_free(it->reader);
	ckpt_views_unref(it->views);
}

/* The views of the folder @path; committed where it has a manifest. Companions: of the folder above. */
static int open_views(const char *path, struct opened *out)
{
	CKPT_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CKPT_CLOSE int group_fd = fd < 0 ? -1
					 : openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct ckpt_views_from from = {
		.dirfd = fd,
		.group_fd = group_fd,
		.label = path,
		.committed = fd >= 0 && faccessat(fd, CKPT_MANIFEST_FILE, F_OK, 0) == 0,
	};
	struct ckpt_err err = CKPT_ERR_INIT;

	*out = (struct opened){ .views = NULL };
	if (fd < 0)
		return test_failed(errno, "cannot open", path);
	if (ckpt_views_load(&from, &out->views, &err) < 0)
		return fail(&err);
	if (ckpt_view_reader_new(out->views, &from, &out->reader, &err) < 0) {
		close_views(out);
		return fail(&err);
	}
	return 0;
}

static int read_at(struct ckpt_view_reader *reader, const struct ckpt_view_file *file,
		   uint64_t offset, struct ckpt_view_room *room)
{
	struct ckpt_err err = CKPT_ERR_INIT;

	return ckpt_view_read(reader, file, offset, room, &err) < 0 ? fail(&err) : 0;
}

/* All of a view in memory; free() it. */
static int read_whole(struct ckpt_view_reader *reader, const struct ckpt_view_file *file,
		      unsigned char **out)
{
	uint64_t size = ckpt_view_file_size(file);
	CKPT_FREE unsigned char *data = calloc(1, size + 1);
	uint64_t done = 0;

	if (!data)
		return test_failed(ENOMEM, "no memory to read", "a view");
	while (done < size) {
		struct ckpt_view_room room = { .data = data + done,
					       .len_bytes = num_min(STEP_BYTES, size - done) };

		if (read_at(reader, file, done, &room) != 0)
			return 1;
		if (room.got_bytes != room.len_bytes)
			return test_failed(0, "a view ended early", "a view");
		done += room.got_bytes;
	}
	*out = ckpt_steal_ptr(&data);
	return 0;
}

/* --- the tree -------------------------------------------------------------------------------- */

/* A line a node: its number, size and path; every way to a node leads to the same. */
static int print_dir(const struct opened *it, uint32_t dir, const char *path)
{
	const struct ckpt_views *views = it->views;
	int status = 0;

	for (uint32_t node = ckpt_views_next(views, dir, CKPT_VIEW_NONE);
	     node != CKPT_VIEW_NONE && status == 0; node = ckpt_views_next(views, dir, node)) {
		struct ckpt_view_node info;
		struct ckpt_buf name;

		ckpt_buf_init(&name);
		if (!ckpt_views_node(views, node, &info) || info.parent != dir)
			status = test_failed(0, "a node without its parent", path);
		ckpt_buf_printf(&name, "%s/%s", path, info.name);
		printf("%" PRIu32 " %" PRIu64 "%s %s\n", node, info.size_bytes,
		       info.is_outside ? " outside" : "", name.data);
		if (ckpt_views_child(views, dir, info.name) != node ||
		    ckpt_views_find(views, name.data) != node)
			status = test_failed(0, "not found by its name", name.data);
		if (info.is_dir && status == 0)
			status = print_dir(it, node, name.data);
		ckpt_buf_release(&name);
	}
	return status;
}

static void print_notes(const struct ckpt_views *views)
{
	const struct ckpt_contents *contents = ckpt_views_contents(views);

	for (size_t i = 0; i < contents->note_count; i++)
		printf("note: %s: %s\n", contents->notes[i].file, contents->notes[i].reason);
}

int test_view_tree(int argc, char **argv)
{
	struct opened it;
	int status = open_views(argv[1], &it);

	(void)argc;
	if (status != 0)
		return status;
	for (size_t i = 0; i < ckpt_views_set_count(it.views) && status == 0; i++) {
		uint32_t root;
		const char *folder = ckpt_views_set(it.views, i, &root);
		struct ckpt_buf path;

		ckpt_buf_init(&path);
		ckpt_buf_printf(&path, "%s%s.ckptfs", folder, folder[0] ? "/" : "");
		if (ckpt_views_find(it.views, path.data) != root)
			status = test_failed(0, "not found by its name", path.data);
		else
			status = print_dir(&it, root, path.data);
		ckpt_buf_release(&path);
	}
	print_notes(it.views);
	close_views(&it);
	return status;
}

/* --- bytes ----------------------------------------------------------------------------------- */

static int open_path(const struct opened *it, const char *path, struct ckpt_view_file **out)
{
	uint32_t node = ckpt_views_find(it->views, path);
	struct ckpt_err err = CKPT_ERR_INIT;

	if (node == CKPT_VIEW_NONE)
		return test_failed(ENOENT, "no such view", path);
	return ckpt_view_file_open(it->views, node, out, &err) < 0 ? fail(&err) : 0;
}

static int print_range(const struct opened *it, const struct ckpt_view_file *file, uint64_t offset,
		       uint64_t len)
{
	CKPT_FREE unsigned char *data = malloc(STEP_BYTES);

	while (data && len > 0) {
		struct ckpt_view_room room = { .data = data,
					       .len_bytes = num_min(STEP_BYTES, len) };

		if (read_at(it->reader, file, offset, &room) != 0)
			return 1;
		if (fwrite(data, 1, room.got_bytes, stdout) != room.got_bytes)
			return test_failed(errno, "cannot write to", "stdout");
		if (room.got_bytes < room.len_bytes)
			return 0;
		offset += room.got_bytes;
		len -= room.got_bytes;
	}
	return data ? 0 : test_failed(ENOMEM, "no memory to read", "a view");
}

int test_view(int argc, char **argv)
{
	struct ckpt_view_file *file = NULL;
	struct opened it;
	int status = open_views(argv[1], &it);

	if (status != 0)
		return status;
	status = open_path(&it, argv[2], &file);
	if (status == 0 && argc == 3)
		status = print_range(&it, file, 0, UINT64_MAX);
	for (int i = 3; i + 1 < argc && status == 0; i += 2)
		status = print_range(&it, file, test_number(argv[i]), test_number(argv[i + 1]));
	ckpt_view_file_close(file);
	close_views(&it);
	return status;
}

/* --- random reads ---------------------------------------------------------------------------- */

/* A view that is read at random. */
struct target {
	struct ckpt_view_file *file;
	unsigned char *whole;
};

struct worker {
	struct ckpt_view_reader *reader;
	const struct target *targets;
	size_t target_count;
	uint64_t reads;
	uint64_t seed;
	int status;
};

static int read_once(struct worker *it, unsigned char *data)
{
	const struct target *target = &it->targets[test_random(&it->seed) % it->target_count];
	uint64_t size = ckpt_view_file_size(target->file);
	uint64_t offset = test_random(&it->seed) % (size + 100);
	size_t limit = test_random(&it->seed) % 16 ? 3000 : READ_MAX;
	struct ckpt_view_room room = { .data = data,
				       .len_bytes = 1 + test_random(&it->seed) % limit };
	uint64_t want = offset < size ? num_min(room.len_bytes, size - offset) : 0;

	if (read_at(it->reader, target->file, offset, &room) != 0)
		return 1;
	if (room.got_bytes == want &&
	    (want == 0 || memcmp(data, target->whole + offset, want) == 0))
		return 0;
	(void)fprintf(stderr, "ckpt-test: a read at %" PRIu64 "+%zu gives %zu bytes%s\n", offset,
		      room.len_bytes, room.got_bytes, room.got_bytes == want ? ", others" : "");
	return 1;
}

static void *work(void *arg)
{
	struct worker *it = arg;
	CKPT_FREE unsigned char *data = malloc(READ_MAX);

	it->status = data ? 0 : 1;
	for (uint64_t i = 0; i < it->reads && it->status == 0; i++)
		it->status = read_once(it, data);
	return NULL;
}

static int read_from_threads(const struct worker *model, uint64_t threads)
{
	struct worker workers[THREADS_MAX];
	pthread_t ids[THREADS_MAX];
	uint64_t started = 0;
	int status = 0;

	for (; started < threads && started < THREADS_MAX; started++) {
		workers[started] = *model;
		workers[started].reads = model->reads / threads + 1;
		workers[started].seed = model->seed + started;
		if (pthread_create(&ids[started], NULL, work, &workers[started]) != 0)
			break;
	}
	for (uint64_t i = 0; i < started; i++) {
		(void)pthread_join(ids[i], NULL);
		status |= workers[i].status;
	}
	return status | (started != threads);
}

int test_view_random(int argc, char **argv)
{
	struct target target = { .file = NULL };
	struct worker model = { .targets = &target, .target_count = 1 };
	struct opened it;
	int status = open_views(argv[1], &it);

	if (status != 0)
		return status;
	model.reader = it.reader;
	model.reads = test_number(argv[3]);
	model.seed = argc > 5 ? test_number(argv[5]) : 1;
	status = open_path(&it, argv[2], &target.file);
	if (status == 0)
		status = read_whole(it.reader, target.file, &target.whole);
	if (status == 0)
		status = read_from_threads(&model, test_number(argv[4]));
	free(target.whole);
	ckpt_view_file_close(target.file);
	close_views(&it);
	return status;
}

/* --- checkpoints whose every byte is known --------------------------------------------------- */

/* Bytes of tensor @tensor_idx as a view gave them. */
static int compare_tensor(const struct ckpt_views *views, size_t tensor_idx,
			  const unsigned char *data)
{
	const struct ckpt_tensor *tensor = &ckpt_views_contents(views)->tensors[tensor_idx];
	uint64_t element_bytes = ckpt_dtype_size(tensor->dtype);
	uint64_t bytes = 0;

	if (ckpt_shape_bytes(tensor->dtype, tensor->shape, tensor->dim_count, &bytes) < 0)
		return test_failed(EOVERFLOW, "too large", tensor->fqn);
	for (uint64_t i = 0; i < bytes / element_bytes; i++) {
		unsigned char element[16];

		test_view_element(tensor->fqn, i, element);
		if (memcmp(element, data + i * element_bytes, element_bytes) != 0) {
			(void)fprintf(stderr, "ckpt-test: element %" PRIu64 " of '%s' is wrong\n",
				      i, tensor->fqn);
			return 1;
		}
	}
	return 0;
}

/* Every tensor that the header tells of is where it says. */
static int compare_st(const struct ckpt_views *views, const struct target *all)
{
	const struct ckpt_contents *contents = ckpt_views_contents(views);
	uint64_t size = ckpt_view_file_size(all->file);
	struct ckpt_st_header header;
	struct ckpt_err err = CKPT_ERR_INIT;
	uint64_t len = 0;
	int status = 0;

	for (int i = 7; i >= 0; i--)
		len = len << 8 | all->whole[i];
	if (ckpt_st_parse((const char *)all->whole + 8, len, size, "all.safetensors", &header,
			  &err) < 0)
		return fail(&err);
	if (header.tensor_count != contents->tensor_count || header.data_offset_bytes % 4096 != 0)
		status = test_failed(0, "not every tensor is in", "all.safetensors");
	for (size_t i = 0; i < header.tensor_count && status == 0; i++) {
		size_t k = 0;

		while (k < contents->tensor_count &&
		       strcmp(contents->tensors[k].fqn, header.tensors[i].fqn) != 0)
			k++;
		status = k == contents->tensor_count ||
			 compare_tensor(views, k, all->whole + header.tensors[i].offset_bytes);
	}
	ckpt_st_header_release(&header);
	return status;
}

static int open_target(const struct opened *it, struct ckpt_view_file *file, struct target *out)
{
	out->file = file;
	return read_whole(it->reader, file, &out->whole);
}

/* all.safetensors first, then each tensor by itself. */
static int open_targets(const struct opened *it, struct target *out)
{
	size_t count = ckpt_views_contents(it->views)->tensor_count;
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_view_file *file = NULL;
	int status = open_path(it, ".ckptfs/safetensors/all.safetensors", &file);

	if (status == 0)
		status = open_target(it, file, &out[0]);
	for (size_t i = 0; i < count && status == 0; i++) {
		if (ckpt_view_tensor_open(it->views, i, &file, &err) < 0)
			return fail(&err);
		status = open_target(it, file, &out[i + 1]);
		if (status == 0)
			status = compare_tensor(it->views, i, out[i + 1].whole);
	}
	return status ? status : compare_st(it->views, &out[0]);
}

static int check_made(const struct opened *it, uint64_t seed, uint64_t reads, uint64_t threads)
{
	size_t count = ckpt_views_contents(it->views)->tensor_count + 1;
	CKPT_FREE struct target *targets = calloc(count, sizeof(*targets));
	const struct worker model = { .reader = it->reader,
				      .targets = targets,
				      .target_count = count,
				      .reads = reads,
				      .seed = seed };
	int status = targets ? open_targets(it, targets) : 1;

	if (status == 0)
		status = read_from_threads(&model, threads);
	for (size_t i = 0; targets && i < count; i++) {
		free(targets[i].whole);
		ckpt_view_file_close(targets[i].file);
	}
	return status;
}

int test_view_made(int argc, char **argv)
{
	uint64_t seed = test_number(argv[2]);
	struct opened it;
	int status = test_view_make(argv[1], seed);

	if (status == 0)
		status = open_views(argv[1], &it);
	if (status != 0)
		return status;
	status = check_made(&it, seed, argc > 3 ? test_number(argv[3]) : 0,
			    argc > 4 ? test_number(argv[4]) : 1);
	close_views(&it);
	return status;
}
