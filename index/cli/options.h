/*
 * options.h - the command line by a table: what can be given, where it goes,
 * and what --help says of it, in one place. getopt_long(3) does the parsing:
 * options stand anywhere, "--" ends them, "--name VALUE" and "--name=VALUE".
 */
#ifndef CKPT_CLI_OPTIONS_H
#define CKPT_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/cli.h"

/* Options of one command, the common ones included. */
#define OPTIONS_MAX 16

enum option_kind {
	OPTION_FLAG,   /* bool * */
	OPTION_NUMBER, /* struct option_number * */
	OPTION_SIZE,   /* the same: bytes, "4GiB" */
	OPTION_AGE,    /* the same: seconds, "12h" */
	OPTION_LIST,   /* struct option_list *: may be given more than once */
	OPTION_TEXT,   /* const char **: argv's; the last one counts */
};

struct option_number {
	bool given;
	uint64_t value;
};

struct option_list {
	const char **items; /* the texts are argv's */
	size_t count, cap;
};

struct option_row {
	const char *name; /* without dashes; NULL: only the letter */
	char letter;	  /* 0: only the name */
	enum option_kind kind;
	void *out;
	const char *value; /* how usage calls the value; NULL for a flag */
	const char *help;
};

#define OPTION_END           \
	{                    \
		.name = NULL \
	}

/* What is left when the options are taken out. */
struct option_args {
	char **items;
	size_t count;
};

/**
 * options_parse - take the command line of a command apart
 * @argv: argv[0] is the command's name; permuted
 * @rows: the command's own options, ended by OPTION_END; -C and --help come by themselves
 * Returns true to go on; false: the run is over with *@out_exit (--help was printed, or an error).
 */
bool options_parse(struct cli *cli, int argc, char **argv, const struct option_row *rows,
		   struct option_args *out, int *out_exit);
/**
 * options_run_path - the run() of a command that has no options of its own: call @fn with each of its
 * arguments (once with NULL where there is none), and say what failed; the next one has its own
 * reasons to succeed
 * @fn: 0, CLI_FAILED when it has said why, or a negative errno
 */
int options_run_path(struct cli *cli, int argc, char **argv,
		     int (*fn)(const struct cli *cli, const char *path, struct ckpt_err *err));
void option_list_release(struct option_list *list);

#endif
