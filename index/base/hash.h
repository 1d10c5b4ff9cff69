/*
 * hash.h - XXH3-64 for blocks, XXH3-128 for whole files and manifests.
 * hash.c is the only file that includes <xxhash.h>. Source: xxHash 0.8
 * documentation; the canonical (big-endian) hex form is what xxhsum prints.
 */
#ifndef CKPT_BASE_HASH_H
#define CKPT_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define CKPT_HEX64_LEN 16
#define CKPT_HEX128_LEN 32

/* A 128-bit digest; `hi` is printed first. */
struct ckpt_digest {
	uint64_t hi;
	uint64_t lo;
};

struct ckpt_hash128;	/* a running XXH3-128 */
struct ckpt_hash64_run; /* a running XXH3-64 */

/** ckpt_hash64 - XXH3-64, seed 0, of @len bytes. */
uint64_t ckpt_hash64(const void *data, size_t len_bytes);
/** ckpt_hash128 - XXH3-128, seed 0, of @len bytes. */
struct ckpt_digest ckpt_hash128(const void *data, size_t len_bytes);

/**
 * ckpt_hash128_new - start a running digest; NULL when memory is out. ckpt_hash128_free(NULL) is a
 * no-op.
 */
struct ckpt_hash128 *ckpt_hash128_new(void);
void ckpt_hash128_free(struct ckpt_hash128 *run);
void ckpt_hash128_reset(struct ckpt_hash128 *run);
void ckpt_hash128_update(struct ckpt_hash128 *run, const void *data, size_t len_bytes);
struct ckpt_digest ckpt_hash128_digest(const struct ckpt_hash128 *run);

/** The same for XXH3-64 (a block larger than one read). */
struct ckpt_hash64_run *ckpt_hash64_new(void);
void ckpt_hash64_free(struct ckpt_hash64_run *run);
void ckpt_hash64_reset(struct ckpt_hash64_run *run);
void ckpt_hash64_update(struct ckpt_hash64_run *run, const void *data, size_t len_bytes);
uint64_t ckpt_hash64_digest(const struct ckpt_hash64_run *run);

bool ckpt_digest_equal(struct ckpt_digest a, struct ckpt_digest b);

/**
 * ckpt_hex64 / ckpt_hex128 - lower-case hex, NUL-terminated, into @out (17 / 33 bytes). Return
 * @out.
 */
char *ckpt_hex64(uint64_t value, char out[CKPT_HEX64_LEN + 1]);
char *ckpt_hex128(struct ckpt_digest value, char out[CKPT_HEX128_LEN + 1]);

/**
 * ckpt_hex64_parse / ckpt_hex128_parse - exactly 16 / 32 lower-case hex digits at @text (not
 * NUL-terminated); -EINVAL otherwise.
 */
int ckpt_hex64_parse(const char *text, uint64_t *out) CKPT_MUST_CHECK;
int ckpt_hex128_parse(const char *text, struct ckpt_digest *out) CKPT_MUST_CHECK;

#endif
