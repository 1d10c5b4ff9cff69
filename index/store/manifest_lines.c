/*
 * manifest_lines.c - one line of a manifest, taken apart and checked by itself.
 * Everything here comes from outside. Source: ckptfs-format(5) "The manifest".
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "db/db.h"
#include "store/manifest_internal.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Ranks are ints to MPI. */
#define RANK_MAX INT32_MAX
/* PATH_MAX without its NUL. */
#define TARGET_MAX 4095
#define MODE_DIGITS 4

int ckpt_manifest_copy(const char *text, char **out, struct ckpt_err *err)
{
	*out = strdup(text);
	if (!*out)
		return ckpt_err_sys(err, -ENOMEM, "cannot read it");
	return 0;
}

/* A rule of names that was broken is damage of the manifest. */
static int damaged(int rc)
{
	return rc < 0 ? -EBADMSG : 0;
}

/* --- the header -------------------------------------------------------------- */

/* The shortest decimal that reads back as @value: 0.1, not 0.10000000000000001. */
static void print_real(double value, struct ckpt_buf *out)
{
	char text[40];
	bool is_integer;

	for (int digits = 15; digits <= 17; digits++) {
		(void)snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	is_integer = strspn(text, "-0123456789") == strlen(text);
	/* The decimal point is the locale's, and the program is not only ours. */
	for (char *c = text; *c != '\0'; c++) {
		if (!strchr("+-0123456789e", *c))
			*c = '.';
	}
	ckpt_buf_add_str(out, text);
	if (is_integer)
		ckpt_buf_add_str(out, ".0");
}

/* Print one member of "meta", which must be a scalar, behind those printed before. */
static int print_meta_member(void *ctx, const char *key, const struct ckpt_json *value)
{
	struct ckpt_buf *out = ctx;
	enum ckpt_json_kind kind = ckpt_json_kind(value);

	if (kind == CKPT_JSON_ARRAY || kind == CKPT_JSON_OBJECT)
		return -EBADMSG;
	if (out->len_bytes > 1)
		ckpt_buf_add_char(out, ',');
	ckpt_buf_add_json_str(out, key);
	ckpt_buf_add_char(out, ':');
	if (kind == CKPT_JSON_REAL)
		print_real(ckpt_json_real(value), out);
	else
		ckpt_json_print(value, out);
	return 0;
}

static int take_meta(const struct ckpt_json *meta, char **out, struct ckpt_err *err)
{
	struct ckpt_buf text;

	ckpt_buf_init(&text);
	ckpt_buf_add_char(&text, '{');
	if (ckpt_json_each(meta, print_meta_member, &text) < 0) {
		ckpt_buf_release(&text);
		return ckpt_err_set(err, -EBADMSG,
				    "key 'meta' must hold strings, numbers, booleans and null");
	}
	ckpt_buf_add_char(&text, '}');
	*out = ckpt_buf_steal(&text);
	return *out ? 0 : ckpt_err_sys(err, -ENOMEM, "cannot read it");
}

static int check_time(const char *key, const char *text, char out[CKPT_RFC3339_SIZE],
		      struct ckpt_err *err)
{
	if (ckpt_clock_check_rfc3339(text) < 0)
		return ckpt_err_set(err, -EBADMSG,
				    "key '%s' is no time of the form "
				    "YYYY-MM-DDThh:mm:ss.nnnnnnnnnZ",
				    key);
	memcpy(out, text, CKPT_RFC3339_SIZE);
	return 0;
}

static int check_head_numbers(const struct ckpt_manifest_head *head, struct ckpt_err *err)
{
	if (head->seq < 1 || head->seq > CKPT_SEQ_MAX)
		return ckpt_err_set(err, -EBADMSG, "key 'seq' must be 1 to %" PRIu64, CKPT_SEQ_MAX);
	if (head->has_step && head->step > CKPT_STEP_MAX)
		return ckpt_err_set(err, -EBADMSG, "key 'step' must be at most 2^53");
	if (head->has_world_size &&
	    (head->world_size < 1 || head->world_size > CKPT_WORLD_SIZE_MAX))
		return ckpt_err_set(err, -EBADMSG, "key 'world_size' must be 1 to 2^31");
	return 0;
}

/* The texts of a header, borrowed from the document. */
struct head_texts {
	const char *id;
	const char *name;
	const char *created;
	const char *committed;
	const char *writer;
	const struct ckpt_json *meta;
};

static int take_head_texts(const struct head_texts *texts, struct ckpt_manifest_head *out,
			   struct ckpt_err *err)
{
	int rc;

	if (ckpt_uuid_check(texts->id) < 0)
		return ckpt_err_set(err, -EBADMSG, "key 'id' is no UUID in lower case");
	memcpy(out->id, texts->id, sizeof(out->id));
	rc = damaged(ckpt_path_check_name(texts->name, err));
	if (rc == 0)
		rc = check_time("created", texts->created, out->created, err);
	if (rc == 0)
		rc = check_time("committed", texts->committed, out->committed, err);
	if (rc == 0 && !ckpt_path_is_utf8(texts->writer, strlen(texts->writer)))
		rc = ckpt_err_set(err, -EBADMSG, "key 'writer' holds control characters");
	if (rc == 0)
		rc = take_meta(texts->meta, &out->meta, err);
	if (rc == 0)
		rc = ckpt_manifest_copy(texts->name, &out->name, err);
	if (rc == 0)
		rc = ckpt_manifest_copy(texts->writer, &out->writer, err);
	return rc;
}

static int parse_head_object(const struct ckpt_json *object, struct ckpt_manifest_head *out,
			     struct ckpt_err *err)
{
	struct head_texts texts = { 0 };
	uint64_t version = 0;
	const struct ckpt_json_field fields[] = {
		{ "ckptfs", CKPT_FIELD_U64, &version, NULL },
		{ "id", CKPT_FIELD_STRING, &texts.id, NULL },
		{ "name", CKPT_FIELD_STRING, &texts.name, NULL },
		{ "seq", CKPT_FIELD_U64, &out->seq, NULL },
		{ "step", CKPT_FIELD_U64, &out->step, &out->has_step },
		{ "world_size", CKPT_FIELD_U64, &out->world_size, &out->has_world_size },
		{ "created", CKPT_FIELD_STRING, &texts.created, NULL },
		{ "committed", CKPT_FIELD_STRING, &texts.committed, NULL },
		{ "writer", CKPT_FIELD_STRING, &texts.writer, NULL },
		{ "meta", CKPT_FIELD_OBJECT, &texts.meta, NULL },
	};
	int rc = ckpt_json_decode(object, fields, COUNT_OF(fields), err);

	if (rc < 0)
		return rc;
	if (version != CKPT_MANIFEST_VERSION)
		return ckpt_err_set(err, -EBADMSG, "there is no format %" PRIu64, version);
	rc = check_head_numbers(out, err);
	if (rc == 0)
		rc = take_head_texts(&texts, out, err);
	return rc;
}

/*
 * JSON allows white space around the object; the format does not, so that a line has one spelling
 * less.
 */
static int parse_object(const char *text, size_t len_bytes, struct ckpt_json **out,
			struct ckpt_err *err)
{
	if (len_bytes == 0)
		return ckpt_err_set(err, -EBADMSG, "the line is empty");
	if (text[len_bytes - 1] == '\r')
		return ckpt_err_set(err, -EBADMSG, "the line ends with CR LF, it must end with LF");
	if (text[0] != '{' || text[len_bytes - 1] != '}')
		return ckpt_err_set(err, -EBADMSG, "the line is not one JSON object");
	return ckpt_json_parse(text, len_bytes, out, err);
}

int ckpt_manifest_parse_head(const char *text, size_t len_bytes, struct ckpt_manifest_head *out,
			     struct ckpt_err *err)
{
	struct ckpt_json *object = NULL;
	int rc = parse_object(text, len_bytes, &object, err);

	if (rc == 0)
		rc = parse_head_object(object, out, err);
	ckpt_json_free(object);
	return rc;
}

uint64_t ckpt_manifest_parse_version(const char *text, size_t len_bytes)
{
	struct ckpt_json *object = NULL;
	const struct ckpt_json *value;
	uint64_t version = 0;

	if (parse_object(text, len_bytes, &object, NULL) < 0)
		return 0;
	value = ckpt_json_get(object, "ckptfs");
	if (value && ckpt_json_kind(value) == CKPT_JSON_INT && ckpt_json_int(value) > 0)
		version = (uint64_t)ckpt_json_int(value);
	ckpt_json_free(object);
	return version;
}

/* --- folders, shards, symlinks ---------------------------------------------------- */

static int take_path(const char *path, char **out, struct ckpt_err *err)
{
	int rc = damaged(ckpt_path_check_entry(path, err));

	return rc < 0 ? rc : ckpt_manifest_copy(path, out, err);
}

static int take_mode(const char *text, uint32_t *out, struct ckpt_err *err)
{
	uint32_t mode = 0;

	if (strlen(text) != MODE_DIGITS || strspn(text, "01234567") != MODE_DIGITS)
		return ckpt_err_set(err, -EBADMSG, "key 'mode' must be four octal digits");
	for (size_t i = 0; i < MODE_DIGITS; i++)
		mode = mode * 8 + (uint32_t)(text[i] - '0');
	*out = mode;
	return 0;
}

static int parse_dir(const struct ckpt_json *object, struct ckpt_manifest_dir *out,
		     struct ckpt_err *err)
{
	const char *path = NULL;
	const char *mode = NULL;
	const struct ckpt_json_field fields[] = {
		{ "dir", CKPT_FIELD_STRING, &path, NULL },
		{ "mode", CKPT_FIELD_STRING, &mode, NULL },
	};
	int rc = ckpt_json_decode(object, fields, COUNT_OF(fields), err);

	if (rc == 0)
		rc = take_mode(mode, &out->mode, err);
	if (rc == 0)
		rc = take_path(path, &out->path, err);
	return rc;
}

/* Members of a shard line that are no numbers, borrowed from the document. */
struct shard_texts {
	const char *path;
	const char *mode;
	const char *xxh128;
	const char *sums;
	const struct ckpt_json *at;
	bool has_at;
};

static int take_sums(const char *hex, struct ckpt_shard *out, struct ckpt_err *err)
{
	uint64_t count;

	if (out->block_bytes != ckpt_block_bytes_for(out->size_bytes))
		return ckpt_err_set(err, -EBADMSG,
				    "key 'block' must be %" PRIu64 " for a shard of this size",
				    ckpt_block_bytes_for(out->size_bytes));
	count = ckpt_block_count(out->size_bytes, out->block_bytes);
	if (strlen(hex) != count * CKPT_HEX64_LEN)
		return ckpt_err_set(err, -EBADMSG,
				    "key 'xxh3' must hold %" PRIu64 " sums of 16 hex digits",
				    count);
	if (count == 0)
		return 0;
	out->sums = array_alloc(count, sizeof(*out->sums));
	if (!out->sums)
		return ckpt_err_sys(err, -ENOMEM, "cannot read it");
	for (uint64_t i = 0; i < count; i++) {
		if (ckpt_hex64_parse(hex + i * CKPT_HEX64_LEN, &out->sums[i]) < 0)
			return ckpt_err_set(err, -EBADMSG,
					    "key 'xxh3' must be hex digits in lower case");
	}
	return 0;
}

/* "xxh128", where there is one. */
static int take_digest(const char *hex, struct ckpt_shard *out, struct ckpt_err *err)
{
	if (!out->has_xxh128)
		return 0;
	if (strlen(hex) != CKPT_HEX128_LEN || ckpt_hex128_parse(hex, &out->xxh128) < 0)
		return ckpt_err_set(err, -EBADMSG,
				    "key 'xxh128' must be 32 hex digits in lower case");
	return 0;
}

static int take_place(const struct ckpt_json *at, struct ckpt_shard *out, struct ckpt_err *err)
{
	const char *file = NULL;
	uint64_t end;
	const struct ckpt_json_field fields[] = {
		{ "file", CKPT_FIELD_STRING, &file, NULL },
		{ "offset", CKPT_FIELD_U64, &out->pack_offset_bytes, NULL },
	};
	int rc = ckpt_json_decode(at, fields, COUNT_OF(fields), err);

	if (rc < 0)
		return ckpt_err_prefix(err, rc, "key 'at'");
	rc = damaged(ckpt_path_check_pack(file, err));
	if (rc < 0)
		return rc;
	if (!num_add(out->pack_offset_bytes, out->size_bytes, &end) || end > INT64_MAX)
		return ckpt_err_set(err, -EBADMSG, "its place in the pack overflows");
	return ckpt_manifest_copy(file, &out->pack, err);
}

static int take_shard_texts(const struct shard_texts *texts, struct ckpt_shard *out,
			    struct ckpt_err *err)
{
	int rc;

	if (out->has_rank && out->rank > RANK_MAX)
		return ckpt_err_set(err, -EBADMSG, "key 'rank' must be below 2^31");
	rc = take_mode(texts->mode, &out->mode, err);
	if (rc == 0)
		rc = take_digest(texts->xxh128, out, err);
	if (rc == 0)
		rc = take_sums(texts->sums, out, err);
	if (rc == 0 && texts->has_at)
		rc = take_place(texts->at, out, err);
	if (rc == 0)
		rc = take_path(texts->path, &out->path, err);
	return rc;
}

static int parse_shard(const struct ckpt_json *object, struct ckpt_shard *out, struct ckpt_err *err)
{
	struct shard_texts texts = { 0 };
	const struct ckpt_json_field fields[] = {
		{ "shard", CKPT_FIELD_STRING, &texts.path, NULL },
		{ "size", CKPT_FIELD_U64, &out->size_bytes, NULL },
		{ "mode", CKPT_FIELD_STRING, &texts.mode, NULL },
		{ "mtime_ns", CKPT_FIELD_I64, &out->mtime_ns, NULL },
		{ "rank", CKPT_FIELD_U64, &out->rank, &out->has_rank },
		{ "xxh128", CKPT_FIELD_STRING, &texts.xxh128, &out->has_xxh128 },
		{ "block", CKPT_FIELD_U64, &out->block_bytes, NULL },
		{ "xxh3", CKPT_FIELD_STRING, &texts.sums, NULL },
		{ "at", CKPT_FIELD_OBJECT, &texts.at, &texts.has_at },
	};
	int rc = ckpt_json_decode(object, fields, COUNT_OF(fields), err);

	return rc < 0 ? rc : take_shard_texts(&texts, out, err);
}

static int parse_symlink(const struct ckpt_json *object, struct ckpt_symlink *out,
			 struct ckpt_err *err)
{
	const char *path = NULL;
	const char *target = NULL;
	const struct ckpt_json_field fields[] = {
		{ "symlink", CKPT_FIELD_STRING, &path, NULL },
		{ "target", CKPT_FIELD_STRING, &target, NULL },
	};
	int rc = ckpt_json_decode(object, fields, COUNT_OF(fields), err);
	size_t len_bytes;

	if (rc < 0)
		return rc;
	len_bytes = strlen(target);
	if (len_bytes < 1 || len_bytes > TARGET_MAX || !ckpt_path_is_utf8(target, len_bytes))
		return ckpt_err_set(err, -EBADMSG,
				    "key 'target' must be 1 to 4095 bytes of UTF-8 "
				    "without control characters");
	rc = take_path(path, &out->path, err);
	if (rc == 0)
		rc = ckpt_manifest_copy(target, &out->target, err);
	return rc;
}

/* --- any line -------------------------------------------------------------------- */

/* "shard" comes first, as most lines are; a bytes entry has that key too. -EBADMSG. */
static int find_kind(const struct ckpt_json *object, enum ckpt_line_kind *out, struct ckpt_err *err)
{
	static const struct {
		const char *key;
		enum ckpt_line_kind kind;
	} kinds[] = {
		{ "dir", CKPT_LINE_DIR },
		{ "symlink", CKPT_LINE_SYMLINK },
		{ "tensor", CKPT_LINE_TENSOR },
		{ "bytes", CKPT_LINE_BYTES },
	};

	if (ckpt_json_get(object, "shard")) {
		*out = ckpt_json_get(object, "bytes") ? CKPT_LINE_BYTES : CKPT_LINE_SHARD;
		return 0;
	}
	for (size_t i = 0; i < COUNT_OF(kinds); i++) {
		if (ckpt_json_get(object, kinds[i].key)) {
			*out = kinds[i].kind;
			return 0;
		}
	}
	if (ckpt_json_get(object, "end"))
		return ckpt_err_set(err, -EBADMSG, "an end line before the last line");
	if (ckpt_json_get(object, "ckptfs"))
		return ckpt_err_set(err, -EBADMSG, "a header behind the first line");
	return ckpt_err_set(err, -EBADMSG, "a line of an unknown kind");
}

static int parse_kind(const struct ckpt_json *object, struct ckpt_manifest_line *out,
		      struct ckpt_err *err)
{
	switch (out->kind) {
	case CKPT_LINE_DIR:
		return parse_dir(object, &out->dir, err);
	case CKPT_LINE_SHARD:
		return parse_shard(object, &out->shard, err);
	case CKPT_LINE_SYMLINK:
		return parse_symlink(object, &out->symlink, err);
	case CKPT_LINE_TENSOR:
		return ckpt_manifest_parse_tensor(object, &out->tensor, err);
	case CKPT_LINE_BYTES:
		return ckpt_manifest_parse_bytes(object, &out->bytes, err);
	case CKPT_LINE_KIND_COUNT:
		break;
	}
	return -EINVAL;
}

void ckpt_manifest_line_release(struct ckpt_manifest_line *line)
{
	switch (line->kind) {
	case CKPT_LINE_DIR:
		free(line->dir.path);
		break;
	case CKPT_LINE_SHARD:
		ckpt_shard_release(&line->shard);
		break;
	case CKPT_LINE_SYMLINK:
		free(line->symlink.path);
		free(line->symlink.target);
		break;
	case CKPT_LINE_TENSOR:
		ckpt_tensor_release(&line->tensor);
		break;
	case CKPT_LINE_BYTES:
		ckpt_bytes_entry_release(&line->bytes);
		break;
	case CKPT_LINE_KIND_COUNT:
		break;
	}
	*line = (struct ckpt_manifest_line){ 0 };
}

int ckpt_manifest_parse_line(const char *text, size_t len_bytes, struct ckpt_manifest_line *out,
			     struct ckpt_err *err)
{
	struct ckpt_manifest_line line = { 0 };
	struct ckpt_json *object = NULL;
	int rc = parse_object(text, len_bytes, &object, err);

	if (rc == 0)
		rc = find_kind(object, &line.kind, err);
	if (rc == 0)
		rc = parse_kind(object, &line, err);
	ckpt_json_free(object);
	if (rc < 0) {
		ckpt_manifest_line_release(&line);
		return rc;
	}
	*out = line;
	return 0;
}

/* --- the end line ------------------------------------------------------------------ */

/* Printed again and compared, so that there is one spelling of it. */
static int compare_end(const struct ckpt_manifest_end *end, const char *text, size_t len_bytes,
		       struct ckpt_err *err)
{
	struct ckpt_buf again;
	bool same;

	ckpt_buf_init(&again);
	ckpt_manifest_print_end(end, &again);
	same = again.len_bytes == len_bytes && memcmp(again.data, text, len_bytes) == 0;
	ckpt_buf_release(&again);
	if (!same)
		return ckpt_err_set(err, -EBADMSG, "its end line is not spelled as a writer does");
	return 0;
}

int ckpt_manifest_parse_end(const char *text, size_t len_bytes, struct ckpt_manifest_end *out,
			    struct ckpt_err *err)
{
	struct ckpt_json *object = NULL;
	struct ckpt_manifest_end end;
	const char *hex = NULL;
	bool is_end = false;
	const struct ckpt_json_field fields[] = {
		{ "end", CKPT_FIELD_BOOL, &is_end, NULL },
		{ "shards", CKPT_FIELD_U64, &end.shard_count, NULL },
		{ "tensors", CKPT_FIELD_U64, &end.tensor_count, NULL },
		{ "xxh128", CKPT_FIELD_STRING, &hex, NULL },
	};
	int rc = ckpt_json_parse(text, len_bytes, &object, err);

	if (rc == 0)
		rc = ckpt_json_decode(object, fields, COUNT_OF(fields), err);
	if (rc == 0 && ckpt_hex128_parse(hex, &end.xxh128) < 0)
		rc = ckpt_err_set(err, -EBADMSG, "key 'xxh128' must be 32 hex digits");
	ckpt_json_free(object);
	if (rc < 0)
		return ckpt_err_prefix(err, rc, "its last line is no end line");
	rc = compare_end(&end, text, len_bytes, err);
	if (rc == 0)
		*out = end;
	return rc;
}
