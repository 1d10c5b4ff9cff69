/* values.c - see values.h. */
#include "view/values.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/clones.h"

/* --- what a load makes of bytes ------------------------------------------------------------- */

/* One of these for each type whose elements C knows; memcpy, because they lie at any address. */
#define DECODE_AS(name, type)                                                                 \
	CKPT_FOR_THIS_PROCESSOR static void name(const void *data, size_t count, double *out) \
	{                                                                                     \
		const unsigned char *at = data;                                               \
                                                                                              \
		for (size_t i = 0; i < count; i++) {                                          \
			type value;                                                           \
                                                                                              \
			memcpy(&value, at + i * sizeof(value), sizeof(value));                \
			out[i] = (double)value;                                               \
		}                                                                             \
	}

DECODE_AS(decode_f64, double)
DECODE_AS(decode_f32, float)
DECODE_AS(decode_i64, int64_t)
DECODE_AS(decode_i32, int32_t)
DECODE_AS(decode_i16, int16_t)
DECODE_AS(decode_i8, int8_t)
DECODE_AS(decode_u64, uint64_t)
DECODE_AS(decode_u32, uint32_t)
DECODE_AS(decode_u16, uint16_t)
DECODE_AS(decode_u8, uint8_t)

static void decode_bool(const void *data, size_t count, double *out)
{
	const unsigned char *at = data;

	for (size_t i = 0; i < count; i++)
		out[i] = at[i] != 0;
}

/* --- short floats --------------------------------------------------------------------------- */

static inline float float_of_bits(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* The upper half of a float. */
CKPT_FOR_THIS_PROCESSOR static void decode_bf16(const void *data, size_t count, double *out)
{
	const unsigned char *at = data;

	for (size_t i = 0; i < count; i++) {
		uint16_t bits;

		memcpy(&bits, at + 2 * i, sizeof(bits));
		out[i] = (double)float_of_bits((uint32_t)bits << 16);
	}
}

/*
 * Exponent and mantissa moved to where a float has them: that is the value times 2^-112, also of a
 * subnormal. Inf and NaN get a float's exponent of those.
 */
CKPT_FOR_THIS_PROCESSOR static void decode_f16(const void *data, size_t count, double *out)
{
	const unsigned char *at = data;

	for (size_t i = 0; i < count; i++) {
		uint16_t half;
		uint32_t bits;
		uint32_t special;
		uint32_t number;
		float value;

		memcpy(&half, at + 2 * i, sizeof(half));
		bits = (uint32_t)(half & 0x7fff) << 13;
		special = (half & 0x7c00) == 0x7c00 ? UINT32_MAX : 0;
		value = float_of_bits(bits) * 0x1p112F;
		memcpy(&number, &value, sizeof(number));
		number = (number & ~special) | ((bits | UINT32_C(0x7f800000)) & special);
		out[i] = (double)float_of_bits(number | (uint32_t)(half & 0x8000) << 16);
	}
}

/* The layouts of 8 bits, and their 256 values once they are needed. */
struct f8 {
	unsigned int exponent_bits;
	unsigned int mantissa_bits;
	int bias;
	bool is_fnuz;	   /* no -0, no Inf; 0x80 is the one NaN */
	bool has_infinity; /* the highest exponent is Inf and NaN, as IEEE 754 has it */
	double values[256];
};

enum f8_kind {
	E4M3,
	E5M2,
	E4M3FNUZ,
	E5M2FNUZ,
	E8M0,
	F8_COUNT,
};

static struct f8 f8s[F8_COUNT] = {
	[E4M3] = { 4, 3, 7, false, false, { 0 } },    [E5M2] = { 5, 2, 15, false, true, { 0 } },
	[E4M3FNUZ] = { 4, 3, 8, true, false, { 0 } }, [E5M2FNUZ] = { 5, 2, 16, true, false, { 0 } },
	[E8M0] = { 8, 0, 127, false, false, { 0 } },
};
static pthread_once_t f8s_once = PTHREAD_ONCE_INIT;

/* A number of the layout that is neither Inf nor NaN, without its sign. */
static double f8_magnitude(const struct f8 *f8, unsigned int exponent, unsigned int mantissa)
{
	int scale = -(int)f8->mantissa_bits - f8->bias;

	if (exponent == 0)
		return ldexp((double)mantissa, 1 + scale);
	return ldexp((double)(mantissa + (1U << f8->mantissa_bits)), (int)exponent + scale);
}

static double f8_value(const struct f8 *f8, unsigned int bits)
{
	unsigned int mantissa = bits & ((1U << f8->mantissa_bits) - 1);
	unsigned int top = (1U << f8->exponent_bits) - 1;
	unsigned int exponent = bits >> f8->mantissa_bits & top;
	bool negative = (bits & 0x80) != 0;
	double magnitude = f8_magnitude(f8, exponent, mantissa);

	if (f8->is_fnuz && bits == 0x80)
		return NAN;
	if (f8->has_infinity && exponent == top)
		magnitude = mantissa == 0 ? INFINITY : NAN;
	else if (!f8->is_fnuz && exponent == top && mantissa == (1U << f8->mantissa_bits) - 1)
		magnitude = NAN;
	return negative ? -magnitude : magnitude;
}

/* No sign, no mantissa, no zero: 2^(bits - 127), and 0xff is NaN. */
static double e8m0_value(unsigned int bits)
{
	return bits == 0xff ? NAN : ldexp(1.0, (int)bits - f8s[E8M0].bias);
}

static void fill_f8s(void)
{
	for (int kind = 0; kind < F8_COUNT; kind++) {
		for (unsigned int bits = 0; bits < 256; bits++)
			f8s[kind].values[bits] = kind == E8M0 ? e8m0_value(bits)
							      : f8_value(&f8s[kind], bits);
	}
}

static void decode_f8(enum f8_kind kind, const void *data, size_t count, double *out)
{
	const unsigned char *at = data;
	const double *values = f8s[kind].values;

	for (size_t i = 0; i < count; i++)
		out[i] = values[at[i]];
}

static void decode_e4m3(const void *data, size_t count, double *out)
{
	decode_f8(E4M3, data, count, out);
}

static void decode_e5m2(const void *data, size_t count, double *out)
{
	decode_f8(E5M2, data, count, out);
}

static void decode_e4m3fnuz(const void *data, size_t count, double *out)
{
	decode_f8(E4M3FNUZ, data, count, out);
}

static void decode_e5m2fnuz(const void *data, size_t count, double *out)
{
	decode_f8(E5M2FNUZ, data, count, out);
}

static void decode_e8m0(const void *data, size_t count, double *out)
{
	decode_f8(E8M0, data, count, out);
}

/* --- complex numbers ------------------------------------------------------------------------ */

static void decode_c64(const void *data, size_t count, double *out)
{
	const unsigned char *at = data;

	for (size_t i = 0; i < count; i++) {
		float parts[2];

		memcpy(parts, at + 8 * i, sizeof(parts));
		out[i] = hypot((double)parts[0], (double)parts[1]);
	}
}

static void decode_c128(const void *data, size_t count, double *out)
{
	const unsigned char *at = data;

	for (size_t i = 0; i < count; i++) {
		double parts[2];

		memcpy(parts, at + 16 * i, sizeof(parts));
		out[i] = hypot(parts[0], parts[1]);
	}
}

/* --- which one ------------------------------------------------------------------------------ */

static const struct value_type {
	const char *dtype;
	enum ckpt_value_kind kind;
	ckpt_decode decode;
} types[] = {
	{ "F32", CKPT_VALUE_REAL, decode_f32 },
	{ "BF16", CKPT_VALUE_REAL, decode_bf16 },
	{ "F16", CKPT_VALUE_REAL, decode_f16 },
	{ "F64", CKPT_VALUE_REAL, decode_f64 },
	{ "I64", CKPT_VALUE_SIGNED, decode_i64 },
	{ "I32", CKPT_VALUE_REAL, decode_i32 },
	{ "I16", CKPT_VALUE_REAL, decode_i16 },
	{ "I8", CKPT_VALUE_REAL, decode_i8 },
	{ "U64", CKPT_VALUE_UNSIGNED, decode_u64 },
	{ "U32", CKPT_VALUE_REAL, decode_u32 },
	{ "U16", CKPT_VALUE_REAL, decode_u16 },
	{ "U8", CKPT_VALUE_REAL, decode_u8 },
	{ "BOOL", CKPT_VALUE_REAL, decode_bool },
	{ "C64", CKPT_VALUE_COMPLEX, decode_c64 },
	{ "C128", CKPT_VALUE_COMPLEX, decode_c128 },
	{ "F8_E4M3", CKPT_VALUE_REAL, decode_e4m3 },
	{ "F8_E5M2", CKPT_VALUE_REAL, decode_e5m2 },
	{ "F8_E4M3FNUZ", CKPT_VALUE_REAL, decode_e4m3fnuz },
	{ "F8_E5M2FNUZ", CKPT_VALUE_REAL, decode_e5m2fnuz },
	{ "F8_E8M0", CKPT_VALUE_REAL, decode_e8m0 },
};

static const struct value_type *type_of(const char *dtype)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(types[i].dtype, dtype) == 0)
			return &types[i];
	}
	return NULL;
}

enum ckpt_value_kind ckpt_value_kind_of(const char *dtype)
{
	const struct value_type *type = type_of(dtype);

	return type ? type->kind : CKPT_VALUE_NONE;
}

ckpt_decode ckpt_decoder_of(const char *dtype)
{
	const struct value_type *type = type_of(dtype);

	pthread_once(&f8s_once, fill_f8s);
	return type ? type->decode : NULL;
}
