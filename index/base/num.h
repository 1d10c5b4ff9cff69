/*
 * num.h - checked arithmetic, allocation and number parsing for values that
 * come from outside. Sizes and offsets are uint64_t bytes.
 */
#ifndef CKPT_BASE_NUM_H
#define CKPT_BASE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

#define CKPT_KIB (1024ULL)
#define CKPT_MIB (1024ULL * CKPT_KIB)
#define CKPT_GIB (1024ULL * CKPT_MIB)

/** num_add - *@out = a + b; false on overflow (then *@out is unspecified). */
static inline bool CKPT_MUST_CHECK num_add(uint64_t a, uint64_t b, uint64_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}

/** num_mul - *@out = a * b; false on overflow (then *@out is unspecified). */
static inline bool CKPT_MUST_CHECK num_mul(uint64_t a, uint64_t b, uint64_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}

static inline uint64_t num_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t num_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/** num_div_up - ceil(a / b) for b > 0, without overflow. */
static inline uint64_t num_div_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

/** num_to_off - a byte offset as the system calls take it; -EOVERFLOW above 2^63-1. */
int num_to_off(uint64_t value, off_t *out) CKPT_MUST_CHECK;

/**
 * array_alloc - zeroed array of @count elements of @size bytes; NULL when that overflows or memory
 * is out. free() it.
 */
void *array_alloc(size_t count, size_t size) CKPT_MUST_CHECK;

/**
 * array_grow - make room for one more element in a doubling array
 * @items: address of the array pointer (heap or NULL); moved as needed
 * @cap:   allocated elements, updated
 * @count: elements in use; room for @count + 1 is ensured; new room is not zeroed
 * Returns 0 or -ENOMEM (array unchanged).
 */
int array_grow(void *items, size_t *cap, size_t count, size_t size) CKPT_MUST_CHECK;

/** num_parse_u64 - decimal digits only, the whole of @text; -EINVAL, -ERANGE. */
int num_parse_u64(const char *text, uint64_t *out) CKPT_MUST_CHECK;

/**
 * num_parse_size - "4096", "64KiB", "1MiB", "4GiB" (no sign, no blanks) in bytes; -EINVAL,
 * -ERANGE.
 */
int num_parse_size(const char *text, uint64_t *out) CKPT_MUST_CHECK;

/** num_parse_age - "90", "90s", "15m", "12h", "1d" in seconds; -EINVAL, -ERANGE. */
int num_parse_age(const char *text, uint64_t *out_secs) CKPT_MUST_CHECK;

/**
 * num_format_size - "86.7 MiB" into @out (at least 16 bytes); exact bytes below 1 KiB ("712 B").
 * Returns @out.
 */
char *num_format_size(uint64_t bytes, char *out, size_t out_size);

#endif
