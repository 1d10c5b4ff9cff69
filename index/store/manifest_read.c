/*
 * manifest_read.c - a manifest from its file: version, end line, sum, then line after line.
 *
 * The file is read, never mapped: one that becomes shorter meanwhile is an error, not a SIGBUS. It
 * is read twice, once for the sum and once for the lines; the second pass is summed too, so that
 * what was handed out is what was checked. Rules are in manifest_lines.c and manifest_rules.c.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/num.h"
#include "store/manifest_internal.h"

/* No end line is longer: two numbers of 20 digits, 32 of the sum, and the keys. */
#define END_MAX 256
/* A header has some hundred bytes: who wants only that reads no more than this at once. */
#define HEAD_CHUNK ((size_t)16 * 1024)

/* --- messages --------------------------------------------------------------------- */

/*
 * File @err again as "'LABEL/.ckptfs/manifest.jsonl': line N: REASON", without the line where it is
 * 0, and with what to do about damage. Returns @code.
 */
static int locate(const struct ckpt_manifest_source *source, uint32_t line, int code,
		  struct ckpt_err *err)
{
	const char *remedy = code == -EBADMSG ? "; restore it from a copy of the checkpoint" : "";
	char place[32] = "";

	if (!err)
		return code;
	if (line > 0)
		(void)snprintf(place, sizeof(place), "line %" PRIu32 ": ", line);
	return ckpt_err_set(err, code, "'%s/%s': %s%s%s", source->label, CKPT_MANIFEST_FILE, place,
			    err->msg, remedy);
}

/* --- bytes -------------------------------------------------------------------------- */

/* Exactly @len_bytes bytes at @offset, which lie within the source's size. */
static int source_read(const struct ckpt_manifest_source *source, uint64_t offset, void *out,
		       size_t len_bytes, struct ckpt_err *err)
{
	size_t got = 0;
	int rc;

	assert(offset <= source->size_bytes && len_bytes <= source->size_bytes - offset);
	if (source->text) {
		memcpy(out, source->text + offset, len_bytes);
		return 0;
	}
	rc = ckpt_io_pread_full(source->fd, out, len_bytes, offset, &got);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read it");
	if (got < len_bytes)
		return ckpt_err_set(err, -EBADMSG, "it became shorter while it was read");
	return 0;
}

int ckpt_manifest_open(int dirfd, const char *label, struct stat *out_st, struct ckpt_err *err)
{
	/* O_NONBLOCK: opening a FIFO must not hang. */
	CKPT_CLOSE int fd =
		ckpt_io_open_beneath(dirfd, CKPT_MANIFEST_FILE, O_RDONLY | O_NONBLOCK, 0);
	int rc;

	if (fd == -ENOENT || fd == -ENOTDIR)
		return ckpt_err_set(err, -ENOENT, "'%s' is no committed checkpoint: it has no %s",
				    label, CKPT_MANIFEST_FILE);
	if (fd == -ELOOP)
		return ckpt_err_set(err, -EBADMSG,
				    "'%s/%s': it is, or lies behind, a symbolic link, and none is "
				    "followed; put the file itself there",
				    label, CKPT_MANIFEST_FILE);
	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open '%s/%s'", label, CKPT_MANIFEST_FILE);
	rc = ckpt_io_fstat(fd, out_st);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot read '%s/%s'", label, CKPT_MANIFEST_FILE);
	if (!S_ISREG(out_st->st_mode))
		return ckpt_err_set(err, -EBADMSG,
				    "'%s/%s': it is no regular file; restore it from a copy of "
				    "the checkpoint",
				    label, CKPT_MANIFEST_FILE);
	return ckpt_steal_fd(&fd);
}

/* --- lines --------------------------------------------------------------------------- */

/* A window that moves over the bytes before @end_bytes. */
struct line_reader {
	const struct ckpt_manifest_source *source;
	uint64_t end_bytes;
	uint64_t read_bytes;	  /* how far the source has been read */
	struct ckpt_hash128 *run; /* NULL, or is fed what is read */
	char *window;
	size_t cap_bytes;
	size_t from;	    /* the line at hand begins here … */
	size_t upto;	    /* … and the bytes that were read end here */
	size_t len_max;	    /* of one line */
	size_t chunk_bytes; /* read at once */
};

static void line_reader_release(struct line_reader *reader)
{
	free(reader->window);
}

/* Room behind the bytes at hand: move them to the front, or double the window. */
static int make_room(struct line_reader *reader, struct ckpt_err *err)
{
	size_t held = reader->upto - reader->from;
	size_t cap_bytes;
	char *grown;

	if (held > reader->len_max)
		return ckpt_err_set(err, -EBADMSG, "the line is longer than %zu bytes",
				    reader->len_max);
	if (reader->window && held > 0)
		memmove(reader->window, reader->window + reader->from, held);
	reader->from = 0;
	reader->upto = held;
	if (reader->cap_bytes - held >= reader->chunk_bytes)
		return 0;
	cap_bytes = num_max(reader->cap_bytes * 2, reader->chunk_bytes * 2);
	grown = realloc(reader->window, cap_bytes);
	if (!grown)
		return ckpt_err_sys(err, -ENOMEM, "cannot read it");
	reader->window = grown;
	reader->cap_bytes = cap_bytes;
	return 0;
}

static int refill(struct line_reader *reader, struct ckpt_err *err)
{
	size_t want = num_min(reader->chunk_bytes, reader->end_bytes - reader->read_bytes);
	char *out;
	int rc = make_room(reader, err);

	if (rc < 0)
		return rc;
	out = reader->window + reader->upto;
	rc = source_read(reader->source, reader->read_bytes, out, want, err);
	if (rc < 0)
		return rc;
	if (reader->run)
		ckpt_hash128_update(reader->run, out, want);
	reader->read_bytes += want;
	reader->upto += want;
	return 0;
}

/* The end of the line at hand, whose first @seen bytes hold none; NULL if it was not read yet. */
static const char *find_lf(const struct line_reader *reader, size_t seen)
{
	size_t held = reader->upto - reader->from;

	if (!reader->window || held == seen)
		return NULL;
	return memchr(reader->window + reader->from + seen, '\n', held - seen);
}

/*
 * The next line without its LF, valid until the next call; 1, or 0 at the end. A tail without LF
 * is no line.
 */
static int next_line(struct line_reader *reader, const char **out, size_t *out_len,
		     struct ckpt_err *err)
{
	size_t seen = 0; /* bytes of the line that hold no LF */

	for (;;) {
		const char *lf = find_lf(reader, seen);
		int rc;

		if (lf) {
			*out = reader->window + reader->from;
			*out_len = (size_t)(lf - *out);
			reader->from += *out_len + 1;
			return 1;
		}
		seen = reader->upto - reader->from;
		if (reader->read_bytes == reader->end_bytes)
			return 0;
		rc = refill(reader, err);
		if (rc < 0)
			return rc;
	}
}

/* --- what is judged before any line is believed ---------------------------------------- */

/* A newer format may spell all the rest differently, so that this comes first. */
static int check_version(const struct ckpt_manifest_source *source, struct ckpt_err *err)
{
	struct line_reader reader = {
		.source = source,
		.end_bytes = num_min(source->size_bytes, CKPT_MANIFEST_HEAD_MAX + 1),
		.len_max = CKPT_MANIFEST_HEAD_MAX,
		.chunk_bytes = HEAD_CHUNK,
	};
	const char *text = NULL;
	size_t len_bytes = 0;
	uint64_t version = 0;
	int rc = next_line(&reader, &text, &len_bytes, err);

	if (rc > 0)
		version = ckpt_manifest_parse_version(text, len_bytes);
	line_reader_release(&reader);
	if (rc < 0)
		return rc;
	if (version > CKPT_MANIFEST_VERSION)
		return ckpt_err_set(err, -ENOTSUP,
				    "it was written by a newer ckptfs (format %" PRIu64
				    ", this one knows %d); upgrade ckptfs",
				    version, CKPT_MANIFEST_VERSION);
	return 0;
}

/*
 * Length of the last line of the @len_bytes bytes at @tail, LF included; 0 if there is no whole
 * line.
 */
static size_t last_line(const char *tail, size_t len_bytes)
{
	const char *before;

	if (len_bytes == 0 || tail[len_bytes - 1] != '\n')
		return 0;
	before = memrchr(tail, '\n', len_bytes - 1);
	return before ? (size_t)(tail + len_bytes - before) - 1 : 0;
}

/* Read the end line; *@out_body_bytes is how much lies before it, the last byte of that is LF. */
static int read_end(const struct ckpt_manifest_source *source, struct ckpt_manifest_end *out,
		    uint64_t *out_body_bytes, struct ckpt_err *err)
{
	static const char start[] = "{\"end\":";
	char tail[END_MAX];
	size_t tail_len = num_min(sizeof(tail), source->size_bytes);
	size_t line_len;
	const char *line;
	int rc;

	if (source->size_bytes == 0)
		return ckpt_err_set(err, -EBADMSG, "it is empty");
	rc = source_read(source, source->size_bytes - tail_len, tail, tail_len, err);
	if (rc < 0)
		return rc;
	line_len = last_line(tail, tail_len);
	line = tail + tail_len - line_len;
	if (line_len < sizeof(start) || memcmp(line, start, sizeof(start) - 1) != 0)
		return ckpt_err_set(err, -EBADMSG,
				    "it does not end with an end line: it is "
				    "truncated, or something was appended");
	rc = ckpt_manifest_parse_end(line, line_len, out, err);
	if (rc == 0)
		*out_body_bytes = source->size_bytes - line_len;
	return rc;
}

/* XXH3-128 of the first @len_bytes bytes. */
static int sum_bytes(const struct ckpt_manifest_source *source, uint64_t len_bytes,
		     struct ckpt_hash128 *run, struct ckpt_err *err)
{
	CKPT_FREE char *chunk = NULL;

	if (source->text) {
		ckpt_hash128_update(run, source->text, len_bytes);
		return 0;
	}
	chunk = malloc(num_min(CKPT_IO_CHUNK, len_bytes));
	if (!chunk)
		return ckpt_err_sys(err, -ENOMEM, "cannot read it");
	for (uint64_t at = 0; at < len_bytes;) {
		size_t want = num_min(CKPT_IO_CHUNK, len_bytes - at);
		int rc = source_read(source, at, chunk, want, err);

		if (rc < 0)
			return rc;
		ckpt_hash128_update(run, chunk, want);
		at += want;
	}
	return 0;
}

static int check_digest(const struct ckpt_hash128 *run, const struct ckpt_manifest_end *end,
			const char *reason, struct ckpt_err *err)
{
	struct ckpt_digest found = ckpt_hash128_digest(run);
	char found_hex[CKPT_HEX128_LEN + 1];
	char end_hex[CKPT_HEX128_LEN + 1];

	if (ckpt_digest_equal(found, end->xxh128))
		return 0;
	return ckpt_err_set(err, -EBADMSG, "%s: xxh128 is %s, should be %s", reason,
			    ckpt_hex128(found, found_hex), ckpt_hex128(end->xxh128, end_hex));
}

static int check_sum(const struct ckpt_manifest_source *source, uint64_t body_bytes,
		     const struct ckpt_manifest_end *end, struct ckpt_err *err)
{
	struct ckpt_hash128 *run = ckpt_hash128_new();
	int rc;

	if (!run)
		return ckpt_err_sys(err, -ENOMEM, "cannot read it");
	rc = sum_bytes(source, body_bytes, run, err);
	if (rc == 0)
		rc = check_digest(run, end, "its sum is wrong", err);
	ckpt_hash128_free(run);
	return rc;
}

/* --- the scan ------------------------------------------------------------------------------ */

struct scan {
	const struct ckpt_manifest_source *source;
	struct line_reader reader;
	struct ckpt_manifest_rules *rules;
	struct ckpt_manifest_end end;
	uint32_t line;	/* number of the line at hand; 0 before and after */
	bool handed_on; /* the failure is the caller's own, with its own message */
	struct ckpt_err *err;
};

static int scan_head(struct scan *scan, struct ckpt_manifest_head *head)
{
	const char *text = NULL;
	size_t len_bytes = 0;
	int rc;

	scan->line = 1;
	scan->reader.len_max = CKPT_MANIFEST_HEAD_MAX;
	rc = next_line(&scan->reader, &text, &len_bytes, scan->err);
	if (rc < 0)
		return rc;
	if (rc == 0) /* read_end() has seen a LF before the end line */
		return ckpt_err_set(scan->err, -EBADMSG, "it changed while it was read");
	if (len_bytes > CKPT_MANIFEST_HEAD_MAX)
		return ckpt_err_set(scan->err, -EBADMSG, "the header is longer than %zu bytes",
				    CKPT_MANIFEST_HEAD_MAX);
	scan->reader.len_max = CKPT_MANIFEST_LINE_MAX;
	return ckpt_manifest_parse_head(text, len_bytes, head, scan->err);
}

/* Parse and check the next line into @line; 1, or 0 at the end. */
static int scan_line(struct scan *scan, struct ckpt_manifest_line *line)
{
	const char *text = NULL;
	size_t len_bytes = 0;
	int rc;

	scan->line++;
	rc = next_line(&scan->reader, &text, &len_bytes, scan->err);
	if (rc <= 0)
		return rc;
	if (scan->line >= CKPT_MANIFEST_LINES_MAX)
		return ckpt_err_set(scan->err, -EBADMSG, "it has too many lines");
	if (len_bytes > CKPT_MANIFEST_LINE_MAX)
		return ckpt_err_set(scan->err, -EBADMSG, "the line is longer than %zu bytes",
				    CKPT_MANIFEST_LINE_MAX);
	rc = ckpt_manifest_parse_line(text, len_bytes, line, scan->err);
	if (rc < 0)
		return rc;
	rc = ckpt_manifest_rules_check(scan->rules, scan->line, line, scan->err);
	if (rc == 0)
		return 1;
	ckpt_manifest_line_release(line);
	return rc;
}

/* All lines behind the header. */
static int scan_lines(struct scan *scan,
		      int (*handler)(void *ctx, uint32_t number, struct ckpt_manifest_line *line,
				     struct ckpt_err *err),
		      void *ctx)
{
	for (;;) {
		struct ckpt_manifest_line line;
		int rc = scan_line(scan, &line);

		if (rc <= 0)
			return rc;
		rc = handler(ctx, scan->line, &line, scan->err);
		ckpt_manifest_line_release(&line);
		if (rc != 0) {
			scan->handed_on = true;
			return rc;
		}
	}
}

/* What can be said when the last line was read. */
static int scan_finish(struct scan *scan)
{
	int rc;

	scan->line = 0;
	rc = check_digest(scan->reader.run, &scan->end, "it changed while it was read", scan->err);
	if (rc == 0)
		rc = ckpt_manifest_rules_finish(scan->rules, &scan->end, scan->err);
	return rc;
}

/* Everything that is judged before the first line; sets the reader up behind it. */
static int scan_begin(struct scan *scan)
{
	uint64_t body_bytes = 0;
	int rc;

	rc = check_version(scan->source, scan->err);
	if (rc == 0)
		rc = read_end(scan->source, &scan->end, &body_bytes, scan->err);
	if (rc == 0)
		rc = check_sum(scan->source, body_bytes, &scan->end, scan->err);
	if (rc < 0)
		return rc;
	scan->reader.source = scan->source;
	scan->reader.end_bytes = body_bytes;
	scan->reader.chunk_bytes = CKPT_IO_CHUNK;
	scan->reader.run = ckpt_hash128_new();
	scan->rules = ckpt_manifest_rules_new();
	if (!scan->reader.run || !scan->rules)
		return ckpt_err_sys(scan->err, -ENOMEM, "cannot read it");
	return 0;
}

int ckpt_manifest_scan(const struct ckpt_manifest_source *source,
		       int (*head)(void *ctx, struct ckpt_manifest_head *head,
				   struct ckpt_err *err),
		       int (*line)(void *ctx, uint32_t number, struct ckpt_manifest_line *line,
				   struct ckpt_err *err),
		       void *ctx, struct ckpt_err *err)
{
	struct ckpt_manifest_head parsed = { 0 };
	struct scan scan = { .source = source, .err = err };
	int rc = scan_begin(&scan);

	if (rc == 0)
		rc = scan_head(&scan, &parsed);
	if (rc == 0) {
		rc = head(ctx, &parsed, err);
		scan.handed_on = rc != 0;
	}
	if (rc == 0)
		rc = scan_lines(&scan, line, ctx);
	if (rc == 0)
		rc = scan_finish(&scan);
	ckpt_manifest_head_release(&parsed);
	ckpt_manifest_rules_free(scan.rules);
	ckpt_hash128_free(scan.reader.run);
	line_reader_release(&scan.reader);
	if (rc < 0 && !scan.handed_on)
		return locate(source, scan.line, rc, err);
	return rc;
}

/* --- visiting ----------------------------------------------------------------------------- */

static int visit_head(void *ctx, struct ckpt_manifest_head *head, struct ckpt_err *err)
{
	const struct ckpt_manifest_visitor *visitor = ctx;

	return visitor->head ? visitor->head(visitor->ctx, head, err) : 0;
}

static int visit_line(void *ctx, uint32_t number, struct ckpt_manifest_line *line,
		      struct ckpt_err *err)
{
	const struct ckpt_manifest_visitor *v = ctx;

	switch (line->kind) {
	case CKPT_LINE_DIR:
		return v->dir ? v->dir(v->ctx, number, &line->dir, err) : 0;
	case CKPT_LINE_SHARD:
		return v->shard ? v->shard(v->ctx, number, &line->shard, err) : 0;
	case CKPT_LINE_SYMLINK:
		return v->symlink ? v->symlink(v->ctx, number, &line->symlink, err) : 0;
	case CKPT_LINE_TENSOR:
		return v->tensor ? v->tensor(v->ctx, number, &line->tensor, err) : 0;
	case CKPT_LINE_BYTES:
		return v->bytes ? v->bytes(v->ctx, number, &line->bytes, err) : 0;
	case CKPT_LINE_KIND_COUNT:
		break;
	}
	return 0;
}

int ckpt_manifest_visit(int dirfd, const char *label, const struct ckpt_manifest_visitor *visitor,
			struct ckpt_err *err)
{
	struct ckpt_manifest_visitor copy = *visitor;
	struct stat st = { 0 };
	CKPT_CLOSE int fd = ckpt_manifest_open(dirfd, label, &st, err);
	struct ckpt_manifest_source source = { .fd = fd, .label = label };

	if (fd < 0)
		return fd;
	source.size_bytes = (uint64_t)st.st_size;
	return ckpt_manifest_scan(&source, visit_head, visit_line, &copy, err);
}

/* --- peeking ------------------------------------------------------------------------------ */

static int peek_head(const struct ckpt_manifest_source *source, uint64_t body_bytes,
		     struct ckpt_manifest_head *out, struct ckpt_err *err)
{
	struct scan scan = {
		.source = source,
		.reader = { .source = source, .end_bytes = body_bytes, .chunk_bytes = HEAD_CHUNK },
		.err = err,
	};
	int rc = scan_head(&scan, out);

	line_reader_release(&scan.reader);
	return rc < 0 ? locate(source, 1, rc, err) : 0;
}

int ckpt_manifest_peek(int dirfd, const char *label, struct ckpt_manifest_peek *out,
		       struct ckpt_err *err)
{
	struct stat st = { 0 };
	CKPT_CLOSE int fd = ckpt_manifest_open(dirfd, label, &st, err);
	struct ckpt_manifest_source source = { .fd = fd, .label = label };
	struct ckpt_manifest_peek peek = { 0 };
	struct ckpt_manifest_end end = { 0 };
	uint64_t body_bytes = 0;
	int rc;

	if (fd < 0)
		return fd;
	source.size_bytes = (uint64_t)st.st_size;
	rc = check_version(&source, err);
	if (rc == 0)
		rc = read_end(&source, &end, &body_bytes, err);
	if (rc < 0)
		return locate(&source, 0, rc, err);
	rc = peek_head(&source, body_bytes, &peek.head, err);
	if (rc < 0) {
		ckpt_manifest_head_release(&peek.head);
		return rc;
	}
	peek.shard_count = end.shard_count;
	peek.tensor_count = end.tensor_count;
	peek.xxh128 = end.xxh128;
	peek.ino = (uint64_t)st.st_ino;
	peek.size_bytes = (uint64_t)st.st_size;
	peek.mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	*out = peek;
	return 0;
}
