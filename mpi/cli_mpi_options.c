/* cli_mpi_options.c - the command line of ckptfs-mpi, and its help texts. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "base/path.h"
#include "base/version.h"
#include "cli_mpi.h"
#include "store/store.h"

static const struct mpi_command *const commands[] = {
	&mpi_save_command,   &mpi_load_command,	  &mpi_commit_command,
	&mpi_import_command, &mpi_verify_command,
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

/* What the line is parsed into, besides the options themselves. */
struct parse {
	struct mpi_options *options;
	struct ckpt_err *err;
};

struct row {
	const char *name; /* without dashes; NULL: only the letter, for -C */
	char letter;	  /* in struct mpi_command.options */
	const char *value;
	const char *help;
	int (*take)(struct parse *parse, const char *text);
};

static int take_store(struct parse *parse, const char *text)
{
	parse->options->base = text;
	return 0;
}

static int take_from(struct parse *parse, const char *text)
{
	parse->options->from = text;
	return 0;
}

static int take_to(struct parse *parse, const char *text)
{
	parse->options->to = text;
	return 0;
}

/* A number in [min, max], or the message that names the option. */
static int take_number(struct parse *parse, const char *name, const char *text, uint64_t max,
		       uint64_t *out)
{
	if (num_parse_u64(text, out) < 0 || *out > max)
		return ckpt_err_set(parse->err, -EINVAL,
				    "option '--%s': '%s' is no number from 0 to %llu", name, text,
				    (unsigned long long)max);
	return 0;
}

static int take_shard(struct parse *parse, const char *text)
{
	return take_number(parse, "shard", text, CKPT_MPI_DIM_MAX - 1, &parse->options->shard_dim);
}

static int take_step(struct parse *parse, const char *text)
{
	parse->options->has_step = true;
	return take_number(parse, "step", text, CKPT_STEP_MAX, &parse->options->step);
}

static int take_coordinator(struct parse *parse, const char *text)
{
	uint64_t rank = 0;
	int rc = take_number(parse, "coordinator", text, INT32_MAX, &rank);

	parse->options->coordinator = (int)rank;
	return rc;
}

static int take_timeout(struct parse *parse, const char *text)
{
	uint64_t secs = 0;
	int rc = take_number(parse, "timeout", text, UINT32_MAX, &secs);

	if (rc == 0 && secs == 0)
		return ckpt_err_set(
			parse->err, -EINVAL,
			"option '--timeout': 0 s would end every wait at once; give 1 or more");
	parse->options->timeout_secs = (uint32_t)secs;
	return rc;
}

static int take_io(struct parse *parse, const char *text)
{
	if (strcmp(text, "posix") == 0)
		parse->options->io = CKPT_MPI_IO_POSIX;
	else if (strcmp(text, "mpiio") == 0)
		parse->options->io = CKPT_MPI_IO_MPIIO;
	else
		return ckpt_err_set(parse->err, -EINVAL,
				    "option '--io': '%s' is neither 'posix' nor 'mpiio'", text);
	return 0;
}

/* Numbers and booleans stay what they are; everything else is a string. */
static void add_meta_value(struct ckpt_buf *out, const char *text)
{
	struct ckpt_json *value = NULL;
	enum ckpt_json_kind kind = CKPT_JSON_STRING;

	if (ckpt_json_parse(text, strlen(text), &value, NULL) == 0)
		kind = ckpt_json_kind(value);
	if (kind == CKPT_JSON_BOOL || kind == CKPT_JSON_INT || kind == CKPT_JSON_REAL)
		ckpt_json_print(value, out);
	else
		ckpt_buf_add_json_str(out, text);
	ckpt_json_free(value);
}

/* Kept as "{…" with one member an option; close_meta() ends it. */
static int take_meta(struct parse *parse, const char *text)
{
	struct ckpt_buf *meta = &parse->options->meta;
	size_t key_len = strcspn(text, "=");
	struct ckpt_buf key;

	if (key_len == 0 || text[key_len] == '\0')
		return ckpt_err_set(parse->err, -EINVAL, "option '--meta': '%s' is not KEY=VALUE",
				    text);
	if (!ckpt_path_is_utf8(text, strlen(text)))
		return ckpt_err_set(
			parse->err, -EINVAL,
			"option '--meta': key and value must be UTF-8 without control characters");
	ckpt_buf_init(&key);
	ckpt_buf_add(&key, text, key_len);
	ckpt_buf_add_char(meta, meta->len_bytes ? ',' : '{');
	ckpt_buf_add_json_str(meta, key.data);
	ckpt_buf_add_char(meta, ':');
	add_meta_value(meta, text + key_len + 1);
	ckpt_buf_release(&key);
	return ckpt_buf_check(meta);
}

static int close_meta(struct parse *parse)
{
	struct ckpt_buf *meta = &parse->options->meta;
	struct ckpt_json *root = NULL;
	int rc;

	if (meta->len_bytes == 0)
		return 0;
	ckpt_buf_add_char(meta, '}');
	rc = ckpt_buf_check(meta);
	/* All members are well-formed by themselves: what can be wrong is a key given twice. */
	if (rc == 0 && ckpt_json_parse(meta->data, meta->len_bytes, &root, NULL) < 0)
		rc = ckpt_err_set(parse->err, -EINVAL, "option '--meta': a key is given twice");
	ckpt_json_free(root);
	return rc;
}

static const struct row rows[] = {
	{ "from", 'f', "FILE", "FILE.safetensors, or an index.json that names several", take_from },
	{ "to", 't', "OUT", "write one safetensors file with all tensors", take_to },
	{ "shard", 'd', "DIM",
	  "cut tensors along dimension DIM (0); one without it is written once", take_shard },
	{ "step", 's', "N", "training step of the checkpoint", take_step },
	{ "meta", 'm', "K=V", "a fact to keep with the checkpoint; may be repeated", take_meta },
	{ "io", 'i', "WAY", "how small shards are written together: posix (default) or mpiio",
	  take_io },
	{ "coordinator", 'c', "RANK", "rank that plans and commits (0)", take_coordinator },
	{ "timeout", 'w', "SECS", "how long ranks wait for each other (600)", take_timeout },
	{ NULL, 'C', "DIR", "the store for names that are not found from here (also $CKPTFS_STORE)",
	  take_store },
};
#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

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
	for (size_t i = 0; i < ROW_COUNT; i++) {
		if (!strchr(command->options, rows[i].letter))
			continue;
		ckpt_buf_printf(out, "  %s%-12s %-5s %s\n", rows[i].name ? "--" : "-C",
				rows[i].name ? rows[i].name : "", rows[i].value, rows[i].help);
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

	for (size_t i = 0; i < ROW_COUNT; i++) {
		if (rows[i].name && strchr(command->options, rows[i].letter))
			longs[count++] = (struct option){ rows[i].name, required_argument, NULL,
							  rows[i].letter };
	}
	longs[count++] = (struct option){ "help", no_argument, NULL, 'h' };
	longs[count] = (struct option){ NULL, 0, NULL, 0 };
}

static int take_option(struct parse *parse, int letter)
{
	for (size_t i = 0; i < ROW_COUNT; i++) {
		if (rows[i].letter == letter)
			return rows[i].take(parse, optarg);
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
	struct parse parse = { .options = out, .err = err };
	struct option longs[ROW_COUNT + 2];
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
		rc = close_meta(&parse);
	out->args = argv + optind;
	out->arg_count = (size_t)(argc - optind);
	return rc < 0 ? rc : check_args(command, out, err);
}

void mpi_options_release(struct mpi_options *options)
{
	ckpt_buf_release(&options->meta);
}

static void set_defaults(struct mpi_options *out)
{
	*out = (struct mpi_options){
		.base = getenv("CKPTFS_STORE"),
		.timeout_secs = CKPT_MPI_BARRIER_TIMEOUT_SECS,
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
