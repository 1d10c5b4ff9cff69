/* cli_mpi_options.c - the command line of ckptfs-mpi, and its help texts. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/version.h"
#include "cli_mpi_options.h"

static const struct mpi_command *const commands[] = {
	&mpi_save_command,   &mpi_load_command,	  &mpi_commit_command,
	&mpi_import_command, &mpi_verify_command, &mpi_bench_command,
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

/* --- help ----------------------------------------------------------------------------- */

static void print_overview(struct ckpt_buf *out)
{
	ckpt_buf_add_str(
		out,
		"Usage: mpirun -n RANKS ckptfs-mpi COMMAND [OPTIONS] ARGS\n"
		"Write, read and check the checkpoints of a ckptfs store from all ranks of an MPI job.\n\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		ckpt_buf_printf(out, "  %-8s %s\n", commands[i]->name, commands[i]->summary);
	ckpt_buf_add_str(
		out,
		"\n'ckptfs-mpi COMMAND --help' says more; the manual is ckptfs-mpi(1).\n"
		"Exit codes: 0 done; 1 not done, or damage found; 2 the command line is wrong.\n");
}

static void print_command(const struct mpi_command *command, struct ckpt_buf *out)
{
	ckpt_buf_printf(out, "Usage: mpirun -n RANKS ckptfs-mpi %s [OPTIONS] %s\n%s\n\n",
			command->name, command->args, command->details);
	for (size_t i = 0; i < mpi_row_count; i++) {
		const struct mpi_row *row = &mpi_rows[i];

		if (!strchr(command->options, row->letter))
			continue;
		ckpt_buf_printf(out, "  %s%-12s %-6s %s\n", row->name ? "--" : "-C",
				row->name ? row->name : "", row->value ? row->value : "",
				row->help);
	}
	ckpt_buf_add_str(out, "  --help\n");
}

static const struct mpi_command *find_command(const char *name)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	}
	return NULL;
}

/* --- parsing ------------------------------------------------------------------------------ */

static void make_longs(const struct mpi_command *command, struct option *longs)
{
	size_t count = 0;

	for (size_t i = 0; i < mpi_row_count; i++) {
		const struct mpi_row *row = &mpi_rows[i];

		if (row->name && strchr(command->options, row->letter))
			longs[count++] =
				(struct option){ row->name,
						 row->value ? required_argument : no_argument, NULL,
						 row->letter };
	}
	longs[count++] = (struct option){ "help", no_argument, NULL, 'h' };
	longs[count] = (struct option){ NULL, 0, NULL, 0 };
}

static int take_option(struct mpi_parse *parse, int letter)
{
	for (size_t i = 0; i < mpi_row_count; i++) {
		if (mpi_rows[i].letter == letter)
			return mpi_rows[i].take(parse, optarg);
	}
	return -EINVAL;
}

static int check_args(const struct mpi_command *command, const struct mpi_options *options,
		      struct ckpt_err *err)
{
	if (options->arg_count < command->min_args)
		return ckpt_err_set(err, -EINVAL,
				    "%s: an argument is missing; usage: ckptfs-mpi %s [OPTIONS] %s",
				    command->name, command->name, command->args);
	if (options->arg_count > command->max_args)
		return ckpt_err_set(
			err, -EINVAL,
			"%s: '%s' is one argument too many; usage: ckptfs-mpi %s [OPTIONS] %s",
			command->name, options->args[command->max_args], command->name,
			command->args);
	if (command == &mpi_save_command && !options->from)
		return ckpt_err_set(err, -EINVAL, "save: option '--from FILE' is missing");
	return 0;
}

/*
 * The options of a command; argv[0] is its name. *@out_help: it was asked for, and nothing else
 * matters.
 */
static int parse_command(const struct mpi_command *command, int argc, char **argv,
			 struct mpi_options *out, bool *out_help, struct ckpt_err *err)
{
	struct mpi_parse parse = { .options = out, .err = err };
	struct option longs[MPI_ROW_MAX + 2];
	int letter;
	int rc = 0;

	make_longs(command, longs);
	optind = 0; /* also resets glibc's state */
	opterr = 0;
	while (rc == 0 && (letter = getopt_long(argc, argv, ":C:h", longs, NULL)) != -1) {
		const char *word = optind > 0 ? argv[optind - 1] : "";

		if (letter == 'h') {
			*out_help = true;
			return 0;
		}
		if (letter == '?')
			rc = ckpt_err_set(
				err, -EINVAL,
				"%s: unknown option '%s'; 'ckptfs-mpi %s --help' lists them",
				command->name, word, command->name);
		else if (letter == ':')
			rc = ckpt_err_set(err, -EINVAL, "%s: option '%s' needs a value",
					  command->name, word);
		else
			rc = take_option(&parse, letter);
	}
	if (rc == 0)
		rc = mpi_rows_check(&parse, out->world_size);
	out->args = argv + optind;
	out->arg_count = (size_t)(argc - optind);
	return rc < 0 ? rc : check_args(command, out, err);
}

static void release_pairs(struct mpi_pair_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i].key);
	free(list->items);
}

void mpi_options_release(struct mpi_options *options)
{
	release_pairs(&options->blobs);
	release_pairs(&options->hook_args);
	ckpt_buf_release(&options->meta);
}

static void set_defaults(struct mpi_options *out)
{
	const char *progress = getenv("CKPTFS_PROGRESS");

	*out = (struct mpi_options){
		.world_size = out->world_size,
		.base = getenv("CKPTFS_STORE"),
		.timeout_secs = CKPT_MPI_BARRIER_TIMEOUT_SECS,
		.min_bytes_per_sec = CKPT_MPI_MIN_BYTES_PER_SEC,
		.progress = progress && strcmp(progress, "1") == 0,
		.size_bytes = CKPT_GIB,
		.rounds = 1,
	};
	ckpt_buf_init(&out->meta);
}

int mpi_options_parse(int argc, char **argv, struct mpi_options *out,
		      const struct mpi_command **out_command, struct ckpt_buf *text,
		      struct ckpt_err *err)
{
	const char *word = argc > 1 ? argv[1] : "";
	const struct mpi_command *command = find_command(word);
	bool help = false;
	int rc;

	set_defaults(out);
	*out_command = NULL;
	if (strcmp(word, "--version") == 0)
		ckpt_buf_add_str(text, "ckptfs-mpi " CKPTFS_VERSION "\n");
	else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
		print_overview(text);
	else if (!*word)
		return ckpt_err_set(err, -EINVAL,
				    "a command is missing; 'ckptfs-mpi --help' lists them");
	else if (!command)
		return ckpt_err_set(err, -EINVAL,
				    "'%s' is no command; 'ckptfs-mpi --help' lists them", word);
	if (!command)
		return ckpt_buf_check(text);
	rc = parse_command(command, argc - 1, argv + 1, out, &help, err);
	if (rc == 0 && help)
		print_command(command, text);
	else if (rc == 0)
		*out_command = command;
	return rc < 0 ? rc : ckpt_buf_check(text);
}
