/* cli_gc.c - purge removed checkpoints, and clear away what dead processes have left. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/num.h"
#include "cli/cli.h"
#include "cli/mount_ioctl.h"
#include "cli/options.h"

#define SIZE_TEXT 32

struct gc {
	const struct cli *cli;
	struct option_number age;
	struct option_number want;
	bool all;
	bool last_too;
	bool dry_run;
	uint64_t max_age_secs;
};

/* --- telling --------------------------------------------------------------------------------- */

static void tell_purged(void *ctx, const struct ckpt_removed *removed)
{
	const struct gc *gc = ctx;
	char size[SIZE_TEXT];

	(void)printf("%s: %s (%s, removed %s, id %s)\n", removed->name,
		     gc->dry_run ? "would be purged" : "purged",
		     num_format_size(removed->disk_bytes, size, sizeof(size)), removed->removed,
		     removed->id);
}

static void tell_leftover(void *ctx, const char *path)
{
	const struct gc *gc = ctx;

	(void)printf("%s: %s, a dead process has left it\n", path,
		     gc->dry_run ? "would be removed" : "removed");
}

static void tell_sum(const struct gc *gc, const struct ckpt_purge_result *result,
		     uint64_t leftover_count)
{
	char size[SIZE_TEXT];

	(void)printf("%" PRIu64 " %s %s, %s %s\n", result->checkpoint_count,
		     result->checkpoint_count == 1 ? "checkpoint" : "checkpoints",
		     gc->dry_run ? "would be purged" : "purged",
		     num_format_size(result->freed_bytes, size, sizeof(size)),
		     gc->dry_run ? "to be freed" : "freed");
	if (result->kept_count > 0)
		(void)printf(
			"%" PRIu64
			" kept, because nothing else is committed in their group; --last purges them, too\n",
			result->kept_count);
	if (leftover_count > 0)
		(void)printf("%" PRIu64 " %s of dead processes %s\n", leftover_count,
			     leftover_count == 1 ? "leftover" : "leftovers",
			     gc->dry_run ? "would be removed" : "removed");
}

/* --- doing ----------------------------------------------------------------------------------- */

static int collect_here(struct gc *gc, const struct ckpt_place *place, struct ckpt_err *err)
{
	const struct ckpt_purge_options purge = {
		.below = place->name,
		.max_age_secs = gc->max_age_secs,
		.want_bytes = gc->want.value,
		.last_too = gc->last_too,
		.dry_run = gc->dry_run,
		.purged = tell_purged,
		.ctx = gc,
	};
	const struct ckpt_leftovers_options leftovers = {
		.below = place->name,
		.max_age_secs = num_max(gc->age.value, CKPT_TRASH_MAX_AGE_SECS),
		.dry_run = gc->dry_run,
		.removed = tell_leftover,
		.ctx = gc,
	};
	struct ckpt_purge_result result = { .checkpoint_count = 0 };
	struct ckpt_store *store = NULL;
	uint64_t leftover_count = 0;
	int rc = ckpt_store_open(place->store_path, 0, NULL, &store, err);

	if (rc == 0)
		rc = ckpt_trash_purge(store, &purge, &result, err);
	/* A group may be gone: then nothing was left in it. */
	if (rc == 0 && place->kind != CKPT_PLACE_NOTHING)
		rc = ckpt_leftovers_sweep(store, &leftovers, &leftover_count, err);
	if (store)
		tell_sum(gc, &result, leftover_count + result.swept_count);
	ckpt_store_free(store);
	return rc;
}

static int collect_by_daemon(const struct gc *gc, const struct ckpt_place *place,
			     struct ckpt_err *err)
{
	struct ckpt_control request = {
		.op = CKPT_CONTROL_PURGE,
		.flags = (gc->last_too ? CKPT_CONTROL_LAST_TOO : 0U) |
			 (gc->dry_run ? CKPT_CONTROL_DRY_RUN : 0U),
		.step = gc->max_age_secs,
		.size_bytes = gc->want.value,
	};
	struct ckpt_purge_result result;
	int rc = mount_ioctl(place->mount_path, &request, place->name, err);

	if (rc < 0)
		return rc;
	result = (struct ckpt_purge_result){ .checkpoint_count = request.shard_count,
					     .freed_bytes = request.size_bytes,
					     .kept_count = request.seq };
	tell_sum(gc, &result, 0);
	return 0;
}

static int collect(struct gc *gc, const char *path, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	int rc = cli_place(gc->cli, path, &place, err);

	if (rc == 0 && !place.store_path)
		rc = ckpt_err_set(err, -EINVAL, "'%s' is in no store; name one", path);
	else if (rc == 0 && (place.kind == CKPT_PLACE_ENTRY || place.kind == CKPT_PLACE_LOOSE))
		rc = ckpt_err_set(err, -EINVAL, "'%s' is %s; name a store or a group", path,
				  cli_place_describe(place.kind));
	else if (rc == 0)
		rc = cli_place_covered(&place) ? collect_by_daemon(gc, &place, err)
					       : collect_here(gc, &place, err);
	ckpt_place_release(&place);
	return rc;
}

static bool choose_age(struct gc *gc)
{
	if (gc->all && (gc->age.given || gc->want.given)) {
		cli_error("'--all' purges whatever the age and the size: leave '--%s' out",
			  gc->age.given ? "age" : "free");
		return false;
	}
	if (gc->all)
		gc->max_age_secs = 0;
	else if (gc->age.given)
		gc->max_age_secs = gc->age.value;
	else
		gc->max_age_secs = gc->want.given ? UINT64_MAX : CKPT_TRASH_MAX_AGE_SECS;
	return true;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct gc gc = { .cli = cli };
	const struct option_row rows[] = {
		{ "age", 0, OPTION_AGE, &gc.age, "AGE",
		  "purge what was removed so long ago: 90m, 12h, 1d; 1d if not given" },
		{ "all", 0, OPTION_FLAG, &gc.all, NULL, "purge all, whenever it was removed" },
		{ "free", 0, OPTION_SIZE, &gc.want, "SIZE",
		  "purge the oldest until so much is freed; none by age but with --age" },
		{ "last", 0, OPTION_FLAG, &gc.last_too, NULL,
		  "also those whose group has no committed one left" },
		{ "dry-run", 'n', OPTION_FLAG, &gc.dry_run, NULL, "only tell what would be done" },
		OPTION_END,
	};
	struct ckpt_err err = CKPT_ERR_INIT;
	struct option_args args;
	int code;
	int rc;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		return code;
	if (!choose_age(&gc))
		return CLI_USAGE;
	rc = collect(&gc, args.count > 0 ? args.items[0] : NULL, &err);
	return cli_flush(rc < 0 ? cli_report(&err) : CLI_OK);
}

const struct cli_command cli_gc_command = {
	.name = "gc",
	.args = "[--age AGE | --all] [--free SIZE] [--last] [-n] [PATH]",
	.summary = "purge removed checkpoints, clear away leftovers",
	.details =
		"Removes for good what lay at or below PATH (a store or a group; the current folder)\n"
		"and was removed more than a day ago, and clears away locks, sessions and rooms of\n"
		"the trash that dead processes have left. Open and committed checkpoints are not\n"
		"touched. What is purged cannot be brought back.\n",
	.min_args = 0,
	.max_args = 1,
	.run = run,
};
