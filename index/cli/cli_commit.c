/* cli_commit.c - make open checkpoints final. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/mount_ioctl.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/signals.h"

struct commit {
	const struct cli *cli;
	struct option_number step;
	char *meta; /* JSON object; NULL: none was given */
};

/* --- --meta K=V --------------------------------------------------------------------- */

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

static bool check_meta(const struct option_list *list, size_t idx)
{
	const char *text = list->items[idx];
	size_t key_len = strcspn(text, "=");

	if (key_len == 0 || text[key_len] == '\0') {
		cli_error("option '--meta': '%s' is not KEY=VALUE", text);
		return false;
	}
	if (!ckpt_path_is_utf8(text, strlen(text))) {
		cli_error(
			"option '--meta': '%.*s': key and value must be UTF-8 without control characters",
			(int)key_len, text);
		return false;
	}
	for (size_t i = 0; i < idx; i++) {
		if (strncmp(list->items[i], text, key_len + 1) == 0) {
			cli_error("option '--meta': '%.*s' is given twice", (int)key_len, text);
			return false;
		}
	}
	return true;
}

/* false: said why. */
static bool make_meta(const struct option_list *list, char **out)
{
	struct ckpt_buf object;
	struct ckpt_buf key;

	if (list->count == 0)
		return true;
	ckpt_buf_init(&object);
	ckpt_buf_init(&key);
	for (size_t i = 0; i < list->count; i++) {
		size_t key_len = strcspn(list->items[i], "=");

		if (!check_meta(list, i)) {
			ckpt_buf_release(&key);
			ckpt_buf_release(&object);
			return false;
		}
		ckpt_buf_reset(&key);
		ckpt_buf_add(&key, list->items[i], key_len);
		ckpt_buf_add_char(&object, i > 0 ? ',' : '{');
		ckpt_buf_add_json_str(&object, key.data);
		ckpt_buf_add_char(&object, ':');
		add_meta_value(&object, list->items[i] + key_len + 1);
	}
	ckpt_buf_add_char(&object, '}');
	ckpt_buf_release(&key);
	*out = ckpt_buf_steal(&object);
	if (!*out)
		cli_error("out of memory");
	return *out != NULL;
}

/* --- the commit ------------------------------------------------------------------------ */

static void print_done(const char *from, const char *name, uint64_t seq, uint64_t shard_count,
		       uint64_t size_bytes)
{
	(void)printf("%s: committed as %s (seq %" PRIu64 ", %" PRIu64 " shards, %" PRIu64
		     " bytes)\n",
		     from, name, seq, shard_count, size_bytes);
}

/* The mount covers the store, so that its daemon alone can reach it. */
static int commit_by_daemon(const struct commit *commit, const struct ckpt_place *place,
			    struct ckpt_err *err)
{
	struct ckpt_control request = { .op = CKPT_CONTROL_COMMIT,
					.has_step = commit->step.given,
					.step = commit->step.value };
	int rc;

	if (commit->meta && strlen(commit->meta) >= sizeof(request.meta))
		return ckpt_err_set(
			err, -E2BIG,
			"--meta is more than the %zu bytes that a mount takes; 'ckptfs umount %s' and commit without it",
			sizeof(request.meta), place->mount_path);
	if (commit->meta)
		memcpy(request.meta, commit->meta, strlen(commit->meta) + 1);
	rc = mount_ioctl(place->mount_path, &request, place->name, err);
	if (rc < 0)
		return rc;
	print_done(place->name, request.name, request.seq, request.shard_count, request.size_bytes);
	return 0;
}

static int commit_here(const struct commit *commit, const struct ckpt_place *place,
		       struct ckpt_err *err)
{
	struct ckpt_commit_options options = {
		.has_step = commit->step.given,
		.step = commit->step.value,
		.meta = commit->meta,
		.progress = progress_update,
	};
	struct ckpt_commit_result result = { .name = NULL };
	struct ckpt_store *store = NULL;
	struct ckpt_buf label;
	int rc = ckpt_store_open(place->store_path, 0, NULL, &store, err);

	if (rc < 0)
		return rc;
	ckpt_buf_init(&label);
	ckpt_buf_printf(&label, "committing %s", place->name);
	progress_start(label.data);
	rc = ckpt_commit(store, place->name, &options, &result, err);
	progress_end();
	ckpt_buf_release(&label);
	ckpt_store_free(store);
	if (rc < 0)
		return rc;
	print_done(place->name, result.name, result.seq, result.shard_count, result.size_bytes);
	mount_refresh(place, place->name);
	mount_refresh(place, result.name);
	free(result.name);
	return 0;
}

/* Any folder below a store may be committed, also one that nothing tells from a group. */
static int check_place(const struct ckpt_place *place, const char *path, struct ckpt_err *err)
{
	switch (place->kind) {
	case CKPT_PLACE_CHECKPOINT:
	case CKPT_PLACE_GROUP:
		break;
	case CKPT_PLACE_NOTHING:
		return ckpt_err_set(err, -ENOENT,
				    "'%s' does not exist; see what does with 'ckptfs ls'", path);
	case CKPT_PLACE_STORE:
	case CKPT_PLACE_ENTRY:
	case CKPT_PLACE_LOOSE:
		return ckpt_err_set(
			err, -EINVAL,
			"'%s' is %s; only a folder below a store's top, and in no checkpoint, can be committed",
			path, cli_place_describe(place->kind));
	}
	if (!place->store_path)
		return ckpt_err_set(err, -EEXIST, "'%s' is committed already, and in no store",
				    path);
	return 0;
}

static int commit_path(const struct commit *commit, const char *path, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	int rc = cli_place(commit->cli, path, &place, err);

	if (rc < 0)
		return rc;
	rc = check_place(&place, path, err);
	if (rc == 0 && cli_place_covered(&place))
		rc = commit_by_daemon(commit, &place, err);
	else if (rc == 0)
		rc = commit_here(commit, &place, err);
	ckpt_place_release(&place);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct commit commit = { .cli = cli };
	struct option_list meta = { .items = NULL };
	const struct option_row rows[] = {
		{ "step", 0, OPTION_NUMBER, &commit.step, "N",
		  "the training step; else it is taken from the checkpoint" },
		{ "meta", 0, OPTION_LIST, &meta, "KEY=VALUE",
		  "kept in the manifest; may be given more than once" },
		OPTION_END,
	};
	struct option_args args;
	int code;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		goto out;
	code = CLI_USAGE;
	if (!make_meta(&meta, &commit.meta))
		goto out;
	if (commit.step.given && commit.step.value > CKPT_STEP_MAX) {
		cli_error("option '--step': %" PRIu64 " is more than the %" PRIu64
			  " that a manifest can hold",
			  commit.step.value, (uint64_t)CKPT_STEP_MAX);
		goto out;
	}
	code = CLI_OK;
	signals_catch();
	for (size_t i = 0; i < args.count && !signals_caught(); i++) {
		struct ckpt_err err = CKPT_ERR_INIT;

		/* The next one has its own reasons to succeed. */
		if (commit_path(&commit, args.items[i], &err) < 0)
			code = cli_report(&err);
	}
	code = cli_flush(code);
out:
	free(commit.meta);
	option_list_release(&meta);
	return code;
}

const struct cli_command cli_commit_command = {
	.name = "commit",
	.args = "[--step N] [--meta KEY=VALUE]... PATH...",
	.summary = "make open checkpoints final",
	.details =
		"Sums every shard, writes the manifest, and gives a folder with a temporary name\n"
		"(NAME.tmp, NAME.partial, ...) its lasting one. All or nothing: on any failure the\n"
		"checkpoint stays open. Numbers and true/false in VALUE keep their type.\n",
	.min_args = 1,
	.max_args = CLI_ARGS_ANY,
	.run = run,
};
