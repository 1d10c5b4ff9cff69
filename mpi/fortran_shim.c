/* fortran_shim.c - see fortran_shim.h. */
#include "fortran_shim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "job.h"

/* One array in the library's terms, with what its pointers lead to. */
struct box {
	uint64_t shape[CKPT_FORTRAN_DIM_MAX];
	uint64_t start[CKPT_FORTRAN_DIM_MAX];
	uint64_t size[CKPT_FORTRAN_DIM_MAX];
	uint64_t strides[CKPT_FORTRAN_DIM_MAX];
	struct ckpt_mpi_chunk chunk;
};

/* --- jobs ------------------------------------------------------------------------------------ */

int ckpt_fortran_new(MPI_Fint comm, int coordinator, int timeout_secs, struct ckpt_mpi **out,
		     char *message, size_t message_size)
{
	struct ckpt_mpi_config config;
	struct ckpt_mpi_failure why = { .code = 0 };
	int rc;

	ckpt_mpi_config_init(&config);
	if (coordinator >= 0)
		config.coordinator = coordinator;
	if (timeout_secs >= 0)
		config.write_barrier_timeout_secs = (uint32_t)timeout_secs;
	rc = ckpt_mpi_new(MPI_Comm_f2c(comm), &config, out, &why);
	if (rc < 0)
		(void)snprintf(message, message_size, "%s",
			       why.message[0] ? why.message : strerrordesc_np(-rc));
	return rc;
}

/* A job that could not be opened is asked, too. */
int ckpt_fortran_rank(const struct ckpt_mpi *job)
{
	return job ? ckpt_mpi_rank(job)->global_rank : -1;
}

int ckpt_fortran_size(const struct ckpt_mpi *job)
{
	return job ? ckpt_mpi_rank(job)->global_world_size : 0;
}

int ckpt_fortran_usable(const struct ckpt_mpi *job)
{
	return job && ckpt_mpi_usable(job);
}

int ckpt_fortran_failure(const struct ckpt_mpi *job, int idx, char *line, size_t line_size)
{
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);

	if (idx < 0 || (size_t)idx >= count)
		return -ENOENT;
	(void)snprintf(line, line_size, "rank %d on %s: %s: %s: %s", rows[idx].rank, rows[idx].host,
		       ckpt_mpi_phase_name(rows[idx].phase), ckpt_err_name(rows[idx].code),
		       rows[idx].message);
	return 0;
}

void ckpt_fortran_reason(int code, char *text, size_t text_size)
{
	const char *reason = strerrordesc_np(code < 0 ? -code : code);

	(void)snprintf(text, text_size, "%s", reason ? reason : "unknown error");
}

static struct ckpt_mpi_commit_request commit_request(int64_t step, const char *meta)
{
	return (struct ckpt_mpi_commit_request){
		.has_step = step >= 0,
		.step = step >= 0 ? (uint64_t)step : 0,
		.meta = *meta ? meta : NULL,
	};
}

int ckpt_fortran_commit(struct ckpt_mpi_files **files, int vote, const char *reason, int64_t step,
			const char *meta)
{
	const struct ckpt_mpi_commit_request what = commit_request(step, meta);

	return ckpt_mpi_files_commit(files, vote, *reason ? reason : NULL, &what, NULL);
}

/* --- arrays ---------------------------------------------------------------------------- */

static bool is_empty(const struct ckpt_fortran_array *array)
{
	for (int32_t dim = 0; dim < array->dim_count; dim++) {
		if (array->size[dim] == 0)
			return true;
	}
	return false;
}

/* What only the array's own rank can say, in the words of a Fortran program. */
static int check_array(const struct ckpt_fortran_array *array, struct ckpt_err *err)
{
	for (int32_t dim = 0; dim < array->dim_count; dim++) {
		int64_t lower = array->is_whole ? 0 : array->start[dim];

		if (lower < 0)
			return ckpt_err_set(
				err, -EINVAL,
				"array '%s' begins at %lld of dimension %d; lower counts from 1",
				array->name, (long long)lower + 1, dim + 1);
		if (array->strides[dim] < 0)
			return ckpt_err_set(
				err, -EINVAL,
				"array '%s' runs backwards along dimension %d; give it in ascending order",
				array->name, dim + 1);
	}
	return 0;
}

static void fill_box(const struct ckpt_fortran_array *array, struct box *box)
{
	for (int32_t dim = 0; dim < array->dim_count; dim++) {
		box->size[dim] = (uint64_t)array->size[dim];
		box->shape[dim] = (uint64_t)(array->is_whole ? array->size : array->shape)[dim];
		box->start[dim] = array->is_whole ? 0 : (uint64_t)array->start[dim];
		box->strides[dim] = (uint64_t)array->strides[dim];
	}
	box->chunk = (struct ckpt_mpi_chunk){
		.start = box->start, .size = box->size, .data = array->data, .strides = box->strides
	};
}

/* --- saving ---------------------------------------------------------------------------------- */

struct save {
	const struct ckpt_fortran_array *arrays;
	size_t count;
	struct ckpt_mpi_entry *entries;
	struct box *boxes;
};

static int make_entries(void *ctx, struct ckpt_err *err)
{
	struct save *save = ctx;

	save->entries = array_alloc(save->count + 1, sizeof(*save->entries));
	save->boxes = array_alloc(save->count + 1, sizeof(*save->boxes));
	if (!save->entries || !save->boxes)
		return -ENOMEM;
	for (size_t i = 0; i < save->count; i++) {
		const struct ckpt_fortran_array *array = &save->arrays[i];
		int rc = check_array(array, err);

		if (rc < 0)
			return rc;
		fill_box(array, &save->boxes[i]);
		save->entries[i] = (struct ckpt_mpi_entry){
			.fqn = array->name,
			.dtype = array->dtype,
			.shape = save->boxes[i].shape,
			.dim_count = (uint32_t)array->dim_count,
			.chunks = &save->boxes[i].chunk,
			/* A rank without elements holds no chunk; an empty tensor has none at all. */
			.chunk_count = is_empty(array) ? 0 : 1,
		};
	}
	return 0;
}

int ckpt_fortran_save(struct ckpt_mpi *job, const char *path,
		      const struct ckpt_fortran_array *arrays, int count, int64_t step,
		      const char *meta)
{
	struct save save = { .arrays = arrays, .count = (size_t)count };
	struct ckpt_mpi_save_request request = {
		.path = path,
		.has_step = step >= 0,
		.step = step >= 0 ? (uint64_t)step : 0,
		.meta = *meta ? meta : NULL,
	};
	int rc = ckpt_job_begin(job);

	if (rc < 0)
		return rc;
	job->phase = CKPT_MPI_PREPARE_LOCAL_PLAN;
	rc = ckpt_job_go_on(job, true, make_entries, &save);
	request.entries = save.entries;
	request.entry_count = save.count;
	if (rc == 0)
		rc = ckpt_mpi_save(job, &request, NULL);
	free(save.boxes);
	free(save.entries);
	return rc;
}

/* --- loading --------------------------------------------------------------------------------- */

struct load {
	const struct ckpt_fortran_array *arrays;
	size_t count;
	const char *path;
	struct ckpt_mpi_reader *reader;
	struct ckpt_mpi_want *wants;
	size_t want_count;
	struct box *boxes;
};

static int find_tensor(const struct load *load, const char *name, struct ckpt_mpi_tensor *out,
		       size_t *out_idx, struct ckpt_err *err)
{
	size_t count = ckpt_mpi_reader_tensor_count(load->reader);

	for (size_t i = 0; i < count; i++) {
		ckpt_mpi_reader_tensor(load->reader, i, out);
		if (strcmp(out->fqn, name) != 0)
			continue;
		*out_idx = i;
		return 0;
	}
	return ckpt_err_set(
		err, -ENOENT,
		"no array '%s' in checkpoint '%s'; 'ckptfs show --tensors' lists what there is",
		name, load->path);
}

static int check_type(const struct load *load, const struct ckpt_fortran_array *array,
		      const struct box *box, const struct ckpt_mpi_tensor *tensor,
		      struct ckpt_err *err)
{
	bool fits = tensor->dim_count == (uint32_t)array->dim_count;

	if (strcmp(tensor->dtype, array->dtype) != 0)
		return ckpt_err_set(err, -EINVAL,
				    "array '%s' is %s in checkpoint '%s', and %s in the program",
				    array->name, tensor->dtype, load->path, array->dtype);
	for (uint32_t dim = 0; fits && dim < tensor->dim_count; dim++)
		fits = tensor->shape[dim] == box->shape[dim];
	return fits ? 0
		    : ckpt_err_set(
			      err, -EINVAL,
			      "array '%s' has another shape in checkpoint '%s' than in the program",
			      array->name, load->path);
}

static int make_want(struct load *load, size_t idx, struct ckpt_err *err)
{
	const struct ckpt_fortran_array *array = &load->arrays[idx];
	struct box *box = &load->boxes[idx];
	struct ckpt_mpi_tensor tensor = { .fqn = "", .dtype = "" };
	size_t tensor_idx = 0;
	int rc = check_array(array, err);

	if (rc == 0)
		rc = find_tensor(load, array->name, &tensor, &tensor_idx, err);
	if (rc < 0)
		return rc;
	fill_box(array, box);
	rc = check_type(load, array, box, &tensor, err);
	if (rc < 0 || is_empty(array))
		return rc;
	load->wants[load->want_count++] = (struct ckpt_mpi_want){ .tensor_idx = tensor_idx,
								  .start = box->start,
								  .size = box->size,
								  .data = array->data,
								  .strides = box->strides };
	return 0;
}

static int make_wants(void *ctx, struct ckpt_err *err)
{
	struct load *load = ctx;
	int rc = 0;

	load->wants = array_alloc(load->count + 1, sizeof(*load->wants));
	load->boxes = array_alloc(load->count + 1, sizeof(*load->boxes));
	if (!load->wants || !load->boxes)
		return -ENOMEM;
	for (size_t i = 0; rc == 0 && i < load->count; i++)
		rc = make_want(load, i, err);
	return rc;
}

int ckpt_fortran_load(struct ckpt_mpi *job, const char *path,
		      const struct ckpt_fortran_array *arrays, int count)
{
	struct load load = { .arrays = arrays, .count = (size_t)count, .path = path };
	struct ckpt_mpi_read_request request = { .wants = NULL };
	int rc = ckpt_mpi_reader_new(job, path, &load.reader);

	if (rc < 0)
		return rc;
	job->phase = CKPT_MPI_PREPARE_LOCAL_PLAN;
	rc = ckpt_job_go_on(job, true, make_wants, &load);
	request.wants = load.wants;
	request.want_count = load.want_count;
	if (rc == 0)
		rc = ckpt_mpi_reader_read(load.reader, &request, NULL);
	free(load.boxes);
	free(load.wants);
	ckpt_mpi_reader_free(load.reader);
	return rc;
}
