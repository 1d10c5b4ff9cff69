/* clock.h - wall-clock stamps as the manifest spells them, and a monotonic clock. */
#ifndef CKPT_BASE_CLOCK_H
#define CKPT_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#include "err.h"

/* "2026-11-22T20:41:07.123456789Z" and its NUL. */
#define CKPT_RFC3339_SIZE 31

/** ckpt_clock_rfc3339 - now, in UTC, to the nanosecond. Returns @out. Source: RFC 3339. */
char *ckpt_clock_rfc3339(char out[CKPT_RFC3339_SIZE]);
/** ckpt_clock_rfc3339_at - the same for @at, since 1970. Returns @out. */
char *ckpt_clock_rfc3339_at(struct timespec at, char out[CKPT_RFC3339_SIZE]);
/** ckpt_clock_check_rfc3339 - exactly the form above; -EINVAL. */
int ckpt_clock_check_rfc3339(const char *text) CKPT_MUST_CHECK;
/** ckpt_clock_mono_ms - CLOCK_MONOTONIC in milliseconds. */
uint64_t ckpt_clock_mono_ms(void);
/**
 * ckpt_uuid - a random version-4 UUID (RFC 9562), lower case, into @out. Errors: system (no
 * randomness).
 */
int ckpt_uuid(char out[37]) CKPT_MUST_CHECK;
/** ckpt_uuid_check - 36 characters, lower-case hex and dashes in their places; -EINVAL. */
int ckpt_uuid_check(const char *text) CKPT_MUST_CHECK;

#endif
