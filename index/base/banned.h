/*
 * banned.h - calls this tree does not make. The Makefile forces it in front of
 * every file (-include), so no file can forget it.
 *
 * The system headers that declare the names come first: their include guards
 * make later includes empty, so the poison only ever meets our own code. What
 * to call instead: ckpt_buf_* or snprintf for text, num_parse_* for numbers,
 * strtok_r, mkostemp. (ctime, gmtime and their like are for clang-tidy's
 * concurrency-mt-unsafe: the kernel's headers have members of those names.)
 */
#ifndef CKPT_BASE_BANNED_H
#define CKPT_BASE_BANNED_H

#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Macros in glibc; poisoning a macro that is defined only warns. */
#undef alloca
#undef strdupa
#undef strndupa

#pragma GCC poison strcpy strcat strncpy strncat stpcpy
#pragma GCC poison sprintf vsprintf gets
#pragma GCC poison atoi atol atoll atof
#pragma GCC poison strtok tmpnam tempnam mktemp
#pragma GCC poison alloca strdupa strndupa

#endif
