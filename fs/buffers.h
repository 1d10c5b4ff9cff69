/*
 * buffers.h - room for the bytes of one reply. A few are kept, so that a stream
 * of reads does not ask the kernel for fresh pages each time; all others are
 * given back at once.
 */
#ifndef CKPT_FS_BUFFERS_H
#define CKPT_FS_BUFFERS_H

#include <stddef.h>

/**
 * buffer_get - at least @len_bytes, page aligned; buffer_put() it with the same length. NULL: no
 * memory. Thread-safe.
 */
char *buffer_get(size_t len_bytes);
void buffer_put(char *data, size_t len_bytes);
/** buffers_release - give back what is kept. */
void buffers_release(void);

#endif
