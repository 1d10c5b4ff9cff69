/*
 * npy_parse.c - the header of a .npy, strictly: the literal that numpy prints,
 * not all of Python; see npy.h.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/box.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "format/format.h"
#include "format/npy.h"

#define NPY_MAGIC "\x93NUMPY"
#define NPY_MAGIC_BYTES 6
/* Magic and version; 2 or 4 bytes of length follow. */
#define NPY_VERSION_BYTES 8
#define NPY_PREFIX_MAX 12
/* Only structured types, which are refused, need more than a few hundred bytes. */
#define NPY_TEXT_MAX 65536

void ckpt_npy_header_release(struct ckpt_npy_header *header)
{
	free(header->shape);
	free(header->stride);
	*header = (struct ckpt_npy_header){ 0 };
}

/* The text being parsed, and what it has said so far. */
struct literal {
	const char *at;
	const char *end;
	uint64_t extents[CKPT_DIM_MAX];
	uint32_t dim_count;
	char dtype[16];
	bool is_fortran;
	bool has_descr, has_order, has_shape;
	struct ckpt_err *err;
};

static int refuse(const struct literal *literal, const char *reason)
{
	return ckpt_err_set(literal->err, -EBADMSG, "%s", reason);
}

static void skip_blanks(struct literal *literal)
{
	while (literal->at < literal->end && (*literal->at == ' ' || *literal->at == '\n'))
		literal->at++;
}

/* Is @c next, behind blanks? Then it is passed. */
static bool take(struct literal *literal, char c)
{
	skip_blanks(literal);
	if (literal->at == literal->end || *literal->at != c)
		return false;
	literal->at++;
	return true;
}

static bool take_word(struct literal *literal, const char *word)
{
	size_t len_bytes = strlen(word);

	skip_blanks(literal);
	if ((size_t)(literal->end - literal->at) < len_bytes ||
	    memcmp(literal->at, word, len_bytes) != 0)
		return false;
	literal->at += len_bytes;
	return true;
}

/* A string without escapes into @out, which keeps @cap_bytes. */
static bool take_string(struct literal *literal, char *out, size_t cap_bytes)
{
	char quote;
	size_t len_bytes = 0;

	skip_blanks(literal);
	if (literal->at == literal->end || (*literal->at != '\'' && *literal->at != '"'))
		return false;
	quote = *literal->at++;
	for (; literal->at < literal->end && *literal->at != quote; literal->at++) {
		if (*literal->at < ' ' || *literal->at > '~' || *literal->at == '\\' ||
		    len_bytes + 1 >= cap_bytes)
			return false;
		out[len_bytes++] = *literal->at;
	}
	out[len_bytes] = '\0';
	return literal->at++ < literal->end;
}

/* What numpy calls the types that a tensor can have. */
static const struct descr {
	const char *name;
	const char *dtype;
} descrs[] = {
	{ "<f8", "F64" }, { "<f4", "F32" },  { "<f2", "F16" }, { "<i8", "I64" },   { "<i4", "I32" },
	{ "<i2", "I16" }, { "|i1", "I8" },   { "<u8", "U64" }, { "<u4", "U32" },   { "<u2", "U16" },
	{ "|u1", "U8" },  { "|b1", "BOOL" }, { "<c8", "C64" }, { "<c16", "C128" },
};

/* Why a type that is not among them is refused. */
static const char *why_not(const char *name)
{
	static const struct {
		char kind;
		const char *why;
	} kinds[] = {
		{ 'V', "its elements are raw bytes (numpy saves bfloat16 and float8 so); save them "
		       "as integers or floats" },
		{ 'O', "its elements are Python objects" },
		{ 'U', "its elements are strings" },
		{ 'S', "its elements are strings" },
		{ 'a', "its elements are strings" },
		{ 'M', "its elements are times" },
		{ 'm', "its elements are times" },
	};

	if (strlen(name) < 2)
		return "its element type is not known here";
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (name[1] == kinds[i].kind)
			return kinds[i].why;
	}
	if (name[0] == '>')
		return "it is big-endian; convert it to little-endian";
	return "its element type is not known here";
}

static int take_descr(struct literal *literal)
{
	char name[32];

	if (take(literal, '['))
		return refuse(literal, "its elements are structured");
	if (!take_string(literal, name, sizeof(name)))
		return refuse(literal, "'descr' must be a short string");
	for (size_t i = 0; i < sizeof(descrs) / sizeof(descrs[0]); i++) {
		if (strcmp(descrs[i].name, name) == 0) {
			memcpy(literal->dtype, descrs[i].dtype, strlen(descrs[i].dtype) + 1);
			return 0;
		}
	}
	return refuse(literal, why_not(name));
}

static int take_order(struct literal *literal)
{
	literal->is_fortran = take_word(literal, "True");
	if (!literal->is_fortran && !take_word(literal, "False"))
		return refuse(literal, "'fortran_order' must be True or False");
	return 0;
}

static bool take_extent(struct literal *literal, uint64_t *out)
{
	const char *from;

	skip_blanks(literal);
	from = literal->at;
	*out = 0;
	for (; literal->at < literal->end && *literal->at >= '0' && *literal->at <= '9';
	     literal->at++) {
		if (!num_mul(*out, 10, out) || !num_add(*out, (uint64_t)(*literal->at - '0'), out))
			return false;
	}
	return literal->at > from && (*from != '0' || literal->at == from + 1);
}

/* "()", "(3,)", "(3, 4)". */
static int take_shape(struct literal *literal)
{
	bool has_comma = true;

	if (!take(literal, '('))
		return refuse(literal, "'shape' must be a tuple");
	while (!take(literal, ')')) {
		if (!has_comma)
			return refuse(literal, "'shape' has no comma between two extents");
		if (literal->dim_count == CKPT_DIM_MAX)
			return refuse(literal, "it has more than 64 dimensions");
		if (!take_extent(literal, &literal->extents[literal->dim_count]))
			return refuse(literal, "'shape' must hold integers of 0 or more");
		literal->dim_count++;
		has_comma = take(literal, ',');
	}
	if (literal->dim_count == 1 && !has_comma)
		return refuse(literal, "'shape' must be a tuple");
	return 0;
}

static int take_member(struct literal *literal)
{
	const struct {
		const char *key;
		bool *seen;
		int (*take)(struct literal *literal);
	} members[] = {
		{ "descr", &literal->has_descr, take_descr },
		{ "fortran_order", &literal->has_order, take_order },
		{ "shape", &literal->has_shape, take_shape },
	};
	char key[32];

	if (!take_string(literal, key, sizeof(key)) || !take(literal, ':'))
		return refuse(literal,
			      "its header is no dictionary of 'descr', 'fortran_order' and "
			      "'shape'");
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		if (strcmp(members[i].key, key) != 0)
			continue;
		if (*members[i].seen)
			return refuse(literal, "its header has a key twice");
		*members[i].seen = true;
		return members[i].take(literal);
	}
	return refuse(literal, "its header has a key besides 'descr', 'fortran_order' and 'shape'");
}

static int take_dict(struct literal *literal)
{
	bool has_comma = true;

	if (!take(literal, '{'))
		return refuse(literal, "its header does not begin with '{'");
	while (!take(literal, '}')) {
		int rc = has_comma ? take_member(literal)
				   : refuse(literal, "its header has no comma between two keys");

		if (rc < 0)
			return rc;
		has_comma = take(literal, ',');
	}
	if (!literal->has_descr || !literal->has_order || !literal->has_shape)
		return refuse(literal, "its header lacks 'descr', 'fortran_order' or 'shape'");
	skip_blanks(literal);
	if (literal->at != literal->end)
		return refuse(literal, "its header goes on behind '}'");
	return 0;
}

/* Column-major strides of what is not empty: they are less than its elements, which were counted. */
static void fill_strides(const struct literal *literal, uint64_t *out)
{
	uint64_t stride = 1;

	for (uint32_t i = 0; i < literal->dim_count; i++) {
		out[i] = stride;
		stride *= literal->extents[i];
	}
}

/* What was parsed, once the data were seen to fit. */
static int finish(const struct literal *literal, uint64_t offset_bytes, uint64_t data_bytes,
		  struct ckpt_npy_header *out)
{
	CKPT_FREE uint64_t *shape = array_alloc(num_max(literal->dim_count, 1), sizeof(*shape));
	CKPT_FREE uint64_t *stride = NULL;
	uint64_t bytes;

	if (ckpt_shape_bytes(literal->dtype, literal->extents, literal->dim_count, &bytes) < 0)
		return refuse(literal, "its size overflows");
	if (bytes != data_bytes)
		return ckpt_err_set(literal->err, -EBADMSG,
				    "its header describes %" PRIu64
				    " bytes of data, it has %" PRIu64
				    "; it is truncated, or bytes follow",
				    bytes, data_bytes);
	if (literal->is_fortran && literal->dim_count > 1 && bytes > 0) {
		stride = array_alloc(literal->dim_count, sizeof(*stride));
		if (stride)
			fill_strides(literal, stride);
		else
			return ckpt_err_sys(literal->err, -ENOMEM, "cannot keep its strides");
	}
	if (!shape)
		return ckpt_err_sys(literal->err, -ENOMEM, "cannot keep its shape");
	memcpy(shape, literal->extents, literal->dim_count * sizeof(*shape));
	*out = (struct ckpt_npy_header){ .dim_count = literal->dim_count,
					 .shape = ckpt_steal_ptr(&shape),
					 .stride = ckpt_steal_ptr(&stride),
					 .offset_bytes = offset_bytes };
	memcpy(out->dtype, literal->dtype, sizeof(out->dtype));
	return 0;
}

/* Bytes of everything before the text, and of the text, from the first bytes of the file. */
static int take_prefix(const unsigned char *data, size_t len_bytes, size_t *out_prefix,
		       size_t *out_text, struct ckpt_err *err)
{
	bool is_short;

	if (len_bytes < NPY_VERSION_BYTES + 2 || memcmp(data, NPY_MAGIC, NPY_MAGIC_BYTES) != 0)
		return ckpt_err_set(err, -EBADMSG, "it does not begin as one");
	if (data[6] < 1 || data[6] > 3 || data[7] != 0)
		return ckpt_err_set(err, -EBADMSG,
				    "its version is %d.%d, known are 1.0, 2.0 and 3.0", data[6],
				    data[7]);
	is_short = data[6] == 1;
	*out_prefix = NPY_VERSION_BYTES + (is_short ? 2 : 4);
	if (len_bytes < *out_prefix)
		return ckpt_err_set(err, -EBADMSG, "it ends inside its header; it is truncated");
	*out_text = data[8] | (size_t)data[9] << 8;
	if (!is_short)
		*out_text |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
	if (*out_text > NPY_TEXT_MAX)
		return ckpt_err_set(err, -EBADMSG, "its header is longer than 64 KiB");
	return 0;
}

static int parse(const unsigned char *data, size_t len_bytes, uint64_t file_bytes,
		 struct ckpt_npy_header *out, struct ckpt_err *err)
{
	struct literal literal = { .err = err };
	size_t prefix_bytes = 0;
	size_t text_bytes = 0;
	int rc = take_prefix(data, len_bytes, &prefix_bytes, &text_bytes, err);

	if (rc < 0)
		return rc;
	if (len_bytes - prefix_bytes < text_bytes || file_bytes < prefix_bytes + text_bytes)
		return refuse(&literal, "it ends inside its header; it is truncated");
	literal.at = (const char *)data + prefix_bytes;
	literal.end = literal.at + text_bytes;
	if (text_bytes == 0 || literal.end[-1] != '\n')
		return refuse(&literal, "its header does not end with a line's end");
	rc = take_dict(&literal);
	if (rc < 0)
		return rc;
	return finish(&literal, prefix_bytes + text_bytes, file_bytes - prefix_bytes - text_bytes,
		      out);
}

int ckpt_npy_parse(const void *data, size_t len_bytes, uint64_t file_bytes, const char *label,
		   struct ckpt_npy_header *out, struct ckpt_err *err)
{
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc;

	assert(data && out);
	rc = parse(data, len_bytes, file_bytes, out, &why);
	return rc < 0 ? ckpt_err_set(err, rc, "'%s' is not a .npy that can be read: %s", label,
				     why.msg)
		      : 0;
}

int ckpt_npy_read(int fd, uint64_t offset, uint64_t len_bytes, const char *label,
		  struct ckpt_npy_header *out, struct ckpt_err *err)
{
	size_t want = num_min(len_bytes, NPY_PREFIX_MAX + NPY_TEXT_MAX);
	size_t got = 0;
	CKPT_FREE unsigned char *data = NULL;
	uint64_t end;
	int rc;

	if (!num_add(offset, len_bytes, &end) || end > INT64_MAX)
		return ckpt_err_set(err, -EBADMSG, "'%s' would end behind the largest file", label);
	data = malloc(num_max(want, 1));
	if (!data)
		return ckpt_err_sys(err, -ENOMEM, "cannot read '%s'", label);
	/* One page holds nearly every header. */
	rc = ckpt_io_pread_full(fd, data, num_min(want, 4096), offset, &got);
	if (rc == 0 && got == 4096 && want > got) {
		size_t more = 0;

		rc = ckpt_io_pread_full(fd, data + got, want - got, offset + got, &more);
		got += more;
	}
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read '%s'", label);
	rc = ckpt_npy_parse(data, got, len_bytes, label, out, err);
	if (rc == 0)
		out->offset_bytes += offset;
	return rc;
}
