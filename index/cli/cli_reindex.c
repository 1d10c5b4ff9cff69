/* cli_reindex.c - rebuild the index from the manifests. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/mount_ioctl.h"
#include "cli/options.h"

static void report_problem(void *ctx, const struct ckpt_err *err)
{
	uint64_t *problem_count = ctx;

	(*problem_count)++;
	cli_error("%s", err->msg);
}

static int reindex_here(const struct ckpt_place *place, uint64_t *problem_count,
			uint64_t *out_count, struct ckpt_err *err)
{
	struct ckpt_store *store = NULL;
	int rc = ckpt_store_open(place->store_path, 0, NULL, &store, err);

	if (rc == 0)
		rc = ckpt_store_reindex(store, place->name, report_problem, problem_count,
					out_count, err);
	ckpt_store_free(store);
	if (rc == 0)
		mount_refresh(place, place->name);
	return rc;
}

static int reindex(const struct ckpt_place *place, uint64_t *problem_count, struct ckpt_err *err)
{
	struct ckpt_control request = { .op = CKPT_CONTROL_REINDEX };
	uint64_t count = 0;
	int rc;

	if (!place->store_path)
		return ckpt_err_set(err, -1, "'%s' is in no store, so there is no index to rebuild",
				    place->folder);
	if (cli_place_covered(place)) {
		rc = mount_ioctl(place->mount_path, &request, place->name, err);
		count = request.shard_count; /* base/control.h: of checkpoints, here */
	} else {
		rc = reindex_here(place, problem_count, &count, err);
	}
	if (rc == 0)
		(void)printf("%" PRIu64 " committed checkpoints indexed\n", count);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	const struct option_row rows[] = { OPTION_END };
	struct ckpt_place place = { .name = NULL };
	struct ckpt_err err = CKPT_ERR_INIT;
	struct option_args args;
	uint64_t problem_count = 0;
	int code;
	int rc;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		return code;
	rc = cli_place(cli, args.count > 0 ? args.items[0] : NULL, &place, &err);
	if (rc == 0)
		rc = reindex(&place, &problem_count, &err);
	ckpt_place_release(&place);
	if (rc < 0)
		code = cli_report(&err);
	else if (problem_count > 0)
		code = CLI_FAILED;
	return cli_flush(code);
}

const struct cli_command cli_reindex_command = {
	.name = "reindex",
	.args = "[PATH]",
	.summary = "rebuild the index from the manifests",
	.details =
		"Forgets what the index holds of PATH (left out: of the whole store you stand in)\n"
		"and reads every manifest below it again. Nothing is lost: the manifests are the\n"
		"truth. A manifest that cannot be used is named, and the exit code is 1.\n",
	.max_args = 1,
	.run = run,
};
