/*
 * stamps.h - what tells two states of a stored file apart: whoever changes its
 * bytes changes its ctime, which nothing can set back.
 */
#ifndef CKPT_FS_STAMPS_H
#define CKPT_FS_STAMPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct stamps {
	dev_t dev;
	ino_t ino;
	uint64_t size_bytes;
	int64_t ctime_ns;
};

static inline struct stamps stamps_of(const struct stat *st)
{
	return (struct stamps){
		.dev = st->st_dev,
		.ino = st->st_ino,
		.size_bytes = (uint64_t)st->st_size,
		.ctime_ns = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec,
	};
}

/* The same file, whatever became of it. */
static inline bool stamps_same_file(const struct stamps *a, const struct stamps *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

static inline bool stamps_equal(const struct stamps *a, const struct stamps *b)
{
	return stamps_same_file(a, b) && a->size_bytes == b->size_bytes &&
	       a->ctime_ns == b->ctime_ns;
}

#endif
