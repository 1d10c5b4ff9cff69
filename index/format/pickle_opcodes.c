/*
 * pickle_opcodes.c - what each allowed opcode does to stack and memo; see pickle.h.
 * Each makes one value at most, of a fixed size; items are pointers that were pushed one by one.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "format/pickle_internal.h"

/* Values without a content are shared: never changed, though the stack cannot say so. */
static struct pickle_value none = { .kind = PICKLE_NONE };
static struct pickle_value truth = { .kind = PICKLE_BOOL, .as.integer = 1 };
static struct pickle_value falsehood = { .kind = PICKLE_BOOL };
static struct pickle_value empty_tuple = { .kind = PICKLE_TUPLE };

static int refuse(struct pickle_machine *machine, const char *reason)
{
	ckpt_err_set(machine->err, -EBADMSG, "%s", reason);
	return -EBADMSG;
}

static int no_memory(struct pickle_machine *machine)
{
	ckpt_err_sys(machine->err, -ENOMEM, "cannot keep its values");
	return -ENOMEM;
}

static int push(struct pickle_machine *machine, struct pickle_value *value)
{
	if (array_grow(&machine->stack, &machine->stack_cap, machine->stack_count,
		       sizeof(struct pickle_value *)) < 0)
		return no_memory(machine);
	machine->stack[machine->stack_count++] = value;
	return 0;
}

/* Push a new value; *@out is it. */
static int push_new(struct pickle_machine *machine, enum pickle_kind kind,
		    struct pickle_value **out)
{
	struct pickle *pickle = machine->pickle;

	if (pickle->value_count >= PICKLE_VALUE_MAX)
		return refuse(machine, "it holds more values than any checkpoint needs");
	*out = pickle_alloc(pickle, 1, sizeof(**out));
	if (!*out)
		return no_memory(machine);
	(*out)->kind = kind;
	pickle->value_count++;
	return push(machine, *out);
}

/* Values above the last mark, or above the bottom. */
static size_t stack_room(const struct pickle_machine *machine)
{
	size_t floor = machine->mark_count > 0 ? machine->marks[machine->mark_count - 1] : 0;

	return machine->stack_count - floor;
}

/* @count values are on the stack above the mark? */
static int need(struct pickle_machine *machine, size_t count)
{
	return stack_room(machine) >= count ? 0 : refuse(machine, "the stack is empty there");
}

static struct pickle_value *pop(struct pickle_machine *machine)
{
	assert(machine->stack_count > 0);
	return machine->stack[--machine->stack_count];
}

static struct pickle_value *top(struct pickle_machine *machine)
{
	assert(machine->stack_count > 0);
	return machine->stack[machine->stack_count - 1];
}

/* Remove the last mark; the values above it are *@out_count, the last of the stack. */
static int pop_mark(struct pickle_machine *machine, size_t *out_count)
{
	if (machine->mark_count == 0)
		return refuse(machine, "there is no mark");
	*out_count = stack_room(machine);
	machine->mark_count--;
	return 0;
}

/* --- values --------------------------------------------------------------- */

static int run_none(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return push(machine, &none);
}

static int run_true(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return push(machine, &truth);
}

static int run_false(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return push(machine, &falsehood);
}

static int push_int(struct pickle_machine *machine, int64_t number)
{
	struct pickle_value *value = NULL;
	int rc = push_new(machine, PICKLE_INT, &value);

	if (rc == 0)
		value->as.integer = number;
	return rc;
}

static int run_unsigned(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	return push_int(machine, (int64_t)operand->number);
}

static int run_int32(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	return push_int(machine, (int32_t)(uint32_t)operand->number);
}

/* Little-endian two's complement of any length; none at all is 0. */
static int run_long(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	const unsigned char *bytes = (const unsigned char *)operand->text.data;
	size_t len_bytes = operand->text.len_bytes;
	struct pickle_value *value = NULL;
	uint64_t bits = 0;

	if (len_bytes > sizeof(bits))
		return push_new(machine, PICKLE_BIG_INT, &value);
	if (len_bytes > 0 && (bytes[len_bytes - 1] & 0x80))
		bits = UINT64_MAX;
	for (size_t i = len_bytes; i > 0; i--)
		bits = bits << 8 | bytes[i - 1];
	return push_int(machine, (int64_t)bits);
}

static int run_float(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	/* The one big-endian number of the format. */
	uint64_t bits = __builtin_bswap64(operand->number);
	struct pickle_value *value = NULL;
	int rc = push_new(machine, PICKLE_FLOAT, &value);

	if (rc == 0)
		memcpy(&value->as.real, &bits, sizeof(bits));
	return rc;
}

static int push_text(struct pickle_machine *machine, enum pickle_kind kind,
		     const struct pickle_operand *operand)
{
	struct pickle_value *value = NULL;
	int rc = push_new(machine, kind, &value);

	if (rc == 0)
		value->as.text = operand->text;
	return rc;
}

static int run_string(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	return push_text(machine, PICKLE_STRING, operand);
}

static int run_bytes(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	return push_text(machine, PICKLE_BYTES, operand);
}

/* --- collections ---------------------------------------------------------- */

static int run_empty_tuple(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return push(machine, &empty_tuple);
}

static int push_empty(struct pickle_machine *machine, enum pickle_kind kind)
{
	struct pickle_value *value = NULL;

	return push_new(machine, kind, &value);
}

static int run_empty_list(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return push_empty(machine, PICKLE_LIST);
}

static int run_empty_dict(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return push_empty(machine, PICKLE_DICT);
}

static int run_empty_set(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return push_empty(machine, PICKLE_SET);
}

/* Room doubles, so that members given one by one cost no more than twice their memory. */
static size_t room_for(size_t count)
{
	size_t room = 1;

	while (room < count)
		room *= 2;
	return room;
}

/* Move the last @count of the stack to the end of @value's items. */
static int take_items(struct pickle_machine *machine, struct pickle_value *value, size_t count)
{
	size_t wanted = value->item_count + count;

	if (count == 0)
		return 0;
	if (value->item_count == 0 || room_for(wanted) > room_for(value->item_count)) {
		const struct pickle_value **items = pickle_alloc(machine->pickle, room_for(wanted),
								 sizeof(struct pickle_value *));

		if (!items)
			return no_memory(machine);
		if (value->item_count > 0)
			memcpy(items, value->items,
			       value->item_count * sizeof(struct pickle_value *));
		value->items = items;
	}
	machine->stack_count -= count;
	memcpy(value->items + value->item_count, machine->stack + machine->stack_count,
	       count * sizeof(struct pickle_value *));
	value->item_count = wanted;
	return 0;
}

/* A new value of @kind from the last @count of the stack. */
static int gather(struct pickle_machine *machine, enum pickle_kind kind, size_t count)
{
	struct pickle_value *value = NULL;
	int rc = push_new(machine, kind, &value);

	if (rc < 0)
		return rc;
	machine->stack_count--;
	rc = take_items(machine, value, count);
	return rc < 0 ? rc : push(machine, value);
}

static int gather_tuple(struct pickle_machine *machine, size_t count)
{
	int rc = need(machine, count);

	return rc < 0 ? rc : gather(machine, PICKLE_TUPLE, count);
}

static int run_short_tuple(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	/* TUPLE1 is followed by TUPLE2 and TUPLE3. */
	return gather_tuple(machine, operand->opcode - 0x85 + (size_t)1);
}

static int gather_marked(struct pickle_machine *machine, enum pickle_kind kind)
{
	size_t count = 0;
	int rc = pop_mark(machine, &count);

	return rc < 0 ? rc : gather(machine, kind, count);
}

static int run_tuple(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return gather_marked(machine, PICKLE_TUPLE);
}

static int run_frozenset(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return gather_marked(machine, PICKLE_SET);
}

/* Give the last @count of the stack to what lies below them: a @kind, or an object. */
static int give(struct pickle_machine *machine, enum pickle_kind kind, size_t count)
{
	struct pickle_value *value;

	if (stack_room(machine) < count + 1)
		return refuse(machine, "there is nothing to add to");
	value = machine->stack[machine->stack_count - count - 1];
	if (value->kind != kind && !(value->kind == PICKLE_CALL && kind != PICKLE_SET))
		return refuse(machine, "it adds to a value that cannot hold it");
	if (kind == PICKLE_DICT && count % 2 != 0)
		return refuse(machine, "a key has no value");
	if (kind == PICKLE_DICT && value->item_count == 0 && count > 0) {
		value->next_dict = machine->pickle->dicts;
		machine->pickle->dicts = value;
	}
	return take_items(machine, value, count);
}

static int give_marked(struct pickle_machine *machine, enum pickle_kind kind)
{
	size_t count = 0;
	int rc = pop_mark(machine, &count);

	return rc < 0 ? rc : give(machine, kind, count);
}

static int run_append(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return give(machine, PICKLE_LIST, 1);
}

static int run_appends(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return give_marked(machine, PICKLE_LIST);
}

static int run_setitem(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return give(machine, PICKLE_DICT, 2);
}

static int run_setitems(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return give_marked(machine, PICKLE_DICT);
}

static int run_additems(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	return give_marked(machine, PICKLE_SET);
}

/* --- objects: never made, only told ---------------------------------------- */

static int run_global(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	struct pickle_value *value = NULL;
	int rc = push_new(machine, PICKLE_GLOBAL, &value);

	if (rc == 0) {
		value->as.global.module = operand->text;
		value->as.global.name = operand->second;
	}
	return rc;
}

static int run_stack_global(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	struct pickle_operand names = { 0 };
	const struct pickle_value *name;
	const struct pickle_value *module;
	int rc = need(machine, 2);

	(void)operand;
	if (rc < 0)
		return rc;
	name = pop(machine);
	module = pop(machine);
	if (name->kind != PICKLE_STRING || module->kind != PICKLE_STRING)
		return refuse(machine, "the name of a class is no string");
	names.text = module->as.text;
	names.second = name->as.text;
	return run_global(machine, &names);
}

static int run_call(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	struct pickle_value *value = NULL;
	const struct pickle_value *args;
	const struct pickle_value *callee;
	int rc = need(machine, 2);

	(void)operand;
	if (rc < 0)
		return rc;
	args = pop(machine);
	callee = pop(machine);
	if (args->kind != PICKLE_TUPLE)
		return refuse(machine, "the arguments of a call are no tuple");
	rc = push_new(machine, PICKLE_CALL, &value);
	if (rc == 0) {
		value->as.call.callee = callee;
		value->as.call.args = args;
	}
	return rc;
}

/* Keyword arguments are dropped: no class that is looked into is made with them. */
static int run_newobj_ex(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	if (need(machine, 3) < 0)
		return -EBADMSG;
	if (pop(machine)->kind != PICKLE_DICT)
		return refuse(machine, "the keyword arguments of a call are no dict");
	return run_call(machine, operand);
}

static int run_build(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	const struct pickle_value *state;
	int rc = need(machine, 2);

	(void)operand;
	if (rc < 0)
		return rc;
	state = pop(machine);
	if (top(machine)->kind != PICKLE_CALL)
		return refuse(machine, "it gives a state to a value that is no object");
	top(machine)->as.call.state = state;
	return 0;
}

static int run_persistent(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	struct pickle_value *value = NULL;
	const struct pickle_value *id;
	int rc = need(machine, 1);

	(void)operand;
	if (rc < 0)
		return rc;
	id = pop(machine);
	rc = push_new(machine, PICKLE_PERSISTENT, &value);
	if (rc == 0)
		value->as.id = id;
	return rc;
}

/* --- memo, marks, frames ---------------------------------------------------- */

static int run_get(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	if (operand->number >= machine->memo_count)
		return refuse(machine, "nothing is remembered under its number");
	return push(machine, machine->memo[operand->number]);
}

/* Picklers number from 0 upwards: with a gap the table would grow beyond what was remembered. */
static int run_put(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	int rc = need(machine, 1);

	if (rc < 0)
		return rc;
	if (operand->number > machine->memo_count)
		return refuse(machine, "its number leaves a gap");
	if (operand->number == machine->memo_count) {
		if (array_grow(&machine->memo, &machine->memo_cap, machine->memo_count,
			       sizeof(struct pickle_value *)) < 0)
			return no_memory(machine);
		machine->memo_count++;
	}
	machine->memo[operand->number] = top(machine);
	return 0;
}

static int run_memoize(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	const struct pickle_operand next = { .number = machine->memo_count };

	(void)operand;
	return run_put(machine, &next);
}

static int run_mark(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	if (array_grow(&machine->marks, &machine->mark_cap, machine->mark_count,
		       sizeof(*machine->marks)) < 0)
		return no_memory(machine);
	machine->marks[machine->mark_count++] = machine->stack_count;
	return 0;
}

static int run_proto(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	if (operand->number < 2 || operand->number > 5)
		return refuse(machine, "only protocols 2 to 5 are read");
	machine->has_proto = true;
	return 0;
}

static int run_frame(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	if (operand->number > machine->len_bytes - machine->at)
		return refuse(machine, "the frame is longer than what is left");
	return 0;
}

static int run_stop(struct pickle_machine *machine, const struct pickle_operand *operand)
{
	(void)operand;
	if (machine->stack_count != 1 || machine->mark_count != 0)
		return refuse(machine, "not one value is left on the stack");
	if (machine->at != machine->len_bytes)
		return refuse(machine, "bytes follow its end");
	machine->pickle->root = pop(machine);
	machine->is_done = true;
	return 0;
}

/*
 * What torch.save and DCP write of dicts, lists, numbers, strings and tensors, at protocols 2 to 5.
 * Those without a function are of older protocols, or make the stack hard to follow.
 */
static const struct pickle_opcode opcodes[256] = {
	['('] = { "MARK", OPERAND_NONE, run_mark },
	['.'] = { "STOP", OPERAND_NONE, run_stop },
	['0'] = { "POP", OPERAND_NONE, NULL },
	['1'] = { "POP_MARK", OPERAND_NONE, NULL },
	['2'] = { "DUP", OPERAND_NONE, NULL },
	['F'] = { "FLOAT", OPERAND_NONE, NULL },
	['I'] = { "INT", OPERAND_NONE, NULL },
	['J'] = { "BININT", OPERAND_U32, run_int32 },
	['K'] = { "BININT1", OPERAND_U8, run_unsigned },
	['L'] = { "LONG", OPERAND_NONE, NULL },
	['M'] = { "BININT2", OPERAND_U16, run_unsigned },
	['N'] = { "NONE", OPERAND_NONE, run_none },
	['P'] = { "PERSID", OPERAND_NONE, NULL },
	['Q'] = { "BINPERSID", OPERAND_NONE, run_persistent },
	['R'] = { "REDUCE", OPERAND_NONE, run_call },
	['S'] = { "STRING", OPERAND_NONE, NULL },
	['T'] = { "BINSTRING", OPERAND_NONE, NULL },
	['U'] = { "SHORT_BINSTRING", OPERAND_NONE, NULL },
	['V'] = { "UNICODE", OPERAND_NONE, NULL },
	['X'] = { "BINUNICODE", OPERAND_TEXT32, run_string },
	['a'] = { "APPEND", OPERAND_NONE, run_append },
	['b'] = { "BUILD", OPERAND_NONE, run_build },
	['c'] = { "GLOBAL", OPERAND_LINES, run_global },
	['d'] = { "DICT", OPERAND_NONE, NULL },
	['}'] = { "EMPTY_DICT", OPERAND_NONE, run_empty_dict },
	['e'] = { "APPENDS", OPERAND_NONE, run_appends },
	['g'] = { "GET", OPERAND_NONE, NULL },
	['h'] = { "BINGET", OPERAND_U8, run_get },
	['i'] = { "INST", OPERAND_NONE, NULL },
	['j'] = { "LONG_BINGET", OPERAND_U32, run_get },
	['l'] = { "LIST", OPERAND_NONE, NULL },
	[']'] = { "EMPTY_LIST", OPERAND_NONE, run_empty_list },
	['o'] = { "OBJ", OPERAND_NONE, NULL },
	['p'] = { "PUT", OPERAND_NONE, NULL },
	['q'] = { "BINPUT", OPERAND_U8, run_put },
	['r'] = { "LONG_BINPUT", OPERAND_U32, run_put },
	['s'] = { "SETITEM", OPERAND_NONE, run_setitem },
	['t'] = { "TUPLE", OPERAND_NONE, run_tuple },
	[')'] = { "EMPTY_TUPLE", OPERAND_NONE, run_empty_tuple },
	['u'] = { "SETITEMS", OPERAND_NONE, run_setitems },
	['G'] = { "BINFLOAT", OPERAND_U64, run_float },
	['B'] = { "BINBYTES", OPERAND_TEXT32, run_bytes },
	['C'] = { "SHORT_BINBYTES", OPERAND_TEXT8, run_bytes },
	[0x80] = { "PROTO", OPERAND_U8, run_proto },
	[0x81] = { "NEWOBJ", OPERAND_NONE, run_call },
	[0x82] = { "EXT1", OPERAND_NONE, NULL },
	[0x83] = { "EXT2", OPERAND_NONE, NULL },
	[0x84] = { "EXT4", OPERAND_NONE, NULL },
	[0x85] = { "TUPLE1", OPERAND_NONE, run_short_tuple },
	[0x86] = { "TUPLE2", OPERAND_NONE, run_short_tuple },
	[0x87] = { "TUPLE3", OPERAND_NONE, run_short_tuple },
	[0x88] = { "NEWTRUE", OPERAND_NONE, run_true },
	[0x89] = { "NEWFALSE", OPERAND_NONE, run_false },
	[0x8a] = { "LONG1", OPERAND_TEXT8, run_long },
	[0x8b] = { "LONG4", OPERAND_NONE, NULL },
	[0x8c] = { "SHORT_BINUNICODE", OPERAND_TEXT8, run_string },
	[0x8d] = { "BINUNICODE8", OPERAND_TEXT64, run_string },
	[0x8e] = { "BINBYTES8", OPERAND_TEXT64, run_bytes },
	[0x8f] = { "EMPTY_SET", OPERAND_NONE, run_empty_set },
	[0x90] = { "ADDITEMS", OPERAND_NONE, run_additems },
	[0x91] = { "FROZENSET", OPERAND_NONE, run_frozenset },
	[0x92] = { "NEWOBJ_EX", OPERAND_NONE, run_newobj_ex },
	[0x93] = { "STACK_GLOBAL", OPERAND_NONE, run_stack_global },
	[0x94] = { "MEMOIZE", OPERAND_NONE, run_memoize },
	[0x95] = { "FRAME", OPERAND_U64, run_frame },
	[0x96] = { "BYTEARRAY8", OPERAND_TEXT64, run_bytes },
	[0x97] = { "NEXT_BUFFER", OPERAND_NONE, NULL },
	[0x98] = { "READONLY_BUFFER", OPERAND_NONE, NULL },
};

const struct pickle_opcode *pickle_opcode(unsigned char byte)
{
	return &opcodes[byte];
}
