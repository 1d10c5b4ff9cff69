/* cli_status.c - `ckptfs` alone: the state of the store one stands in. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/num.h"
#include "cli/cli.h"
#include "cli/found.h"
#include "cli/mounts.h"

/* Names shown of each kind; `ckptfs ls` has the rest. */
#define NAMES_MAX 10

/* "" where nothing is committed. */
static void find_latest(struct ckpt_store *store, struct ckpt_buf *out)
{
	if (ckpt_store_latest(store, "", out, NULL) < 0)
		ckpt_buf_reset(out);
}

static void print_counts(const struct found_list *list, const char *latest)
{
	uint64_t committed_bytes = 0;
	uint64_t removed_bytes = 0;
	size_t removed_count = 0;
	size_t pinned_count = 0;
	char human[32];

	for (size_t i = 0; i < list->count; i++) {
		const struct found *item = &list->items[i];

		if (item->has_row)
			committed_bytes += item->row.size_bytes;
		if (item->removed)
			removed_bytes += item->row.size_bytes;
		removed_count += item->removed;
		pinned_count += item->pinned;
	}
	(void)printf("%zu committed (%s", found_count_state(list, CKPT_STATE_COMMITTED),
		     num_format_size(committed_bytes, human, sizeof(human)));
	if (pinned_count > 0)
		(void)printf(", %zu pinned", pinned_count);
	(void)printf("), %zu open, %zu aborted", found_count_state(list, CKPT_STATE_OPEN),
		     found_count_state(list, CKPT_STATE_ABORTED));
	if (removed_count > 0)
		(void)printf(", %zu removed (%s; 'ckptfs undelete PATH' brings one back)",
			     removed_count, num_format_size(removed_bytes, human, sizeof(human)));
	(void)printf("\n");
	for (size_t i = 0; i < list->count; i++) {
		const struct found *item = &list->items[i];

		if (item->has_row && strcmp(item->name, latest) == 0)
			(void)printf("latest: %s (seq %" PRIu64 ", %s)\n", item->name,
				     item->row.seq, item->row.committed);
	}
}

static void print_names(const struct found_list *list, enum ckpt_state state, const char *title)
{
	size_t count = found_count_state(list, state);
	size_t shown = 0;

	if (count == 0)
		return;
	(void)printf("\n%s:\n", title);
	for (size_t i = 0; i < list->count && shown < NAMES_MAX; i++) {
		const struct found *item = &list->items[i];

		if (item->state != state)
			continue;
		if (item->waits_for[0])
			(void)printf("  %s  waits for %s\n", item->name, item->waits_for);
		else
			(void)printf("  %s\n", item->name);
		shown++;
	}
	if (shown < count)
		(void)printf("  and %zu more; 'ckptfs ls' shows them all\n", count - shown);
}

static void print_mounts(const char *store_path)
{
	struct ckpt_mount_list list = { .mounts = NULL };

	/* Without /proc there is nothing to tell about mounts. */
	if (ckpt_mount_list_read(&list, NULL) == 0) {
		for (size_t i = 0; i < list.count; i++) {
			const struct ckpt_mount *mount = &list.mounts[i];

			if (ckpt_mount_is_ours(mount) && strcmp(mount->source, store_path) == 0)
				(void)printf("mounted on %s%s\n", mount->point,
					     mounts_is_dead(mount->point)
						     ? ", but dead: 'ckptfs umount' clears it"
						     : "");
		}
	}
	ckpt_mount_list_release(&list);
}

/* CLI_FAILED: all was printed, and what is wrong in the store was said. */
static int print_store(const struct ckpt_place *place, struct ckpt_err *err)
{
	const struct ckpt_place top = { .kind = CKPT_PLACE_STORE,
					.store_path = place->store_path,
					.name = (char[]){ "" } };
	struct ckpt_store *store = NULL;
	struct found_list list = { .items = NULL };
	const char *reason = "";
	struct ckpt_buf latest;
	const char *index;
	int rc = ckpt_store_open(place->store_path, 0, NULL, &store, err);

	ckpt_buf_init(&latest);
	if (rc == 0)
		rc = found_load(&top, FOUND_COUNT | FOUND_WAITS | FOUND_REMOVED, &list, err);
	if (rc == 0) {
		(void)printf("store %s (id %s)\n", place->store_path, ckpt_store_id(store));
		print_mounts(place->store_path);
		index = ckpt_store_index_place(store, &reason);
		if (reason && reason[0])
			(void)printf("index in %s: %s\n", index, reason);
		find_latest(store, &latest);
		print_counts(&list, latest.data);
		print_names(
			&list, CKPT_STATE_OPEN,
			"open (make final with 'ckptfs commit PATH', drop with 'ckptfs abort PATH';\n"
			"what a rule calls complete: 'ckptfs commit --all DIR')");
		print_names(&list, CKPT_STATE_ABORTED,
			    "aborted ('ckptfs show PATH' tells why, 'ckptfs abort PATH' drops it)");
		if (found_report(&list) > 0)
			rc = CLI_FAILED;
	}
	ckpt_buf_release(&latest);
	found_release(&list);
	ckpt_store_free(store);
	return rc;
}

int cli_status(struct cli *cli)
{
	struct ckpt_place place = { .name = NULL };
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc = cli_place(cli, NULL, &place, &err);

	if (rc == -ENXIO)
		rc = ckpt_err_set(
			&err, rc,
			"'%s' is in no store; make one with 'ckptfs init DIR', or see 'ckptfs --help'",
			cli->base ? cli->base : ".");
	else if (rc == 0 && !place.store_path)
		rc = ckpt_err_set(
			&err, -ENXIO,
			"'%s' is a checkpoint in no store; see what is in it with 'ckptfs show .'",
			place.folder);
	else if (rc == 0)
		rc = print_store(&place, &err);
	ckpt_place_release(&place);
	return cli_flush(rc < 0 ? cli_report(&err) : rc);
}
