/*
 * wire.h - what ranks tell each other as bytes: little-endian numbers, and
 * strings with their length and a NUL, so that a reader can borrow them.
 */
#ifndef CKPT_MPI_WIRE_H
#define CKPT_MPI_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

void ckpt_wire_put_u64(struct ckpt_buf *out, uint64_t value);
void ckpt_wire_put_u64s(struct ckpt_buf *out, const uint64_t *values, size_t count);
/** ckpt_wire_put_str - NULL is kept apart from "". */
void ckpt_wire_put_str(struct ckpt_buf *out, const char *text);

/* A message that is being read. What does not fit in it sets `bad` and gives 0, NULL. */
struct ckpt_wire {
	const char *data;
	size_t len_bytes;
	size_t at;
	bool bad;
};

struct ckpt_wire ckpt_wire_over(const struct ckpt_buf *buf);
uint64_t ckpt_wire_u64(struct ckpt_wire *in);
/** ckpt_wire_skip - pass over @bytes. */
void ckpt_wire_skip(struct ckpt_wire *in, uint64_t bytes);
void ckpt_wire_u64s(struct ckpt_wire *in, uint64_t *out, size_t count);
/**
 * ckpt_wire_count - a number of things of at least @each bytes that follow: more than there is
 * room for is bad (0).
 */
size_t ckpt_wire_count(struct ckpt_wire *in, size_t each);
/** ckpt_wire_str - borrowed from the message. */
const char *ckpt_wire_str(struct ckpt_wire *in);
/** ckpt_wire_end - 0, or -EBADMSG where it was bad or more follows. */
int ckpt_wire_end(const struct ckpt_wire *in) CKPT_MUST_CHECK;

#endif
