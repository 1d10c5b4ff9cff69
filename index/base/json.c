/* json.c - the only file that knows Jansson; see json.h. */
#include "json.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "path.h"

/* A struct ckpt_json is a json_t under another name; nothing of ours is in it. */
_Static_assert(sizeof(json_int_t) == 8, "Jansson refuses what does not fit: that must be int64_t");
/*
 * Jansson recurses once a level, when it parses, prints and frees; this many fit any stack of
 * ours.
 */
_Static_assert(JSON_PARSER_MAX_DEPTH <= 2048, "depth of documents from outside");

static const json_t *peek(const struct ckpt_json *value)
{
	return (const json_t *)value;
}

static struct ckpt_json *wrap(json_t *value)
{
	return (struct ckpt_json *)value;
}

/* Jansson's iterator takes a pointer that is not const, though it changes nothing. */
static json_t *unconst(const struct ckpt_json *value)
{
	union {
		const struct ckpt_json *in;
		json_t *out;
	} same = { .in = value };

	return same.out;
}

static int refuse_text(const json_error_t *why, struct ckpt_err *err)
{
	struct ckpt_buf shown;

	if (json_error_code(why) == json_error_out_of_memory)
		return ckpt_err_sys(err, -ENOMEM, "cannot parse JSON");
	/* The text quotes the input: nothing of that reaches a terminal raw. */
	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, why->text);
	ckpt_err_set(err, -EBADMSG, "bad JSON at byte %d (line %d, column %d): %s", why->position,
		     why->line, why->column, shown.data);
	ckpt_buf_release(&shown);
	return -EBADMSG;
}

int ckpt_json_parse(const char *text, size_t len_bytes, struct ckpt_json **out,
		    struct ckpt_err *err)
{
	json_error_t why;
	json_t *root = json_loadb(text, len_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);

	if (!root)
		return refuse_text(&why, err);
	*out = wrap(root);
	return 0;
}

void ckpt_json_free(struct ckpt_json *root)
{
	json_decref((json_t *)root);
}

enum ckpt_json_kind ckpt_json_kind(const struct ckpt_json *value)
{
	switch (json_typeof(peek(value))) {
	case JSON_OBJECT:
		return CKPT_JSON_OBJECT;
	case JSON_ARRAY:
		return CKPT_JSON_ARRAY;
	case JSON_STRING:
		return CKPT_JSON_STRING;
	case JSON_INTEGER:
		return CKPT_JSON_INT;
	case JSON_REAL:
		return CKPT_JSON_REAL;
	case JSON_TRUE:
	case JSON_FALSE:
		return CKPT_JSON_BOOL;
	case JSON_NULL:
		break;
	}
	return CKPT_JSON_NULL;
}

bool ckpt_json_bool(const struct ckpt_json *value)
{
	assert(json_is_boolean(peek(value)));
	return json_is_true(peek(value));
}

int64_t ckpt_json_int(const struct ckpt_json *value)
{
	assert(json_is_integer(peek(value)));
	return json_integer_value(peek(value));
}

double ckpt_json_real(const struct ckpt_json *value)
{
	assert(json_is_number(peek(value)));
	return json_number_value(peek(value));
}

const char *ckpt_json_string(const struct ckpt_json *value)
{
	assert(json_is_string(peek(value)));
	return json_string_value(peek(value));
}

size_t ckpt_json_array_size(const struct ckpt_json *value)
{
	assert(json_is_array(peek(value)));
	return json_array_size(peek(value));
}

const struct ckpt_json *ckpt_json_array_at(const struct ckpt_json *value, size_t idx)
{
	assert(json_is_array(peek(value)));
	assert(idx < json_array_size(peek(value)));
	return wrap(json_array_get(peek(value), idx));
}

const struct ckpt_json *ckpt_json_get(const struct ckpt_json *object, const char *key)
{
	assert(json_is_object(peek(object)));
	return wrap(json_object_get(peek(object), key));
}

int ckpt_json_each(const struct ckpt_json *object,
		   int (*fn)(void *ctx, const char *key, const struct ckpt_json *value), void *ctx)
{
	const char *key;
	json_t *member;

	assert(json_is_object(peek(object)));
	/* Jansson iterates in the order of insertion, which is the document's. */
	json_object_foreach(unconst(object), key, member) {
		int rc = fn(ctx, key, wrap(member));

		if (rc != 0)
			return rc;
	}
	return 0;
}

static int print_chunk(const char *text, size_t len_bytes, void *ctx)
{
	ckpt_buf_add(ctx, text, len_bytes);
	return 0;
}

void ckpt_json_print(const struct ckpt_json *value, struct ckpt_buf *out)
{
	/* What was parsed is well-formed, so that only memory can be the matter. */
	if (json_dump_callback(peek(value), print_chunk, out, JSON_COMPACT | JSON_ENCODE_ANY) < 0)
		out->failed = true;
}

/* --- objects by a table ---------------------------------------------------- */

/* Why @value does not fit @field; NULL if it does. */
static const char *field_fault(const struct ckpt_json_field *field, const struct ckpt_json *value)
{
	const json_t *json = peek(value);

	switch (field->type) {
	case CKPT_FIELD_U64:
		if (json_is_integer(json) && json_integer_value(json) >= 0)
			return NULL;
		return "must be an integer of 0 or more";
	case CKPT_FIELD_I64:
		return json_is_integer(json) ? NULL : "must be an integer";
	case CKPT_FIELD_BOOL:
		return json_is_boolean(json) ? NULL : "must be true or false";
	case CKPT_FIELD_STRING:
		return json_is_string(json) ? NULL : "must be a string";
	case CKPT_FIELD_ARRAY:
		return json_is_array(json) ? NULL : "must be an array";
	case CKPT_FIELD_OBJECT:
		return json_is_object(json) ? NULL : "must be an object";
	case CKPT_FIELD_ANY:
		break;
	}
	return NULL;
}

static void field_store(const struct ckpt_json_field *field, const struct ckpt_json *value)
{
	switch (field->type) {
	case CKPT_FIELD_U64:
		*(uint64_t *)field->out = (uint64_t)ckpt_json_int(value);
		break;
	case CKPT_FIELD_I64:
		*(int64_t *)field->out = ckpt_json_int(value);
		break;
	case CKPT_FIELD_BOOL:
		*(bool *)field->out = ckpt_json_bool(value);
		break;
	case CKPT_FIELD_STRING:
		*(const char **)field->out = ckpt_json_string(value);
		break;
	case CKPT_FIELD_ARRAY:
	case CKPT_FIELD_OBJECT:
	case CKPT_FIELD_ANY:
		*(const struct ckpt_json **)field->out = value;
		break;
	}
}

/* The members that the table names: all there that must be, all of their type. */
static int check_fields(const struct ckpt_json *object, const struct ckpt_json_field *fields,
			size_t count, struct ckpt_err *err)
{
	for (size_t i = 0; i < count; i++) {
		const struct ckpt_json *value = ckpt_json_get(object, fields[i].key);
		const char *fault;

		if (!value) {
			if (!fields[i].present)
				return ckpt_err_set(err, -EBADMSG, "key '%s' is missing",
						    fields[i].key);
			continue;
		}
		fault = field_fault(&fields[i], value);
		if (fault)
			return ckpt_err_set(err, -EBADMSG, "key '%s' %s", fields[i].key, fault);
	}
	return 0;
}

struct known_keys {
	const struct ckpt_json_field *fields;
	size_t count;
	struct ckpt_err *err;
};

/* Refuse a member that neither the table names nor an extension brings. */
static int check_known(void *ctx, const char *key, const struct ckpt_json *value)
{
	const struct known_keys *known = ctx;
	struct ckpt_buf shown;

	(void)value;
	if (key[0] == 'x' && key[1] == '_')
		return 0;
	for (size_t i = 0; i < known->count; i++) {
		if (strcmp(key, known->fields[i].key) == 0)
			return 0;
	}
	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, key);
	ckpt_err_set(known->err, -EBADMSG, "unknown key '%s'", shown.data);
	ckpt_buf_release(&shown);
	return -EBADMSG;
}

int ckpt_json_decode(const struct ckpt_json *object, const struct ckpt_json_field *fields,
		     size_t count, struct ckpt_err *err)
{
	struct known_keys known = { .fields = fields, .count = count, .err = err };
	int rc;

	if (!json_is_object(peek(object)))
		return ckpt_err_set(err, -EBADMSG, "must be an object");
	rc = check_fields(object, fields, count, err);
	if (rc == 0)
		rc = ckpt_json_each(object, check_known, &known);
	if (rc < 0)
		return rc;
	/* Only now, so that a refused object has written nothing. */
	for (size_t i = 0; i < count; i++) {
		const struct ckpt_json *value = ckpt_json_get(object, fields[i].key);

		if (fields[i].present)
			*fields[i].present = value != NULL;
		if (value)
			field_store(&fields[i], value);
	}
	return 0;
}

void ckpt_json_print_scalar(const char *text, struct ckpt_buf *out)
{
	struct ckpt_json *value = NULL;
	enum ckpt_json_kind kind = CKPT_JSON_STRING;

	if (ckpt_json_parse(text, strlen(text), &value, NULL) == 0)
		kind = ckpt_json_kind(value);
	if (kind == CKPT_JSON_BOOL || kind == CKPT_JSON_INT || kind == CKPT_JSON_REAL)
		ckpt_json_print(value, out);
	else
		ckpt_buf_add_json_str(out, text);
	ckpt_json_free(value);
}
