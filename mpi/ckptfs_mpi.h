/*
 * ckptfs_mpi.h - write and read checkpoints of a ckptfs store from all ranks
 * of an MPI job together.
 *
 * A save runs in phases: set_up_storage_writer, prepare_local_plan,
 * prepare_global_plan (coordinator), write_data, pre_commit, barrier, finish
 * (coordinator), post_commit; a read in set_up_storage_reader, read_metadata,
 * prepare_local_plan, prepare_global_plan (coordinator), read_data. After each
 * phase all ranks agree: when any rank failed, every rank returns the same
 * failure table, and nothing was committed (but after a failed post_commit).
 *
 * The library never prints, never calls MPI_Abort, and changes no error
 * handler but its own communicator's. A wait that outlasts
 * write_barrier_timeout_secs ends with -ETIMEDOUT and a table of the ranks that
 * did not arrive; the communicator is then unusable, MPI_Finalize would hang,
 * and the caller prints and calls MPI_Abort.
 *
 * Before MPI_Init, with Open MPI's own MPI-IO, call ckpt_mpi_environment().
 * MPI-3.1; MPI_THREAD_SINGLE is enough; one thread at a time per job.
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

/*
 * Start from ckpt_mpi_config_init(), so that members added later have their defaults. Strings and
 * arrays are borrowed for the job's life.
 */
struct ckpt_mpi_config {
	int coordinator;		     /* rank that plans and commits; 0 */
	uint32_t write_barrier_timeout_secs; /* > 0; CKPT_MPI_BARRIER_TIMEOUT_SECS */
	enum ckpt_mpi_io io;
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
 * @comm:   borrowed; duplicated. MPI_COMM_NULL: this process alone
 * @config: borrowed during the call, but for what it points to; NULL: defaults
 * @out:    ckpt_mpi_close() it
 * @why:    receives rank, code and message on failure; may be NULL
 * Collective. Errors: -EINVAL the configuration, or $CKPTFS_FAULT, is not valid; -EIO MPI failed;
 * -ENOMEM.
 */
int ckpt_mpi_new(MPI_Comm comm, const struct ckpt_mpi_config *config, struct ckpt_mpi **out,
		 struct ckpt_mpi_failure *why);

/**
 * ckpt_mpi_close - end a job; collective unless a wait had timed out. *@job becomes NULL, so a
 * second call does nothing. Returns 0.
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

/* A box of a tensor that this rank holds. Its bytes are row-major, without gaps. */
struct ckpt_mpi_chunk {
	const uint64_t *start; /* dim_count of its entry */
	const uint64_t *size;  /* dim_count; a chunk of no elements is left out of the checkpoint */
	const void *data;      /* its bytes; NULL: asked from ckpt_mpi_save_request.read */
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
 * Every rank gives the same path, step and meta; the coordinator's count. Together the
 * ranks' chunks must cover every tensor exactly once, equal boxes counted once.
 * @out: filled in when it was committed (0, or a failure in post_commit); may be NULL
 * Errors: the code of the first row of the failure table: -EEXIST the name is taken; -EBUSY a
 * living writer holds it;
 * -ENOSPC; -ETIMEDOUT; else what the ranks met. The open checkpoint is marked aborted and can be
 * saved again.
 */
int ckpt_mpi_save(struct ckpt_mpi *job, const struct ckpt_mpi_save_request *request,
		  struct ckpt_mpi_result *out);

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
};

/* A box that this rank wants, of any tensor, however it was cut when it was saved. */
struct ckpt_mpi_want {
	size_t tensor_idx;
	const uint64_t *start; /* dim_count */
	const uint64_t *size;
	void *data; /* receives the box, row-major; NULL: handed to ckpt_mpi_read_request.write in pieces */
};

/* A read. Zero it first; everything is borrowed for the call. */
struct ckpt_mpi_read_request {
	const struct ckpt_mpi_want *wants;
	size_t want_count;
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

/**
 * ckpt_mpi_reader_read - read this rank's boxes; collective, though each rank may want what it
 * likes
 * Only blocks that hold wanted bytes are read, and every one of them is verified.
 * @out_total_bytes: bytes of all ranks' boxes together; may be NULL
 * Errors: code of the table's first row: -EBADMSG a block does not fit its sum; -ESTALE a shard is
 * short; -EINVAL a box that is not in its tensor.
 */
int ckpt_mpi_reader_read(struct ckpt_mpi_reader *reader,
			 const struct ckpt_mpi_read_request *request, uint64_t *out_total_bytes);

/**
 * ckpt_mpi_cut - the part of @extent that rank @rank of @world_size holds, as torch.chunk cuts:
 * ceil(extent / world_size) each, the last ones less or nothing.
 */
void ckpt_mpi_cut(uint64_t extent, int rank, int world_size, uint64_t *out_start,
		  uint64_t *out_size);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
