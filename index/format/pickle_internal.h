/*
 * pickle_internal.h - the machine behind pickle.h.
 * May be included only by index/format/pickle*.c.
 */
#ifndef CKPT_FORMAT_PICKLE_INTERNAL_H
#define CKPT_FORMAT_PICKLE_INTERNAL_H

#include "format/pickle.h"

struct pickle_block;

struct pickle {
	struct pickle_block *blocks; /* all memory of values and their items */
	const struct pickle_value *root;
	struct pickle_value *dicts; /* all, linked by next_dict */
	size_t value_count;
};

/** pickle_alloc - @count times @size zeroed bytes that live as long as the pickle; NULL: none left. */
void *pickle_alloc(struct pickle *pickle, size_t count, size_t size) CKPT_MUST_CHECK;
void pickle_blocks_free(struct pickle *pickle);

/* The running machine. */
struct pickle_machine {
	struct pickle *pickle;
	const unsigned char *data;
	size_t len_bytes;
	size_t at; /* of the next byte */
	struct pickle_value **stack;
	size_t stack_count, stack_cap;
	size_t *marks; /* stack heights */
	size_t mark_count, mark_cap;
	struct pickle_value **memo;
	size_t memo_count, memo_cap;
	bool has_proto;
	bool is_done;
	struct ckpt_err *err; /* receives the reason only; opcode and offset are put before it */
};

/* What follows an opcode in the input. */
struct pickle_operand {
	unsigned char opcode;
	uint64_t number;
	struct pickle_text text;
	struct pickle_text second; /* of GLOBAL */
};

enum pickle_operand_kind {
	OPERAND_NONE,
	OPERAND_U8,
	OPERAND_U16,
	OPERAND_U32,
	OPERAND_U64,
	OPERAND_TEXT8, /* a length of so many bits, and as many bytes */
	OPERAND_TEXT32,
	OPERAND_TEXT64,
	OPERAND_LINES, /* two lines */
};

struct pickle_opcode {
	const char *name;
	enum pickle_operand_kind operand;
	/* NULL: it is known, and not allowed. Returns 0, -EBADMSG with the reason, -ENOMEM. */
	int (*run)(struct pickle_machine *machine, const struct pickle_operand *operand);
};

/** pickle_opcode - by its byte; `name` NULL: there is no such opcode. */
const struct pickle_opcode *pickle_opcode(unsigned char byte);

#endif
