/* node_share.c - see node_share.h. */
#include "node_share.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "collective.h"

/* --- bytes -------------------------------------------------------------------------------------- */

/* @bytes of each rank of the node (as many on each) into @room behind its own. */
static int all_on_node(struct ckpt_mpi *job, unsigned char *room, size_t bytes)
{
	MPI_Request request = MPI_REQUEST_NULL;
	int rc;

	if (job->broken)
		return job->broken;
	rc = MPI_Iallgather(room, (int)bytes, MPI_BYTE, room + bytes, (int)bytes, MPI_BYTE,
			    job->node_comm, &request);
	/* It is tested till it is done. NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker) */
	return ckpt_coll_finish(job, rc, &request, "MPI_Iallgather");
}

/* What MPI reads and writes during the gather; never freed when the job broke. */
struct gather {
	uint64_t *lens; /* the own one, then every rank's */
	int *counts;
	int *offsets;
	unsigned char *mine;
	unsigned char *all;
};

static void gather_release(struct gather *g)
{
	free(g->lens);
	free(g->counts);
	free(g->offsets);
	free(g->mine);
	free(g->all);
}

static int gather_begin(const struct ckpt_mpi *job, const struct ckpt_buf *mine, struct gather *g)
{
	size_t count = (size_t)job->info.local_world_size;

	g->lens = array_alloc(count + 1, sizeof(*g->lens));
	g->counts = array_alloc(count, sizeof(*g->counts));
	g->offsets = array_alloc(count, sizeof(*g->offsets));
	g->mine = array_alloc(1, mine->len_bytes + 1);
	if (!g->lens || !g->counts || !g->offsets || !g->mine)
		return -ENOMEM;
	memcpy(g->mine, mine->data, mine->len_bytes);
	g->lens[0] = mine->len_bytes;
	return ckpt_buf_check(mine);
}

/* All lengths are known: room for all bytes. */
static int gather_room(const struct ckpt_mpi *job, struct gather *g)
{
	size_t count = (size_t)job->info.local_world_size;
	uint64_t total = 0;

	for (size_t i = 1; i <= count; i++)
		total = num_min(CKPT_COLL_ROUND_BYTES + 1, total + g->lens[i]);
	if (total > CKPT_COLL_ROUND_BYTES)
		memset(g->lens, 0, (count + 1) * sizeof(*g->lens));
	total = 0;
	for (size_t i = 0; i < count; i++) {
		g->counts[i] = (int)g->lens[i + 1];
		g->offsets[i] = (int)total;
		total += g->lens[i + 1];
	}
	g->all = array_alloc(1, total + 1);
	return g->all ? 0 : -ENOMEM;
}

static int gather_bytes(struct ckpt_mpi *job, struct gather *g)
{
	MPI_Request request = MPI_REQUEST_NULL;
	int rc;

	if (job->broken)
		return job->broken;
	rc = MPI_Iallgatherv(g->mine, (int)g->lens[0], MPI_BYTE, g->all, g->counts, g->offsets,
			     MPI_BYTE, job->node_comm, &request);
	/* It is tested till it is done. NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker) */
	return ckpt_coll_finish(job, rc, &request, "MPI_Iallgatherv");
}

int ckpt_node_gather(struct ckpt_mpi *job, const struct ckpt_buf *mine, struct ckpt_node_bytes *out)
{
	struct gather g = { .lens = NULL };
	int rc = ckpt_job_agree(job, gather_begin(job, mine, &g), NULL);

	if (rc == 0)
		rc = all_on_node(job, (unsigned char *)g.lens, sizeof(*g.lens));
	if (rc == 0)
		rc = ckpt_job_agree(job, gather_room(job, &g), NULL);
	if (rc == 0)
		rc = gather_bytes(job, &g);
	if (job->broken)
		return rc;
	if (rc == 0) {
		memmove(g.lens, g.lens + 1, (size_t)job->info.local_world_size * sizeof(*g.lens));
		*out = (struct ckpt_node_bytes){ .data = g.all, .lens = g.lens };
		g.all = NULL;
		g.lens = NULL;
	}
	gather_release(&g);
	return rc;
}

/* --- memory --------------------------------------------------------------------------------------- */

/* How others find a rank's memory, and know that it is that. All 0: there is none. */
struct handle {
	uint64_t pid;
	uint64_t fd;
	uint64_t dev;
	uint64_t ino;
};

static int make_own(struct ckpt_node_room *room, int local_rank, struct handle *out)
{
	struct stat st;
	void *data;

	room->fd = memfd_create("ckptfs-read", MFD_CLOEXEC);
	/* Pages that could not be had later would be a SIGBUS. */
	if (room->fd < 0 || ftruncate(room->fd, (off_t)room->size_bytes) < 0 ||
	    fallocate(room->fd, 0, 0, (off_t)room->size_bytes) < 0 || fstat(room->fd, &st) < 0)
		return -errno;
	data = mmap(NULL, room->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, room->fd, 0);
	if (data == MAP_FAILED)
		return -errno;
	room->of[local_rank] = data;
	*out = (struct handle){
		.pid = (uint64_t)getpid(),
		.fd = (uint64_t)room->fd,
		.dev = st.st_dev,
		.ino = st.st_ino,
	};
	return 0;
}

/* Another rank's memory, to be read. */
static int attach(struct ckpt_node_room *room, int local_rank, const struct handle *handle)
{
	CKPT_CLOSE int path = -1;
	CKPT_CLOSE int fd = -1;
	struct stat st;
	char name[64];
	void *data;

	/*
	 * In another name space the numbers mean another file, which must not be opened: O_PATH
	 * only looks at it.
	 */
	(void)snprintf(name, sizeof(name), "/proc/%llu/fd/%llu", (unsigned long long)handle->pid,
		       (unsigned long long)handle->fd);
	path = open(name, O_PATH | O_CLOEXEC);
	if (path < 0 || fstat(path, &st) < 0)
		return -errno;
	if (handle->ino == 0 || st.st_dev != handle->dev || st.st_ino != handle->ino ||
	    (uint64_t)st.st_size != room->size_bytes)
		return -ESTALE;
	(void)snprintf(name, sizeof(name), "/proc/self/fd/%d", path);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	data = mmap(NULL, room->size_bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return -errno;
	room->of[local_rank] = data;
	return 0;
}

static int attach_all(const struct ckpt_mpi *job, struct ckpt_node_room *room,
		      const struct handle *handles)
{
	int rc = 0;

	for (int i = 0; i < room->count && rc == 0; i++) {
		if (i != job->info.local_rank)
			rc = attach(room, i, &handles[i]);
	}
	return rc;
}

int ckpt_node_room_open(struct ckpt_mpi *job, size_t size_bytes, struct ckpt_node_room *out,
			bool *out_shared)
{
	size_t count = (size_t)job->info.local_world_size;
	struct handle *handles = array_alloc(count + 1, sizeof(*handles)); /* the own one first */
	uint64_t failed = 0;
	int rc;

	*out = (struct ckpt_node_room){ .size_bytes = size_bytes, .count = (int)count, .fd = -1 };
	*out_shared = false;
	out->of = array_alloc(count, sizeof(*out->of));
	rc = ckpt_job_agree(job, handles && out->of ? 0 : -ENOMEM, NULL);
	assert(rc < 0 || (handles && out->of));
	if (rc == 0) {
		/* Without it the others see a handle that leads nowhere, and all do without. */
		failed = make_own(out, job->info.local_rank, &handles[0]) < 0;
		rc = all_on_node(job, (unsigned char *)handles, sizeof(*handles));
	}
	if (rc == 0) {
		failed = failed || attach_all(job, out, handles + 1) < 0;
		rc = ckpt_coll_max(job, failed, &failed);
	}
	if (!job->broken)
		free(handles);
	*out_shared = rc == 0 && !failed;
	return rc;
}

void ckpt_node_room_release(struct ckpt_node_room *room)
{
	for (int i = 0; room->of && i < room->count; i++) {
		if (room->of[i])
			munmap(room->of[i], room->size_bytes);
	}
	if (room->of)
		ckpt_cleanup_close(&room->fd);
	free(room->of);
	*room = (struct ckpt_node_room){ .fd = -1 };
}
