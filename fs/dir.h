/*
 * dir.h - an open plain folder: a stream of names that outlives its release while a worker reads
 * it.
 */
#ifndef CKPT_FS_DIR_H
#define CKPT_FS_DIR_H

struct dir_stream;

void dir_stream_put(struct dir_stream *stream);

#endif
