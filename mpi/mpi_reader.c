/* mpi_reader.c - the collective reader of ckptfs_mpi.h, phase by phase. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "box.h"
#include "box_fill.h"
#include "collective.h"
#include "format/format.h"
#include "job.h"
#include "store/store.h"
#include "wire.h"

/* A manifest is read whole: more than any machine's memory is a mistake. */
#define MANIFEST_MAX (UINT64_C(1) << 40)
/* What a rank holds of a box that it hands out in pieces. */
#define PIECE_BYTES (UINT64_C(16) << 20)

struct ckpt_mpi_reader {
	struct ckpt_mpi *job;
	const char *path;	/* as given; during ckpt_mpi_reader_new */
	struct ckpt_buf folder; /* as the system calls take it */
	struct ckpt_buf label;
	uint64_t ino;
	int dirfd;
	struct ckpt_buf text; /* of the manifest, while it is handed round */
	struct ckpt_manifest manifest;
};

void ckpt_mpi_reader_free(struct ckpt_mpi_reader *reader)
{
	if (!reader)
		return;
	ckpt_manifest_release(&reader->manifest);
	ckpt_buf_release(&reader->text);
	ckpt_buf_release(&reader->label);
	ckpt_buf_release(&reader->folder);
	ckpt_cleanup_close(&reader->dirfd);
	free(reader);
}

/* --- set_up_storage_reader ---------------------------------------------------------------- */

static int check_committed(const struct ckpt_mpi_reader *reader, const struct ckpt_place *place,
			   struct ckpt_err *err)
{
	struct ckpt_store *store;
	enum ckpt_state state;
	int rc;

	if (place->kind != CKPT_PLACE_CHECKPOINT)
		return ckpt_err_set(err, -ENOENT,
				    "'%s' is no checkpoint; 'ckptfs ls' lists what is there",
				    reader->path);
	if (!place->store_path)
		return 0; /* a bare folder with a manifest */
	rc = ckpt_store_open(place->store_path, CKPT_STORE_NO_INDEX, NULL, &store, err);
	if (rc < 0)
		return rc;
	rc = ckpt_state_of(ckpt_store_fd(store), place->name, &state, NULL, err);
	ckpt_store_free(store);
	if (rc == 0 && state != CKPT_STATE_COMMITTED)
		return ckpt_err_set(
			err, -ENOENT,
			"'%s' is not committed, so nothing can be loaded from it; commit it first",
			reader->path);
	return rc;
}

static int open_folder(struct ckpt_mpi_reader *reader, struct ckpt_err *err)
{
	struct stat st;
	int rc;

	reader->dirfd = ckpt_io_openat(AT_FDCWD, reader->folder.data, O_RDONLY | O_DIRECTORY, 0);
	rc = reader->dirfd < 0 ? reader->dirfd : ckpt_io_fstat(reader->dirfd, &st);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot open checkpoint '%s' on this host",
				    reader->folder.data);
	if (ckpt_job_is_coordinator(reader->job))
		reader->ino = st.st_ino;
	else if (reader->ino != st.st_ino)
		return ckpt_err_set(
			err, -ENXIO,
			"this host sees another folder at '%s' than rank %d on %s does; the checkpoint must be on storage that all ranks share",
			reader->folder.data, reader->job->config.coordinator,
			reader->job->hosts[reader->job->config.coordinator]);
	return 0;
}

static int find(void *ctx, struct ckpt_err *err)
{
	struct ckpt_mpi_reader *reader = ctx;
	struct ckpt_place place = { .name = NULL };
	int rc = ckpt_place_find(reader->path, reader->job->config.store, &place, err);

	if (rc < 0)
		return rc;
	rc = check_committed(reader, &place, err);
	if (rc == 0) {
		ckpt_buf_add_str(&reader->folder, place.folder);
		ckpt_buf_add_str(&reader->label, place.name);
		rc = open_folder(reader, err);
	}
	ckpt_place_release(&place);
	return rc;
}

static int attach(void *ctx, struct ckpt_err *err)
{
	return open_folder(ctx, err);
}

static int tell(struct ckpt_mpi_reader *reader)
{
	bool tells = ckpt_job_is_coordinator(reader->job);
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&text);
	if (tells) {
		ckpt_wire_put_str(&text, reader->folder.data);
		ckpt_wire_put_str(&text, reader->label.data);
		ckpt_wire_put_u64(&text, reader->ino);
	}
	rc = ckpt_coll_bcast(reader->job, &text);
	if (rc == 0 && !tells) {
		struct ckpt_wire in = ckpt_wire_over(&text);

		ckpt_buf_add_str(&reader->folder, ckpt_wire_str(&in));
		ckpt_buf_add_str(&reader->label, ckpt_wire_str(&in));
		reader->ino = ckpt_wire_u64(&in);
	}
	ckpt_buf_release(&text);
	return rc;
}

static int set_up(struct ckpt_mpi_reader *reader)
{
	bool coordinates = ckpt_job_is_coordinator(reader->job);
	int rc = ckpt_job_run(reader->job, CKPT_MPI_SET_UP_STORAGE_READER, coordinates, find,
			      reader);

	if (rc == 0)
		rc = tell(reader);
	if (rc == 0)
		rc = ckpt_job_run(reader->job, CKPT_MPI_SET_UP_STORAGE_READER, !coordinates, attach,
				  reader);
	return rc;
}

/* --- read_metadata ------------------------------------------------------------------------- */

static int parse(void *ctx, struct ckpt_err *err)
{
	struct ckpt_mpi_reader *reader = ctx;

	return ckpt_manifest_load_text(reader->text.data, reader->text.len_bytes,
				       reader->label.data, &reader->manifest, err);
}

static int read_then_parse(void *ctx, struct ckpt_err *err)
{
	struct ckpt_mpi_reader *reader = ctx;
	int rc = ckpt_io_read_file(reader->dirfd, CKPT_MANIFEST_FILE, MANIFEST_MAX, &reader->text,
				   err);

	return rc < 0 ? ckpt_err_prefix(err, rc, "'%s'", reader->label.data) : parse(ctx, err);
}

static int read_metadata(struct ckpt_mpi_reader *reader)
{
	bool coordinates = ckpt_job_is_coordinator(reader->job);
	int rc = ckpt_job_run(reader->job, CKPT_MPI_READ_METADATA, coordinates, read_then_parse,
			      reader);

	if (rc == 0)
		rc = ckpt_coll_bcast(reader->job, &reader->text);
	if (rc == 0)
		rc = ckpt_job_run(reader->job, CKPT_MPI_READ_METADATA, !coordinates, parse, reader);
	ckpt_buf_release(&reader->text);
	return rc;
}

int ckpt_mpi_reader_new(struct ckpt_mpi *job, const char *path, struct ckpt_mpi_reader **out)
{
	struct ckpt_mpi_reader *reader;
	int rc = ckpt_job_begin(job);

	if (rc < 0)
		return rc;
	job->phase = CKPT_MPI_SET_UP_STORAGE_READER;
	reader = array_alloc(1, sizeof(*reader));
	rc = ckpt_job_agree(job, reader ? 0 : -ENOMEM, NULL);
	if (reader) {
		reader->job = job;
		reader->path = path;
		reader->dirfd = -1;
		ckpt_buf_init(&reader->folder);
		ckpt_buf_init(&reader->label);
		ckpt_buf_init(&reader->text);
	}
	assert(rc < 0 || reader);
	if (rc == 0)
		rc = set_up(reader);
	if (rc == 0)
		rc = read_metadata(reader);
	if (rc < 0) {
		ckpt_mpi_reader_free(reader);
		return rc;
	}
	*out = reader;
	return 0;
}

size_t ckpt_mpi_reader_tensor_count(const struct ckpt_mpi_reader *reader)
{
	return reader->manifest.tensor_count;
}

void ckpt_mpi_reader_tensor(const struct ckpt_mpi_reader *reader, size_t idx,
			    struct ckpt_mpi_tensor *out)
{
	const struct ckpt_tensor *tensor = &reader->manifest.tensors[idx];

	assert(idx < reader->manifest.tensor_count);
	*out = (struct ckpt_mpi_tensor){
		.fqn = tensor->fqn,
		.set = tensor->set,
		.dtype = tensor->dtype,
		.shape = tensor->shape,
		.dim_count = tensor->dim_count,
		.element_bytes = ckpt_dtype_size(tensor->dtype),
	};
}

/* --- reading boxes ------------------------------------------------------------------------ */

struct reading {
	struct ckpt_mpi_reader *reader;
	const struct ckpt_mpi_read_request *request;
	struct ckpt_fill *fill;
	unsigned char *room;  /* PIECE_BYTES or one element */
	uint64_t bytes;	      /* this rank wants */
	uint64_t *all_bytes;  /* of every rank */
	uint64_t total_bytes; /* coordinator; then all */
};

/* Wants in range; their bytes counted. */
static int check_wants(void *ctx, struct ckpt_err *err)
{
	struct reading *it = ctx;
	const struct ckpt_manifest *manifest = &it->reader->manifest;

	for (size_t i = 0; i < it->request->want_count; i++) {
		const struct ckpt_mpi_want *want = &it->request->wants[i];
		const struct ckpt_box box = { .start = want->start, .size = want->size };
		const struct ckpt_tensor *tensor;
		uint64_t bytes;

		if (want->tensor_idx >= manifest->tensor_count)
			return ckpt_err_set(
				err, -EINVAL,
				"wanted box %zu is of tensor %zu, but '%s' has %zu tensors", i,
				want->tensor_idx, it->reader->label.data, manifest->tensor_count);
		tensor = &manifest->tensors[want->tensor_idx];
		if (!ckpt_box_inside(&box, tensor->shape, tensor->dim_count))
			return ckpt_err_set(
				err, -EINVAL,
				"wanted box %zu reaches out of tensor '%s'; check its start and size",
				i, tensor->fqn);
		if (ckpt_shape_bytes(tensor->dtype, want->size, tensor->dim_count, &bytes) < 0 ||
		    !num_add(it->bytes, bytes, &it->bytes))
			return ckpt_err_set(err, -EOVERFLOW,
					    "the wanted boxes hold more than 2^64 bytes");
	}
	return 0;
}

static int add_up(void *ctx, struct ckpt_err *err)
{
	struct reading *it = ctx;

	for (int rank = 0; rank < it->reader->job->info.global_world_size; rank++) {
		if (!num_add(it->total_bytes, it->all_bytes[rank], &it->total_bytes))
			return ckpt_err_set(err, -EOVERFLOW,
					    "the boxes of all ranks hold more than 2^64 bytes");
	}
	return 0;
}

/* Everybody learns what all ranks read together. */
static int make_plans(struct reading *it)
{
	struct ckpt_mpi *job = it->reader->job;
	int rc = ckpt_job_run(job, CKPT_MPI_PREPARE_LOCAL_PLAN, true, check_wants, it);

	if (rc < 0)
		return rc;
	job->phase = CKPT_MPI_PREPARE_GLOBAL_PLAN;
	it->all_bytes = array_alloc((size_t)job->info.global_world_size, sizeof(*it->all_bytes));
	rc = ckpt_job_agree(job, it->all_bytes ? 0 : -ENOMEM, NULL);
	if (rc == 0)
		rc = ckpt_coll_all(job, &it->bytes, sizeof(it->bytes), it->all_bytes);
	if (rc == 0)
		rc = ckpt_job_run(job, CKPT_MPI_PREPARE_GLOBAL_PLAN, ckpt_job_is_coordinator(job),
				  add_up, it);
	return rc < 0 ? rc : ckpt_coll_max(job, it->total_bytes, &it->total_bytes);
}

static int hand_out(const struct reading *it, size_t want_idx, uint64_t offset, uint64_t len,
		    struct ckpt_err *err)
{
	const struct ckpt_mpi_read_request *request = it->request;
	char message[CKPT_MPI_MESSAGE_MAX] = "";
	int rc;

	if (!request->write)
		return 0;
	rc = request->write(request->ctx, want_idx, offset, it->room, len, message);
	message[sizeof(message) - 1] = '\0';
	if (rc > 0)
		rc = -EIO;
	return rc < 0 ? ckpt_err_set(err, rc, "%s",
				     message[0] ? message : "the bytes were not taken")
		      : 0;
}

/*
 * How a box is taken apart: whole steps of one axis, as many as fit in the room, for each index of
 * those before it.
 */
struct pieces {
	uint32_t axis;
	uint64_t step_bytes; /* of one step along the axis */
	uint64_t steps;	     /* at a time */
	uint64_t outer_count;
};

static void cut_pieces(const uint64_t *size, uint32_t dim_count, uint64_t element_bytes,
		       struct pieces *out)
{
	*out = (struct pieces){ .step_bytes = element_bytes, .steps = 1, .outer_count = 1 };
	if (dim_count == 0)
		return;
	out->axis = dim_count - 1;
	while (out->axis > 0 && out->step_bytes * size[out->axis] <= PIECE_BYTES) {
		out->step_bytes *= size[out->axis];
		out->axis--;
	}
	out->steps = num_max(1, PIECE_BYTES / out->step_bytes);
	for (uint32_t d = 0; d < out->axis; d++)
		out->outer_count *= size[d];
}

/* The box's start for index @outer of the axes before the cut one; their size becomes 1. */
static void place_piece(const struct ckpt_mpi_want *want, uint32_t axis, uint64_t outer,
			uint64_t *start, uint64_t *size)
{
	for (uint32_t d = axis; d > 0; d--) {
		start[d - 1] = want->start[d - 1] + outer % want->size[d - 1];
		size[d - 1] = 1;
		outer /= want->size[d - 1];
	}
}

/* One piece: read, verified, handed out. */
static int read_piece(struct reading *it, size_t want_idx, const struct ckpt_box *box,
		      uint64_t offset, uint64_t len, struct ckpt_err *err)
{
	const struct ckpt_mpi_want *want = &it->request->wants[want_idx];
	const struct ckpt_tensor *tensor = &it->reader->manifest.tensors[want->tensor_idx];
	int rc = ckpt_job_cancelled(it->reader->job, err);

	if (rc == 0)
		rc = ckpt_fill_box(it->fill, tensor, box, it->room, err);
	return rc < 0 ? rc : hand_out(it, want_idx, offset, len, err);
}

static int read_pieces(struct reading *it, size_t want_idx, struct ckpt_err *err)
{
	const struct ckpt_mpi_want *want = &it->request->wants[want_idx];
	const struct ckpt_tensor *tensor = &it->reader->manifest.tensors[want->tensor_idx];
	/* A scalar is cut as one step along an axis of one, which nobody looks at. */
	uint64_t start[CKPT_DIM_MAX] = { 0 };
	uint64_t size[CKPT_DIM_MAX] = { 1 };
	const struct ckpt_box box = { .start = start, .size = size };
	uint64_t first;
	uint64_t extent;
	uint64_t offset = 0;
	struct pieces cut;

	memcpy(start, want->start, tensor->dim_count * sizeof(*start));
	memcpy(size, want->size, tensor->dim_count * sizeof(*size));
	cut_pieces(size, tensor->dim_count, ckpt_dtype_size(tensor->dtype), &cut);
	first = start[cut.axis];
	extent = size[cut.axis];
	for (uint64_t outer = 0; outer < cut.outer_count; outer++) {
		place_piece(want, cut.axis, outer, start, size);
		for (uint64_t at = 0; at < extent; at += size[cut.axis]) {
			int rc;

			start[cut.axis] = first + at;
			size[cut.axis] = num_min(cut.steps, extent - at);
			rc = read_piece(it, want_idx, &box, offset, size[cut.axis] * cut.step_bytes,
					err);
			if (rc < 0)
				return rc;
			offset += size[cut.axis] * cut.step_bytes;
		}
	}
	return 0;
}

static int read_boxes(void *ctx, struct ckpt_err *err)
{
	struct reading *it = ctx;
	int rc = 0;

	for (size_t i = 0; i < it->request->want_count && rc == 0; i++) {
		const struct ckpt_mpi_want *want = &it->request->wants[i];
		const struct ckpt_tensor *tensor = &it->reader->manifest.tensors[want->tensor_idx];
		const struct ckpt_box box = { .start = want->start, .size = want->size };
		uint64_t volume;

		if (ckpt_box_volume(want->size, tensor->dim_count, &volume) < 0 || volume == 0)
			continue;
		if (want->data)
			rc = ckpt_fill_box(it->fill, tensor, &box, want->data, err);
		else
			rc = read_pieces(it, i, err);
	}
	return rc;
}

static int read_data(struct reading *it)
{
	struct ckpt_mpi_reader *reader = it->reader;
	int rc;

	reader->job->phase = CKPT_MPI_READ_DATA;
	it->room = array_alloc(1, PIECE_BYTES);
	it->fill = ckpt_fill_new(reader->dirfd, reader->label.data, &reader->manifest);
	rc = ckpt_job_agree(reader->job, it->room && it->fill ? 0 : -ENOMEM, NULL);
	return rc < 0 ? rc : ckpt_job_run(reader->job, CKPT_MPI_READ_DATA, true, read_boxes, it);
}

int ckpt_mpi_reader_read(struct ckpt_mpi_reader *reader,
			 const struct ckpt_mpi_read_request *request, uint64_t *out_total_bytes)
{
	struct reading it = { .reader = reader, .request = request };
	int rc = ckpt_job_begin(reader->job);

	if (rc == 0)
		rc = make_plans(&it);
	if (rc == 0)
		rc = read_data(&it);
	if (rc == 0 && out_total_bytes)
		*out_total_bytes = it.total_bytes;
	ckpt_fill_free(it.fill);
	free(it.room);
	free(it.all_bytes);
	return rc;
}

void ckpt_mpi_cut(uint64_t extent, int rank, int world_size, uint64_t *out_start,
		  uint64_t *out_size)
{
	uint64_t share = num_div_up(extent, (uint64_t)world_size);
	uint64_t start = num_min(extent, share * (uint64_t)rank);

	*out_start = start;
	*out_size = num_min(share, extent - start);
}
