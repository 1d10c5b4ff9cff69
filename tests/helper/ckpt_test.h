/*
 * ckpt_test.h - what the files of ckpt-test share: the commands that bats
 * cannot spell, each `int NAME(int argc, char **argv)` with argv[0] the
 * command's own name. They return the exit status: 0, 1 not as it should be
 * (said on stderr), 2 misuse.
 */
#ifndef CKPT_TEST_H
#define CKPT_TEST_H

#include <stdint.h>

/* test_errno.c */
int test_errno(int argc, char **argv);
int test_lease(int argc, char **argv);
int test_control(int argc, char **argv);
/* test_read.c */
int test_compare(int argc, char **argv);
int test_map_compare(int argc, char **argv);
int test_map_sum(int argc, char **argv);
int test_read_random(int argc, char **argv);
int test_pread(int argc, char **argv);
/* test_store.c */
int test_session(int argc, char **argv);
int test_place(int argc, char **argv);
int test_guard(int argc, char **argv);
int test_commit(int argc, char **argv);
/* test_write.c */
int test_append(int argc, char **argv);
int test_map_write(int argc, char **argv);
int test_direct(int argc, char **argv);
int test_copy_range(int argc, char **argv);
int test_seek(int argc, char **argv);
int test_lock(int argc, char **argv);
int test_open_close(int argc, char **argv);
/* test_view.c */
int test_view(int argc, char **argv);
int test_view_tree(int argc, char **argv);
int test_view_random(int argc, char **argv);
int test_view_made(int argc, char **argv);
/* test_formats.c */
int test_zip(int argc, char **argv);
int test_npy(int argc, char **argv);
int test_npy_print(int argc, char **argv);
int test_saved_offsets(int argc, char **argv);
/* test_format.c */
int test_dcp(int argc, char **argv);
int test_torch(int argc, char **argv);
int test_torch_pickle(int argc, char **argv);
int test_pickle_damage(int argc, char **argv);
/* test_fsx.c */
int test_fsx(int argc, char **argv);
/* test_immutable.c */
int test_immutable(int argc, char **argv);
/* test_hold.c */
int test_hold(int argc, char **argv);
int test_flip(int argc, char **argv);
int test_random_bytes(int argc, char **argv);
int test_seekdir(int argc, char **argv);

/** test_number - decimal, or a size such as 64KiB; misuse ends the program with status 2. */
uint64_t test_number(const char *text);
/** test_say - what failed, with the text of @code, a positive errno, unless 0. */
void test_say(int code, const char *what, const char *object);
/** test_failed - the same; returns 1, here where every analyser can see it. */
static inline int test_failed(int code, const char *what, const char *object)
{
	test_say(code, what, object);
	return 1;
}
/** test_random - the next number of a reproducible sequence (splitmix64). */
uint64_t test_random(uint64_t *state);

#endif
