/* wire.c - see wire.h. */
#include "wire.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* Stands for NULL where a string's length stands. */
#define NO_STRING UINT64_MAX

void ckpt_wire_put_u64(struct ckpt_buf *out, uint64_t value)
{
	uint64_t le = htole64(value);

	ckpt_buf_add(out, &le, sizeof(le));
}

void ckpt_wire_put_u64s(struct ckpt_buf *out, const uint64_t *values, size_t count)
{
#if __BYTE_ORDER == __LITTLE_ENDIAN
	ckpt_buf_add(out, values, count * sizeof(*values));
#else
	for (size_t i = 0; i < count; i++)
		ckpt_wire_put_u64(out, values[i]);
#endif
}

void ckpt_wire_put_str(struct ckpt_buf *out, const char *text)
{
	if (!text) {
		ckpt_wire_put_u64(out, NO_STRING);
		return;
	}
	ckpt_wire_put_u64(out, strlen(text));
	ckpt_buf_add(out, text, strlen(text) + 1);
}

struct ckpt_wire ckpt_wire_over(const struct ckpt_buf *buf)
{
	return (struct ckpt_wire){ .data = buf->data, .len_bytes = buf->len_bytes };
}

/* The next @bytes, or NULL. */
static const char *take(struct ckpt_wire *in, uint64_t bytes)
{
	const char *here = in->data + in->at;

	if (in->bad || bytes > in->len_bytes - in->at) {
		in->bad = true;
		return NULL;
	}
	in->at += bytes;
	return here;
}

void ckpt_wire_skip(struct ckpt_wire *in, uint64_t bytes)
{
	(void)take(in, bytes);
}

uint64_t ckpt_wire_u64(struct ckpt_wire *in)
{
	const char *here = take(in, sizeof(uint64_t));
	uint64_t le;

	if (!here)
		return 0;
	memcpy(&le, here, sizeof(le));
	return le64toh(le);
}

void ckpt_wire_u64s(struct ckpt_wire *in, uint64_t *out, size_t count)
{
#if __BYTE_ORDER == __LITTLE_ENDIAN
	/* More than the message holds is no product that overflows, but bad. */
	const char *here = count <= in->len_bytes ? take(in, count * sizeof(*out)) : NULL;

	in->bad = in->bad || !here;
	if (here && count > 0)
		memcpy(out, here, count * sizeof(*out));
#else
	for (size_t i = 0; i < count; i++)
		out[i] = ckpt_wire_u64(in);
#endif
}

size_t ckpt_wire_count(struct ckpt_wire *in, size_t each)
{
	uint64_t count = ckpt_wire_u64(in);

	if (count > (in->len_bytes - in->at) / each)
		in->bad = true;
	return in->bad ? 0 : count;
}

const char *ckpt_wire_str(struct ckpt_wire *in)
{
	uint64_t len = ckpt_wire_u64(in);
	const char *text;

	if (in->bad || len == NO_STRING)
		return NULL;
	text = len < in->len_bytes ? take(in, len + 1) : NULL;
	if (!text || memchr(text, '\0', len + 1) != text + len) {
		in->bad = true;
		return NULL;
	}
	return text;
}

int ckpt_wire_end(const struct ckpt_wire *in)
{
	return in->bad || in->at != in->len_bytes ? -EBADMSG : 0;
}
