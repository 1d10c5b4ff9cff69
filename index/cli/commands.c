/* commands.c - the program ckptfs: the table of commands, and finding the one that is meant. */
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/version.h"
#include "cli/cli.h"
#include "cli/signals.h"
#include "cli/suggest.h"

/* As the overview shows them. */
static const struct cli_command *const commands[] = {
	&cli_init_command,  &cli_mount_command,	   &cli_umount_command, &cli_run_command,
	&cli_ls_command,    &cli_show_command,	   &cli_latest_command, &cli_cat_command,
	&cli_cp_command,    &cli_verify_command,   &cli_commit_command, &cli_abort_command,
	&cli_rm_command,    &cli_undelete_command, &cli_gc_command,	&cli_pin_command,
	&cli_unpin_command, &cli_reindex_command,  &cli_diff_command,	&cli_log_command,
	&cli_find_command,  &cli_sql_command,	   &cli_plot_command,	&cli_doctor_command,
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void print_help(void)
{
	(void)puts(
		"usage: ckptfs [-C DIR] COMMAND [OPTION...] [ARG...]\n\n"
		"A checkpoint store that can be mounted. Without a command: the state of the store\n"
		"you stand in. A checkpoint, a shard or a group is a PATH: in a store, in a mount,\n"
		"or of a bare checkpoint folder.\n\n"
		"Commands:");
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		(void)printf("  %-9s %s\n", commands[i]->name, commands[i]->summary);
	(void)puts(
		"\nOptions:\n"
		"  -C DIR     the store for names that are not found from here (also $CKPTFS_STORE)\n"
		"  --version  print the version\n"
		"  --help     print this\n\n"
		"'ckptfs COMMAND --help' tells more; so does ckptfs(1).\n"
		"Exit codes: 0 done; 1 not done, or damage found; 2 the command line is wrong.");
}

static int unknown_command(const char *typed)
{
	const char *best = commands[0]->name;

	for (size_t i = 1; i < COMMAND_COUNT; i++) {
		if (suggest_distance(typed, commands[i]->name) < suggest_distance(typed, best))
			best = commands[i]->name;
	}
	if (suggest_near(typed, suggest_distance(typed, best)))
		cli_error("unknown command '%s'; did you mean '%s'?", typed, best);
	else
		cli_error("unknown command '%s'; 'ckptfs --help' lists them", typed);
	return CLI_USAGE;
}

static int run_command(struct cli *cli, int argc, char **argv)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		if (strcmp(commands[i]->name, argv[0]) == 0) {
			cli->command = commands[i];
			return commands[i]->run(cli, argc, argv);
		}
	}
	return unknown_command(argv[0]);
}

static void unknown_option(const char *typed, const struct option *longs)
{
	for (; longs->name; longs++) {
		const char *word = typed + strspn(typed, "-");

		if (suggest_near(word, suggest_distance(word, longs->name))) {
			cli_error("unknown option '%s'; did you mean '--%s'?", typed, longs->name);
			return;
		}
	}
	cli_error("unknown option '%s'; see 'ckptfs --help'", typed);
}

/* What stands before the command; true: the run is over with *@out_exit. */
static bool global_options(struct cli *cli, int argc, char **argv, int *out_exit)
{
	static const struct option longs[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int code;

	opterr = 0;
	/* "+": what follows the command is the command's. */
	while ((code = getopt_long(argc, argv, "+:hC:", longs, NULL)) != -1) {
		*out_exit = CLI_USAGE;
		switch (code) {
		case 'h':
			print_help();
			*out_exit = cli_flush(CLI_OK);
			return true;
		case 'V':
			(void)printf("ckptfs %s\n", CKPTFS_VERSION);
			*out_exit = cli_flush(CLI_OK);
			return true;
		case 'C':
			cli->base = optarg;
			break;
		case ':':
			cli_error("option '-C' needs a folder: -C DIR");
			return true;
		default:
			unknown_option(argv[optind > 1 ? optind - 1 : 1], longs);
			return true;
		}
	}
	return false;
}

int main(int argc, char **argv)
{
	struct cli cli = { .base = getenv("CKPTFS_STORE") };
	int code = CLI_OK;

	/* How wide a character is depends on it; numbers and messages do not. */
	(void)setlocale(LC_CTYPE, "");
	if (cli.base && cli.base[0] == '\0')
		cli.base = NULL;
	if (!global_options(&cli, argc, argv, &code))
		code = optind < argc ? run_command(&cli, argc - optind, argv + optind)
				     : cli_status(&cli);
	signals_die();
	return code;
}
