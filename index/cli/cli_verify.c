/* cli_verify.c - check committed checkpoints, block by block, on all cores. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/found.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/signals.h"

struct lines {
	char **items;
	size_t count, cap;
};

struct verify {
	const struct cli *cli;
	uint64_t checked_count;
	uint64_t damaged_count;
	uint64_t finding_count;
	/* Of the checkpoint at hand. */
	struct lines findings;
	struct lines unchecked;
	bool failed;  /* out of memory */
	bool skipped; /* some below a store or group could not be checked; each was said */
	bool deep;
};

/* Under a lock of the caller. */
static void keep(struct verify *verify, struct lines *lines, const char *line)
{
	char *own = strdup(line);

	if (!own || array_grow(&lines->items, &lines->cap, lines->count, sizeof(own)) < 0) {
		free(own);
		verify->failed = true;
		return;
	}
	lines->items[lines->count++] = own;
}

static void keep_finding(void *ctx, const char *line)
{
	struct verify *verify = ctx;

	keep(verify, &verify->findings, line);
}

static void keep_unchecked(void *ctx, const char *line)
{
	struct verify *verify = ctx;

	keep(verify, &verify->unchecked, line);
}

/* Block 9 before block 10. */
static int by_natural_order(const void *a, const void *b)
{
	return strverscmp(*(char *const *)a, *(char *const *)b);
}

static void print_finding(const char *line)
{
	(void)puts(line);
}

/* It says nothing about the checkpoint: its blocks were compared all the same. */
static void print_unchecked(const char *line)
{
	cli_error("%s", line);
}

static void print_lines(struct lines *lines, void (*print)(const char *line))
{
	if (lines->count > 0)
		qsort(lines->items, lines->count, sizeof(*lines->items), by_natural_order);
	for (size_t i = 0; i < lines->count; i++) {
		print(lines->items[i]);
		free(lines->items[i]);
	}
	lines->count = 0;
}

/* @store: NULL for a bare folder. */
static int verify_folder(struct verify *verify, struct ckpt_store *store, int dirfd,
			 const char *name, struct ckpt_err *err)
{
	struct ckpt_verify_options options = {
		.finding = keep_finding,
		.unchecked = keep_unchecked,
		.progress = progress_update,
		.ctx = verify,
		.store = store,
		.deep = verify->deep,
	};
	struct ckpt_verify_result result = { 0 };
	struct ckpt_buf label;
	int rc;

	ckpt_buf_init(&label);
	ckpt_buf_printf(&label, "verifying %s", name);
	progress_start(label.data);
	rc = ckpt_verify(dirfd, name, &options, &result, err);
	progress_end();
	ckpt_buf_release(&label);
	/* What was found before it could not go on is true all the same. */
	print_lines(&verify->findings, print_finding);
	print_lines(&verify->unchecked, print_unchecked);
	if (rc == 0 && verify->failed)
		rc = ckpt_err_set(err, -ENOMEM, "out of memory: not all findings of '%s' are shown",
				  name);
	verify->finding_count += result.finding_count;
	if (rc < 0)
		return rc;
	verify->checked_count++;
	if (result.finding_count == 0)
		(void)printf("%s: ok (%" PRIu64 " shards, %" PRIu64 " bytes)\n", name,
			     result.shard_count, result.size_bytes);
	else
		verify->damaged_count++;
	/* Each line as it comes, also into a pipe: this takes long. */
	(void)fflush(stdout);
	return 0;
}

/* The store that the checkpoint lies in, with its index, for what is learned; NULL for a bare folder. */
static struct ckpt_store *store_of(const struct ckpt_place *place)
{
	struct ckpt_store *store = NULL;

	/* Where it cannot be opened, nothing is learned, and all is verified. */
	if (place->store_path)
		ckpt_ignore(ckpt_store_open(place->store_path, 0, NULL, &store, NULL));
	return store;
}

static int verify_checkpoint(struct verify *verify, const char *path, struct ckpt_err *err)
{
	struct cli_checkpoint checkpoint;
	struct ckpt_store *store = NULL;
	int rc = cli_checkpoint_open(verify->cli, path, &checkpoint, err);

	if (rc == 0 && checkpoint.place.kind == CKPT_PLACE_ENTRY)
		rc = ckpt_err_set(
			err, -EINVAL,
			"'%s' is a part of checkpoint '%s'; verify the whole, or read the part with 'ckptfs cat'",
			path, checkpoint.place.name);
	else if (rc == 0 && checkpoint.state == CKPT_STATE_COMMITTED) {
		store = store_of(&checkpoint.place);
		rc = verify_folder(verify, store, checkpoint.dirfd, checkpoint.place.name, err);
	} else if (rc == 0 && !checkpoint.place.store_path)
		rc = ckpt_err_set(
			err, -EINVAL,
			"nothing can be verified in '%s': it was never committed, so there are no sums; copy it into a store and run 'ckptfs commit' there, or 'ckptfs init' the folder above it and commit it in place",
			path);
	else if (rc == 0)
		(void)printf("%s: %s, has no sums yet\n", checkpoint.place.name,
			     ckpt_state_name(checkpoint.state));
	ckpt_store_free(store);
	cli_checkpoint_release(&checkpoint);
	return rc;
}

/* One of many: what keeps it from being checked is said, and does not keep the others from it. */
static int verify_one_below(struct verify *verify, struct ckpt_store *store, const char *name,
			    struct ckpt_err *err)
{
	CKPT_CLOSE int fd = -1;
	int rc = ckpt_store_open_checkpoint(store, name, &fd, err);

	if (rc == 0)
		rc = verify_folder(verify, store, fd, name, err);
	/* One that was removed meanwhile is no damage. */
	if (rc == 0 || rc == -ENOENT)
		return 0;
	if (rc == -ECANCELED || rc == -ENOMEM)
		return rc;
	verify->skipped = true;
	(void)cli_report(err);
	return 0;
}

/* All committed ones of a store or group. */
static int verify_below(struct verify *verify, const struct ckpt_place *place, struct ckpt_err *err)
{
	struct found_list list;
	struct ckpt_store *store = NULL;
	int rc = found_load(place, FOUND_UNREAD, &list, err);

	if (rc == 0)
		rc = ckpt_store_open(place->store_path, 0, NULL, &store, err);
	for (size_t i = 0; rc == 0 && i < list.count; i++) {
		/*
		 * An unusable manifest is a finding too; folders that cannot be read are in no
		 * state.
		 */
		if (list.items[i].state == CKPT_STATE_COMMITTED || list.items[i].problem)
			rc = verify_one_below(verify, store, list.items[i].name, err);
	}
	ckpt_store_free(store);
	found_release(&list);
	return rc;
}

static int verify_path(struct verify *verify, const char *path, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	int rc = cli_place_look(verify->cli, path, &place, err);

	if (rc < 0)
		return rc;
	if (place.kind == CKPT_PLACE_STORE || place.kind == CKPT_PLACE_GROUP)
		rc = verify_below(verify, &place, err);
	else
		rc = verify_checkpoint(verify, path, err);
	ckpt_place_release(&place);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct verify verify = { .cli = cli };
	const struct option_row rows[] = {
		{ "deep", 0, OPTION_FLAG, &verify.deep, NULL,
		  "the CRC-32s in the archives of torch and numpy, too" },
		OPTION_END,
	};
	struct option_args args;
	int code;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		return code;
	signals_catch();
	for (size_t i = 0; i < args.count && !signals_caught(); i++) {
		struct ckpt_err err = CKPT_ERR_INIT;

		/* One path that cannot be checked does not keep the others from it. */
		if (verify_path(&verify, args.items[i], &err) < 0)
			code = cli_report(&err);
	}
	free(verify.findings.items);
	free(verify.unchecked.items);
	if (verify.skipped)
		code = CLI_FAILED;
	if (verify.finding_count > 0) {
		cli_error("%" PRIu64 " %s in %" PRIu64 " of %" PRIu64
			  " %s; restore what is named above from another copy",
			  verify.finding_count, verify.finding_count == 1 ? "finding" : "findings",
			  verify.damaged_count, verify.checked_count,
			  verify.checked_count == 1 ? "checkpoint" : "checkpoints");
		code = CLI_FAILED;
	}
	return cli_flush(code);
}

const struct cli_command cli_verify_command = {
	.name = "verify",
	.args = "[--deep] PATH...",
	.summary = "check committed checkpoints against their sums",
	.details =
		"Of a store or a group: every committed checkpoint below it. Prints\n"
		"'NAME: ok (N shards, BYTES bytes)', or a line a finding with the stored file, the\n"
		"block and both sums. Open checkpoints have no sums and never make it fail.\n",
	.min_args = 1,
	.max_args = CLI_ARGS_ANY,
	.run = run,
};
