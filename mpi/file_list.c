/* file_list.c - see file_list.h. */
#include "file_list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "job_progress.h"
#include "wire.h"

void ckpt_file_list_release(struct ckpt_file_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->paths[i]);
	free(list->paths);
	*list = (struct ckpt_file_list){ .paths = NULL };
}

/* --- dealing ---------------------------------------------------------------------------- */

struct share {
	uint64_t bytes;
	int rank;
};

static int compare_sizes(const void *a, const void *b)
{
	const struct ckpt_scan_file *x = *(const struct ckpt_scan_file *const *)a;
	const struct ckpt_scan_file *y = *(const struct ckpt_scan_file *const *)b;

	if (x->size_bytes != y->size_bytes)
		return x->size_bytes > y->size_bytes ? -1 : 1;
	return strcmp(x->path, y->path);
}

static bool is_less(const struct share *a, const struct share *b)
{
	return a->bytes != b->bytes ? a->bytes < b->bytes : a->rank < b->rank;
}

/* The root of the heap has grown: let it sink to its place. */
static void sink(struct share *heap, size_t count)
{
	size_t at = 0;

	for (;;) {
		size_t least = at;
		struct share kept;

		for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < count; child++) {
			if (is_less(&heap[child], &heap[least]))
				least = child;
		}
		if (least == at)
			return;
		kept = heap[at];
		heap[at] = heap[least];
		heap[least] = kept;
		at = least;
	}
}

int ckpt_file_list_deal(const struct ckpt_scan_list *files, int world_size,
			struct ckpt_buf *out_wire)
{
	size_t rank_count = (size_t)world_size;
	const struct ckpt_scan_file **order = array_alloc(files->file_count + 1, sizeof(void *));
	struct share *heap = array_alloc(rank_count, sizeof(*heap));

	for (size_t rank = 0; heap && rank < rank_count; rank++)
		heap[rank].rank = (int)rank;
	for (size_t i = 0; order && i < files->file_count; i++)
		order[i] = &files->files[i];
	if (order && files->file_count > 1)
		qsort(order, files->file_count, sizeof(void *), compare_sizes);
	for (size_t i = 0; order && heap && i < files->file_count; i++) {
		ckpt_wire_put_u64(out_wire, (uint64_t)heap[0].rank);
		ckpt_wire_put_u64(out_wire, order[i]->size_bytes);
		ckpt_wire_put_str(out_wire, order[i]->path);
		/* An empty file is work too. */
		heap[0].bytes += order[i]->size_bytes + 1;
		sink(heap, rank_count);
	}
	free(heap);
	free(order);
	return heap && order ? ckpt_buf_check(out_wire) : -ENOMEM;
}

int ckpt_file_list_take(const struct ckpt_buf *wire, int rank, struct ckpt_file_list *out)
{
	struct ckpt_wire in = ckpt_wire_over(wire);

	while (in.at < in.len_bytes) {
		uint64_t owner = ckpt_wire_u64(&in);
		uint64_t bytes = ckpt_wire_u64(&in);
		const char *path = ckpt_wire_str(&in);

		if (!path)
			return -EBADMSG;
		if (owner != (uint64_t)rank)
			continue;
		if (array_grow(&out->paths, &out->cap, out->count, sizeof(*out->paths)) < 0)
			return -ENOMEM;
		out->paths[out->count] = strdup(path);
		if (!out->paths[out->count])
			return -ENOMEM;
		out->count++;
		out->bytes += bytes;
	}
	return 0;
}

/* --- hashing ------------------------------------------------------------------------------ */

static int advance(void *ctx, uint64_t bytes)
{
	ckpt_progress_add(ctx, bytes);
	return ckpt_job_cancelled(ctx, NULL);
}

static int add_record(struct ckpt_record_list *records, const char *path,
		      struct ckpt_known_shard **out)
{
	*out = ckpt_record_add(records);
	if (!*out)
		return -ENOMEM;
	(*out)->shard.path = strdup(path);
	return (*out)->shard.path ? 0 : -ENOMEM;
}

/*
 * Synced before it is stamped and stamped before it is read: what changes later shows in the
 * stamp.
 */
static int sum_file(const struct ckpt_file_work *work, const char *path,
		    struct ckpt_known_shard *record)
{
	CKPT_CLOSE int fd = ckpt_io_open_beneath(work->from_fd, path, O_RDONLY, 0);
	struct stat st;
	int rc = fd < 0 ? fd : ckpt_io_fdatasync(fd);

	if (rc == 0)
		rc = ckpt_io_fstat(fd, &st);
	if (rc < 0)
		return rc;
	ckpt_record_stamp(record, &st);
	return ckpt_sums_file(fd, record->shard.size_bytes, &record->shard, advance, work->job);
}

int ckpt_file_list_sum(const struct ckpt_file_work *work, const struct ckpt_file_list *list,
		       struct ckpt_record_list *records, struct ckpt_err *err)
{
	for (size_t i = 0; i < list->count; i++) {
		struct ckpt_known_shard *record;
		int rc = add_record(records, list->paths[i], &record);

		if (rc == 0)
			rc = ckpt_job_cancelled(work->job, err);
		if (rc == 0)
			rc = sum_file(work, list->paths[i], record);
		if (rc == -EINTR)
			return ckpt_job_cancelled(work->job, err);
		if (rc < 0)
			return ckpt_err_sys(err, rc, "cannot hash '%s/%s'", work->from,
					    list->paths[i]);
	}
	return 0;
}

/* --- copying ---------------------------------------------------------------------------------- */

/* All bytes of @from into @to, summed as they go. */
static int copy_bytes(const struct ckpt_file_work *work, int from, int to, uint64_t size_bytes,
		      struct ckpt_known_shard *record, struct ckpt_err *err)
{
	CKPT_FREE void *room = array_alloc(1, CKPT_IO_CHUNK);
	struct ckpt_sums_run *run = ckpt_sums_run_new(size_bytes);
	int rc = room && run ? 0 : -ENOMEM;

	for (uint64_t done = 0; rc == 0 && done < size_bytes;) {
		size_t len = num_min(CKPT_IO_CHUNK, size_bytes - done);
		size_t got = 0;

		rc = ckpt_job_cancelled(work->job, err);
		if (rc == 0)
			rc = ckpt_io_pread_full(from, room, len, done, &got);
		if (rc == 0 && got != len)
			rc = -ESTALE;
		if (rc < 0)
			break;
		ckpt_sums_run_update(run, room, len);
		rc = ckpt_io_pwrite_full(to, room, len, done);
		ckpt_progress_add(work->job, len);
		done += len;
	}
	if (rc == 0)
		rc = ckpt_sums_run_finish(run, &record->shard);
	ckpt_sums_run_free(run);
	return rc;
}

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Mode and mtime, which a write would change, come last before the sync. */
static int seal_copy(int from, int to, const struct stat *before, struct ckpt_known_shard *record)
{
	const struct timespec times[2] = { before->st_atim, before->st_mtim };
	struct stat st;
	int rc = ckpt_io_fstat(from, &st);

	if (rc < 0)
		return rc;
	if (st.st_size != before->st_size || !is_same_time(&st.st_mtim, &before->st_mtim))
		return -ESTALE;
	if (fchmod(to, before->st_mode & 07777) < 0 || futimens(to, times) < 0)
		return -errno;
	rc = ckpt_io_fdatasync(to);
	if (rc == 0)
		rc = ckpt_io_fstat(to, &st);
	if (rc == 0)
		ckpt_record_stamp(record, &st);
	return rc;
}

static int copy_file(const struct ckpt_file_work *work, const char *path,
		     struct ckpt_known_shard *record, struct ckpt_err *err)
{
	CKPT_CLOSE int from = ckpt_io_open_beneath(work->from_fd, path, O_RDONLY, 0);
	CKPT_CLOSE int to = -1;
	struct stat st;
	int rc = from < 0 ? from : ckpt_io_fstat(from, &st);

	if (rc < 0)
		return rc;
	to = ckpt_io_open_beneath(work->to_fd, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	rc = to < 0 ? to : 0;
	if (rc == 0 && st.st_size > 0)
		rc = ckpt_io_fallocate(to, 0, (uint64_t)st.st_size);
	if (rc == -EOPNOTSUPP)
		rc = 0;
	if (rc == 0)
		rc = copy_bytes(work, from, to, (uint64_t)st.st_size, record, err);
	return rc < 0 ? rc : seal_copy(from, to, &st, record);
}

int ckpt_file_list_copy(const struct ckpt_file_work *work, const struct ckpt_file_list *list,
			struct ckpt_record_list *records, struct ckpt_err *err)
{
	for (size_t i = 0; i < list->count; i++) {
		struct ckpt_known_shard *record;
		int rc = add_record(records, list->paths[i], &record);

		if (rc == 0)
			rc = ckpt_job_cancelled(work->job, err);
		if (rc == 0)
			rc = copy_file(work, list->paths[i], record, err);
		if (rc == -EINTR)
			return ckpt_job_cancelled(work->job, err);
		if (rc == -ESTALE)
			return ckpt_err_set(
				err, rc,
				"'%s/%s' changed while it was copied; import it again when nobody writes it",
				work->from, list->paths[i]);
		if (rc < 0)
			return ckpt_err_sys(err, rc, "cannot copy '%s/%s' to '%s'", work->from,
					    list->paths[i], work->to);
	}
	return 0;
}
