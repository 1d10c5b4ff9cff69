/*
 * mpi_test_async.c - saves in the background, as an application makes them:
 * what the thread may do meanwhile and what the application may, faults in both
 * halves, blobs.
 *
 *   async STORE             every case below, each under a name of its own
 *   async-alone STORE       those that need no MPI, without it
 */
#include <errno.h>
#include <glob.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "mpi_test.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
/* A tensor of ROWS x COLS float32, cut along its rows: more than a piece on each of four ranks. */
#define ROWS UINT64_C(1024)
#define COLS UINT64_C(1031)
#define SMALL UINT64_C(64)

/* --- no MPI call but from the application's thread ---------------------------------------------- */

static pthread_t main_thread;
static atomic_int foreign_calls;

static void note_call(void)
{
	if (main_thread && !pthread_equal(pthread_self(), main_thread))
		atomic_fetch_add(&foreign_calls, 1);
}

/* NOLINTBEGIN(readability-function-size): MPI says how many parameters there are. */
int MPI_Iallreduce(const void *send, void *receive, int count, MPI_Datatype type, MPI_Op op,
		   MPI_Comm comm, MPI_Request *request)
{
	note_call();
	return PMPI_Iallreduce(send, receive, count, type, op, comm, request);
}

int MPI_Test(MPI_Request *request, int *flag, MPI_Status *status)
{
	note_call();
	return PMPI_Test(request, flag, status);
}

int MPI_Iprobe(int source, int tag, MPI_Comm comm, int *flag, MPI_Status *status)
{
	note_call();
	return PMPI_Iprobe(source, tag, comm, flag, status);
}

int MPI_Isend(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
	      MPI_Request *request)
{
	note_call();
	return PMPI_Isend(data, count, type, to, tag, comm, request);
}
/* NOLINTEND(readability-function-size) */

/* --- a state to save ------------------------------------------------------------------------- */

struct state {
	uint64_t shape[2];
	uint64_t start[2];
	uint64_t size[2];
	uint64_t small_shape[1];
	uint64_t small_start[1];
	uint64_t small_size[1];
	float *big;
	float small[SMALL];
	float step; /* 0-d, on all ranks */
	unsigned char blob[100];
	struct ckpt_mpi_chunk chunks[3];
	struct ckpt_mpi_entry entries[3];
	struct ckpt_mpi_blob blobs[2];
	struct ckpt_mpi_save_request request;
};

static float value_at(uint64_t row, uint64_t col, int seed)
{
	return (float)(row * COLS + col) + (float)seed / 16;
}

static void fill_state(struct state *s, int seed)
{
	for (uint64_t i = 0; i < s->size[0] * COLS; i++)
		s->big[i] = value_at(s->start[0] + i / COLS, i % COLS, seed);
	for (uint64_t i = 0; i < SMALL; i++)
		s->small[i] = (float)(s->small_start[0] + i) + (float)seed;
	s->step = (float)seed;
	memset(s->blob, seed + mpi_test_rank(), sizeof(s->blob));
}

static void describe_state(struct state *s)
{
	s->chunks[0] = (struct ckpt_mpi_chunk){ s->start, s->size, s->big, NULL };
	s->chunks[1] = (struct ckpt_mpi_chunk){ s->small_start, s->small_size, s->small, NULL };
	s->chunks[2] = (struct ckpt_mpi_chunk){ NULL, NULL, &s->step, NULL };
	s->entries[0] = (struct ckpt_mpi_entry){ "big", "F32", s->shape, 2, &s->chunks[0], 1 };
	s->entries[1] =
		(struct ckpt_mpi_entry){ "small", "F32", s->small_shape, 1, &s->chunks[1], 1 };
	s->entries[2] = (struct ckpt_mpi_entry){ "step", "F32", NULL, 0, &s->chunks[2], 1 };
	s->blobs[0] = (struct ckpt_mpi_blob){ "rng", s->blob, sizeof(s->blob) };
	s->blobs[1] = (struct ckpt_mpi_blob){ "nothing", NULL, 0 };
	s->request = (struct ckpt_mpi_save_request){ .entries = s->entries,
						     .entry_count = COUNT(s->entries),
						     .blobs = s->blobs,
						     .blob_count = COUNT(s->blobs) };
}

static int make_state(struct state *s, int seed)
{
	uint64_t rank = (uint64_t)mpi_test_rank();
	uint64_t size = (uint64_t)mpi_test_size();

	*s = (struct state){ .shape = { ROWS, COLS } };
	ckpt_mpi_cut(ROWS, (int)rank, (int)size, &s->start[0], &s->size[0]);
	s->size[1] = COLS;
	s->small_shape[0] = SMALL * size;
	s->small_start[0] = SMALL * rank;
	s->small_size[0] = SMALL;
	s->big = malloc(s->size[0] * COLS * sizeof(float) + 1);
	if (!s->big)
		return mpi_test_fail("memory is out");
	fill_state(s, seed);
	describe_state(s);
	return 0;
}

/* --- looking at what was saved ---------------------------------------------------------------- */

static int check_tensors(struct ckpt_mpi_reader *reader, int seed)
{
	uint64_t zero[2] = { 0, 0 };
	uint64_t shape[2] = { ROWS, COLS };
	uint64_t small[1] = { (uint64_t)mpi_test_size() * SMALL };
	float *big = calloc(ROWS * COLS, sizeof(*big));
	float *little = calloc(small[0], sizeof(*little));
	float step = -1;
	const struct ckpt_mpi_want wants[] = {
		{ 0, zero, shape, big, NULL },
		{ 1, zero, small, little, NULL },
		{ 2, NULL, NULL, &step, NULL },
	};
	const struct ckpt_mpi_read_request request = { .wants = wants, .want_count = 3 };
	int rc = big && little ? ckpt_mpi_reader_read(reader, &request, NULL) : -ENOMEM;
	int bad = rc < 0 || !big || !little ? mpi_test_fail("cannot read what was saved: %d", rc)
					    : 0;

	for (uint64_t i = 0; !bad && big && i < ROWS * COLS; i++) {
		if (big[i] != value_at(i / COLS, i % COLS, seed))
			bad = mpi_test_fail("big[%lu] is %f", (unsigned long)i, (double)big[i]);
	}
	for (uint64_t i = 0; !bad && little && i < small[0]; i++) {
		if (little[i] != (float)i + (float)seed)
			bad = mpi_test_fail("small[%lu] is %f", (unsigned long)i,
					    (double)little[i]);
	}
	if (!bad && step != (float)seed)
		bad = mpi_test_fail("step is %f, should be %d", (double)step, seed);
	free(big);
	free(little);
	return bad;
}

static int check_blobs(struct ckpt_mpi_reader *reader, int seed)
{
	size_t count = ckpt_mpi_reader_blob_count(reader);
	unsigned char bytes[100];

	if (count != 2 * (size_t)mpi_test_size())
		return mpi_test_fail("%zu blobs", count);
	for (size_t i = 0; i < count; i++) {
		struct ckpt_mpi_stored_blob blob;
		const struct ckpt_mpi_blob_want want = { i, bytes };
		const struct ckpt_mpi_read_request request = { .blob_wants = &want,
							       .blob_want_count = 1 };

		ckpt_mpi_reader_blob(reader, i, &blob);
		if (blob.location.size_bytes != (strcmp(blob.fqn, "rng") == 0 ? 100U : 0U))
			return mpi_test_fail("blob '%s' has a wrong size", blob.fqn);
		if (ckpt_mpi_reader_read(reader, &request, NULL) < 0)
			return mpi_test_fail("blob '%s' cannot be read", blob.fqn);
		if (blob.location.size_bytes > 0 && bytes[99] != seed + blob.location.rank)
			return mpi_test_fail("blob '%s' holds %d", blob.fqn, bytes[99]);
	}
	return 0;
}

/* Everything in the checkpoint is make_state(@seed). */
static int check_saved(struct ckpt_mpi *job, const char *path, int seed)
{
	struct ckpt_mpi_reader *reader;
	int rc = ckpt_mpi_reader_new(job, path, &reader);
	int bad;

	if (rc < 0)
		return mpi_test_fail("'%s' was not committed: %d", path, rc);
	bad = check_tensors(reader, seed) + check_blobs(reader, seed);
	ckpt_mpi_reader_free(reader);
	return bad;
}

static int check_missing(struct ckpt_mpi *job, const char *path)
{
	struct ckpt_mpi_reader *reader;
	int rc = ckpt_mpi_reader_new(job, path, &reader);

	return rc == -ENOENT ? 0 : mpi_test_fail("opening '%s' says %d", path, rc);
}

/* --- cases ------------------------------------------------------------------------------------ */

static const char *store;
static MPI_Comm comm;

static const char *path_of(const char *name)
{
	static char path[4096];

	(void)snprintf(path, sizeof(path), "%s/%s", store, name);
	return path;
}

static struct ckpt_mpi *new_job_with(const char *faults, enum ckpt_mpi_io io)
{
	struct ckpt_mpi_failure why = { .message = "" };
	struct ckpt_mpi_config config;
	struct ckpt_mpi *job = NULL;

	ckpt_mpi_config_init(&config);
	config.io = io;
	(void)setenv("CKPTFS_FAULT", faults, 1);
	if (ckpt_mpi_new(comm, &config, &job, &why) < 0)
		(void)mpi_test_fail("no job: %s", why.message);
	(void)setenv("CKPTFS_FAULT", "", 1);
	return job;
}

static struct ckpt_mpi *new_job(const char *faults)
{
	return new_job_with(faults, CKPT_MPI_IO_POSIX);
}

/* The arrays may be overwritten as soon as the save has begun; the application computes on. */
static int copied(struct ckpt_mpi *job, const char *name, enum ckpt_mpi_layout layout)
{
	struct ckpt_mpi_result result = { .id = "" };
	struct ckpt_mpi_future *future;
	struct state s;
	unsigned long computed = 0;
	bool ended = false;
	int rc;

	if (make_state(&s, 1))
		return 1;
	s.request.path = path_of(name);
	s.request.layout = layout;
	rc = ckpt_mpi_save_start(job, &s.request, CKPT_MPI_COPY, &future);
	if (rc < 0)
		return mpi_test_fail("%s: does not start: %d", name, rc);
	while (!ended) {
		fill_state(&s, 2 + (int)computed++ % 3);
		rc = ckpt_mpi_test(future, &ended);
		if (rc < 0)
			return mpi_test_fail("%s: ends with %d", name, rc);
	}
	rc = ckpt_mpi_wait(&future, &result);
	if (rc < 0 || future || !result.id[0])
		return mpi_test_fail("%s: wait says %d", name, rc);
	if (ckpt_mpi_wait(&future, &result) != 0)
		return mpi_test_fail("%s: a second wait fails", name);
	if (computed < 2)
		return mpi_test_fail("%s: the application did not compute meanwhile", name);
	free(s.big);
	return check_saved(job, path_of(name), 1);
}

/* Lent arrays are read where they lie: small pieces of memory, and the bytes of the last moment. */
static int borrowed(struct ckpt_mpi *job)
{
	struct ckpt_mpi_future *future;
	struct state s;
	int rc;

	if (make_state(&s, 3))
		return 1;
	s.request.path = path_of("borrowed");
	rc = ckpt_mpi_save_start(job, &s.request, CKPT_MPI_BORROW, &future);
	if (rc == 0)
		rc = ckpt_mpi_wait(&future, NULL);
	free(s.big);
	if (rc < 0)
		return mpi_test_fail("borrowed: %d", rc);
	return check_saved(job, path_of("borrowed"), 3);
}

static int busy(struct ckpt_mpi *job)
{
	struct ckpt_mpi_future *future;
	struct ckpt_mpi_future *second;
	struct ckpt_mpi_reader *reader;
	struct state s;
	int rc;

	if (make_state(&s, 4))
		return 1;
	s.request.path = path_of("busy");
	if (ckpt_mpi_save_start(job, &s.request, CKPT_MPI_COPY, &future) < 0)
		return mpi_test_fail("busy: does not start");
	if (ckpt_mpi_save_start(job, &s.request, CKPT_MPI_COPY, &second) != -EBUSY || second ||
	    ckpt_mpi_save(job, &s.request, NULL) != -EBUSY ||
	    ckpt_mpi_reader_new(job, path_of("copy"), &reader) != -EBUSY)
		return mpi_test_fail("busy: a second call is let in");
	rc = ckpt_mpi_wait(&future, NULL);
	free(s.big);
	return rc < 0 ? mpi_test_fail("busy: %d", rc) : check_saved(job, path_of("busy"), 4);
}

/* A job that is closed stops its save, on all ranks, and the name is free again. */
static int closed(void)
{
	struct ckpt_mpi *job = new_job("");
	struct ckpt_mpi_future *future;
	struct state s;
	bool ended;
	int rc;

	if (!job || make_state(&s, 5))
		return 1;
	s.request.path = path_of("closed");
	if (ckpt_mpi_save_start(job, &s.request, CKPT_MPI_COPY, &future) < 0)
		return mpi_test_fail("closed: does not start");
	/* One rank has begun to vote, the others may not have. */
	if (mpi_test_rank() == 0 && ckpt_mpi_test(future, &ended) < 0)
		return mpi_test_fail("closed: test fails");
	(void)ckpt_mpi_close(&job);
	job = new_job("");
	if (!job || check_missing(job, path_of("closed")))
		return 1;
	rc = ckpt_mpi_save(job, &s.request, NULL);
	free(s.big);
	if (rc < 0)
		return mpi_test_fail("closed: the name cannot be saved again: %d", rc);
	rc = check_saved(job, path_of("closed"), 5);
	(void)ckpt_mpi_close(&job);
	return rc;
}

/* Until the application comes back, somebody keeps the writer's session fresh. */
static int kept(struct ckpt_mpi *job)
{
	char pattern[4096];
	glob_t sessions = { 0 };
	struct ckpt_mpi_future *future;
	struct timespec t = { 0 };
	struct stat st = { 0 };
	struct state s;
	int bad = 0;
	int rc;

	if (make_state(&s, 8))
		return 1;
	s.request.path = path_of("kept");
	rc = ckpt_mpi_save_start(job, &s.request, CKPT_MPI_COPY, &future);
	if (rc < 0)
		return mpi_test_fail("kept: does not start: %d", rc);
	(void)nanosleep(&(struct timespec){ .tv_sec = 3 }, NULL);
	(void)snprintf(pattern, sizeof(pattern), "%s/kept.partial/.ckptfs/session-*", store);
	if (glob(pattern, 0, NULL, &sessions) != 0 || stat(sessions.gl_pathv[0], &st) < 0)
		bad = mpi_test_fail("kept: there is no session");
	(void)clock_gettime(CLOCK_REALTIME, &t);
	if (!bad && t.tv_sec - st.st_mtim.tv_sec > 2)
		bad = mpi_test_fail("kept: nobody touched the session for %ld s",
				    (long)(t.tv_sec - st.st_mtim.tv_sec));
	globfree(&sessions);
	rc = ckpt_mpi_wait(&future, NULL);
	free(s.big);
	return bad ||
	       (rc < 0 ? mpi_test_fail("kept: %d", rc) : check_saved(job, path_of("kept"), 8));
}

/* What MPI-IO writes, it writes in the call that ends the save. */
static int with_mpiio(void)
{
	struct ckpt_mpi *job = new_job_with("", CKPT_MPI_IO_MPIIO);
	int bad = !job || copied(job, "mpiio", CKPT_MPI_LAYOUT_SHARDS);

	(void)ckpt_mpi_close(&job);
	return bad;
}

/* --- bytes that are asked for ------------------------------------------------------------------- */

struct asked {
	const struct state *state;
	int calls;
	pthread_t caller;
	bool foreign;
};

static int answer(void *ctx, const struct ckpt_mpi_piece *piece)
{
	struct asked *asked = ctx;
	const struct state *s = asked->state;
	const void *data = piece->entry_idx == 0   ? (const void *)s->big
			   : piece->entry_idx == 1 ? (const void *)s->small
						   : &s->step;

	asked->calls++;
	asked->foreign = asked->foreign || !pthread_equal(pthread_self(), asked->caller);
	memcpy(piece->out, (const char *)data + piece->offset, piece->len);
	return 0;
}

/* Also of arrays that are lent: the application is asked before the call returns, never behind it. */
static int asked_for(struct ckpt_mpi *job)
{
	struct ckpt_mpi_future *future;
	struct state s;
	struct asked asked = { .state = &s, .caller = pthread_self() };
	int calls;
	int rc;

	if (make_state(&s, 6))
		return 1;
	for (size_t i = 0; i < COUNT(s.chunks); i++)
		s.chunks[i].data = NULL;
	s.request.path = path_of("asked");
	s.request.read = answer;
	s.request.ctx = &asked;
	rc = ckpt_mpi_save_start(job, &s.request, CKPT_MPI_BORROW, &future);
	calls = asked.calls;
	if (rc == 0)
		rc = ckpt_mpi_wait(&future, NULL);
	free(s.big);
	if (rc < 0 || calls == 0 || asked.calls != calls || asked.foreign)
		return mpi_test_fail("asked: %d, after %d calls, %d in all", rc, calls,
				     asked.calls);
	return check_saved(job, path_of("asked"), 6);
}

/* --- faults --------------------------------------------------------------------------------------- */

/* Exactly the ranks of @mask are in the table, in @phase. */
static int check_table(const struct ckpt_mpi *job, const char *phase, unsigned int mask)
{
	size_t count;
	const struct ckpt_mpi_failure *rows = ckpt_mpi_failures(job, &count);
	unsigned int found = 0;

	for (size_t i = 0; i < count; i++) {
		found |= 1U << rows[i].rank;
		if (strcmp(ckpt_mpi_phase_name(rows[i].phase), phase) != 0)
			return mpi_test_fail("%s@%x: a row of phase %s", phase, mask,
					     ckpt_mpi_phase_name(rows[i].phase));
	}
	return found == mask ? 0 : mpi_test_fail("%s@%x: the table holds %x", phase, mask, found);
}

static int one_fault(struct state *s, const char *phase, unsigned int mask)
{
	struct ckpt_mpi_future *future;
	struct ckpt_mpi *job;
	char text[128];
	int len = snprintf(text, sizeof(text), "%s@", phase);
	int bad;
	int rc;

	for (int rank = 0; rank < mpi_test_size(); rank++) {
		if (mask >> rank & 1U)
			len += snprintf(text + len, sizeof(text) - (size_t)len, "%s%d",
					text[len - 1] == '@' ? "" : ",", rank);
	}
	job = new_job(text);
	if (!job)
		return 1;
	rc = ckpt_mpi_save_start(job, &s->request, CKPT_MPI_COPY, &future);
	if (rc == 0)
		rc = ckpt_mpi_wait(&future, NULL);
	bad = rc == -EIO ? check_table(job, phase, mask)
			 : mpi_test_fail("%s ends with %d", text, rc);
	bad = bad || future || check_missing(job, s->request.path);
	(void)ckpt_mpi_close(&job);
	return bad;
}

/* Every subset of the ranks, in each phase that all run; then the same name without a fault. */
static int faults(struct ckpt_mpi *job)
{
	static const char *const phases[] = { "set_up_storage_writer", "prepare_local_plan",
					      "write_data", "write_data_async", "pre_commit" };
	struct state s;
	int rc;

	if (make_state(&s, 7))
		return 1;
	s.request.path = path_of("faults");
	for (size_t p = 0; p < COUNT(phases); p++) {
		for (unsigned int mask = 1; mask < 1U << mpi_test_size(); mask++) {
			if (one_fault(&s, phases[p], mask))
				return 1;
		}
	}
	rc = ckpt_mpi_save(job, &s.request, NULL);
	free(s.big);
	return rc < 0 ? mpi_test_fail("faults: the name cannot be saved again: %d", rc)
		      : check_saved(job, path_of("faults"), 7);
}

static int all_cases(struct ckpt_mpi *job)
{
	return copied(job, "copy", CKPT_MPI_LAYOUT_SHARDS) ||
	       copied(job, "global", CKPT_MPI_LAYOUT_GLOBAL) || borrowed(job) || busy(job) ||
	       asked_for(job) || kept(job) || closed() || faults(job);
}

static int run(const char *path, MPI_Comm of)
{
	struct ckpt_mpi *job;
	int bad;

	store = path;
	comm = of;
	main_thread = pthread_self();
	job = new_job("");
	bad = !job || all_cases(job);
	(void)ckpt_mpi_close(&job);
	if (!bad && of != MPI_COMM_NULL)
		bad = with_mpiio();
	if (!bad && atomic_load(&foreign_calls) > 0)
		bad = mpi_test_fail("%d MPI calls from another thread",
				    atomic_load(&foreign_calls));
	return bad;
}

int mpi_test_async(int argc, char **argv)
{
	return argc == 2 ? run(argv[1], MPI_COMM_WORLD) : mpi_test_fail("async STORE");
}

int mpi_test_async_alone(int argc, char **argv)
{
	return argc == 2 ? run(argv[1], MPI_COMM_NULL) : mpi_test_fail("async-alone STORE");
}
