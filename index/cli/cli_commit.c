/* cli_commit.c - make open checkpoints final. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/found.h"
#include "cli/mount_ioctl.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/signals.h"

struct commit {
	const struct cli *cli;
	struct option_number step;
	char *meta; /* JSON object; NULL: none was given */
	bool replace;
	bool no_crc;
	bool all;
	struct option_number quiet; /* seconds; with @all */
};

/* --- --meta K=V --------------------------------------------------------------------- */

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
		ckpt_json_print_scalar(list->items[i] + key_len + 1, &object);
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
					.flags = (commit->replace ? CKPT_CONTROL_REPLACE : 0) |
						 (commit->no_crc ? CKPT_CONTROL_NO_CRC : 0),
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
		.replace = commit->replace,
		.skip_crc = commit->no_crc,
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
	rc = mount_settle_all(place->store_path, place->name, err);
	if (rc == 0)
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

/*
 * Does a mount show an open checkpoint under a name that is committed in the store? It is being
 * written again there (-o resave=replace), and only the daemon knows where.
 */
static bool is_written_again(const struct ckpt_place *place)
{
	char state[16] = { 0 };
	struct ckpt_buf path;
	ssize_t len = -1;

	if (!place->mount_path)
		return false;
	ckpt_buf_init(&path);
	ckpt_buf_printf(&path, "%s/" CKPT_MANIFEST_FILE, place->folder);
	if (ckpt_buf_check(&path) == 0 && access(path.data, F_OK) == 0) {
		ckpt_buf_reset(&path);
		ckpt_path_join(&path, place->mount_path, place->name);
		if (ckpt_buf_check(&path) == 0)
			len = getxattr(path.data, "user.ckptfs.state", state, sizeof(state));
	}
	ckpt_buf_release(&path);
	return len == 4 && memcmp(state, "open", 4) == 0;
}

static int commit_path(const struct commit *commit, const char *path, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	int rc = cli_place(commit->cli, path, &place, err);

	if (rc < 0)
		return rc;
	rc = check_place(&place, path, err);
	if (rc == 0 && (cli_place_covered(&place) || is_written_again(&place)))
		rc = commit_by_daemon(commit, &place, err);
	else if (rc == 0)
		rc = commit_here(commit, &place, err);
	ckpt_place_release(&place);
	return rc;
}

/* --- --all DIR ------------------------------------------------------------------------- */

/* A store or group that is gone through. */
struct sweep {
	const struct commit *commit;
	const struct ckpt_place *dir;
	int store_fd; /* of the store as this process sees it */
};

/* What the checkpoint @name still waits for (appended); nothing: it is to be committed now. */
static int ask_rules(const struct sweep *sweep, const char *name, struct ckpt_buf *waits_for,
		     struct ckpt_err *err)
{
	const struct option_number *quiet = &sweep->commit->quiet;
	uint64_t quiet_secs = quiet->given ? quiet->value : CKPT_RULE_QUIET_SECS;
	struct ckpt_rule_verdict verdict;
	struct ckpt_calm calm;
	int rc = ckpt_rules_judge(sweep->store_fd, name, &verdict, waits_for, err);

	if (rc < 0 || !verdict.complete)
		return rc;
	rc = ckpt_calm_of(sweep->store_fd, name, &calm);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot look into '%s'", name);
	if (ckpt_calm_secs(&calm) < quiet_secs)
		ckpt_buf_printf(waits_for, "%" PRIu64 " s without a change", quiet_secs);
	return ckpt_buf_check(waits_for);
}

static int commit_found(const struct sweep *sweep, const char *name, struct ckpt_err *err)
{
	CKPT_FREE char *own = strdup(name);
	/* What a commit needs to know of a place. */
	const struct ckpt_place place = {
		.kind = CKPT_PLACE_CHECKPOINT,
		.store_path = sweep->dir->store_path,
		.mount_path = sweep->dir->mount_path,
		.name = own,
	};

	if (!own)
		return ckpt_err_sys(err, -ENOMEM, "cannot commit '%s'", name);
	if (cli_place_covered(&place))
		return commit_by_daemon(sweep->commit, &place, err);
	return commit_here(sweep->commit, &place, err);
}

/* One line for it, whatever becomes of it. */
static int commit_if_complete(const struct sweep *sweep, const struct found *found)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_buf waits_for;
	int code = CLI_OK;
	int rc;

	ckpt_buf_init(&waits_for);
	rc = ask_rules(sweep, found->name, &waits_for, &err);
	if (rc == 0 && waits_for.len_bytes > 0)
		(void)printf("%s: left open: waits for %s\n", found->name, waits_for.data);
	else if (rc == 0)
		rc = commit_found(sweep, found->name, &err);
	if (rc < 0)
		code = cli_report(&err);
	ckpt_buf_release(&waits_for);
	return code;
}

/* CLI_FAILED: what failed was said, and the others were committed. */
static int sweep_list(struct sweep *sweep, const struct found_list *list)
{
	int code = CLI_OK;

	for (size_t i = 0; i < list->count && !signals_caught(); i++) {
		if (list->items[i].state != CKPT_STATE_OPEN)
			continue;
		if (commit_if_complete(sweep, &list->items[i]) != CLI_OK)
			code = CLI_FAILED;
	}
	return code;
}

static int commit_all(const struct commit *commit, const char *path, struct ckpt_err *err)
{
	struct found_list list = { .items = NULL };
	struct ckpt_place place = { .name = NULL };
	struct ckpt_store *store = NULL;
	struct sweep sweep = { .commit = commit, .dir = &place };
	int rc = cli_place(commit->cli, path, &place, err);

	if (rc < 0)
		return rc;
	if (place.kind == CKPT_PLACE_NOTHING)
		rc = ckpt_err_set(err, -ENOENT,
				  "'%s' does not exist; see what does with 'ckptfs ls'", path);
	else if (!place.store_path || place.kind == CKPT_PLACE_ENTRY ||
		 place.kind == CKPT_PLACE_LOOSE)
		rc = ckpt_err_set(err, -EINVAL,
				  "'%s' is %s; --all takes a store, a group or an open checkpoint",
				  path, cli_place_describe(place.kind));
	if (rc == 0)
		rc = ckpt_store_open(place.store_path, CKPT_STORE_NO_INDEX, NULL, &store, err);
	if (rc == 0)
		rc = found_load(&place, 0, &list, err);
	if (rc == 0) {
		sweep.store_fd = ckpt_store_fd(store);
		rc = sweep_list(&sweep, &list);
		if (found_report(&list) > 0)
			rc = CLI_FAILED;
	}
	found_release(&list);
	ckpt_store_free(store);
	ckpt_place_release(&place);
	return rc;
}

/* --- the command ------------------------------------------------------------------------ */

/* false: said why. */
static bool check_options(const struct commit *commit)
{
	if (commit->step.given && commit->step.value > CKPT_STEP_MAX) {
		cli_error("option '--step': %" PRIu64 " is more than the %" PRIu64
			  " that a manifest can hold",
			  commit->step.value, (uint64_t)CKPT_STEP_MAX);
		return false;
	}
	if (commit->all && commit->step.given) {
		cli_error("'--all' and '--step' exclude each other: one step is not that of all");
		return false;
	}
	if (commit->quiet.given && !commit->all) {
		cli_error("'--quiet' goes with '--all'; a named checkpoint is committed at once");
		return false;
	}
	return true;
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
		{ "replace", 0, OPTION_FLAG, &commit.replace, NULL,
		  "a committed checkpoint of the lasting name goes to the trash" },
		{ "no-crc", 0, OPTION_FLAG, &commit.no_crc, NULL,
		  "also where a CRC-32 in an archive of torch or numpy is wrong" },
		{ "all", 0, OPTION_FLAG, &commit.all, NULL,
		  "every checkpoint below PATH that a completion rule calls complete" },
		{ "quiet", 0, OPTION_NUMBER, &commit.quiet, "SECS",
		  "with --all: leave open what changed since (60)" },
		OPTION_END,
	};
	struct option_args args;
	int code;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		goto out;
	code = CLI_USAGE;
	if (!make_meta(&meta, &commit.meta))
		goto out;
	if (!check_options(&commit))
		goto out;
	code = CLI_OK;
	signals_catch();
	for (size_t i = 0; i < args.count && !signals_caught(); i++) {
		struct ckpt_err err = CKPT_ERR_INIT;
		int rc = commit.all ? commit_all(&commit, args.items[i], &err)
				    : commit_path(&commit, args.items[i], &err);

		/* The next one has its own reasons to succeed. */
		if (rc != 0)
			code = rc < 0 ? cli_report(&err) : CLI_FAILED;
	}
	code = cli_flush(code);
out:
	free(commit.meta);
	option_list_release(&meta);
	return code;
}

const struct cli_command cli_commit_command = {
	.name = "commit",
	.args = "[--step N] [--meta KEY=VALUE]... [--replace] [--no-crc] [--all [--quiet SECS]] PATH...",
	.summary = "make open checkpoints final",
	.details =
		"Sums every shard, writes the manifest, and gives a folder with a temporary name\n"
		"(NAME.tmp, NAME.partial, ...) its lasting one. All or nothing: on any failure the\n"
		"checkpoint stays open. Numbers and true/false in VALUE keep their type.\n"
		"With --all, PATH is a store or a group: what the completion rules call complete\n"
		"below it is committed, and a line tells what the others wait for.\n",
	.min_args = 1,
	.max_args = CLI_ARGS_ANY,
	.run = run,
};
