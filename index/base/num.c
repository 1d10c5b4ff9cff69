/* num.c - checked conversions and growth; see num.h. */
#include "num.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first room of a growing array: small, most stay so. */
#define ARRAY_CAP_MIN 8

_Static_assert(sizeof(off_t) == 8, "build with _FILE_OFFSET_BITS=64");
_Static_assert(sizeof(size_t) == 8, "sizes of memory and of files are the same here");

int num_to_off(uint64_t value, off_t *out)
{
	if (value > INT64_MAX)
		return -EOVERFLOW;
	*out = (off_t)value;
	return 0;
}

void *array_alloc(size_t count, size_t size)
{
	/* calloc checks the product; an empty array is still an address to free. */
	return calloc(count ? count : 1, size ? size : 1);
}

int array_grow(void *items, size_t *cap, size_t count, size_t size)
{
	uint64_t grown_cap = *cap ? *cap : ARRAY_CAP_MIN / 2;
	uint64_t bytes;
	void *old;
	void *grown;

	assert(count <= *cap);
	assert(size > 0);
	if (count < *cap)
		return 0;
	if (!num_mul(grown_cap, 2, &grown_cap) || !num_mul(grown_cap, size, &bytes))
		return -ENOMEM;
	/*
	 * @items is the address of a pointer of some type: go through memcpy, not through void **.
	 */
	memcpy(&old, items, sizeof(old));
	grown = realloc(old, bytes);
	if (!grown)
		return -ENOMEM;
	memcpy(items, &grown, sizeof(grown));
	*cap = grown_cap;
	/* cppcheck-suppress memleak ; the caller's pointer has it now */
	return 0;
}

/* Digits from @text on; *@rest is the first byte that is none. */
static int parse_digits(const char *text, uint64_t *out, const char **rest)
{
	uint64_t value = 0;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	for (; *text >= '0' && *text <= '9'; text++) {
		if (!num_mul(value, 10, &value) || !num_add(value, (uint64_t)(*text - '0'), &value))
			return -ERANGE;
	}
	*out = value;
	*rest = text;
	return 0;
}

int num_parse_u64(const char *text, uint64_t *out)
{
	uint64_t value;
	const char *rest;
	int rc = parse_digits(text, &value, &rest);

	if (rc < 0)
		return rc;
	if (*rest != '\0')
		return -EINVAL;
	*out = value;
	return 0;
}

struct unit {
	const char *suffix;
	uint64_t factor;
};

static int parse_with_unit(const char *text, const struct unit *units, size_t count, uint64_t *out)
{
	uint64_t value;
	const char *rest;
	int rc = parse_digits(text, &value, &rest);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < count; i++) {
		if (strcmp(rest, units[i].suffix) != 0)
			continue;
		if (!num_mul(value, units[i].factor, &value))
			return -ERANGE;
		*out = value;
		return 0;
	}
	return -EINVAL;
}

int num_parse_size(const char *text, uint64_t *out)
{
	static const struct unit units[] = {
		{ "", 1 }, { "KiB", CKPT_KIB }, { "MiB", CKPT_MIB }, { "GiB", CKPT_GIB }
	};

	return parse_with_unit(text, units, sizeof(units) / sizeof(units[0]), out);
}

int num_parse_age(const char *text, uint64_t *out_secs)
{
	static const struct unit units[] = {
		{ "", 1 }, { "s", 1 }, { "m", 60 }, { "h", 3600 }, { "d", 86400 }
	};

	return parse_with_unit(text, units, sizeof(units) / sizeof(units[0]), out_secs);
}

char *num_format_size(uint64_t bytes, char *out, size_t out_size)
{
	static const char units[] = "KMGTPE";
	uint64_t unit = CKPT_KIB;
	uint64_t tenths;
	size_t i = 0;

	assert(out_size >= 16);
	if (bytes < CKPT_KIB) {
		(void)snprintf(out, out_size, "%u B", (unsigned)bytes);
		return out;
	}
	for (;; i++, unit *= 1024) {
		/* Below 2^60 a unit, so ten remainders fit in 64 bits. */
		tenths = bytes / unit * 10 + (bytes % unit * 10 + unit / 2) / unit;
		/* Compare what is printed: 1023.97 KiB reads 1.0 MiB, not 1024.0 KiB. */
		if (tenths < 10240 || units[i + 1] == '\0')
			break;
	}
	(void)snprintf(out, out_size, "%u.%u %ciB", (unsigned)(tenths / 10),
		       (unsigned)(tenths % 10), units[i]);
	return out;
}
