/* hash.c - the only file that knows xxHash; see hash.h. */
#include "hash.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
/*
 * Where the library was built to choose AVX2 or AVX512 at run time: four times the speed of its
 * SSE2.
 */
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif

struct ckpt_hash128 {
	XXH3_state_t *state; /* xxHash allocates it: it wants 64-byte alignment */
};

uint64_t ckpt_hash64(const void *data, size_t len_bytes)
{
	return XXH3_64bits(data, len_bytes);
}

static struct ckpt_digest from_xxh(XXH128_hash_t sum)
{
	return (struct ckpt_digest){ .hi = sum.high64, .lo = sum.low64 };
}

struct ckpt_digest ckpt_hash128(const void *data, size_t len_bytes)
{
	return from_xxh(XXH3_128bits(data, len_bytes));
}

struct ckpt_hash128 *ckpt_hash128_new(void)
{
	struct ckpt_hash128 *run = calloc(1, sizeof(*run));

	if (!run)
		return NULL;
	run->state = XXH3_createState();
	if (!run->state) {
		free(run);
		return NULL;
	}
	ckpt_hash128_reset(run);
	return run;
}

void ckpt_hash128_free(struct ckpt_hash128 *run)
{
	if (!run)
		return;
	XXH3_freeState(run->state);
	free(run);
}

void ckpt_hash128_reset(struct ckpt_hash128 *run)
{
	/* Fails only for a NULL state. */
	(void)XXH3_128bits_reset(run->state);
}

void ckpt_hash128_update(struct ckpt_hash128 *run, const void *data, size_t len_bytes)
{
	assert(data || len_bytes == 0);
	if (len_bytes == 0)
		return;
	/* Fails only for NULL data. */
	(void)XXH3_128bits_update(run->state, data, len_bytes);
}

struct ckpt_digest ckpt_hash128_digest(const struct ckpt_hash128 *run)
{
	return from_xxh(XXH3_128bits_digest(run->state));
}

struct ckpt_hash64_run {
	XXH3_state_t *state;
};

struct ckpt_hash64_run *ckpt_hash64_new(void)
{
	struct ckpt_hash64_run *run = calloc(1, sizeof(*run));

	if (!run)
		return NULL;
	run->state = XXH3_createState();
	if (!run->state) {
		free(run);
		return NULL;
	}
	ckpt_hash64_reset(run);
	return run;
}

void ckpt_hash64_free(struct ckpt_hash64_run *run)
{
	if (!run)
		return;
	XXH3_freeState(run->state);
	free(run);
}

void ckpt_hash64_reset(struct ckpt_hash64_run *run)
{
	/* Fails only for a NULL state. */
	(void)XXH3_64bits_reset(run->state);
}

void ckpt_hash64_update(struct ckpt_hash64_run *run, const void *data, size_t len_bytes)
{
	assert(data || len_bytes == 0);
	if (len_bytes == 0)
		return;
	/* Fails only for NULL data. */
	(void)XXH3_64bits_update(run->state, data, len_bytes);
}

uint64_t ckpt_hash64_digest(const struct ckpt_hash64_run *run)
{
	return XXH3_64bits_digest(run->state);
}

bool ckpt_digest_equal(struct ckpt_digest a, struct ckpt_digest b)
{
	return a.hi == b.hi && a.lo == b.lo;
}

char *ckpt_hex64(uint64_t value, char out[CKPT_HEX64_LEN + 1])
{
	static const char digits[] = "0123456789abcdef";

	for (int i = CKPT_HEX64_LEN - 1; i >= 0; i--) {
		out[i] = digits[value & 0xf];
		value >>= 4;
	}
	out[CKPT_HEX64_LEN] = '\0';
	return out;
}

char *ckpt_hex128(struct ckpt_digest value, char out[CKPT_HEX128_LEN + 1])
{
	ckpt_hex64(value.hi, out);
	ckpt_hex64(value.lo, out + CKPT_HEX64_LEN);
	return out;
}

int ckpt_hex64_parse(const char *text, uint64_t *out)
{
	uint64_t value = 0;

	for (size_t i = 0; i < CKPT_HEX64_LEN; i++) {
		unsigned digit;

		/* A NUL ends the text: neither range holds it, so nothing behind it is read. */
		if (text[i] >= '0' && text[i] <= '9')
			digit = (unsigned)(text[i] - '0');
		else if (text[i] >= 'a' && text[i] <= 'f')
			digit = (unsigned)(text[i] - 'a') + 10;
		else
			return -EINVAL;
		value = value << 4 | digit;
	}
	*out = value;
	return 0;
}

int ckpt_hex128_parse(const char *text, struct ckpt_digest *out)
{
	struct ckpt_digest value;

	if (ckpt_hex64_parse(text, &value.hi) < 0)
		return -EINVAL;
	if (ckpt_hex64_parse(text + CKPT_HEX64_LEN, &value.lo) < 0)
		return -EINVAL;
	*out = value;
	return 0;
}
