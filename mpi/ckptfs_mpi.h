/*
 * ckptfs_mpi.h - write and read checkpoints of a ckptfs store from all ranks
 * of an MPI job together.
 *
 * A save runs in phases: set_up_storage_writer, prepare_local_plan,
 * prepare_global_plan (coordinator), write_data, write_data_async, pre_commit,
 * barrier, finish (coordinator), post_commit; a read in set_up_storage_reader,
 * read_metadata, prepare_local_plan, prepare_global_plan (coordinator),
 * read_data, read_data_async. After each phase all ranks agree: when any rank
 * failed, every rank returns the same failure table, and nothing was committed
 * (but after a failed post_commit). What goes on in the background of an
 * asynchronous call is the phase write_data_async or read_data_async; in a
 * synchronous one that phase follows at once, with nothing left to do.
 *
 * The library never prints, never calls MPI_Abort, and changes no error
 * handler but its own communicator's. A wait that outlasts
 * write_barrier_timeout_secs ends with -ETIMEDOUT and a table of the ranks that
 * did not arrive; the communicator is then unusable, MPI_Finalize would hang,
 * and the caller prints and calls MPI_Abort.
 *
 * Before MPI_Init, with Open MPI's own MPI-IO, call ckpt_mpi_environment().
 * MPI-3.1; MPI_THREAD_SINGLE is enough; one thread at a time per job. Threads
 * of the library's own make no MPI call.
 */
#ifndef CKPTFS_MPI_H
#define CKPTFS_MPI_H

#include <mpi.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
/* The library is built with everything else hidden. */
#pragma GCC visibility push(default)
#endif

#define CKPT_MPI_HOST_MAX 256
#define CKPT_MPI_MESSAGE_MAX 1536
/* Tensors have at most this many dimensions. */
#define CKPT_MPI_DIM_MAX 64
/* How long arrived ranks wait for the others, unless the configuration says otherwise. */
#define CKPT_MPI_BARRIER_TIMEOUT_SECS 600
/*
 * What the slowest disk is expected to move: a phase that moves N bytes on some rank may take
 * N / this longer than the time-out.
 */
#define CKPT_MPI_MIN_BYTES_PER_SEC (UINT64_C(64) << 20)

/* One job: a communicator and what its ranks agreed on. */
struct ckpt_mpi;

/* Who a rank is. */
struct ckpt_mpi_rank_info {
	int global_rank;
	int global_world_size;
	int local_rank; /* among the ranks of this node */
	int local_world_size;
	char host[CKPT_MPI_HOST_MAX];
};

enum ckpt_mpi_phase {
	CKPT_MPI_SET_UP_STORAGE_WRITER,
	CKPT_MPI_PREPARE_LOCAL_PLAN,
	CKPT_MPI_PREPARE_GLOBAL_PLAN,
	CKPT_MPI_WRITE_DATA,
	CKPT_MPI_WRITE_DATA_ASYNC,
	CKPT_MPI_FINISH,
	CKPT_MPI_SET_UP_STORAGE_READER,
	CKPT_MPI_READ_METADATA,
	CKPT_MPI_READ_DATA,
	CKPT_MPI_READ_DATA_ASYNC,
	CKPT_MPI_PRE_COMMIT,
	CKPT_MPI_BARRIER,
	CKPT_MPI_POST_COMMIT,
	CKPT_MPI_PHASE_COUNT
};

/* One row of the failure table. */
struct ckpt_mpi_failure {
	int rank;
	int code; /* negative errno */
	enum ckpt_mpi_phase phase;
	char host[CKPT_MPI_HOST_MAX];
	char message[CKPT_MPI_MESSAGE_MAX];
};

/* A key and a value that are handed to the hooks. */
struct ckpt_mpi_arg {
	const char *key;
	const char *value;
};

/* What a hook is told. Everything is borrowed for the call. */
struct ckpt_mpi_hook_call {
	enum ckpt_mpi_phase phase; /* pre_commit or post_commit */
	const char *path;	   /* the caller's string, byte for byte */
	const char *
		folder; /* the open (post_commit: the committed) checkpoint as system calls take it */
	const struct ckpt_mpi_rank_info *rank;
	const struct ckpt_mpi_arg *args;
	size_t arg_count;
};

/**
 * A hook runs on every rank. It returns 0, or a negative errno with the reason
 * in @message (NUL-terminated, CKPT_MPI_MESSAGE_MAX bytes): a vote against the
 * commit in pre_commit, a row of the failure table in both.
 */
typedef int (*ckpt_mpi_hook)(void *ctx, const struct ckpt_mpi_hook_call *call, char *message);

/* How a node's pack of small shards is written; the bytes are the same. */
enum ckpt_mpi_io {
	CKPT_MPI_IO_POSIX, /* pwrite at the agreed offsets */
	CKPT_MPI_IO_MPIIO  /* MPI_File_write_at_all at the same offsets */
};

/* How far the moving of bytes is, over all ranks. */
struct ckpt_mpi_progress {
	enum ckpt_mpi_phase phase;
	uint64_t bytes_done;
	uint64_t bytes_total;
	int slowest_rank; /* the one with most left to do */
	uint64_t slowest_left_bytes;
};

/*
 * Start from ckpt_mpi_config_init(), so that members added later have their defaults. Strings and
 * arrays are borrowed for the job's life.
 */
struct ckpt_mpi_config {
	int coordinator;		     /* rank that plans and commits; 0 */
	uint32_t write_barrier_timeout_secs; /* > 0; CKPT_MPI_BARRIER_TIMEOUT_SECS */
	uint64_t min_bytes_per_sec; /* CKPT_MPI_MIN_BYTES_PER_SEC; 0: moving bytes takes no longer */
	enum ckpt_mpi_io io;
	/*
	 * Layout global: ranks that write, at most all, spread evenly; 0: one a node, which was
	 * measured to be as fast as more on one disk, and knows the digest of the whole file too
	 * where there is one node. In the background all ranks write.
	 */
	int aggregators;
	/*
	 * Called on rank 0, from the thread that called the library, a few times a second while
	 * bytes move. All ranks set it, or none does. NULL.
	 */
	void (*progress)(void *ctx, const struct ckpt_mpi_progress *progress);
	void *progress_ctx;
	const char *store; /* base of relative checkpoint names that do not exist as paths; NULL */
	ckpt_mpi_hook pre_commit;  /* NULL: none; the phase runs all the same */
	ckpt_mpi_hook post_commit; /* NULL: none */
	void *hook_ctx;
	const struct ckpt_mpi_arg *args; /* for both hooks */
	size_t arg_count;
	const volatile sig_atomic_t *cancel; /* non-zero: fail this rank's phase with -EINTR; NULL */
};

/** ckpt_mpi_config_init - the defaults. */
void ckpt_mpi_config_init(struct ckpt_mpi_config *config);

/**
 * ckpt_mpi_environment - settings that keep Open MPI's MPI-IO from corrupting or hanging
 * Call before MPI_Init. Sets OMPI_MCA_fbtl_posix_write_datasieving=0 and
 * OMPI_MCA_sharedfp=^lockedfile,individual where the user has not set them.
 * Returns 0 or a negative errno. Source: open-mpi/ompi issues 12756 and 9479.
 */
int ckpt_mpi_environment(void);

/**
 * ckpt_mpi_new - begin a job on a communicator
 * @comm:   borrowed; duplicated. MPI_COMM_NULL: this process alone, as rank 0 of 1, with no MPI
 *          call at all (MPI need not be initialised) and no barrier
 * @config: borrowed during the call, but for what it points to; NULL: defaults
 * @out:    ckpt_mpi_close() it
 * @why:    receives rank, code and message on failure; may be NULL
 * Collective; the numbers in the configuration, and whether ->progress is set, are the same on every
 * rank. Errors, with the first rank's reason on every rank that has none of its own: -EINVAL the
 * configuration, or $CKPTFS_FAULT, is not valid, or MPI does not run; -ETIMEDOUT not every rank
 * called it; -EIO MPI failed; -ENOMEM.
 */
int ckpt_mpi_new(MPI_Comm comm, const struct ckpt_mpi_config *config, struct ckpt_mpi **out,
		 struct ckpt_mpi_failure *why);

/**
 * ckpt_mpi_close - end a job; collective unless a wait had timed out. *@job becomes NULL, so a
 * second call does nothing. After MPI_Finalize what MPI holds is let go of. Returns 0.
 */
int ckpt_mpi_close(struct ckpt_mpi **job);

/** ckpt_mpi_rank - who this rank is; borrowed until close. */
const struct ckpt_mpi_rank_info *ckpt_mpi_rank(const struct ckpt_mpi *job);
/**
 * ckpt_mpi_failures - the table of the last call that failed, ordered by rank, the same on every
 * rank; borrowed until the next call.
 */
const struct ckpt_mpi_failure *ckpt_mpi_failures(const struct ckpt_mpi *job, size_t *out_count);
/** ckpt_mpi_reporter - the rank that should print the table: the lowest that lives. */
int ckpt_mpi_reporter(const struct ckpt_mpi *job);
/**
 * ckpt_mpi_usable - false after a time-out or an MPI error: only close, or MPI_Abort, may follow.
 */
bool ckpt_mpi_usable(const struct ckpt_mpi *job);
/** ckpt_mpi_phase_name - "write_data" …; static. */
const char *ckpt_mpi_phase_name(enum ckpt_mpi_phase phase);
/**
 * ckpt_mpi_faults - the text of $CKPTFS_FAULT that is in force, for a warning; NULL when there is
 * none.
 */
const char *ckpt_mpi_faults(const struct ckpt_mpi *job);

/* --- saving ------------------------------------------------------------------- */

/* A box of a tensor that this rank holds. What is stored is row-major, without gaps. */
struct ckpt_mpi_chunk {
	const uint64_t *start; /* dim_count of its entry */
	const uint64_t *size;  /* dim_count; a chunk of no elements is left out of the checkpoint */
	const void *data; /* its first element; NULL: asked from ckpt_mpi_save_request.read, dense */
	/*
	 * Distance in memory, in elements, between neighbours along each dimension; NULL:
	 * row-major without gaps. Ghost cells: data is the first inner element, strides are those
	 * of the whole array. Fortran order: ascending strides, first dimension 1.
	 */
	const uint64_t *strides;
};

/*
 * A tensor as this rank knows it. Ranks that hold equal boxes hold equal bytes: one of them
 * writes.
 */
struct ckpt_mpi_entry {
	const char *fqn;
	const char *dtype;     /* as safetensors names it: "F32", "BF16" …, and "C128" */
	const uint64_t *shape; /* of the whole tensor, dim_count extents */
	uint32_t dim_count;
	const struct ckpt_mpi_chunk *chunks;
	size_t chunk_count;
};

/*
 * Bytes without shape, this rank's own: a random generator's state, a pickled dictionary. Ranks
 * may use one FQN, also one that others do not have: each has its own blob, and they are never
 * merged. No tensor may have that FQN, nor may it end as the shards of tensors do, in '@' and
 * numbers.
 */
struct ckpt_mpi_blob {
	const char *fqn;
	const void *data;
	uint64_t size_bytes;
};

/* Where the bytes go. */
enum ckpt_mpi_layout {
	CKPT_MPI_LAYOUT_SHARDS, /* each rank's chunks as shards of its own, small ones in packs */
	/*
	 * All ranks write one model.safetensors, whose bytes do not depend on their number or on
	 * how tensors are cut; blobs as in shards. Complex tensors are refused with -EINVAL in
	 * prepare_global_plan, more than 32 TiB with -EFBIG.
	 */
	CKPT_MPI_LAYOUT_GLOBAL,
};

/* Bytes of a chunk that are asked for. */
struct ckpt_mpi_piece {
	size_t entry_idx;
	size_t chunk_idx; /* in its entry */
	uint64_t offset;  /* in the chunk's bytes; pieces of a chunk come in order */
	size_t len;
	void *out;     /* receives the bytes */
	char *message; /* receives the reason of a failure, CKPT_MPI_MESSAGE_MAX bytes */
};

/* A save. Start from a zeroed struct; everything is borrowed for the call. */
struct ckpt_mpi_save_request {
	const char *path; /* of the checkpoint to be; must not exist */
	const struct ckpt_mpi_entry *entries;
	size_t entry_count;
	const struct ckpt_mpi_blob *blobs;
	size_t blob_count;
	enum ckpt_mpi_layout layout; /* the same on every rank */
	/*
	 * Provides the bytes of chunks without data: 0 or a negative errno with piece->message
	 * filled in.
	 */
	int (*read)(void *ctx, const struct ckpt_mpi_piece *piece);
	void *ctx;
	bool has_step;
	uint64_t step;
	const char *meta; /* JSON object of scalars; NULL */
};

/* What was committed; the same on every rank. */
struct ckpt_mpi_result {
	char id[37];
	uint64_t seq;
	uint64_t shard_count;
	uint64_t size_bytes;
	char name[2048]; /* path below the store */
};

/**
 * ckpt_mpi_save - write and commit a checkpoint, collectively
 * Every rank gives the same path, step and meta; the coordinator's count. No tensor's entry need
 * be given by every rank, nor need it hold a chunk everywhere. Together the
 * ranks' chunks must cover every tensor exactly once, equal boxes counted once.
 * @out: filled in when it was committed (0, or a failure in post_commit); may be NULL
 * Errors: the code of the first row of the failure table: -EEXIST the name is taken; -EBUSY a
 * living writer holds it;
 * -ENOSPC; -ETIMEDOUT; else what the ranks met. The open checkpoint is marked aborted and can be
 * saved again.
 */
int ckpt_mpi_save(struct ckpt_mpi *job, const struct ckpt_mpi_save_request *request,
		  struct ckpt_mpi_result *out);

/* --- in the background --------------------------------------------------------------- */

/* A save or a read that goes on. While there is one, no other call of its job may be made. */
struct ckpt_mpi_future;

/*
 * What an asynchronous save may do with the application's arrays. With CKPT_MPI_LAYOUT_GLOBAL
 * tensors are copied in both cases, to the ranks that write them: each holds an equal part of the
 * file until the save has ended.
 */
enum ckpt_mpi_buffers {
	CKPT_MPI_COPY,	 /* they are copied before ckpt_mpi_save_start() returns */
	CKPT_MPI_BORROW, /* they must not change, nor go away, until the save has ended */
};

/**
 * ckpt_mpi_save_start - begin a save and return while a thread writes and hashes
 * Collective: everything up to write_data (set up, plans, a copy of the chunks) happens here. The
 * thread makes no MPI call, so MPI_THREAD_FUNNELED is enough; the ranks agree in test and wait.
 * @request: borrowed until the save has ended but, with CKPT_MPI_COPY, for the chunks' bytes.
 *           ->read, if any, is called here, never by the thread
 * @out: ends by ckpt_mpi_wait()
 * Errors: as ckpt_mpi_save; -EBUSY another future of the job is not ended.
 */
int ckpt_mpi_save_start(struct ckpt_mpi *job, const struct ckpt_mpi_save_request *request,
			enum ckpt_mpi_buffers buffers, struct ckpt_mpi_future **out);

/**
 * ckpt_mpi_test - has it ended on all ranks?
 * Never waits for the disk or for a rank that is still writing. The call that finds that all have
 * written, the same on all ranks counted from the first, goes through the phases that are left, up
 * to the commit. All ranks must go on testing, or wait: a call waits till all have made the one
 * before it, and so may stand between exchanges of messages.
 * @out_ended: true when ckpt_mpi_wait() returns at once
 * Returns 0, or what the save ended with.
 */
int ckpt_mpi_test(struct ckpt_mpi_future *future, bool *out_ended);

/**
 * ckpt_mpi_wait - the end of it; collective. *@future becomes NULL.
 * @out: of a save, as in ckpt_mpi_save; may be NULL
 * Errors: as the synchronous call, with the same failure table; 0 where *@future is NULL already.
 */
int ckpt_mpi_wait(struct ckpt_mpi_future **future, struct ckpt_mpi_result *out);

/* --- file mode: for what others wrote ---------------------------------------------- */

/* A commit of files that are there, or an import. Zero it first. */
struct ckpt_mpi_commit_request {
	const char *path; /* of the open checkpoint, or (import) of the one to be */
	const char *from; /* import: the folder to copy; else NULL */
	bool has_step;
	uint64_t step;
	const char *meta;
};

/**
 * ckpt_mpi_commit - hash and sync an open checkpoint's files on all ranks, then commit it.
 * Collective; @out and errors as ckpt_mpi_save, but on failure it stays open as it was.
 */
int ckpt_mpi_commit(struct ckpt_mpi *job, const struct ckpt_mpi_commit_request *request,
		    struct ckpt_mpi_result *out);
/**
 * ckpt_mpi_import - copy a folder into a new checkpoint on all ranks, modes and times kept, then
 * commit it. Collective; errors as ckpt_mpi_save.
 */
int ckpt_mpi_import(struct ckpt_mpi *job, const struct ckpt_mpi_commit_request *request,
		    struct ckpt_mpi_result *out);

/* --- file mode: for applications that write files themselves ---------------------------- */

/* An open checkpoint into which all ranks write files, by whatever library. */
struct ckpt_mpi_files;

/**
 * ckpt_mpi_files_begin - make an open checkpoint; collective
 * @path: of the checkpoint to be, as in ckpt_mpi_save
 * @out:  ends by ckpt_mpi_files_commit()
 * Errors: as ckpt_mpi_save.
 */
int ckpt_mpi_files_begin(struct ckpt_mpi *job, const char *path, struct ckpt_mpi_files **out);

/**
 * ckpt_mpi_files_route - where file @name of the checkpoint is to be written; local
 * @name: relative, may have folders, which are made
 * @out: receives the path as system calls take it, NUL-terminated; "" on failure
 * Several ranks may ask for one name and write it together. A failure is this rank's vote against,
 * too. Errors: -EINVAL the name is absolute or leads out, or @files is NULL; -ENAMETOOLONG; system.
 */
int ckpt_mpi_files_route(struct ckpt_mpi_files *files, const char *name, char *out,
			 size_t out_size);

/**
 * ckpt_mpi_files_commit - hash and sync what was written, and commit it, if every rank votes for it
 * @files:  *@files becomes NULL
 * @vote:   0, or a negative errno: this rank's writing failed (a positive code counts as -EIO)
 * @reason: of a vote against, in the failure table; NULL
 * @what:   step and meta; path and from are not looked at; NULL: none
 * Collective; all files must be closed. The votes are phase write_data. Errors: as ckpt_mpi_save;
 * -EINVAL *@files is NULL; on failure it is marked aborted.
 */
int ckpt_mpi_files_commit(struct ckpt_mpi_files **files, int vote, const char *reason,
			  const struct ckpt_mpi_commit_request *what, struct ckpt_mpi_result *out);

/**
 * ckpt_mpi_latest - the newest sound checkpoint of a group, verified on the ranks that will read it
 * Walks from the newest committed checkpoint to older ones until one verifies whole, its bytes
 * shared out among the ranks. One that is removed meanwhile is passed by. Collective.
 * @group: path of a group or of a store
 * @out_path: receives the folder as system calls take it, on every rank
 * @out: what was found; may be NULL
 * Errors: -ENOENT nothing committed there verifies: all is damaged, or, with no line of
 * ckpt_mpi_passed_over(), nothing is committed yet; -ENXIO in no store that all ranks see;
 * -ENAMETOOLONG.
 */
int ckpt_mpi_latest(struct ckpt_mpi *job, const char *group, char *out_path, size_t out_size,
		    struct ckpt_mpi_result *out);
/** ckpt_mpi_passed_over - line @idx of what the last ckpt_mpi_latest() found damaged; NULL: no more. */
const char *ckpt_mpi_passed_over(const struct ckpt_mpi *job, size_t idx);

/**
 * ckpt_mpi_catch_signals - remember SIGUSR1 and SIGTERM from now on instead of dying of them
 * For ckpt_mpi_should_save(); Slurm's --signal sends them before the time is up. Process-wide.
 */
int ckpt_mpi_catch_signals(void);
/**
 * ckpt_mpi_should_save - has any rank caught a signal since the last call that said so? Collective.
 * @out_signal: the same on every rank: 0 none, else the signal's number; the highest where ranks
 * caught different ones
 * Errors: -EBUSY a future of the job is not ended; a second job on the communicator may ask.
 */
int ckpt_mpi_should_save(struct ckpt_mpi *job, int *out_signal);

/* --- reading --------------------------------------------------------------------- */

/* A committed checkpoint that all ranks have open. */
struct ckpt_mpi_reader;

/* A tensor of it; strings and shape borrowed until the reader is closed. */
struct ckpt_mpi_tensor {
	const char *fqn;
	const char *set;
	const char *dtype;
	const uint64_t *shape;
	uint32_t dim_count;
	uint64_t element_bytes;
	size_t chunk_count; /* that it was saved in */
};

/* Where bytes are stored; strings borrowed until the reader is closed. */
struct ckpt_mpi_location {
	const char *shard; /* path in the checkpoint */
	const char *file;  /* that holds it: the shard itself, or a pack of the control folder */
	uint64_t offset_bytes; /* in that file */
	uint64_t size_bytes;
	int64_t rank; /* that wrote it; -1 not known */
};

/* A chunk as it is stored; start and size borrowed until the reader is closed. */
struct ckpt_mpi_stored_chunk {
	const uint64_t *start;
	const uint64_t *size;
	struct ckpt_mpi_location location;
};

/* A blob as it is stored. */
struct ckpt_mpi_stored_blob {
	const char *fqn;
	const char *set;
	struct ckpt_mpi_location location;
};

/* A box that this rank wants, of any tensor, however it was cut when it was saved. */
struct ckpt_mpi_want {
	size_t tensor_idx;
	const uint64_t *start; /* dim_count */
	const uint64_t *size;
	void *data; /* its first element; NULL: handed to ckpt_mpi_read_request.write, dense, in pieces */
	const uint64_t *strides; /* as in ckpt_mpi_chunk; NULL: row-major without gaps */
};

/* A blob that this rank wants. */
struct ckpt_mpi_blob_want {
	size_t blob_idx;
	void *data; /* receives location.size_bytes; NULL: it is only verified */
};

/* A read. Zero it first; everything is borrowed for the call. */
struct ckpt_mpi_read_request {
	const struct ckpt_mpi_want *wants;
	size_t want_count;
	const struct ckpt_mpi_blob_want *blob_wants;
	size_t blob_want_count;
	/*
	 * Bytes @offset … of want @want_idx, in ascending order; NULL: they are only verified. 0
	 * or a negative errno with @message filled in.
	 */
	int (*write)(void *ctx, size_t want_idx, uint64_t offset, const void *data, size_t len,
		     char *message);
	void *ctx;
};

/**
 * ckpt_mpi_reader_new - open a committed checkpoint on all ranks
 * The coordinator reads the manifest, all ranks get it. Collective.
 * @out: ckpt_mpi_reader_free() it
 * Errors: code of the table's first row: -ENOENT no such checkpoint, or it is not committed;
 * -EBADMSG its manifest is damaged.
 */
int ckpt_mpi_reader_new(struct ckpt_mpi *job, const char *path, struct ckpt_mpi_reader **out);
/** ckpt_mpi_reader_free - local; NULL is a no-op. */
void ckpt_mpi_reader_free(struct ckpt_mpi_reader *reader);
/** ckpt_mpi_reader_tensor_count - tensors in the checkpoint, ordered by set and FQN. */
size_t ckpt_mpi_reader_tensor_count(const struct ckpt_mpi_reader *reader);
/** ckpt_mpi_reader_tensor - number @idx < count into @out. */
void ckpt_mpi_reader_tensor(const struct ckpt_mpi_reader *reader, size_t idx,
			    struct ckpt_mpi_tensor *out);

/** ckpt_mpi_reader_chunk - chunk @chunk_idx < chunk_count of a tensor into @out. */
void ckpt_mpi_reader_chunk(const struct ckpt_mpi_reader *reader, size_t tensor_idx,
			   size_t chunk_idx, struct ckpt_mpi_stored_chunk *out);
/** ckpt_mpi_reader_blob_count - blobs in the checkpoint, ordered by set, FQN and shard. */
size_t ckpt_mpi_reader_blob_count(const struct ckpt_mpi_reader *reader);
/** ckpt_mpi_reader_blob - number @idx < count into @out. */
void ckpt_mpi_reader_blob(const struct ckpt_mpi_reader *reader, size_t idx,
			  struct ckpt_mpi_stored_blob *out);

/**
 * ckpt_mpi_reader_read - read this rank's boxes; collective, though each rank may want what it
 * likes
 * What several ranks of a node want alike is read once there and handed round, unless it is small.
 * Only blocks that hold wanted bytes are read, and every one of them is verified.
 * @out_total_bytes: bytes of all ranks' boxes together; may be NULL
 * Errors: code of the table's first row: -EBADMSG a block does not fit its sum; -ESTALE a shard is
 * short; -EINVAL a box that is not in its tensor.
 */
int ckpt_mpi_reader_read(struct ckpt_mpi_reader *reader,
			 const struct ckpt_mpi_read_request *request, uint64_t *out_total_bytes);

/**
 * ckpt_mpi_read_start - the same in the background: a thread reads into the wants' data
 * @request: borrowed until ckpt_mpi_wait(); ->write must be NULL
 * Every rank reads for itself: nothing is handed round. Errors: as ckpt_mpi_reader_read; -EBUSY
 * another future of the job is not ended; -EINVAL a want has no data.
 */
int ckpt_mpi_read_start(struct ckpt_mpi_reader *reader, const struct ckpt_mpi_read_request *request,
			struct ckpt_mpi_future **out);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

/* Who holds what, worked out for callers that need not do it themselves. */
#include "ckptfs_mpi_placement.h"

#endif
