/*
 * values.h - elements of tensors as numbers.
 */
#ifndef CKPT_VIEW_VALUES_H
#define CKPT_VIEW_VALUES_H

#include <stddef.h>
#include <stdint.h>

/* How an element is taken for a number. */
enum ckpt_value_kind {
	CKPT_VALUE_NONE,     /* the type is unknown */
	CKPT_VALUE_REAL,     /* a double holds it exactly */
	CKPT_VALUE_SIGNED,   /* I64: only an int64_t does */
	CKPT_VALUE_UNSIGNED, /* U64: only a uint64_t does */
	CKPT_VALUE_COMPLEX,  /* its magnitude stands for it */
};

/** ckpt_value_kind_of - of a type as safetensors names it, and C128. */
enum ckpt_value_kind ckpt_value_kind_of(const char *dtype);

/* Turns elements, little-endian and at any address, into doubles. */
typedef void (*ckpt_decode)(const void *data, size_t count, double *out);

/**
 * ckpt_decoder_of - for elements of @dtype; NULL where it is unknown
 * BF16, F16 and the F8s are exact; I64 and U64 are rounded, complex ones become magnitudes. F8s as
 * the OCP "8-bit Floating Point" specification and PyTorch have them (E8M0: powers of two, 0xff is
 * NaN). Thread-safe: yes.
 */
ckpt_decode ckpt_decoder_of(const char *dtype);

#endif
