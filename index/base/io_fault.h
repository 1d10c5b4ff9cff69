/*
 * io_fault.h - the names of the system calls behind io.h, and the fault seam.
 * Only io*.c include it.
 *
 * In a build with -DCKPT_TEST_FAULTS the environment says which call fails:
 *     CKPTFS_IO_FAULT=CALL:K:ERRNO|kill[@RANK]
 * makes the K-th CALL (1 is the first) of this process answer ERRNO without
 * being made, or kills the process with SIGKILL in its place; with @RANK only
 * in that rank of an MPI job. A line on stderr tells that it happened. In all
 * other builds the check is nothing.
 */
#ifndef CKPT_BASE_IO_FAULT_H
#define CKPT_BASE_IO_FAULT_H

#include <errno.h>

enum io_call {
	IO_OPENAT,
	IO_OPENAT2,
	IO_PREAD,
	IO_PWRITE,
	IO_FSTAT,
	IO_FSTATAT,
	IO_FSYNC,
	IO_FDATASYNC,
	IO_SYNCFS,
	IO_RENAMEAT,
	IO_MKDIRAT,
	IO_UNLINKAT,
	IO_SYMLINKAT,
	IO_FTRUNCATE,
	IO_FALLOCATE,
	IO_READDIR,
	IO_FSTATFS,
	IO_STATX,
	IO_COPY_RANGE,
	IO_CALL_COUNT,
};

#ifdef CKPT_TEST_FAULTS
/**
 * io_fault_check - 0: make the call; negative errno: answer that instead. May not return.
 * Thread-safe.
 */
int io_fault_check(enum io_call call);
#else
static inline int io_fault_check(enum io_call call)
{
	(void)call;
	return 0;
}
#endif

/* Make one call: ask the fault seam first, repeat EINTR, turn -1 into a negative errno. */
#define IO_CALL(call, expr)                         \
	({                                          \
		long rc_;                           \
		do {                                \
			rc_ = io_fault_check(call); \
			if (rc_ < 0)                \
				continue;           \
			rc_ = (expr);               \
			if (rc_ < 0)                \
				rc_ = -errno;       \
		} while (rc_ == -EINTR);            \
		rc_;                                \
	})

#endif
