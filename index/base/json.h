/*
 * json.h - reading JSON from outside, strictly. json.c is the only file that
 * includes <jansson.h>: duplicate keys, bad UTF-8, NUL in strings, trailing
 * text and integers beyond 63 bits are refused. Values are borrowed from the
 * document and live until ckpt_json_free(). JSON is written with buf.h.
 */
#ifndef CKPT_BASE_JSON_H
#define CKPT_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

struct ckpt_json; /* any JSON value */

enum ckpt_json_kind {
	CKPT_JSON_NULL,
	CKPT_JSON_BOOL,
	CKPT_JSON_INT,
	CKPT_JSON_REAL,
	CKPT_JSON_STRING,
	CKPT_JSON_ARRAY,
	CKPT_JSON_OBJECT,
};

/**
 * ckpt_json_parse - parse one document
 * @text, @len_bytes: the bytes, need not be NUL-terminated
 * @out: the root value; caller frees it with ckpt_json_free
 * Errors: -EBADMSG with position and reason; -ENOMEM. Thread-safe: yes.
 */
int ckpt_json_parse(const char *text, size_t len_bytes, struct ckpt_json **out,
		    struct ckpt_err *err) CKPT_MUST_CHECK;
void ckpt_json_free(struct ckpt_json *root);

enum ckpt_json_kind ckpt_json_kind(const struct ckpt_json *value);
/* The value as …; the kind has been asked before (asserted). */
bool ckpt_json_bool(const struct ckpt_json *value);
int64_t ckpt_json_int(const struct ckpt_json *value);
double ckpt_json_real(const struct ckpt_json *value); /* INT is converted */
const char *ckpt_json_string(const struct ckpt_json *value);
size_t ckpt_json_array_size(const struct ckpt_json *value);
const struct ckpt_json *ckpt_json_array_at(const struct ckpt_json *value, size_t idx);
/* NULL where there is no such key. */
const struct ckpt_json *ckpt_json_get(const struct ckpt_json *object, const char *key);
/**
 * ckpt_json_each - call @fn for every member in document order until it returns non-zero; returns
 * that.
 */
int ckpt_json_each(const struct ckpt_json *object,
		   int (*fn)(void *ctx, const char *key, const struct ckpt_json *value), void *ctx);
/** ckpt_json_print - append @value, compact, one line, keys in document order. */
void ckpt_json_print(const struct ckpt_json *value, struct ckpt_buf *out);
/**
 * ckpt_json_print_scalar - append a word of a command line: a number or a boolean as what it is,
 * everything else as a string. @text: UTF-8
 */
void ckpt_json_print_scalar(const char *text, struct ckpt_buf *out);

/* One expected member of an object: see ckpt_json_decode. */
struct ckpt_json_field {
	const char *key;
	enum {
		CKPT_FIELD_U64,	   /* uint64_t: an integer ≥ 0 */
		CKPT_FIELD_I64,	   /* int64_t */
		CKPT_FIELD_BOOL,   /* bool */
		CKPT_FIELD_STRING, /* const char *, borrowed */
		CKPT_FIELD_ARRAY,  /* const struct ckpt_json *, borrowed */
		CKPT_FIELD_OBJECT, /* const struct ckpt_json *, borrowed */
		CKPT_FIELD_ANY,	   /* const struct ckpt_json *, borrowed */
	} type;
	void *out;     /* written when the member is there */
	bool *present; /* NULL: the member is required */
};

/**
 * ckpt_json_decode - take an object apart by a table, refusing all it does not name
 * @object: any value; refused unless an object
 * @fields, @count: the members that may be there; order does not matter
 * Keys that begin with "x_" are ignored (ckptfs-format(5) "Extensions").
 * Errors: -EBADMSG: unknown key, missing key, wrong type, negative where unsigned; the message
 * names the key.
 */
int ckpt_json_decode(const struct ckpt_json *object, const struct ckpt_json_field *fields,
		     size_t count, struct ckpt_err *err) CKPT_MUST_CHECK;

#endif
