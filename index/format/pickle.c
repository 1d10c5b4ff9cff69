/*
 * pickle.c - the loop of the machine, its memory, and questions about values; see pickle.h.
 * Nothing here recurses: a pickle nests as deep as it likes on the machine's own stack, whose
 * every value took a byte of input at least.
 */
#include "format/pickle.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "format/pickle_internal.h"

/* --- memory ----------------------------------------------------------------- */

/* Large enough that most are full, small enough for the pickle of one tensor. */
#define BLOCK_FIRST_BYTES ((size_t)4096)
#define BLOCK_MAX_BYTES ((size_t)1 << 20)
/* All that is kept is pointers and values. */
#define BLOCK_ALIGN ((size_t)16)

struct pickle_block {
	struct pickle_block *next;
	size_t cap_bytes;
	size_t used_bytes;
	_Alignas(16) unsigned char bytes[];
};

static struct pickle_block *block_add(struct pickle *pickle, size_t bytes)
{
	size_t cap = pickle->blocks ? pickle->blocks->cap_bytes * 2 : BLOCK_FIRST_BYTES;
	struct pickle_block *block;
	uint64_t whole;

	cap = num_max(num_min(cap, BLOCK_MAX_BYTES), bytes);
	if (!num_add(cap, sizeof(*block), &whole))
		return NULL;
	block = calloc(1, whole);
	if (!block)
		return NULL;
	block->cap_bytes = cap;
	block->next = pickle->blocks;
	pickle->blocks = block;
	return block;
}

void *pickle_alloc(struct pickle *pickle, size_t count, size_t size)
{
	struct pickle_block *block = pickle->blocks;
	uint64_t bytes;
	void *at;

	if (!num_mul(count, size, &bytes) || !num_add(bytes, BLOCK_ALIGN - 1, &bytes))
		return NULL;
	bytes -= bytes % BLOCK_ALIGN;
	if (!block || block->cap_bytes - block->used_bytes < bytes)
		block = block_add(pickle, bytes);
	if (!block)
		return NULL;
	at = block->bytes + block->used_bytes;
	block->used_bytes += bytes;
	return at;
}

void pickle_blocks_free(struct pickle *pickle)
{
	while (pickle->blocks) {
		struct pickle_block *next = pickle->blocks->next;

		free(pickle->blocks);
		pickle->blocks = next;
	}
}

/* --- operands ---------------------------------------------------------------- */

static int ends_early(struct pickle_machine *machine)
{
	return ckpt_err_set(machine->err, -EBADMSG, "it ends in the middle of it");
}

static int read_number(struct pickle_machine *machine, size_t width, uint64_t *out)
{
	uint64_t number = 0;

	if (machine->len_bytes - machine->at < width)
		return ends_early(machine);
	for (size_t i = width; i > 0; i--)
		number = number << 8 | machine->data[machine->at + i - 1];
	machine->at += width;
	*out = number;
	return 0;
}

static int read_text(struct pickle_machine *machine, size_t width, struct pickle_text *out)
{
	uint64_t len_bytes = 0;
	int rc = read_number(machine, width, &len_bytes);

	if (rc < 0)
		return rc;
	if (len_bytes > machine->len_bytes - machine->at)
		return ckpt_err_set(machine->err, -EBADMSG, "it is longer than what is left");
	out->data = (const char *)machine->data + machine->at;
	out->len_bytes = len_bytes;
	machine->at += len_bytes;
	return 0;
}

static int read_line(struct pickle_machine *machine, struct pickle_text *out)
{
	const unsigned char *from = machine->data + machine->at;
	const unsigned char *end = NULL;

	if (machine->at < machine->len_bytes)
		end = memchr(from, '\n', machine->len_bytes - machine->at);
	if (!end)
		return ends_early(machine);
	out->data = (const char *)from;
	out->len_bytes = (size_t)(end - from);
	machine->at += out->len_bytes + 1;
	return 0;
}

static int read_operand(struct pickle_machine *machine, enum pickle_operand_kind kind,
			struct pickle_operand *out)
{
	int rc = 0;

	switch (kind) {
	case OPERAND_NONE:
		return 0;
	case OPERAND_U8:
		return read_number(machine, 1, &out->number);
	case OPERAND_U16:
		return read_number(machine, 2, &out->number);
	case OPERAND_U32:
		return read_number(machine, 4, &out->number);
	case OPERAND_U64:
		return read_number(machine, 8, &out->number);
	case OPERAND_TEXT8:
		return read_text(machine, 1, &out->text);
	case OPERAND_TEXT32:
		return read_text(machine, 4, &out->text);
	case OPERAND_TEXT64:
		return read_text(machine, 8, &out->text);
	case OPERAND_LINES:
		rc = read_line(machine, &out->text);
		return rc < 0 ? rc : read_line(machine, &out->second);
	}
	return rc;
}

/* --- the loop ----------------------------------------------------------------- */

static int refuse_opcode(struct pickle_machine *machine, unsigned char byte, const char *name)
{
	return ckpt_err_set(machine->err, -EBADMSG,
			    "opcode 0x%02x (%s) at byte %zu of its pickle is not allowed here: "
			    "no tensor needs it",
			    byte, name ? name : "unknown", machine->at - 1);
}

static int step(struct pickle_machine *machine)
{
	size_t at = machine->at;
	struct pickle_operand operand = { 0 };
	const struct pickle_opcode *opcode;
	int rc;

	if (at >= machine->len_bytes)
		return ckpt_err_set(machine->err, -EBADMSG,
				    "its pickle ends after %zu bytes without STOP; it is truncated",
				    at);
	opcode = pickle_opcode(machine->data[machine->at++]);
	if (!opcode->run)
		return refuse_opcode(machine, machine->data[at], opcode->name);
	operand.opcode = machine->data[at];
	rc = read_operand(machine, opcode->operand, &operand);
	if (rc == 0)
		rc = opcode->run(machine, &operand);
	if (rc < 0)
		return ckpt_err_prefix(machine->err, rc, "%s at byte %zu of its pickle",
				       opcode->name, at);
	if (!machine->has_proto)
		return ckpt_err_set(
			machine->err, -EBADMSG,
			"it is no pickle of protocol 2 to 5: it does not begin with one");
	return 0;
}

static int compare_keys(const void *left, const void *right)
{
	const struct pickle_value *a = *(const struct pickle_value *const *)left;
	const struct pickle_value *b = *(const struct pickle_value *const *)right;

	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->kind == PICKLE_STRING)
		return pickle_text_compare(a->as.text, b->as.text);
	return (a->as.integer > b->as.integer) - (a->as.integer < b->as.integer);
}

static int refuse_twin(const struct pickle_value *key, struct ckpt_err *err)
{
	struct ckpt_buf shown;

	ckpt_buf_init(&shown);
	if (key->kind == PICKLE_STRING)
		pickle_text_show(&shown, key->as.text);
	else
		ckpt_buf_printf(&shown, "%lld", (long long)key->as.integer);
	ckpt_err_set(err, -EBADMSG, "a dict of its pickle has the key '%s' twice", shown.data);
	ckpt_buf_release(&shown);
	return -EBADMSG;
}

/* Readers do not agree on which of two counts. @keys has room for all. */
static int check_keys(const struct pickle_value *dict, const struct pickle_value **keys,
		      struct ckpt_err *err)
{
	size_t count = 0;

	for (size_t i = 0; i < dict->item_count; i += 2) {
		enum pickle_kind kind = dict->items[i]->kind;

		if (kind == PICKLE_STRING || kind == PICKLE_INT)
			keys[count++] = dict->items[i];
	}
	if (count > 1)
		qsort(keys, count, sizeof(struct pickle_value *), compare_keys);
	for (size_t i = 1; i < count; i++) {
		if (compare_keys(&keys[i - 1], &keys[i]) == 0)
			return refuse_twin(keys[i], err);
	}
	return 0;
}

static int check_dicts(const struct pickle *pickle, struct ckpt_err *err)
{
	const struct pickle_value **keys;
	size_t most = 1;
	int rc = 0;

	for (const struct pickle_value *dict = pickle->dicts; dict; dict = dict->next_dict)
		most = num_max(most, dict->item_count / 2);
	keys = array_alloc(most, sizeof(struct pickle_value *));
	if (!keys)
		return ckpt_err_sys(err, -ENOMEM, "cannot keep its values");
	for (const struct pickle_value *dict = pickle->dicts; dict && rc == 0;
	     dict = dict->next_dict)
		rc = check_keys(dict, keys, err);
	free(keys);
	return rc;
}

int pickle_parse(const void *data, size_t len_bytes, struct pickle **out, struct ckpt_err *err)
{
	struct pickle_machine machine = { .data = data, .len_bytes = len_bytes, .err = err };
	int rc = 0;

	assert(data && out);
	machine.pickle = calloc(1, sizeof(*machine.pickle));
	if (!machine.pickle)
		return ckpt_err_sys(err, -ENOMEM, "cannot keep its values");
	while (rc == 0 && !machine.is_done)
		rc = step(&machine);
	free(machine.stack);
	free(machine.marks);
	free(machine.memo);
	if (rc == 0)
		rc = check_dicts(machine.pickle, err);
	if (rc < 0) {
		pickle_free(machine.pickle);
		return rc;
	}
	*out = machine.pickle;
	return 0;
}

void pickle_free(struct pickle *pickle)
{
	if (!pickle)
		return;
	pickle_blocks_free(pickle);
	free(pickle);
}

const struct pickle_value *pickle_root(const struct pickle *pickle)
{
	return pickle->root;
}

size_t pickle_value_count(const struct pickle *pickle)
{
	return pickle->value_count;
}

/* --- questions ------------------------------------------------------------------ */

bool pickle_text_is(struct pickle_text text, const char *word)
{
	size_t len_bytes = strlen(word);

	return text.len_bytes == len_bytes && memcmp(text.data, word, len_bytes) == 0;
}

int pickle_text_compare(struct pickle_text a, struct pickle_text b)
{
	size_t common = num_min(a.len_bytes, b.len_bytes);
	/* What a pickler remembered is mostly the same bytes. */
	int order = common > 0 && a.data != b.data ? memcmp(a.data, b.data, common) : 0;

	if (order != 0)
		return order;
	return (a.len_bytes > b.len_bytes) - (a.len_bytes < b.len_bytes);
}

void pickle_text_show(struct ckpt_buf *out, struct pickle_text text)
{
	char shown[200 + 1];
	size_t len_bytes = num_min(text.len_bytes, sizeof(shown) - 1);

	for (size_t i = 0; i < len_bytes; i++)
		shown[i] = (char)(text.data[i] == '\0' ? '\x01' : text.data[i]);
	shown[len_bytes] = '\0';
	ckpt_path_escape(out, shown);
	if (text.len_bytes > len_bytes)
		ckpt_buf_add_str(out, "...");
}

bool pickle_is_global(const struct pickle_value *value, const char *module, const char *name)
{
	return value && value->kind == PICKLE_GLOBAL &&
	       pickle_text_is(value->as.global.module, module) &&
	       pickle_text_is(value->as.global.name, name);
}

bool pickle_is_call(const struct pickle_value *value, const char *module, const char *name)
{
	return value && value->kind == PICKLE_CALL &&
	       pickle_is_global(value->as.call.callee, module, name);
}

const struct pickle_value *pickle_get(const struct pickle_value *dict, const char *key)
{
	if (!dict || dict->kind != PICKLE_DICT || dict->item_count > 2 * PICKLE_FIELD_MAX)
		return NULL;
	for (size_t i = 0; i < dict->item_count; i += 2) {
		if (dict->items[i]->kind == PICKLE_STRING &&
		    pickle_text_is(dict->items[i]->as.text, key))
			return dict->items[i + 1];
	}
	return NULL;
}

bool pickle_unsigned(const struct pickle_value *value, uint64_t *out)
{
	if (!value || value->kind != PICKLE_INT || value->as.integer < 0)
		return false;
	*out = (uint64_t)value->as.integer;
	return true;
}
