/*
 * pickle.h - a pickle read as plain values, by a machine with an allow-list of opcodes.
 * It imports no module, builds no object and calls nothing: a class is its name, an object is the
 * call that would have made it. May be included only by index/format/<anything>.c.
 * Source: CPython Lib/pickletools.py; protocols 2 to 5.
 */
#ifndef CKPT_FORMAT_PICKLE_H
#define CKPT_FORMAT_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* A million tensors take some 20 million values; a value takes some 100 bytes with what leads to it. */
#define PICKLE_VALUE_MAX ((size_t)32 << 20)

/* Objects have few fields; a million of them may share one dict. */
#define PICKLE_FIELD_MAX ((size_t)64)

enum pickle_kind {
	PICKLE_NONE,
	PICKLE_BOOL,
	PICKLE_INT,
	PICKLE_BIG_INT, /* beyond 64 bits: its value is not kept */
	PICKLE_FLOAT,
	PICKLE_STRING,
	PICKLE_BYTES,
	PICKLE_TUPLE,
	PICKLE_LIST,
	PICKLE_DICT,
	PICKLE_SET,
	PICKLE_GLOBAL,	   /* the name of a class or function */
	PICKLE_CALL,	   /* what calling `callee` with `args` would give */
	PICKLE_PERSISTENT, /* what the reader would look up under `id` */
};

/* Bytes of the input, not NUL-terminated. */
struct pickle_text {
	const char *data;
	size_t len_bytes;
};

struct pickle_value {
	enum pickle_kind kind;
	union {
		int64_t integer; /* of PICKLE_BOOL, too */
		double real;
		struct pickle_text text; /* of PICKLE_STRING (UTF-8) and PICKLE_BYTES */
		struct {
			struct pickle_text module;
			struct pickle_text name;
		} global;
		struct {
			const struct pickle_value *callee;
			const struct pickle_value *args;  /* a tuple */
			const struct pickle_value *state; /* what BUILD gave it; NULL: nothing */
		} call;
		const struct pickle_value *id;
	} as;
	/* Of a tuple, list, set; of a dict, and a call that was given members: key, value, key … */
	const struct pickle_value **items;
	size_t item_count;
	struct pickle_value *next_dict; /* the machine's own */
};

struct pickle;

/**
 * pickle_parse - run the machine over a whole pickle
 * @data: borrowed as long as the pickle lives
 * @out:  pickle_free() it
 * A value may be reached on several paths, and from itself: whoever walks needs bounds.
 * Errors: -EBADMSG an opcode that is not allowed, or what the opcodes say is impossible: the
 * message says opcode and offset; no dict has a string or an integer as key twice; -ENOMEM.
 * Memory: proportional to @len_bytes.
 */
int pickle_parse(const void *data, size_t len_bytes, struct pickle **out, struct ckpt_err *err)
	CKPT_MUST_CHECK;
void pickle_free(struct pickle *pickle);
const struct pickle_value *pickle_root(const struct pickle *pickle);
/** pickle_value_count - how many values were made: a bound on what an honest walk meets. */
size_t pickle_value_count(const struct pickle *pickle);

/* --- questions about values; all answer "no" where the kind does not fit --- */

/** pickle_text_is - byte for byte? */
bool pickle_text_is(struct pickle_text text, const char *word);
/** pickle_text_compare - by bytes, as memcmp, then by length. */
int pickle_text_compare(struct pickle_text a, struct pickle_text b);
/** pickle_text_show - append for a message: escaped, cut after 200 bytes. */
void pickle_text_show(struct ckpt_buf *out, struct pickle_text text);
/** pickle_is_global - the class or function @module.@name? */
bool pickle_is_global(const struct pickle_value *value, const char *module, const char *name);
/** pickle_is_call - a call of @module.@name? */
bool pickle_is_call(const struct pickle_value *value, const char *module, const char *name);
/**
 * pickle_get - value of the string key @key of a dict; NULL: it has none, or more than
 * PICKLE_FIELD_MAX.
 */
const struct pickle_value *pickle_get(const struct pickle_value *dict, const char *key);
/** pickle_unsigned - an integer of 0 or more. */
bool pickle_unsigned(const struct pickle_value *value, uint64_t *out);

#endif
