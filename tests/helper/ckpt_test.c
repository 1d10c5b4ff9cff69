/*
 * ckpt_test.c - the tests' helper: exact errno, offsets, concurrent readers,
 * mappings and leases, which a shell cannot do; and, in test_store.c, calls
 * of the store that no command makes alone.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "ckpt_test.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	int min_args;
	int max_args;
	const char *usage;
};

static const struct command commands[] = {
	{ "errno", test_errno, 2, 4, "CALL PATH [ARG [ARG]]   the errno of one call, or OK" },
	{ "immutable", test_immutable, 2, 2,
	  "CHECKPOINT OUTSIDE   every call that changes something is refused" },
	{ "lease", test_lease, 1, 1, "FILE   OK when a read lease is given, else the errno" },
	{ "control", test_control, 3, 4,
	  "MNT OP NAME [VERSION]   send the control ioctl; prints its answer" },
	{ "compare", test_compare, 2, 5,
	  "FILE OTHER [READS [THREADS [SEED]]]   random preads of both are equal" },
	{ "map-compare", test_map_compare, 2, 2, "FILE OTHER   the same through mappings" },
	{ "map-sum", test_map_sum, 1, 1, "FILE   map the file, add up its 64-bit words" },
	{ "read-random", test_read_random, 2, 3,
	  "FILE COUNT [SEED]   4 KiB preads at random aligned offsets" },
	{ "pread", test_pread, 3, 3,
	  "FILE OFFSET LEN   one pread to stdout; the errno on failure" },
	{ "hold", test_hold, 2, 2,
	  "read|write|map FILE   keep it open (map: mapped for writing, descriptor closed) until killed" },
	{ "flip", test_flip, 2, 3,
	  "FILE OFFSET [BIT]   flip one bit in place, put the mtime back" },
	{ "random", test_random_bytes, 2, 2, "SEED COUNT   so many bytes, the same at each call" },
	{ "session", test_session, 2, 99,
	  "STORE NAME ACTION…   a session of this process: sum=FILE tell=WORD keep sleep=SECS ready remove" },
	{ "place", test_place, 2, 2, "STORE PATH   where a session for it belongs" },
	{ "guard", test_guard, 2, 2, "STORE PATH   may it be changed?" },
	{ "commit", test_commit, 3, 4, "STORE NAME FINAL [replace]   commit it under that name" },
	{ "append", test_append, 3, 3,
	  "FILE COUNT TAG   COUNT records of TAG, by one O_APPEND descriptor" },
	{ "map-write", test_map_write, 3, 3,
	  "FILE OFFSET TEXT   written through a mapping whose descriptor is closed" },
	{ "direct", test_direct, 1, 1, "FILE   O_DIRECT with odd offset, length and memory" },
	{ "copy-range", test_copy_range, 3, 3,
	  "FROM TO LEN   by copy_file_range; prints the bytes or the errno" },
	{ "seek", test_seek, 3, 3, "FILE hole|data OFFSET   prints where the next one begins" },
	{ "lock", test_lock, 2, 3,
	  "flock|posix|ofd FILE [hold]   OK or the errno; hold: until killed" },
	{ "open-close", test_open_close, 2, 2, "FILE COUNT   open and close it so often" },
	{ "fsx", test_fsx, 4, 4,
	  "FILE OTHER COUNT SEED   so many random operations on both; they stay equal" },
	{ "view", test_view, 2, 40,
	  "DIR PATH [OFFSET LEN]…   bytes of a view of the checkpoint DIR to stdout" },
	{ "view-tree", test_view_tree, 1, 1, "DIR   number, size and path of each view; notes" },
	{ "view-random", test_view_random, 4, 5,
	  "DIR PATH READS THREADS [SEED]   random reads of a view give what the whole gives" },
	{ "view-made", test_view_made, 2, 4,
	  "DIR SEED [READS [THREADS]]   make DIR, with random tensors in random boxes; views give them" },
	{ "zip", test_zip, 1, 3, "FILE [OFFSET [LEN]]   its records; their sums are checked" },
	{ "npy", test_npy, 1, 1, "FILE   type, shape, strides and place of the data" },
	{ "npy-print", test_npy_print, 1, 65, "DTYPE [EXTENT]…   the header of a .npy to stdout" },
	{ "saved-offsets", test_saved_offsets, 1, 1, "FILE   where DCP says its tensors lie" },
	{ "dcp", test_dcp, 1, 1000, "FILE…   what each `.metadata` tells, or why it is refused" },
	{ "torch", test_torch, 1, 3,
	  "FILE [OFFSET LEN]   the tensors of what torch.save wrote, or why it is refused" },
	{ "torch-pickle", test_torch_pickle, 1, 1000, "FILE…   the same of data.pkl alone" },
	{ "pickle-damage", test_pickle_damage, 2, 3,
	  "FILE COUNT [SEED]   cut it everywhere, flip bytes COUNT times: refused, or read" },
	{ "seekdir", test_seekdir, 1, 1,
	  "DIR   every position of a listing leads to the entry it was taken before" },
};

static int usage(void)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		(void)fprintf(stderr, "ckpt-test %s %s\n", commands[i].name, commands[i].usage);
	return 2;
}

uint64_t test_number(const char *text)
{
	uint64_t value;

	if (num_parse_size(text, &value) < 0) {
		(void)fprintf(stderr, "ckpt-test: '%s' is no number\n", text);
		exit(2);
	}
	return value;
}

void test_say(int code, const char *what, const char *object)
{
	if (code)
		(void)fprintf(stderr, "ckpt-test: %s: '%s': %s\n", what, object,
			      ckpt_err_name(code));
	else
		(void)fprintf(stderr, "ckpt-test: %s: '%s'\n", what, object);
}

uint64_t test_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc >= 2 && i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *command = &commands[i];

		if (strcmp(argv[1], command->name) != 0)
			continue;
		if (argc - 2 < command->min_args || argc - 2 > command->max_args)
			break;
		return command->run(argc - 1, argv + 1);
	}
	return usage();
}
