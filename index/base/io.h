/*
 * io.h - the system-call seam. Every call that touches the bytes or the names
 * of a store goes through the functions here, so that a test build can make
 * the K-th of them fail or kill the process (CKPTFS_IO_FAULT=CALL:K:ERRNO or
 * CALL:K:kill, `@RANK` behind it for MPI ranks; see io_fault.h).
 * All return a negative errno instead of setting errno; EINTR is retried.
 */
#ifndef CKPT_BASE_IO_H
#define CKPT_BASE_IO_H

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "buf.h"
#include "err.h"

/* What one read or write system call moves at most. */
#define CKPT_IO_CHUNK ((size_t)1024 * 1024)

/* The thin layer: system call N as ckpt_io_N, -errno on failure. O_CLOEXEC is always added. */
int ckpt_io_openat(int dirfd, const char *path, int flags, mode_t mode) CKPT_MUST_CHECK;
ssize_t ckpt_io_pread(int fd, void *out, size_t len_bytes, uint64_t offset) CKPT_MUST_CHECK;
ssize_t ckpt_io_pwrite(int fd, const void *data, size_t len_bytes, uint64_t offset) CKPT_MUST_CHECK;
int ckpt_io_fstat(int fd, struct stat *out) CKPT_MUST_CHECK;
int ckpt_io_fstatat(int dirfd, const char *path, struct stat *out, int flags) CKPT_MUST_CHECK;
int ckpt_io_fsync(int fd) CKPT_MUST_CHECK;
int ckpt_io_fdatasync(int fd) CKPT_MUST_CHECK;
int ckpt_io_syncfs(int fd) CKPT_MUST_CHECK;
int ckpt_io_renameat(int old_dirfd, const char *old_path, int new_dirfd, const char *new_path)
	CKPT_MUST_CHECK;
int ckpt_io_mkdirat(int dirfd, const char *path, mode_t mode) CKPT_MUST_CHECK;
int ckpt_io_unlinkat(int dirfd, const char *path, int flags) CKPT_MUST_CHECK;
int ckpt_io_symlinkat(const char *target, int dirfd, const char *path) CKPT_MUST_CHECK;
int ckpt_io_ftruncate(int fd, uint64_t len_bytes) CKPT_MUST_CHECK;
/*
 * Next entry but "." and "..": 1 and *@out_name, borrowed until the next call; 0 at the end. One
 * thread a @dir.
 */
int ckpt_io_readdir(DIR *dir, const char **out_name) CKPT_MUST_CHECK;
/* The same, with its d_type (DT_UNKNOWN where the file system does not say). */
int ckpt_io_readdir_type(DIR *dir, const char **out_name, unsigned char *out_type) CKPT_MUST_CHECK;
/* fallocate(2) mode 0: reserves the blocks; -EOPNOTSUPP where the file system cannot. */
int ckpt_io_fallocate(int fd, uint64_t offset, uint64_t len_bytes) CKPT_MUST_CHECK;

/** ckpt_io_pread_full - loop until @len bytes or end of file; *@out_len says how many came. */
int ckpt_io_pread_full(int fd, void *out, size_t len_bytes, uint64_t offset, size_t *out_len)
	CKPT_MUST_CHECK;
/** ckpt_io_pwrite_full - all @len bytes, or an error. */
int ckpt_io_pwrite_full(int fd, const void *data, size_t len_bytes, uint64_t offset)
	CKPT_MUST_CHECK;

/**
 * ckpt_io_read_file - a whole small file
 * @dirfd, @path: as openat; opened O_RDONLY | O_NOFOLLOW, must be a regular file
 * @max_bytes: refuse anything longer (-EFBIG)
 * @out: receives the bytes (appended)
 * Errors: -ENOENT; -EFBIG; else system. The message names @path.
 */
int ckpt_io_read_file(int dirfd, const char *path, uint64_t max_bytes, struct ckpt_buf *out,
		      struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_io_publish - write a file so that it is there whole or not at all
 * Writes "@path.tmp" beside it (replacing a left-over), fsyncs, renames over @path, fsyncs the
 * folder.
 * On failure the temporary is removed and @path is as it was.
 */
int ckpt_io_publish(int dirfd, const char *path, const void *data, size_t len_bytes, mode_t mode,
		    struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_io_sync_dir - fsync the folder @path below @dirfd (a rename or create in it becomes
 * durable).
 */
int ckpt_io_sync_dir(int dirfd, const char *path) CKPT_MUST_CHECK;

/**
 * ckpt_io_mkdirs - create every missing folder of @path below @dirfd (mode 0777 less umask), each
 * made durable in its parent.
 */
int ckpt_io_mkdirs(int dirfd, const char *path, struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_io_remove_tree - remove @path below @dirfd and all in it, following no symlink, crossing no
 * mount; -ENOENT is success.
 */
int ckpt_io_remove_tree(int dirfd, const char *path, struct ckpt_err *err) CKPT_MUST_CHECK;

/**
 * ckpt_io_open_beneath - open @path below @dirfd, following no symlink in any component
 * openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS) where the kernel has it, else component by
 * component.
 * A symlink anywhere answers -ELOOP. Source: openat2(2).
 */
int ckpt_io_open_beneath(int dirfd, const char *path, int flags, mode_t mode) CKPT_MUST_CHECK;

/**
 * ckpt_io_is_network_fs - the file system of @fd is reached over a network or is itself FUSE
 * (statfs(2) f_type).
 */
int ckpt_io_is_network_fs(int fd, bool *out) CKPT_MUST_CHECK;

#endif
