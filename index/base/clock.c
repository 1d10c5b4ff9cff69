/* clock.c - wall-clock stamps, a monotonic clock and random UUIDs; see clock.h. */
#include "clock.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* 'd' stands for a digit, all else for itself. */
#define RFC3339_PATTERN "dddd-dd-ddTdd:dd:dd.dddddddddZ"
/* 'x' stands for a lower-case hex digit. */
#define UUID_PATTERN "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
#define UUID_BYTES 16

_Static_assert(sizeof(RFC3339_PATTERN) == CKPT_RFC3339_SIZE, "the form that clock.h promises");
_Static_assert(sizeof(UUID_PATTERN) == 37, "the form that clock.h promises");

char *ckpt_clock_rfc3339_at(struct timespec at, char out[CKPT_RFC3339_SIZE])
{
	struct tm utc = { 0 };

	gmtime_r(&at.tv_sec, &utc);
	/* The ranges are the calendar's; the casts and % tell the compiler that it fits. */
	(void)snprintf(out, CKPT_RFC3339_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%09uZ",
		       (unsigned)(utc.tm_year + 1900) % 10000, (unsigned)(utc.tm_mon + 1) % 100,
		       (unsigned)utc.tm_mday % 100, (unsigned)utc.tm_hour % 100,
		       (unsigned)utc.tm_min % 100, (unsigned)utc.tm_sec % 100,
		       (unsigned)at.tv_nsec % 1000000000);
	return out;
}

char *ckpt_clock_rfc3339(char out[CKPT_RFC3339_SIZE])
{
	struct timespec now = { 0 };
	int rc = clock_gettime(CLOCK_REALTIME, &now);

	assert(rc == 0);
	(void)rc;
	return ckpt_clock_rfc3339_at(now, out);
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Two digits as a number; they have been checked to be digits. */
static unsigned two(const char *digits)
{
	return (unsigned)(digits[0] - '0') * 10 + (unsigned)(digits[1] - '0');
}

static unsigned days_of_month(unsigned year, unsigned month)
{
	static const unsigned days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	assert(month >= 1 && month <= 12);
	return days[month - 1] + (month == 2 && leap);
}

int ckpt_clock_check_rfc3339(const char *text)
{
	unsigned year;
	unsigned month;
	unsigned day;

	if (strlen(text) != CKPT_RFC3339_SIZE - 1)
		return -EINVAL;
	for (size_t i = 0; i < CKPT_RFC3339_SIZE - 1; i++) {
		if (RFC3339_PATTERN[i] == 'd' ? !is_digit(text[i]) : text[i] != RFC3339_PATTERN[i])
			return -EINVAL;
	}
	year = two(text) * 100 + two(text + 2);
	month = two(text + 5);
	day = two(text + 8);
	if (month < 1 || month > 12 || day < 1 || day > days_of_month(year, month))
		return -EINVAL;
	/* 60 is a leap second. */
	if (two(text + 11) > 23 || two(text + 14) > 59 || two(text + 17) > 60)
		return -EINVAL;
	return 0;
}

uint64_t ckpt_clock_mono_ms(void)
{
	struct timespec now = { 0 };
	int rc = clock_gettime(CLOCK_MONOTONIC, &now);

	assert(rc == 0);
	(void)rc;
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int ckpt_uuid(char out[37])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char bytes[UUID_BYTES];
	size_t nibble = 0;
	ssize_t got;

	do {
		got = getrandom(bytes, sizeof(bytes), 0);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (got != UUID_BYTES) /* random(4): up to 256 bytes come whole */
		return -EIO;
	bytes[6] = (unsigned char)((bytes[6] & 0x0f) | 0x40); /* version 4 */
	bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80); /* variant of RFC 9562 */
	for (size_t i = 0; i < sizeof(UUID_PATTERN); i++) {
		out[i] = UUID_PATTERN[i];
		if (UUID_PATTERN[i] != 'x')
			continue;
		out[i] = digits[(bytes[nibble / 2] >> (nibble % 2 ? 0 : 4)) & 0xf];
		nibble++;
	}
	return 0;
}

int ckpt_uuid_check(const char *text)
{
	if (strlen(text) != sizeof(UUID_PATTERN) - 1)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(UUID_PATTERN) - 1; i++) {
		bool is_hex = is_digit(text[i]) || (text[i] >= 'a' && text[i] <= 'f');

		if (UUID_PATTERN[i] == 'x' ? !is_hex : text[i] != '-')
			return -EINVAL;
	}
	return 0;
}
