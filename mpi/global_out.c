/* global_out.c - see global_out.h. */
#include "global_out.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "collective.h"
#include "exchange.h"
#include "global_piece.h"
#include "global_sums.h"
#include "job_progress.h"
#include "mpiio.h"

struct ckpt_global_out {
	struct ckpt_shard_out *out;
	struct ckpt_mpi *job;
	const struct ckpt_buf *wire;
	bool in_background;
	int *writers; /* ranks that may be aggregators */
	int writer_count;
	int *aggregators; /* those that are */
	int mine;	  /* which of them this rank is; -1 */
	struct ckpt_global_layout layout;
	struct ckpt_global_parts parts;
	struct ckpt_exchange exchange;
	unsigned char *room; /* aggregator: a window; in the background all of them */
	struct ckpt_global_sums sums;
	struct ckpt_mpiio io;
	int fd;
};

static const char *name_of(const struct ckpt_global_out *g)
{
	return g->out->target->name.data;
}

static int failed(const struct ckpt_global_out *g, int rc, const char *what, struct ckpt_err *err)
{
	return ckpt_err_sys(err, rc, "cannot %s '%s/" CKPT_GLOBAL_FILE "'", what, name_of(g));
}

/* --- laying out --------------------------------------------------------------------------- */

/* One rank of each node. */
static int find_leaders(struct ckpt_global_out *g)
{
	int world_size = g->job->info.global_world_size;
	bool *leads = array_alloc((size_t)world_size, sizeof(*leads));
	bool mine = g->job->info.local_rank == 0;
	int rc = ckpt_job_agree(g->job, leads ? 0 : -ENOMEM, NULL);

	assert(rc < 0 || (leads && g->writers));
	if (rc == 0)
		rc = ckpt_coll_all(g->job, &mine, sizeof(mine), leads);
	for (int rank = 0; rc == 0 && rank < world_size; rank++) {
		if (leads[rank])
			g->writers[g->writer_count++] = rank;
	}
	free(leads);
	return rc;
}

/* So many of all ranks, spread evenly: neighbours share a node. */
static void spread_writers(struct ckpt_global_out *g, int count)
{
	uint64_t world_size = (uint64_t)g->job->info.global_world_size;

	assert(g->writers);
	for (; g->writer_count < count; g->writer_count++)
		g->writers[g->writer_count] =
			(int)((uint64_t)g->writer_count * world_size / (uint64_t)count);
}

static int choose_writers(struct ckpt_global_out *g)
{
	int count = g->in_background ? g->job->info.global_world_size : g->job->config.aggregators;

	if (count == 0)
		return find_leaders(g);
	spread_writers(g, count);
	return 0;
}

/* Where the layout wants fewer than there are writers, again spread evenly. */
static void choose_aggregators(struct ckpt_global_out *g)
{
	uint64_t count = (uint64_t)g->layout.aggregator_count;

	for (uint64_t i = 0; i < count; i++) {
		g->aggregators[i] = g->writers[i * (uint64_t)g->writer_count / count];
		if (g->aggregators[i] == g->job->info.global_rank)
			g->mine = (int)i;
	}
}

static int make_room(struct ckpt_global_out *g)
{
	uint64_t share = ckpt_global_layout_share(&g->layout, g->mine);

	g->room = array_alloc(g->in_background ? num_max(share, 1) : 1, g->layout.window_bytes);
	return g->room ? ckpt_global_sums_init(&g->sums, &g->layout, g->mine) : -ENOMEM;
}

static int lay_out(void *ctx, struct ckpt_err *err)
{
	struct ckpt_global_out *g = ctx;
	int rc = ckpt_global_layout_take(g->wire, g->writer_count, &g->layout, err);

	if (rc == 0)
		rc = ckpt_global_parts_init(&g->parts, g->out, &g->layout, err);
	if (rc == 0)
		rc = ckpt_exchange_init(&g->exchange, g->job);
	if (rc < 0)
		return rc;
	g->parts.counts = !g->in_background;
	choose_aggregators(g);
	return g->mine >= 0 ? make_room(g) : 0;
}

/*
 * The coordinator makes the file at its full size: no room shall show before, not after, the bytes
 * were moved.
 */
static int create(void *ctx, struct ckpt_err *err)
{
	struct ckpt_global_out *g = ctx;
	CKPT_CLOSE int fd = ckpt_io_openat(g->out->target->dirfd, CKPT_GLOBAL_FILE,
					   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
	char size[16];
	int rc = fd < 0 ? fd : ckpt_io_fallocate(fd, 0, g->layout.file_bytes);

	if (rc == -EOPNOTSUPP)
		rc = ckpt_io_ftruncate(fd, g->layout.file_bytes);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot make '%s/" CKPT_GLOBAL_FILE "' with %s",
				     name_of(g),
				     num_format_size(g->layout.file_bytes, size, sizeof(size)))
		      : 0;
}

static int open_file(void *ctx, struct ckpt_err *err)
{
	struct ckpt_global_out *g = ctx;

	g->fd = ckpt_io_openat(g->out->target->dirfd, CKPT_GLOBAL_FILE, O_WRONLY | O_NOFOLLOW, 0);
	return g->fd < 0 ? failed(g, g->fd, "open", err) : 0;
}

/* Not in a thread that makes no MPI call, nor without MPI; the bytes are the same. */
static bool is_collective(const struct ckpt_global_out *g)
{
	return g->job->config.io == CKPT_MPI_IO_MPIIO && !g->in_background &&
	       g->job->comm != MPI_COMM_NULL;
}

static int open_mpiio(void *ctx, struct ckpt_err *err)
{
	struct ckpt_global_out *g = ctx;

	return ckpt_mpiio_open(&g->io, g->job->comm, err);
}

static int open_everywhere(struct ckpt_global_out *g)
{
	int rc = ckpt_job_go_on(g->job, ckpt_job_is_coordinator(g->job), create, g);

	if (rc < 0)
		return rc;
	return is_collective(g) ? ckpt_job_go_on(g->job, true, open_mpiio, g)
				: ckpt_job_go_on(g->job, g->mine >= 0, open_file, g);
}

/* --- writing ------------------------------------------------------------------------------ */

/* The window of aggregator @idx in a round; false: it has none any more. */
static bool window_of(const struct ckpt_global_out *g, uint64_t round, int idx,
		      struct ckpt_global_window *out)
{
	uint64_t count = (uint64_t)g->layout.aggregator_count;
	uint64_t window = round * count + (uint64_t)idx;

	*out = (struct ckpt_global_window){ .data = NULL };
	if (idx < 0 || idx >= g->layout.aggregator_count || window >= g->layout.window_count)
		return false;
	out->start = ckpt_global_layout_window(&g->layout, window, &out->bytes);
	if (idx == g->mine)
		out->data = g->room + (g->in_background ? round * g->layout.window_bytes : 0);
	return true;
}

static uint64_t round_count(const struct ckpt_global_out *g)
{
	return ckpt_global_layout_share(&g->layout, 0);
}

static int write_posix(struct ckpt_global_out *g, const struct ckpt_global_window *window,
		       struct ckpt_err *err)
{
	int rc = ckpt_io_pwrite_full(g->fd, window->data, window->bytes, window->start);

	if (rc < 0)
		return failed(g, rc, "write", err);
	/*
	 * The disk is set to work now, and not only when all is there. A hint: what became of the
	 * bytes is asked by fdatasync.
	 */
	ckpt_ignore(sync_file_range(g->fd, (off_t)window->start, (off_t)window->bytes,
				    SYNC_FILE_RANGE_WRITE));
	return 0;
}

/* Closed, too: what is open for writing cannot be committed. */
static int sync_posix(struct ckpt_global_out *g, struct ckpt_err *err)
{
	CKPT_CLOSE int fd = ckpt_steal_fd(&g->fd);
	int rc = ckpt_io_fdatasync(fd);

	return rc < 0 ? failed(g, rc, "sync", err) : 0;
}

/* --- the exchange ------------------------------------------------------------------------- */

static void place_header(const struct ckpt_global_out *g, struct ckpt_global_window *window)
{
	uint64_t header_bytes = g->layout.header_bytes;
	uint64_t len;

	assert(window->data);
	if (window->start >= header_bytes)
		return;
	len = num_min(window->bytes, header_bytes - window->start);
	memcpy(window->data, g->layout.header + window->start, len);
	window->filled += len;
}

/* What this rank has of another's window. */
static int pack_for(struct ckpt_global_out *g, int idx, const struct ckpt_global_window *window,
		    struct ckpt_err *err)
{
	int rc = ckpt_global_parts_pack(&g->parts, window->start + window->bytes, &g->exchange.out,
					err);

	if (rc == 0)
		rc = ckpt_exchange_address(&g->exchange, g->aggregators[idx]);
	return rc == -EOVERFLOW
		       ? ckpt_err_set(
				 err, rc,
				 "this rank's chunks are too many and too small for one file; save with the layout 'shards'")
		       : rc;
}

/*
 * What this rank has of all windows of a round, in the order of the file: its own it puts in place,
 * the others become messages.
 */
static int pack(struct ckpt_global_out *g, uint64_t round, struct ckpt_global_window *mine,
		struct ckpt_err *err)
{
	struct ckpt_global_window window;
	int rc = ckpt_job_cancelled(g->job, err);

	for (int i = 0; rc == 0 && window_of(g, round, i, &window); i++) {
		if (i != g->mine) {
			rc = pack_for(g, i, &window, err);
			continue;
		}
		place_header(g, mine);
		rc = ckpt_global_parts_place(&g->parts, mine, err);
	}
	return rc;
}

/* What the others sent, into this rank's window. */
static int place(struct ckpt_global_out *g, struct ckpt_global_window *window, struct ckpt_err *err)
{
	int rc = 0;

	for (int rank = 0; rc == 0 && rank < g->job->info.global_world_size; rank++) {
		size_t len;
		const void *message = ckpt_exchange_from(&g->exchange, rank, &len);

		rc = ckpt_global_window_place(window, message, len);
		if (rc < 0)
			return ckpt_err_set(
				err, rc,
				"what rank %d sent cannot be placed; the ranks run different versions of the library",
				rank);
	}
	/* The plan has checked it; stale bytes of another window must not be taken for a tensor's. */
	if (window->filled != window->bytes)
		return ckpt_err_set(
			err, -EBADMSG,
			"no rank sent %llu of the bytes from %llu on; the ranks run different versions of the library",
			(unsigned long long)(window->bytes - window->filled),
			(unsigned long long)window->start);
	return 0;
}

/* What is done with a window that is put together. With MPI-IO also where there is none. */
static int keep(struct ckpt_global_out *g, const struct ckpt_global_window *window, int code,
		struct ckpt_err *err)
{
	uint64_t bytes = code == 0 ? window->bytes : 0;
	int rc = code;

	if (g->in_background)
		return code;
	if (bytes > 0)
		ckpt_global_sums_add(&g->sums, window);
	if (is_collective(g))
		rc = ckpt_mpiio_write(&g->io, window->start, window->data, bytes,
				      code == 0 ? err : NULL);
	else if (bytes > 0)
		rc = write_posix(g, window, err);
	return code < 0 ? code : rc;
}

/*
 * Round by round, until all is written or some rank has failed, which all then know. Returns how it
 * went on this rank; the ranks do not agree on it, yet.
 */
static int run_rounds(struct ckpt_global_out *g, struct ckpt_err *err)
{
	int local = 0;

	for (uint64_t round = 0; round < round_count(g); round++) {
		struct ckpt_global_window window;
		bool any_failed = false;
		bool writes = window_of(g, round, g->mine, &window);
		int rc;

		ckpt_exchange_begin(&g->exchange);
		if (local == 0)
			local = pack(g, round, &window, err);
		rc = ckpt_exchange_run(&g->exchange, local < 0, &any_failed);
		if (rc < 0 || any_failed)
			return rc < 0 ? rc : local;
		if (writes)
			local = place(g, &window, err);
		local = keep(g, &window, local, err);
	}
	return local;
}

static int exchange(struct ckpt_global_out *g)
{
	struct ckpt_err err = CKPT_ERR_INIT;

	return ckpt_job_agree(g->job, run_rounds(g, &err), &err);
}

/* --- from outside ------------------------------------------------------------------------- */

static struct ckpt_global_out *global_new(struct ckpt_shard_out *out,
					  const struct ckpt_buf *layout_wire, bool in_background)
{
	struct ckpt_global_out *g = array_alloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->out = out;
	g->job = out->job;
	g->wire = layout_wire;
	g->in_background = in_background;
	g->mine = -1;
	g->io = (struct ckpt_mpiio){ .target = out->target,
				     .path = CKPT_GLOBAL_FILE,
				     .file = MPI_FILE_NULL };
	g->fd = -1;
	g->writers = array_alloc((size_t)out->job->info.global_world_size, sizeof(*g->writers));
	g->aggregators =
		array_alloc((size_t)out->job->info.global_world_size, sizeof(*g->aggregators));
	return g;
}

int ckpt_global_out_begin(struct ckpt_shard_out *out, const struct ckpt_buf *layout_wire,
			  bool in_background, struct ckpt_global_out **out_global)
{
	struct ckpt_global_out *g = global_new(out, layout_wire, in_background);
	int rc = ckpt_job_agree(out->job, g && g->writers && g->aggregators ? 0 : -ENOMEM, NULL);

	*out_global = g;
	if (rc < 0)
		return rc;
	assert(g);
	rc = choose_writers(g);
	if (rc == 0)
		rc = ckpt_job_go_on(g->job, true, lay_out, g);
	if (rc == 0)
		rc = open_everywhere(g);
	return rc < 0 || !in_background ? rc : exchange(g);
}

uint64_t ckpt_global_out_bytes(const struct ckpt_global_out *g)
{
	struct ckpt_global_window window;
	uint64_t bytes = 0;

	for (uint64_t round = 0; g->in_background && window_of(g, round, g->mine, &window); round++)
		bytes += window.bytes;
	return bytes;
}

int ckpt_global_out_write(struct ckpt_global_out *g, struct ckpt_err *err)
{
	struct ckpt_global_window window;
	int rc = 0;

	if (!g->in_background || g->mine < 0)
		return 0;
	for (uint64_t round = 0; rc == 0 && window_of(g, round, g->mine, &window); round++) {
		rc = ckpt_job_cancelled(g->job, err);
		if (rc < 0)
			return rc;
		ckpt_global_sums_add(&g->sums, &window);
		rc = write_posix(g, &window, err);
		ckpt_progress_add(g->job, window.bytes);
	}
	return rc < 0 ? rc : sync_posix(g, err);
}

static int sync_mpiio(void *ctx, struct ckpt_err *err)
{
	struct ckpt_global_out *g = ctx;

	return ckpt_mpiio_end(&g->io, err);
}

static int sync_file(void *ctx, struct ckpt_err *err)
{
	return sync_posix(ctx, err);
}

int ckpt_global_out_end(struct ckpt_global_out *g)
{
	int rc = g->in_background ? 0 : exchange(g);

	if (rc == 0 && !g->in_background)
		rc = is_collective(g) ? ckpt_job_go_on(g->job, true, sync_mpiio, g)
				      : ckpt_job_go_on(g->job, g->mine >= 0, sync_file, g);
	return rc < 0 ? rc : ckpt_global_sums_record(&g->sums, &g->layout, g->aggregators, g->out);
}

void ckpt_global_out_free(struct ckpt_global_out *g)
{
	if (!g)
		return;
	ckpt_mpiio_drop(&g->io);
	ckpt_cleanup_close(&g->fd);
	ckpt_global_sums_release(&g->sums);
	free(g->room);
	ckpt_exchange_release(&g->exchange);
	ckpt_global_parts_release(&g->parts);
	ckpt_global_layout_release(&g->layout);
	free(g->aggregators);
	free(g->writers);
	free(g);
}
