/*
 * heat.c - a 2-D heat equation that survives being killed: an example of
 * ckptfs_mpi in tensor mode.
 *
 *   mpirun -n 4 heat --store /data/store --group heat --grid 1024 1024 \
 *                    --steps 10000 --every 500 --out field.bin
 *
 * A grid of processes, each with a block of the field and one row or column of
 * ghost cells around it. Every so many steps the blocks are saved in the
 * background as one tensor "temperature" of the whole grid. Killed, and started
 * again with the same command on any number of ranks, it goes on from the
 * newest sound checkpoint; the field at the end is, bit for bit, the one that a
 * run without interruption gives, because no sum in it depends on the ranks.
 *
 * What has to do with checkpoints stands in the second half.
 */
#include <ckptfs_mpi.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
	uint64_t grid[2]; /* rows, columns */
	long steps;
	long every; /* steps from one checkpoint to the next */
	const char *store;
	const char *group;
	const char *out;
};

/* This rank's block. Both fields have ghost cells: (size[0] + 2) rows of (size[1] + 2). */
struct heat {
	struct options options;
	MPI_Comm comm; /* the process grid */
	int rank;
	int ranks;
	uint64_t start[2]; /* of the block, in the whole grid */
	uint64_t size[2];
	size_t row; /* length of a row with its ghost cells */
	double *now;
	double *next;
	MPI_Datatype column;
	long step;

	struct ckpt_mpi *job;	  /* saves and loads */
	struct ckpt_mpi *control; /* asks for signals, also while the other one saves */
	struct ckpt_mpi_future *saving;
	struct ckpt_mpi_save_request request; /* of the save that goes on, … */
	struct ckpt_mpi_entry entry;	      /* … which borrows it all till it has ended */
	struct ckpt_mpi_chunk chunk;
	uint64_t strides[2];
	char path[4096];
};

/* --- the physics ------------------------------------------------------------------------ */

static double *cell(const struct heat *heat, double *field, uint64_t i, uint64_t j)
{
	return &field[(i + 1) * heat->row + j + 1];
}

/* A hot square in a cold plate with one warm edge. */
static double initial(const struct heat *heat, uint64_t i, uint64_t j)
{
	const uint64_t *grid = heat->options.grid;

	if (j == 0)
		return 50.0;
	return i > grid[0] / 4 && i < grid[0] / 2 && j > grid[1] / 4 && j < grid[1] / 2 ? 100.0
											: 0.0;
}

static void fill(struct heat *heat)
{
	for (uint64_t i = 0; i < heat->size[0]; i++) {
		for (uint64_t j = 0; j < heat->size[1]; j++)
			*cell(heat, heat->now, i, j) =
				initial(heat, heat->start[0] + i, heat->start[1] + j);
	}
}

/* The neighbours' outermost rows and columns become this block's ghost cells. */
static void exchange(struct heat *heat)
{
	int columns = (int)heat->size[1];
	uint64_t last_row = heat->size[0] - 1;
	uint64_t last_column = heat->size[1] - 1;
	int up, down, left, right;

	MPI_Cart_shift(heat->comm, 0, 1, &up, &down);
	MPI_Cart_shift(heat->comm, 1, 1, &left, &right);
	MPI_Sendrecv(cell(heat, heat->now, 0, 0), columns, MPI_DOUBLE, up, 0,
		     cell(heat, heat->now, last_row + 1, 0), columns, MPI_DOUBLE, down, 0,
		     heat->comm, MPI_STATUS_IGNORE);
	MPI_Sendrecv(cell(heat, heat->now, last_row, 0), columns, MPI_DOUBLE, down, 1,
		     cell(heat, heat->now, 0, 0) - heat->row, columns, MPI_DOUBLE, up, 1,
		     heat->comm, MPI_STATUS_IGNORE);
	MPI_Sendrecv(cell(heat, heat->now, 0, 0), 1, heat->column, left, 2,
		     cell(heat, heat->now, 0, last_column + 1), 1, heat->column, right, 2,
		     heat->comm, MPI_STATUS_IGNORE);
	MPI_Sendrecv(cell(heat, heat->now, 0, last_column), 1, heat->column, right, 3,
		     cell(heat, heat->now, 0, 0) - 1, 1, heat->column, left, 3, heat->comm,
		     MPI_STATUS_IGNORE);
}

/* Jacobi: every new value depends on old ones alone. The plate's own edge stays as it is. */
static void advance(struct heat *heat)
{
	const uint64_t *grid = heat->options.grid;

	exchange(heat);
	for (uint64_t i = 0; i < heat->size[0]; i++) {
		for (uint64_t j = 0; j < heat->size[1]; j++) {
			const double *at = cell(heat, heat->now, i, j);
			uint64_t y = heat->start[0] + i;
			uint64_t x = heat->start[1] + j;
			bool edge = y == 0 || x == 0 || y == grid[0] - 1 || x == grid[1] - 1;

			*cell(heat, heat->next, i, j) =
				edge ? *at
				     : *at + 0.2 * (at[-1] + at[1] + *(at - heat->row) +
						    at[heat->row] - 4.0 * *at);
		}
	}
	double *done = heat->next;

	heat->next = heat->now;
	heat->now = done;
	heat->step++;
}

/* --- beginning and end ------------------------------------------------------------------ */

/* A signal that is caught does not shorten it. */
static void rest(unsigned int seconds)
{
	while (seconds > 0)
		seconds = sleep(seconds);
}

/* Mostly all ranks have the same to say: the first of them says it, and ends the others. */
static void stop(const char *what)
{
	int rank;

	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	if (rank > 0)
		rest(2);
	(void)fprintf(stderr, "heat: %s\n", what);
	MPI_Abort(MPI_COMM_WORLD, 1);
}

static void parse(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "grid", required_argument, NULL, 'g' },
		{ "steps", required_argument, NULL, 's' },
		{ "every", required_argument, NULL, 'e' },
		{ "store", required_argument, NULL, 'S' },
		{ "group", required_argument, NULL, 'G' },
		{ "out", required_argument, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};
	int letter;

	*options = (struct options){
		.grid = { 256, 256 }, .steps = 1000, .every = 100, .group = "heat"
	};
	while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (letter) {
		case 'g': /* --grid ROWS COLUMNS */
			options->grid[0] = strtoull(optarg, NULL, 10);
			if (optind < argc)
				options->grid[1] = strtoull(argv[optind++], NULL, 10);
			break;
		case 's':
			options->steps = strtol(optarg, NULL, 10);
			break;
		case 'e':
			options->every = strtol(optarg, NULL, 10);
			break;
		case 'S':
			options->store = optarg;
			break;
		case 'G':
			options->group = optarg;
			break;
		case 'o':
			options->out = optarg;
			break;
		default:
			stop("see the top of heat.c for its options");
		}
	}
	if (optind < argc)
		stop("an argument too many; see the top of heat.c");
	if (!options->store)
		stop("--store PATH is missing: a folder made by 'ckptfs init'");
	if (options->every < 1 || options->steps < 0)
		stop("--every takes 1 or more, --steps 0 or more");
}

/* Blocks as equal as can be: none is empty while there are enough rows and columns. */
static void cut(struct heat *heat, int axis, int at, int parts)
{
	uint64_t extent = heat->options.grid[axis];

	if (extent < (uint64_t)parts)
		stop("--grid has fewer rows or columns than the process grid");
	heat->start[axis] = extent * (uint64_t)at / (uint64_t)parts;
	heat->size[axis] = extent * (uint64_t)(at + 1) / (uint64_t)parts - heat->start[axis];
}

static void set_up(struct heat *heat)
{
	int dims[2] = { 0, 0 };
	int periods[2] = { 0, 0 };
	int at[2];

	MPI_Comm_size(MPI_COMM_WORLD, &heat->ranks);
	MPI_Dims_create(heat->ranks, 2, dims);
	MPI_Cart_create(MPI_COMM_WORLD, 2, dims, periods, 1, &heat->comm);
	MPI_Comm_rank(heat->comm, &heat->rank);
	MPI_Cart_coords(heat->comm, heat->rank, 2, at);
	cut(heat, 0, at[0], dims[0]);
	cut(heat, 1, at[1], dims[1]);
	heat->row = heat->size[1] + 2;
	heat->now = calloc((heat->size[0] + 2) * heat->row, sizeof(double));
	heat->next = calloc((heat->size[0] + 2) * heat->row, sizeof(double));
	if (!heat->now || !heat->next)
		stop("memory is out");
	MPI_Type_vector((int)heat->size[0], 1, (int)heat->row, MPI_DOUBLE, &heat->column);
	MPI_Type_commit(&heat->column);
}

/* The field as raw doubles, row by row, by MPI-IO. */
static void write_out(struct heat *heat)
{
	int whole[2] = { (int)heat->options.grid[0], (int)heat->options.grid[1] };
	int size[2] = { (int)heat->size[0], (int)heat->size[1] };
	int start[2] = { (int)heat->start[0], (int)heat->start[1] };
	int ghosted[2] = { size[0] + 2, size[1] + 2 };
	int inside[2] = { 1, 1 };
	MPI_Datatype in_file, in_memory;
	MPI_File file;

	if (MPI_File_open(heat->comm, heat->options.out, MPI_MODE_CREATE | MPI_MODE_WRONLY,
			  MPI_INFO_NULL, &file) != MPI_SUCCESS)
		stop("--out cannot be written");
	MPI_Type_create_subarray(2, whole, size, start, MPI_ORDER_C, MPI_DOUBLE, &in_file);
	MPI_Type_create_subarray(2, ghosted, size, inside, MPI_ORDER_C, MPI_DOUBLE, &in_memory);
	MPI_Type_commit(&in_file);
	MPI_Type_commit(&in_memory);
	MPI_File_set_view(file, 0, MPI_DOUBLE, in_file, "native", MPI_INFO_NULL);
	if (MPI_File_write_all(file, heat->now, 1, in_memory, MPI_STATUS_IGNORE) != MPI_SUCCESS ||
	    MPI_File_close(&file) != MPI_SUCCESS)
		stop("--out could not be written");
	MPI_Type_free(&in_memory);
	MPI_Type_free(&in_file);
}

static void tear_down(struct heat *heat)
{
	MPI_Type_free(&heat->column);
	MPI_Comm_free(&heat->comm);
	free(heat->next);
	free(heat->now);
}

/* --- checkpoints ---------------------------------------------------------------------------- */

/* One rank says which ranks failed, and why. After a time-out nothing but MPI_Abort can follow. */
static void report(const struct ckpt_mpi *job, const char *what)
{
	size_t count;
	const struct ckpt_mpi_failure *failed = ckpt_mpi_failures(job, &count);

	bool speaks = ckpt_mpi_rank(job)->global_rank == ckpt_mpi_reporter(job);

	if (speaks) {
		for (size_t i = 0; i < count; i++)
			(void)fprintf(stderr, "heat: %s: rank %d on %s: %s: %s\n", what,
				      failed[i].rank, failed[i].host,
				      ckpt_mpi_phase_name(failed[i].phase), failed[i].message);
	}
	if (!ckpt_mpi_usable(job)) {
		if (!speaks)
			rest(2); /* what is said shall be heard */
		MPI_Abort(MPI_COMM_WORLD, 1);
	}
}

static void begin_jobs(struct heat *heat)
{
	struct ckpt_mpi_failure why;

	if (ckpt_mpi_catch_signals() < 0 || ckpt_mpi_new(heat->comm, NULL, &heat->job, &why) < 0 ||
	    ckpt_mpi_new(heat->comm, NULL, &heat->control, &why) < 0)
		stop("cannot begin a job for checkpoints");
}

/* The block without its ghost cells, as it lies in memory. */
static void describe(struct heat *heat)
{
	heat->strides[0] = heat->row;
	heat->strides[1] = 1;
	heat->chunk = (struct ckpt_mpi_chunk){ .start = heat->start,
					       .size = heat->size,
					       .data = cell(heat, heat->now, 0, 0),
					       .strides = heat->strides };
	heat->entry = (struct ckpt_mpi_entry){ .fqn = "temperature",
					       .dtype = "F64",
					       .shape = heat->options.grid,
					       .dim_count = 2,
					       .chunks = &heat->chunk,
					       .chunk_count = 1 };
}

/* GROUP/step-000150, or GROUP/step-000150-2 for the second of that name. */
static int start_save(struct heat *heat)
{
	int rc = -EEXIST;

	describe(heat);
	for (int attempt = 1; rc == -EEXIST && attempt < 100; attempt++) {
		int len = snprintf(heat->path, sizeof(heat->path), "%s/%s/step-%06ld",
				   heat->options.store, heat->options.group, heat->step);

		if (attempt > 1 && len < (int)sizeof(heat->path))
			(void)snprintf(heat->path + len, sizeof(heat->path) - (size_t)len, "-%d",
				       attempt);
		heat->request = (struct ckpt_mpi_save_request){ .path = heat->path,
								.entries = &heat->entry,
								.entry_count = 1,
								.has_step = true,
								.step = (uint64_t)heat->step };
		/* Copied: the next steps overwrite the field while a thread writes the copy. */
		rc = ckpt_mpi_save_start(heat->job, &heat->request, CKPT_MPI_COPY, &heat->saving);
	}
	return rc;
}

static void finish_save(struct heat *heat)
{
	struct ckpt_mpi_result saved;

	if (!heat->saving)
		return;
	/* A checkpoint that fails is reported; the next one may succeed. */
	if (ckpt_mpi_wait(&heat->saving, &saved) < 0)
		report(heat->job, "a checkpoint was not saved");
	else if (heat->rank == 0)
		(void)printf("saved %s\n", saved.name);
}

static void save(struct heat *heat)
{
	finish_save(heat);
	if (start_save(heat) < 0)
		report(heat->job, "a checkpoint was not begun");
}

/* Every rank tests at every step, so that all of them come to the commit together. */
static void look_after_save(struct heat *heat)
{
	bool ended = false;

	if (!heat->saving)
		return;
	if (ckpt_mpi_test(heat->saving, &ended) < 0 || ended)
		finish_save(heat);
}

static int find_temperature(struct ckpt_mpi_reader *reader, const struct options *options)
{
	struct ckpt_mpi_tensor tensor;

	for (size_t i = 0; i < ckpt_mpi_reader_tensor_count(reader); i++) {
		ckpt_mpi_reader_tensor(reader, i, &tensor);
		if (strcmp(tensor.fqn, "temperature") == 0 && tensor.dim_count == 2 &&
		    tensor.shape[0] == options->grid[0] && tensor.shape[1] == options->grid[1])
			return (int)i;
	}
	return -1;
}

/* This rank's block out of it, however many ranks have saved it. */
static void load(struct heat *heat, const char *path)
{
	struct ckpt_mpi_want want = { .start = heat->start, .size = heat->size };
	struct ckpt_mpi_read_request request = { .wants = &want, .want_count = 1 };
	struct ckpt_mpi_reader *reader;
	int found;

	if (ckpt_mpi_reader_new(heat->job, path, &reader) < 0) {
		report(heat->job, "cannot resume");
		stop("cannot resume");
	}
	found = find_temperature(reader, &heat->options);
	if (found < 0)
		stop("the checkpoint is of another grid; give it with --grid, or take another --group");
	describe(heat);
	want.tensor_idx = (size_t)found;
	want.data = cell(heat, heat->now, 0, 0);
	want.strides = heat->strides;
	if (ckpt_mpi_reader_read(reader, &request, NULL) < 0) {
		report(heat->job, "cannot resume");
		stop("cannot resume");
	}
	ckpt_mpi_reader_free(reader);
}

static void tell_passed_over(const struct heat *heat)
{
	const char *line;

	for (size_t i = 0; heat->rank == 0 && (line = ckpt_mpi_passed_over(heat->job, i)); i++)
		(void)fprintf(stderr, "heat: passed over: %s\n", line);
}

/* From the newest sound checkpoint, or from the beginning. */
static void resume(struct heat *heat)
{
	struct ckpt_mpi_result found;
	char group[4096], path[4096];
	const char *name;
	int rc;

	(void)snprintf(group, sizeof(group), "%s/%s", heat->options.store, heat->options.group);
	rc = ckpt_mpi_latest(heat->job, group, path, sizeof(path), &found);
	tell_passed_over(heat);
	if (rc == -ENOENT && !ckpt_mpi_passed_over(heat->job, 0)) {
		fill(heat);
		if (heat->rank == 0)
			(void)printf("starting anew on %d ranks\n", heat->ranks);
		return;
	}
	/* Nothing sound where there was something: not for us to start over. */
	if (rc < 0) {
		report(heat->job, "cannot resume");
		stop(rc == -ENOENT ? "to start anew, take another --group" : "cannot resume");
	}
	load(heat, path);
	name = strrchr(found.name, '/');
	heat->step = strtol((name ? name + 1 : found.name) + strlen("step-"), NULL, 10);
	if (heat->rank == 0)
		(void)printf("resumed from %s on %d ranks\n", found.name, heat->ranks);
}

/* Slurm, or whoever wants the machine, sends SIGUSR1 to be saved, SIGTERM to be saved and end. */
static bool must_end(struct heat *heat)
{
	int signal_number = 0;

	if (ckpt_mpi_should_save(heat->control, &signal_number) < 0)
		report(heat->control, "cannot ask for signals");
	if (signal_number == 0)
		return false;
	save(heat);
	return signal_number == SIGTERM;
}

static void run(struct heat *heat)
{
	bool ends = false;

	while (!ends && heat->step < heat->options.steps) {
		advance(heat);
		look_after_save(heat);
		ends = must_end(heat);
		if (!ends && heat->step % heat->options.every == 0)
			save(heat);
	}
	finish_save(heat);
	if (ends && heat->rank == 0)
		(void)printf("ended by a signal at step %ld\n", heat->step);
	if (!ends && heat->options.out)
		write_out(heat);
}

int main(int argc, char **argv)
{
	struct heat heat = { .step = 0 };
	int provided;

	/* Open MPI's own MPI-IO has settings that corrupt files: see ckptfs_mpi(3). */
	if (ckpt_mpi_environment() < 0)
		return 1;
	(void)setvbuf(stdout, NULL, _IOLBF, 0); /* each line when it is true, also into a pipe */
	MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
	parse(argc, argv, &heat.options);
	set_up(&heat);
	begin_jobs(&heat);
	resume(&heat);
	run(&heat);
	ckpt_mpi_close(&heat.control);
	ckpt_mpi_close(&heat.job);
	tear_down(&heat);
	return MPI_Finalize() == MPI_SUCCESS ? 0 : 1;
}
