/* options.c - see options.h. */
#include "cli/options.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "cli/signals.h"
#include "cli/suggest.h"

/* What getopt_long answers for row i: past every letter. */
#define ROW_CODE 1000

static const char *const store_help =
	"the store for names that are not found from here (also $CKPTFS_STORE)";

static bool row_is_end(const struct option_row *row)
{
	return !row->name && row->letter == 0;
}

/* getopt's two views of the table. */
struct parser {
	const struct option_row *rows;
	struct option longs[OPTIONS_MAX + 2];
	char shorts[2 * OPTIONS_MAX + 8];
};

static void parser_init(struct parser *parser, const struct option_row *rows)
{
	size_t longs = 0;
	/* The colon: a missing value is told apart from an unknown option. */
	size_t shorts = (size_t)snprintf(parser->shorts, sizeof(parser->shorts), ":hC:");

	for (size_t i = 0; !row_is_end(&rows[i]); i++) {
		bool has_value = rows[i].kind != OPTION_FLAG;

		assert(i < OPTIONS_MAX);
		if (rows[i].name)
			parser->longs[longs++] =
				(struct option){ rows[i].name, has_value, NULL, ROW_CODE + (int)i };
		if (rows[i].letter) {
			parser->shorts[shorts++] = rows[i].letter;
			if (has_value)
				parser->shorts[shorts++] = ':';
		}
	}
	parser->longs[longs++] = (struct option){ "help", no_argument, NULL, 'h' };
	parser->longs[longs] = (struct option){ NULL, 0, NULL, 0 };
	parser->shorts[shorts] = '\0';
}

static const struct option_row *row_of_code(const struct parser *parser, int code)
{
	for (size_t i = 0; !row_is_end(&parser->rows[i]); i++) {
		if (code == ROW_CODE + (int)i ||
		    (code < ROW_CODE && code == parser->rows[i].letter))
			return &parser->rows[i];
	}
	return NULL;
}

static void print_row(char letter, const char *name, const char *value, const char *help)
{
	struct ckpt_buf left;

	ckpt_buf_init(&left);
	if (letter)
		ckpt_buf_printf(&left, "-%c", letter);
	if (name)
		ckpt_buf_printf(&left, "%s--%s", letter ? ", " : "", name);
	if (value)
		ckpt_buf_printf(&left, " %s", value);
	(void)printf("  %-18s %s\n", left.data, help);
	ckpt_buf_release(&left);
}

static void print_help(const struct cli_command *command, const struct option_row *rows)
{
	(void)printf("usage: ckptfs %s %s\n\n%s\nOptions:\n", command->name, command->args,
		     command->details);
	for (size_t i = 0; !row_is_end(&rows[i]); i++)
		print_row(rows[i].letter, rows[i].name, rows[i].value, rows[i].help);
	print_row('C', NULL, "DIR", store_help);
	print_row('h', "help", NULL, "print this");
}

/* "; did you mean '--json'?" where one comes near @typed (without its dashes). */
static void add_suggestion(struct ckpt_buf *out, const struct parser *parser, const char *typed)
{
	const char *best = NULL;
	size_t best_distance = 0;

	for (size_t i = 0; parser->longs[i].name; i++) {
		size_t distance = suggest_distance(typed, parser->longs[i].name);

		if (!best || distance < best_distance) {
			best = parser->longs[i].name;
			best_distance = distance;
		}
	}
	if (best && suggest_near(typed, best_distance))
		ckpt_buf_printf(out, "; did you mean '--%s'?", best);
}

static int usage_error(const struct cli *cli, const char *what)
{
	cli_error("%s; see 'ckptfs %s --help'", what, cli->command->name);
	return CLI_USAGE;
}

static int unknown_option(const struct cli *cli, const struct parser *parser, char **argv)
{
	struct ckpt_buf what;
	struct ckpt_buf typed;
	int code;

	ckpt_buf_init(&what);
	ckpt_buf_init(&typed);
	if (optopt >= ROW_CODE || optopt == 'h') {
		/* A known one: getopt complains that a flag was given a value. */
		ckpt_buf_printf(&what, "option '%.*s' takes no value",
				(int)strcspn(argv[optind - 1], "="), argv[optind - 1]);
	} else if (optopt != 0) {
		ckpt_buf_printf(&what, "unknown option '-%c'", optopt);
	} else {
		const char *word = argv[optind - 1] + 2;

		ckpt_buf_add(&typed, word, strcspn(word, "="));
		ckpt_buf_printf(&what, "unknown option '--%s'", typed.data);
		add_suggestion(&what, parser, typed.data);
	}
	code = usage_error(cli, what.data);
	ckpt_buf_release(&typed);
	ckpt_buf_release(&what);
	return code;
}

static int missing_value(const struct cli *cli, const struct parser *parser)
{
	const struct option_row *row = row_of_code(parser, optopt);
	struct ckpt_buf what;
	int code;

	ckpt_buf_init(&what);
	if (!row)
		ckpt_buf_printf(&what, "option '-%c' needs a value", optopt);
	else if (row->name)
		ckpt_buf_printf(&what, "option '--%s' needs a value: --%s %s", row->name, row->name,
				row->value);
	else
		ckpt_buf_printf(&what, "option '-%c' needs a value: -%c %s", row->letter,
				row->letter, row->value);
	code = usage_error(cli, what.data);
	ckpt_buf_release(&what);
	return code;
}

static int store_number(const struct cli *cli, const struct option_row *row, const char *text)
{
	static const char *const wanted[] = {
		[OPTION_NUMBER] = "whole number from 0 on",
		[OPTION_SIZE] = "size like 512MiB or 4GiB",
		[OPTION_AGE] = "age like 90m, 12h or 1d",
	};
	struct option_number *number = row->out;
	int rc;

	if (row->kind == OPTION_SIZE)
		rc = num_parse_size(text, &number->value);
	else if (row->kind == OPTION_AGE)
		rc = num_parse_age(text, &number->value);
	else
		rc = num_parse_u64(text, &number->value);
	if (rc < 0) {
		cli_error("option '--%s': '%s' is no %s; see 'ckptfs %s --help'", row->name, text,
			  wanted[row->kind], cli->command->name);
		return CLI_USAGE;
	}
	number->given = true;
	return CLI_OK;
}

static int store_value(const struct cli *cli, const struct option_row *row, const char *text)
{
	struct option_list *list = row->out;

	if (row->kind == OPTION_FLAG) {
		*(bool *)row->out = true;
		return CLI_OK;
	}
	if (row->kind == OPTION_TEXT) {
		*(const char **)row->out = text;
		return CLI_OK;
	}
	if (row->kind != OPTION_LIST)
		return store_number(cli, row, text);
	if (array_grow(&list->items, &list->cap, list->count, sizeof(*list->items)) < 0) {
		cli_error("out of memory");
		return CLI_FAILED;
	}
	list->items[list->count++] = text;
	return CLI_OK;
}

static int check_count(const struct cli *cli, const struct option_args *args)
{
	const struct cli_command *command = cli->command;

	if (args->count >= command->min_args && args->count <= command->max_args)
		return CLI_OK;
	if (args->count < command->min_args)
		cli_error("'%s' needs more arguments; usage: ckptfs %s %s", command->name,
			  command->name, command->args);
	else
		cli_error("'%s' does not know what to do with '%s'; usage: ckptfs %s %s",
			  command->name, args->items[command->max_args], command->name,
			  command->args);
	return CLI_USAGE;
}

/* One answer of getopt_long; true goes on. */
static bool take(struct cli *cli, const struct parser *parser, int code, char **argv, int *out_exit)
{
	*out_exit = CLI_OK;
	switch (code) {
	case 'h':
		print_help(cli->command, parser->rows);
		*out_exit = cli_flush(CLI_OK);
		return false;
	case 'C':
		cli->base = optarg;
		return true;
	case ':':
		*out_exit = missing_value(cli, parser);
		return false;
	case '?':
		*out_exit = unknown_option(cli, parser, argv);
		return false;
	default:
		*out_exit = store_value(cli, row_of_code(parser, code), optarg);
		return *out_exit == CLI_OK;
	}
}

bool options_parse(struct cli *cli, int argc, char **argv, const struct option_row *rows,
		   struct option_args *out, int *out_exit)
{
	struct parser parser = { .rows = rows };
	int code;

	parser_init(&parser, rows);
	opterr = 0;
	optind = 0; /* glibc: start anew, main() has parsed what stands before the command */
	while ((code = getopt_long(argc, argv, parser.shorts, parser.longs, NULL)) != -1) {
		if (!take(cli, &parser, code, argv, out_exit))
			return false;
	}
	out->items = argv + optind;
	out->count = (size_t)(argc - optind);
	*out_exit = check_count(cli, out);
	return *out_exit == CLI_OK;
}

int options_run_path(struct cli *cli, int argc, char **argv,
		     int (*fn)(const struct cli *cli, const char *path, struct ckpt_err *err))
{
	const struct option_row rows[] = { OPTION_END };
	struct option_args args;
	size_t i = 0;
	int code;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		return code;
	do {
		struct ckpt_err err = CKPT_ERR_INIT;
		int rc = fn(cli, i < args.count ? args.items[i] : NULL, &err);

		if (rc != 0)
			code = rc < 0 ? cli_report(&err) : rc;
	} while (++i < args.count && !signals_caught());
	return cli_flush(code);
}

void option_list_release(struct option_list *list)
{
	free(list->items);
	*list = (struct option_list){ .items = NULL };
}
