/*
 * torch_values.c - element types and sizes as PyTorch pickles them; see torch_internal.h.
 * Sources: torch/storage.py, torch/serialization.py.
 */
#include <string.h>

#include "format/format.h"
#include "format/torch_internal.h"

static const struct torch_dtype {
	const char *torch;   /* torch.NAME */
	const char *storage; /* torch.NAME; NULL: it is saved as an UntypedStorage */
	const char *dtype;   /* as safetensors names it, and C128 */
} dtypes[] = {
	{ "float64", "DoubleStorage", "F64" },
	{ "float32", "FloatStorage", "F32" },
	{ "float16", "HalfStorage", "F16" },
	{ "bfloat16", "BFloat16Storage", "BF16" },
	{ "int64", "LongStorage", "I64" },
	{ "int32", "IntStorage", "I32" },
	{ "int16", "ShortStorage", "I16" },
	{ "int8", "CharStorage", "I8" },
	{ "uint8", "ByteStorage", "U8" },
	{ "bool", "BoolStorage", "BOOL" },
	{ "uint16", NULL, "U16" },
	{ "uint32", NULL, "U32" },
	{ "uint64", NULL, "U64" },
	{ "complex64", "ComplexFloatStorage", "C64" },
	{ "complex128", "ComplexDoubleStorage", "C128" },
	{ "float8_e4m3fn", NULL, "F8_E4M3" },
	{ "float8_e5m2", NULL, "F8_E5M2" },
	{ "float8_e4m3fnuz", NULL, "F8_E4M3FNUZ" },
	{ "float8_e5m2fnuz", NULL, "F8_E5M2FNUZ" },
	{ "float8_e8m0fnu", NULL, "F8_E8M0" },
};

static bool is_torch(const struct pickle_value *value)
{
	return value && value->kind == PICKLE_GLOBAL &&
	       pickle_text_is(value->as.global.module, "torch");
}

const char *ckpt_torch_dtype(const struct pickle_value *value)
{
	for (size_t i = 0; is_torch(value) && i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
		if (pickle_text_is(value->as.global.name, dtypes[i].torch))
			return dtypes[i].dtype;
	}
	return NULL;
}

const char *ckpt_torch_storage_dtype(const struct pickle_value *value)
{
	for (size_t i = 0; is_torch(value) && i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
		if (dtypes[i].storage && pickle_text_is(value->as.global.name, dtypes[i].storage))
			return dtypes[i].dtype;
	}
	return NULL;
}

const struct pickle_value *ckpt_torch_extents(const struct pickle_value *value)
{
	if (pickle_is_call(value, "torch", "Size") && value->as.call.args->item_count == 1)
		value = value->as.call.args->items[0];
	if (!value || (value->kind != PICKLE_TUPLE && value->kind != PICKLE_LIST))
		return NULL;
	return value->item_count <= CKPT_DIM_MAX ? value : NULL;
}
