/*
 * passthrough.h - handing stored files to the kernel, on a libfuse that has no
 * call for it.
 *
 * FUSE passthrough (Linux >= 6.9) wants three things of the daemon: two flags in
 * the INIT reply, a backing id made by ioctl(2) on the FUSE device, and that id
 * in every OPEN reply of the file. libfuse 3.14 has no words for the first and
 * the last, so the session's own read and write functions add them on the way.
 * Sources: Linux include/uapi/linux/fuse.h (7.40), Documentation/filesystems/fuse-passthrough.rst.
 *
 * One mount a process, so the state is the process's own.
 */
#ifndef CKPT_FS_PASSTHROUGH_H
#define CKPT_FS_PASSTHROUGH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct fuse_session;

/**
 * passthrough_attach - put our read and write functions between libfuse and the kernel
 * @se:     mounted, its loop not started
 * @wanted: false: ask the kernel for no passthrough (`-o passthrough=off`)
 * Errors: system (the session cannot take custom I/O).
 */
int passthrough_attach(struct fuse_session *se, bool wanted, struct ckpt_err *err) CKPT_MUST_CHECK;

/** passthrough_active - may stored files be handed to the kernel? True after INIT until the first refusal that will not go away. Thread-safe. */
bool passthrough_active(void);
/** passthrough_reason - why not, in a few words without blanks at the ends ("" while active): for the log and `stats`. Static storage. */
const char *passthrough_reason(void);
/** passthrough_direct_mmap - the kernel lets files opened with FOPEN_DIRECT_IO be mapped (Linux >= 6.6). */
bool passthrough_direct_mmap(void);

/**
 * passthrough_backing_open - register a stored file with the kernel
 * @fd: readable; may be closed right after
 * @out_id: for passthrough_mark_open and passthrough_backing_close
 * Errors: -EPERM no CAP_SYS_ADMIN, -ELOOP stacked too deep, -EOPNOTSUPP not negotiated: passthrough_active() is false from then on; else system.
 */
int passthrough_backing_open(int fd, int32_t *out_id) CKPT_MUST_CHECK;
/** passthrough_backing_close - give an id back when the inode has no open file left. */
void passthrough_backing_close(int32_t id);

/** passthrough_mark_open - the next OPEN or CREATE reply that this thread sends carries @id and FOPEN_PASSTHROUGH. Call it right before fuse_reply_open(). */
void passthrough_mark_open(int32_t id);

#endif
