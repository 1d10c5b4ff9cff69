/*
 * fuzz.h - one function a parser of what comes from outside: fuzz_PARSER.c.
 * `make fuzz` links each with libFuzzer; replay.c runs the inputs that are kept,
 * and renames the function for that, as there is one of them in each file.
 */
#ifndef CKPT_FUZZ_H
#define CKPT_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/** LLVMFuzzerTestOneInput - parse @data, whatever it is; 0. A fault ends the process. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

/** fuzz_file - a file in memory that holds @data alone; the same descriptor at each call. */
int fuzz_file(const uint8_t *data, size_t len_bytes);

#endif
