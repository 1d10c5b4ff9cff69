/*
 * manifest_internal.h - what the files manifest_*.c share among themselves.
 * May be included only by index/store/manifest*.c.
 *
 * A manifest passes three stations: manifest_read.c checks the end line and the sum and cuts lines,
 * manifest_lines.c (and manifest_tensors.c) take one line apart and check what it says by itself,
 * manifest_rules.c checks lines against those before. Reasons are filed without the name of the
 * manifest; manifest_read.c puts it and the line's number in front.
 */
#ifndef CKPT_STORE_MANIFEST_INTERNAL_H
#define CKPT_STORE_MANIFEST_INTERNAL_H

#include <sys/stat.h>

#include "base/json.h"
#include "store/manifest.h"

/* The header is read by every look at a checkpoint, so that it stays small. */
#define CKPT_MANIFEST_HEAD_MAX ((size_t)1024 * 1024)

/* Kinds of line between header and end line, in the order of the format. */
enum ckpt_line_kind {
	CKPT_LINE_DIR,
	CKPT_LINE_SHARD,
	CKPT_LINE_SYMLINK,
	CKPT_LINE_TENSOR,
	CKPT_LINE_BYTES,
	CKPT_LINE_KIND_COUNT,
};

/*
 * One line, taken apart; `kind` says which member holds it. Owned: see ckpt_manifest_line_release.
 */
struct ckpt_manifest_line {
	enum ckpt_line_kind kind;
	union {
		struct ckpt_manifest_dir dir;
		struct ckpt_shard shard;
		struct ckpt_symlink symlink;
		struct ckpt_tensor tensor;
		struct ckpt_bytes_entry bytes;
	};
};

/* The end line. */
struct ckpt_manifest_end {
	uint64_t shard_count;
	uint64_t tensor_count; /* tensor and bytes lines */
	struct ckpt_digest xxh128;
};

/* --- manifest_lines.c, manifest_tensors.c: -EBADMSG with the reason; -ENOMEM ----------------- */

/**
 * ckpt_manifest_parse_version - the format's version, if @text looks like a header at all; else 0.
 */
uint64_t ckpt_manifest_parse_version(const char *text, size_t len_bytes);
/** ckpt_manifest_parse_head - @out is released by the caller also on failure. */
int ckpt_manifest_parse_head(const char *text, size_t len_bytes, struct ckpt_manifest_head *out,
			     struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_manifest_parse_line - @text without its LF; @out is untouched on failure. */
int ckpt_manifest_parse_line(const char *text, size_t len_bytes, struct ckpt_manifest_line *out,
			     struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_manifest_line_release(struct ckpt_manifest_line *line);
/**
 * ckpt_manifest_parse_end - @text with its LF; anything but what ckpt_manifest_print_end prints is
 * refused.
 */
int ckpt_manifest_parse_end(const char *text, size_t len_bytes, struct ckpt_manifest_end *out,
			    struct ckpt_err *err) CKPT_MUST_CHECK;
int ckpt_manifest_parse_tensor(const struct ckpt_json *object, struct ckpt_tensor *out,
			       struct ckpt_err *err) CKPT_MUST_CHECK;
int ckpt_manifest_parse_bytes(const struct ckpt_json *object, struct ckpt_bytes_entry *out,
			      struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_manifest_copy - strdup into @out; -ENOMEM is filed. */
int ckpt_manifest_copy(const char *text, char **out, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_chunk_end_bytes - first byte of its shard behind @chunk of @tensor; -EOVERFLOW. */
int ckpt_chunk_end_bytes(const struct ckpt_tensor *tensor, const struct ckpt_chunk *chunk,
			 uint64_t *out) CKPT_MUST_CHECK;

/* --- manifest_rules.c ------------------------------------------------------------------------- */

struct ckpt_manifest_rules; /* what has been seen of one manifest so far */

struct ckpt_manifest_rules *ckpt_manifest_rules_new(void);
void ckpt_manifest_rules_free(struct ckpt_manifest_rules *rules);
/** ckpt_manifest_rules_check - may @line stand behind those checked so far? -EBADMSG; -ENOMEM. */
int ckpt_manifest_rules_check(struct ckpt_manifest_rules *rules, uint32_t line_number,
			      const struct ckpt_manifest_line *line, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** ckpt_manifest_rules_finish - what can only be said at the end: counts, and overlaps in packs. */
int ckpt_manifest_rules_finish(struct ckpt_manifest_rules *rules,
			       const struct ckpt_manifest_end *end, struct ckpt_err *err)
	CKPT_MUST_CHECK;

/* --- manifest_read.c, manifest_write.c ---------------------------------------------------- */

/* Where the bytes of a manifest come from: @text if it is not NULL, else @fd. */
struct ckpt_manifest_source {
	int fd;
	const char *text;
	uint64_t size_bytes;
	const char *label; /* the checkpoint, as messages name it */
};

/**
 * ckpt_manifest_scan - check a manifest and hand out its lines, the caller's to change or to keep
 * @head, @line: as in struct ckpt_manifest_visitor; what they take over they set to zero
 */
int ckpt_manifest_scan(const struct ckpt_manifest_source *source,
		       int (*head)(void *ctx, struct ckpt_manifest_head *head,
				   struct ckpt_err *err),
		       int (*line)(void *ctx, uint32_t number, struct ckpt_manifest_line *line,
				   struct ckpt_err *err),
		       void *ctx, struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * ckpt_manifest_open - the manifest below @dirfd; *@out_st tells its stamps. Negative, or the
 * descriptor.
 */
int ckpt_manifest_open(int dirfd, const char *label, struct stat *out_st, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/** ckpt_manifest_print_end - the end line with its LF. */
void ckpt_manifest_print_end(const struct ckpt_manifest_end *end, struct ckpt_buf *out);

#endif
