/*
 * passthrough.h - handing stored files to the kernel.
 *
 * FUSE passthrough (Linux >= 6.9) wants three things of the daemon: two flags in
 * the INIT reply, a backing id made by ioctl(2) on the FUSE device, and that id
 * in every OPEN reply of the file. libfuse >= 3.17 has words for the first and
 * the last; on an older one the session's own read and write functions add them
 * on the way.
 * Sources: Linux include/uapi/linux/fuse.h (7.40), Documentation/filesystems/fuse-passthrough.rst.
 *
 * One mount a process, so the state is the process's own.
 */
#ifndef CKPT_FS_PASSTHROUGH_H
#define CKPT_FS_PASSTHROUGH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct fuse_conn_info;
struct fuse_entry_param;
struct fuse_file_info;
struct fuse_req;
struct fuse_session;

/**
 * passthrough_attach - put our read and write functions between libfuse and the kernel
 * @se:     mounted, its loop not started
 * @wanted: false: ask the kernel for no passthrough (`-o passthrough=off`)
 * @probe_fd: a folder of the store; borrowed for as long as the session: when the kernel has
 *            agreed, it is asked to
 *            take a file in it, so that one knows at once whether it will take any
 * @ready: called with @ctx when that is known, before any other request
 * Errors: system (the session cannot take custom I/O).
 */
int passthrough_attach(struct fuse_session *se, bool wanted, int probe_fd, void (*ready)(void *ctx),
		       void *ctx, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * passthrough_detach - the session's descriptor is about to be closed: ids go with it from now on.
 * No request may run.
 */
void passthrough_detach(void);
/** passthrough_agree - what libfuse itself is told in the operation init. */
void passthrough_agree(struct fuse_conn_info *conn);

/**
 * passthrough_active - may stored files be handed to the kernel? True after INIT, if it has taken
 * the first one. Thread-safe.
 */
bool passthrough_active(void);
/**
 * passthrough_reason - why not, in a few words without blanks at the ends ("" while active): for
 * the log and `stats`. Static storage.
 */
const char *passthrough_reason(void);
/**
 * passthrough_direct_mmap - the kernel lets files opened with FOPEN_DIRECT_IO be mapped (Linux >=
 * 6.6).
 */
bool passthrough_direct_mmap(void);

/**
 * passthrough_backing_open - register a stored file with the kernel
 * @fd: readable; may be closed right after
 * @out_id: for passthrough_mark_open and passthrough_backing_close
 * Errors: -EPERM no CAP_SYS_ADMIN; -ELOOP stacked too deep; -EOPNOTSUPP not negotiated; else
 * system.
 */
int passthrough_backing_open(int fd, int32_t *out_id) CKPT_MUST_CHECK;
/** passthrough_backing_close - give an id back when the inode has no open file left. */
void passthrough_backing_close(int32_t id);

/**
 * passthrough_reply_open - fuse_reply_open() with a backing id: the kernel reads the file by
 * itself, but for handles with @fi->direct_io.
 */
int passthrough_reply_open(struct fuse_req *req, struct fuse_file_info *fi, int32_t id)
	CKPT_MUST_CHECK;
/** passthrough_reply_create - fuse_reply_create() in the same way. */
int passthrough_reply_create(struct fuse_req *req, const struct fuse_entry_param *entry,
			     struct fuse_file_info *fi, int32_t id) CKPT_MUST_CHECK;

#endif
