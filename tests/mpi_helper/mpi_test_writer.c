/*
 * mpi_test_writer.c - the reference's tests of the checkpoint writer: its
 * configuration, the file of a rank, hooks, the barrier, close.
 *
 * The barrier is counted by libpmpi-count.so, where it is preloaded.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../../mpi/job.h"
#include "mpi_test.h"

/* Of libpmpi-count.so. */
extern unsigned long pmpi_barriers(void) __attribute__((weak));

static unsigned long barriers(void)
{
	return pmpi_barriers ? pmpi_barriers() : 0;
}

#define CHECK(condition, ...) ((condition) ? 0 : mpi_test_fail(__VA_ARGS__))

/* --- the state that is written ------------------------------------------------------------ */

/* {"model": {"weight", "bias"}, "optimizer": {"exp_avg", "groups"}, "epoch": 5, "step": 1000} */
struct state {
	float weight[50];
	float bias[5];
	float exp_avg[50];
	int64_t epoch;
	int64_t step;
};

static const uint64_t matrix[] = { 5, 10 };
static const uint64_t zeros[] = { 0, 0 };
static const char groups[] = "{\"lr\": 0.001, \"params\": [0, 1]}";

static void state_fill(struct state *state)
{
	for (int i = 0; i < 50; i++) {
		state->weight[i] = (float)i / 7;
		state->exp_avg[i] = -(float)i;
	}
	for (int i = 0; i < 5; i++)
		state->bias[i] = (float)i * 1000;
	state->epoch = 5;
	state->step = 1000;
}

#define ENTRY_COUNT 5

static const struct {
	const char *fqn;
	const char *dtype;
	const uint64_t *shape;
	uint32_t dim_count;
	size_t offset; /* in struct state */
	size_t bytes;
} layout[ENTRY_COUNT] = {
	{ "model.weight", "F32", matrix, 2, offsetof(struct state, weight), 200 },
	{ "model.bias", "F32", matrix, 1, offsetof(struct state, bias), 20 },
	{ "optimizer.exp_avg", "F32", matrix, 2, offsetof(struct state, exp_avg), 200 },
	{ "epoch", "I64", NULL, 0, offsetof(struct state, epoch), 8 },
	{ "step", "I64", NULL, 0, offsetof(struct state, step), 8 },
};

static int state_save(struct ckpt_mpi *job, const char *path)
{
	struct state state;
	struct ckpt_mpi_chunk chunks[ENTRY_COUNT];
	struct ckpt_mpi_entry entries[ENTRY_COUNT];
	const struct ckpt_mpi_blob blob = { "optimizer.groups", groups, sizeof(groups) };
	const struct ckpt_mpi_save_request request = {
		.path = path,
		.entries = entries,
		.entry_count = ENTRY_COUNT,
		.blobs = &blob,
		.blob_count = 1,
	};

	state_fill(&state);
	for (size_t i = 0; i < ENTRY_COUNT; i++) {
		chunks[i] = (struct ckpt_mpi_chunk){
			.start = zeros,
			.size = layout[i].shape,
			.data = (const char *)&state + layout[i].offset,
		};
		entries[i] = (struct ckpt_mpi_entry){ layout[i].fqn,   layout[i].dtype,
						      layout[i].shape, layout[i].dim_count,
						      &chunks[i],      1 };
	}
	return ckpt_mpi_save(job, &request, NULL);
}

/* Where entry @layout_idx is among the reader's tensors; their count where it is missing. */
static size_t find(const struct ckpt_mpi_reader *reader, size_t layout_idx)
{
	size_t count = ckpt_mpi_reader_tensor_count(reader);
	struct ckpt_mpi_tensor tensor;

	for (size_t i = 0; i < count; i++) {
		ckpt_mpi_reader_tensor(reader, i, &tensor);
		if (strcmp(tensor.fqn, layout[layout_idx].fqn) == 0 &&
		    strcmp(tensor.dtype, layout[layout_idx].dtype) == 0 &&
		    tensor.dim_count == layout[layout_idx].dim_count)
			return i;
	}
	return count;
}

static int read_state(struct ckpt_mpi_reader *reader, struct state *out, char *out_groups)
{
	struct ckpt_mpi_want wants[ENTRY_COUNT];
	const struct ckpt_mpi_blob_want blob = { .data = out_groups };
	const struct ckpt_mpi_read_request request = {
		.wants = wants,
		.want_count = ENTRY_COUNT,
		.blob_wants = &blob,
		.blob_want_count = 1,
	};
	struct ckpt_mpi_stored_blob stored = { .fqn = "" };

	if (ckpt_mpi_reader_tensor_count(reader) != ENTRY_COUNT ||
	    ckpt_mpi_reader_blob_count(reader) != (size_t)mpi_test_size())
		return mpi_test_fail("%zu tensors and %zu blobs come back",
				     ckpt_mpi_reader_tensor_count(reader),
				     ckpt_mpi_reader_blob_count(reader));
	ckpt_mpi_reader_blob(reader, 0, &stored);
	if (strcmp(stored.fqn, "optimizer.groups") != 0 ||
	    stored.location.size_bytes != sizeof(groups))
		return mpi_test_fail("the blob came back as '%s'", stored.fqn);
	for (size_t i = 0; i < ENTRY_COUNT; i++) {
		wants[i] = (struct ckpt_mpi_want){
			.tensor_idx = find(reader, i),
			.start = zeros,
			.size = layout[i].shape,
			.data = (char *)out + layout[i].offset,
		};
		if (wants[i].tensor_idx == ENTRY_COUNT)
			return mpi_test_fail("'%s' did not come back", layout[i].fqn);
	}
	return ckpt_mpi_reader_read(reader, &request, NULL) == 0 ? 0
								 : mpi_test_fail("it is not read");
}

/* What was saved at @path is what state_save() saves. */
static int state_check(struct ckpt_mpi *job, const char *path)
{
	struct ckpt_mpi_reader *reader = NULL;
	struct state found = { .epoch = 0 };
	struct state should;
	char text[sizeof(groups)] = "";
	int code;

	if (ckpt_mpi_reader_new(job, path, &reader) < 0)
		return mpi_test_fail("'%s' cannot be opened", path);
	code = read_state(reader, &found, text);
	ckpt_mpi_reader_free(reader);
	state_fill(&should);
	for (size_t i = 0; i < ENTRY_COUNT && code == 0; i++)
		code = CHECK(memcmp((char *)&found + layout[i].offset,
				    (char *)&should + layout[i].offset, layout[i].bytes) == 0,
			     "'%s' came back with other values", layout[i].fqn);
	return code | CHECK(memcmp(text, groups, sizeof(groups)) == 0, "the blob is '%s'", text) |
	       CHECK(found.epoch == 5 && found.step == 1000, "epoch %lld, step %lld",
		     (long long)found.epoch, (long long)found.step);
}

/* --- jobs --------------------------------------------------------------------------------- */

struct writer {
	const char *path;
	bool alone; /* no communicator */
	bool has_hooks;
	int failing_rank; /* in pre_commit; -1 none */
	unsigned long barriers_before;
	int pre_calls;
	int post_calls;
	int code; /* what the hooks found */
};

static bool exists(const char *folder, const char *name)
{
	char path[4096];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	return stat(path, &st) == 0;
}

/* What both hooks must be told: the caller's own string, and extra="value". */
static int check_call(const struct writer *writer, const struct ckpt_mpi_hook_call *call)
{
	bool post = call->phase == CKPT_MPI_POST_COMMIT;

	return CHECK(strcmp(call->path, writer->path) == 0, "the hook was told '%s' for '%s'",
		     call->path, writer->path) |
	       CHECK(call->arg_count == 1 && strcmp(call->args[0].key, "extra") == 0 &&
			     strcmp(call->args[0].value, "value") == 0,
		     "the arguments are not extra=value") |
	       CHECK(call->rank->global_rank == mpi_test_rank() &&
			     call->rank->global_world_size == mpi_test_size(),
		     "the hook was told another rank") |
	       CHECK(exists(call->folder, ".ckptfs/manifest.jsonl") == post, "it was committed %s",
		     post ? "after post_commit" : "before pre_commit") |
	       CHECK(barriers() - writer->barriers_before ==
			     (post && pmpi_barriers && !writer->alone),
		     "%lu barriers before %s", barriers() - writer->barriers_before,
		     ckpt_mpi_phase_name(call->phase));
}

static int pre_commit(void *ctx, const struct ckpt_mpi_hook_call *call, char *message)
{
	struct writer *writer = ctx;

	writer->code |= check_call(writer, call) |
			CHECK(call->phase == CKPT_MPI_PRE_COMMIT && writer->post_calls == 0,
			      "pre_commit came after post_commit");
	writer->pre_calls++;
	if (writer->failing_rank != mpi_test_rank())
		return 0;
	(void)snprintf(message, CKPT_MPI_MESSAGE_MAX, "the metrics are not there");
	return -ENODATA;
}

static int post_commit(void *ctx, const struct ckpt_mpi_hook_call *call, char *message)
{
	struct writer *writer = ctx;

	(void)message;
	writer->code |= check_call(writer, call) |
			CHECK(call->phase == CKPT_MPI_POST_COMMIT && writer->pre_calls == 1,
			      "post_commit came after %d calls of pre_commit", writer->pre_calls);
	writer->post_calls++;
	return 0;
}

static struct ckpt_mpi *begin(struct writer *writer)
{
	static const struct ckpt_mpi_arg extra = { "extra", "value" };
	struct ckpt_mpi_config config;
	struct ckpt_mpi *job = NULL;

	ckpt_mpi_config_init(&config);
	config.write_barrier_timeout_secs = 20;
	if (writer->has_hooks) {
		config.pre_commit = pre_commit;
		config.post_commit = post_commit;
	}
	config.hook_ctx = writer;
	config.args = &extra;
	config.arg_count = 1;
	writer->barriers_before = barriers();
	if (ckpt_mpi_new(writer->alone ? MPI_COMM_NULL : MPI_COMM_WORLD, &config, &job, NULL) < 0)
		(void)mpi_test_fail("no job could be begun");
	return job;
}

/* One write; each hook once on each rank, the barrier once. */
static int write_once(struct ckpt_mpi *job, struct writer *writer)
{
	unsigned long one = pmpi_barriers && !writer->alone;
	int calls = writer->has_hooks;
	int rc;

	writer->pre_calls = 0;
	writer->post_calls = 0;
	writer->barriers_before = barriers();
	rc = state_save(job, writer->path);
	return CHECK(rc == 0, "the save returned %d", rc) |
	       CHECK(writer->pre_calls == calls && writer->post_calls == calls,
		     "pre_commit was called %d times, post_commit %d", writer->pre_calls,
		     writer->post_calls) |
	       CHECK(barriers() - writer->barriers_before == one, "%lu barriers for one write",
		     barriers() - writer->barriers_before) |
	       writer->code;
}

static int write_and_check(struct writer *writer)
{
	struct ckpt_mpi *job = begin(writer);
	int code = job ? write_once(job, writer) | state_check(job, writer->path) : 1;

	return code | CHECK(ckpt_mpi_close(&job) == 0, "close failed");
}

/* --- the cases ---------------------------------------------------------------------------- */

static int config_values(struct writer *writer)
{
	struct ckpt_mpi_config config;
	struct ckpt_mpi *job = NULL;
	int code;

	(void)writer;
	ckpt_mpi_config_init(&config);
	code = CHECK(config.write_barrier_timeout_secs == 600, "the default is %u s",
		     config.write_barrier_timeout_secs);
	if (ckpt_mpi_new(MPI_COMM_WORLD, NULL, &job, NULL) < 0)
		return mpi_test_fail("no job without a configuration");
	code |= CHECK(job->config.write_barrier_timeout_secs == 600,
		      "a job that was not told waits %u s", job->config.write_barrier_timeout_secs);
	(void)ckpt_mpi_close(&job);
	config.write_barrier_timeout_secs = 300;
	if (ckpt_mpi_new(MPI_COMM_WORLD, &config, &job, NULL) < 0)
		return mpi_test_fail("no job with 300 s");
	code |= CHECK(config.write_barrier_timeout_secs == 300 &&
			      job->config.write_barrier_timeout_secs == 300,
		      "300 s became %u s", job->config.write_barrier_timeout_secs);
	return code | ckpt_mpi_close(&job);
}

static int two_writes(struct writer *writer)
{
	struct ckpt_mpi *job;
	char second[4096];
	int code;

	writer->has_hooks = true;
	job = begin(writer);
	code = job ? write_once(job, writer) : 1;
	(void)snprintf(second, sizeof(second), "%s-2", writer->path);
	writer->path = second;
	if (code == 0)
		code = write_once(job, writer) | state_check(job, second);
	return code | ckpt_mpi_close(&job);
}

static int with_hooks(struct writer *writer)
{
	writer->has_hooks = true;
	return write_and_check(writer);
}

static int without_hooks(struct writer *writer)
{
	return write_and_check(writer);
}

static int close_twice(struct writer *writer)
{
	struct ckpt_mpi *job = begin(writer);
	int code = CHECK(ckpt_mpi_close(&job) == 0 && !job, "close failed");

	return code | CHECK(ckpt_mpi_close(&job) == 0 && !job, "the second close failed");
}

/* A failing pre_commit is a vote: all ranks are told whose, nobody waits, nothing is committed. */
static int hook_fails(struct writer *writer)
{
	const struct ckpt_mpi_failure *rows;
	struct ckpt_mpi *job;
	size_t count;
	int code;
	int rc;

	writer->has_hooks = true;
	writer->failing_rank = 1;
	job = begin(writer);
	if (!job)
		return 1;
	rc = state_save(job, writer->path);
	rows = ckpt_mpi_failures(job, &count);
	code = CHECK(rc == -ENODATA && count == 1 && rows[0].rank == 1 &&
			     rows[0].phase == CKPT_MPI_PRE_COMMIT && rows[0].code == -ENODATA &&
			     strcmp(rows[0].message, "the metrics are not there") == 0,
		     "the save returned %d with %zu rows: %s", rc, count,
		     count ? rows[0].message : "") |
	       CHECK(writer->pre_calls == 1 && writer->post_calls == 0,
		     "pre_commit was called %d times, post_commit %d", writer->pre_calls,
		     writer->post_calls) |
	       CHECK(ckpt_mpi_usable(job), "the job cannot be used any more");
	/* The same job, with a hook that has changed its mind, saves under the same name. */
	writer->failing_rank = -1;
	return code | write_once(job, writer) | ckpt_mpi_close(&job);
}

static const struct {
	const char *name;
	int (*run)(struct writer *writer);
} cases[] = {
	{ "config", config_values },  { "hooks", with_hooks },	{ "no-hooks", without_hooks },
	{ "two-writes", two_writes }, { "close", close_twice }, { "hook-fails", hook_fails },
};

static int run(int argc, char **argv, bool alone)
{
	struct writer writer = { .alone = alone, .failing_rank = -1 };

	if (argc < 3)
		return 2;
	writer.path = argv[2];
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (strcmp(argv[1], cases[i].name) == 0)
			return cases[i].run(&writer);
	}
	return mpi_test_fail("'%s' is no case", argv[1]);
}

int mpi_test_writer(int argc, char **argv)
{
	return run(argc, argv, false);
}

int mpi_test_writer_alone(int argc, char **argv)
{
	return run(argc, argv, true);
}
