/* cli_init.c - make a store of a folder. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/found.h"
#include "cli/options.h"

/* Names shown at most; `ckptfs ls` has the rest. */
#define NAMES_MAX 10

static void print_open(const struct found_list *list, size_t open_count)
{
	size_t shown = 0;

	(void)printf(
		"%zu %s like open checkpoints; make them final with 'ckptfs commit PATH...':\n",
		open_count, open_count == 1 ? "folder looks" : "folders look");
	for (size_t i = 0; i < list->count && shown < NAMES_MAX; i++) {
		if (list->items[i].state != CKPT_STATE_OPEN)
			continue;
		(void)printf("  %s\n", list->items[i].name);
		shown++;
	}
	if (shown < open_count)
		(void)printf("  and %zu more; 'ckptfs ls' shows them all\n", open_count - shown);
}

static int print_found(const struct ckpt_place *place, struct ckpt_err *err)
{
	struct found_list list;
	int rc = found_load(place, 0, &list, err);

	if (rc == 0) {
		size_t committed_count = found_count_state(&list, CKPT_STATE_COMMITTED);
		size_t open_count = found_count_state(&list, CKPT_STATE_OPEN);

		if (committed_count > 0)
			(void)printf("%zu committed checkpoints are in it\n", committed_count);
		if (open_count > 0)
			print_open(&list, open_count);
		(void)found_report(&list);
	}
	found_release(&list);
	return rc;
}

static int init(const struct cli *cli, const char *dir, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	struct ckpt_store *store = NULL;
	bool existed = false;
	int rc = ckpt_store_init(dir, &existed, err);

	(void)cli;
	if (rc == 0)
		rc = ckpt_place_find(dir, NULL, &place, err);
	if (rc == 0)
		rc = ckpt_store_open(place.store_path, CKPT_STORE_NO_INDEX, NULL, &store, err);
	if (rc == 0) {
		if (existed)
			(void)printf("'%s' is a store already (id %s); nothing changed\n",
				     place.store_path, ckpt_store_id(store));
		else
			(void)printf("made a store of '%s' (id %s)\n", place.store_path,
				     ckpt_store_id(store));
		rc = print_found(&place, err);
	}
	ckpt_store_free(store);
	ckpt_place_release(&place);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	return options_run_path(cli, argc, argv, init);
}

const struct cli_command cli_init_command = {
	.name = "init",
	.args = "DIR",
	.summary = "make a store of a folder",
	.details =
		"Adds the folder .ckptfs to DIR, which is made if it is missing. Nothing in DIR is\n"
		"moved, copied or changed. Then says which folders look like checkpoints.\n",
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
