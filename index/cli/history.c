/* history.c - see history.h. */
#include "cli/history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/json.h"
#include "base/num.h"
#include "base/path.h"

#define TRAINER_STATE "trainer_state.json"
/* A trainer that logs every step for a year stays below. */
#define TRAINER_STATE_MAX_BYTES INT64_C(67108864)
/* More keys than this nobody looks at, and each is a column. */
#define META_MAX 64

/* --- metadata ----------------------------------------------------------------------------- */

const struct history_meta *history_find_meta(const struct history_item *item, const char *key)
{
	for (size_t i = 0; i < item->meta_count; i++) {
		if (strcmp(item->metas[i].key, key) == 0)
			return &item->metas[i];
	}
	return NULL;
}

static void meta_release(struct history_meta *meta)
{
	free(meta->key);
	free(meta->text);
}

/* As it is shown: strings without quotes, numbers as short as they can be told apart. */
static char *print_value(const struct ckpt_json *value)
{
	struct ckpt_buf text;

	ckpt_buf_init(&text);
	if (ckpt_json_kind(value) == CKPT_JSON_STRING)
		ckpt_buf_add_str(&text, ckpt_json_string(value));
	else if (ckpt_json_kind(value) == CKPT_JSON_REAL)
		ckpt_buf_printf(&text, "%.6g", ckpt_json_real(value));
	else
		ckpt_json_print(value, &text);
	return ckpt_buf_steal(&text);
}

static bool read_number(const struct ckpt_json *value, double *out)
{
	switch (ckpt_json_kind(value)) {
	case CKPT_JSON_BOOL:
		*out = ckpt_json_bool(value);
		return true;
	case CKPT_JSON_INT:
	case CKPT_JSON_REAL:
		*out = ckpt_json_real(value);
		return true;
	default:
		return false;
	}
}

/* @value is a scalar; null is as if it were not there. */
static int add_meta(struct history_item *item, const char *key, const struct ckpt_json *value)
{
	struct history_meta meta = { .is_number = read_number(value, &meta.number) };

	if (ckpt_json_kind(value) == CKPT_JSON_NULL || item->meta_count >= META_MAX ||
	    history_find_meta(item, key))
		return 0;
	if (array_grow(&item->metas, &item->meta_cap, item->meta_count, sizeof(meta)) < 0)
		return -ENOMEM;
	meta.key = strdup(key);
	meta.text = print_value(value);
	if (!meta.key || !meta.text) {
		meta_release(&meta);
		return -ENOMEM;
	}
	item->metas[item->meta_count++] = meta;
	return 0;
}

static int take_manifest_meta(void *ctx, const char *key, const struct ckpt_json *value)
{
	return add_meta(ctx, key, value);
}

static int load_manifest_meta(struct history_item *item)
{
	const char *text = item->found->row.meta;
	struct ckpt_json *root = NULL;
	int rc = 0;

	/* The manifest's reader has checked it; a row that breaks its rules has no metadata. */
	if (!text || ckpt_json_parse(text, strlen(text), &root, NULL) < 0)
		return 0;
	if (ckpt_json_kind(root) == CKPT_JSON_OBJECT)
		rc = ckpt_json_each(root, take_manifest_meta, item);
	ckpt_json_free(root);
	return rc;
}

/* --- trainer_state.json ------------------------------------------------------------------- */

/* NULL: there is none, or it is none that can be used. */
static char *read_trainer_state(int dirfd, size_t *out_len)
{
	CKPT_CLOSE int fd =
		ckpt_io_openat(dirfd, TRAINER_STATE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	CKPT_FREE char *text = NULL;
	struct stat st;
	ssize_t got = 1;
	size_t len = 0;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 ||
	    st.st_size > TRAINER_STATE_MAX_BYTES)
		return NULL;
	text = malloc((size_t)st.st_size);
	while (text && len < (size_t)st.st_size && got > 0) {
		got = read(fd, text + len, (size_t)st.st_size - len);
		len += got > 0 ? (size_t)got : 0;
	}
	*out_len = len;
	return len == (size_t)st.st_size ? ckpt_steal_ptr(&text) : NULL;
}

struct newest {
	struct history_item *item;
	bool top; /* the document itself, not an entry of its log */
};

static int take_trainer_value(void *ctx, const char *key, const struct ckpt_json *value)
{
	static const char *const top_keys[] = { "epoch", "best_metric", "total_flos" };
	const struct newest *newest = ctx;
	double number;
	bool wanted = !newest->top && strcmp(key, "step") != 0;

	for (size_t i = 0; newest->top && i < sizeof(top_keys) / sizeof(top_keys[0]); i++)
		wanted = wanted || strcmp(key, top_keys[i]) == 0;
	return wanted && read_number(value, &number) ? add_meta(newest->item, key, value) : 0;
}

/* From the last entry backwards: the first one met of a key is its newest. */
static int take_trainer_state(struct history_item *item, const struct ckpt_json *root)
{
	struct newest newest = { .item = item };
	const struct ckpt_json *log;
	int rc = 0;

	if (ckpt_json_kind(root) != CKPT_JSON_OBJECT)
		return 0;
	log = ckpt_json_get(root, "log_history");
	if (log && ckpt_json_kind(log) == CKPT_JSON_ARRAY) {
		for (size_t i = ckpt_json_array_size(log); i > 0 && rc == 0; i--) {
			const struct ckpt_json *entry = ckpt_json_array_at(log, i - 1);

			if (ckpt_json_kind(entry) == CKPT_JSON_OBJECT)
				rc = ckpt_json_each(entry, take_trainer_value, &newest);
		}
	}
	newest.top = true;
	return rc == 0 ? ckpt_json_each(root, take_trainer_value, &newest) : rc;
}

static int load_trainer_state(const struct ckpt_store *store, struct history_item *item)
{
	CKPT_CLOSE int dirfd = -1;
	CKPT_FREE char *text = NULL;
	struct ckpt_json *root = NULL;
	size_t len = 0;
	int rc = 0;

	if (ckpt_store_open_checkpoint(store, item->found->name, &dirfd, NULL) < 0)
		return 0; /* gone meanwhile, or in the trash */
	text = read_trainer_state(dirfd, &len);
	if (text && ckpt_json_parse(text, len, &root, NULL) == 0)
		rc = take_trainer_state(item, root);
	ckpt_json_free(root);
	return rc;
}

/* --- time --------------------------------------------------------------------------------- */

/* Seconds since 1970 of "2026-11-22T20:41:07.123456789Z"; false where it is none. */
static bool read_stamp(const char *text, double *out)
{
	struct tm parts = { 0 };
	const char *rest = text[0] ? strptime(text, "%Y-%m-%dT%H:%M:%S", &parts) : NULL;

	if (!rest)
		return false;
	*out = (double)timegm(&parts) + (*rest == '.' ? strtod(rest, NULL) : 0.0);
	return true;
}

static void load_duration(struct history_item *item)
{
	double created;
	double committed;

	/* Behind each other in one process, or the folder's birth: a clock set back shows as none. */
	item->has_save_seconds =
		item->found->has_row && read_stamp(item->found->row.created, &created) &&
		read_stamp(item->found->row.committed, &committed) && committed >= created;
	if (item->has_save_seconds)
		item->save_seconds = committed - created;
}

/* --- all of them -------------------------------------------------------------------------- */

static int load_item(const struct ckpt_store *store, struct history_item *item)
{
	int rc = 0;

	if (item->found->has_row)
		rc = load_manifest_meta(item);
	if (rc == 0 && !item->found->removed)
		rc = load_trainer_state(store, item);
	load_duration(item);
	return rc;
}

static int load_items(const struct ckpt_place *place, bool committed_only, struct history *out,
		      struct ckpt_err *err)
{
	struct ckpt_store *store = NULL;
	int rc = ckpt_store_open(place->store_path, CKPT_STORE_NO_INDEX, NULL, &store, err);

	out->items = array_alloc(num_max(out->list.count, 1), sizeof(*out->items));
	for (size_t i = 0; rc == 0 && out->items && i < out->list.count; i++) {
		const struct found *found = &out->list.items[i];

		if (committed_only && !found->has_row)
			continue;
		out->items[out->count++] = (struct history_item){ .found = found };
		rc = load_item(store, &out->items[out->count - 1]);
		if (rc < 0)
			ckpt_err_sys(err, rc, "cannot look at '%s'", found->name);
	}
	ckpt_store_free(store);
	if (rc == 0 && !out->items)
		return ckpt_err_set(err, -ENOMEM, "out of memory while listing checkpoints");
	return rc;
}

int history_load(const struct cli *cli, const char *path, bool committed_only,
		 struct ckpt_place *out_place, struct history *out, struct ckpt_err *err)
{
	unsigned int flags = FOUND_COUNT | (committed_only ? 0U : FOUND_WAITS | FOUND_REMOVED);
	int rc;

	*out = (struct history){ .items = NULL };
	rc = cli_place(cli, path, out_place, err);
	if (rc < 0)
		return rc;
	if (!out_place->store_path)
		return ckpt_err_set(
			err, -EINVAL,
			"'%s' lies in no store, so there is no history; make one with 'ckptfs init DIR'",
			out_place->folder);
	if (out_place->kind != CKPT_PLACE_STORE && out_place->kind != CKPT_PLACE_GROUP &&
	    out_place->kind != CKPT_PLACE_CHECKPOINT)
		return ckpt_err_set(err, -EINVAL,
				    "'%s' is %s; name a store, a group or a checkpoint", path,
				    cli_place_describe(out_place->kind));
	rc = found_load(out_place, flags, &out->list, err);
	return rc == 0 ? load_items(out_place, committed_only, out, err) : rc;
}

void history_release(struct history *history)
{
	for (size_t i = 0; i < history->count; i++) {
		for (size_t j = 0; j < history->items[i].meta_count; j++)
			meta_release(&history->items[i].metas[j]);
		free(history->items[i].metas);
	}
	free(history->items);
	found_release(&history->list);
	*history = (struct history){ .items = NULL };
}

static int by_commit(const void *a, const void *b)
{
	const struct ckpt_db_checkpoint *left = &((const struct history_item *)a)->found->row;
	const struct ckpt_db_checkpoint *right = &((const struct history_item *)b)->found->row;
	int order;

	if (left->seq != right->seq)
		return left->seq < right->seq ? -1 : 1;
	order = strcmp(left->committed, right->committed);
	return order ? order : strcmp(left->id, right->id);
}

void history_sort(struct history *history)
{
	if (history->count > 0)
		qsort(history->items, history->count, sizeof(*history->items), by_commit);
}

/* --- keys ----------------------------------------------------------------------------------- */

static bool holds_key(const struct history_keys *keys, const char *key)
{
	for (size_t i = 0; i < keys->count; i++) {
		if (strcmp(keys->items[i], key) == 0)
			return true;
	}
	return false;
}

static bool is_number_everywhere(const struct history *history, const char *key)
{
	for (size_t i = 0; i < history->count; i++) {
		const struct history_meta *meta = history_find_meta(&history->items[i], key);

		if (meta && !meta->is_number)
			return false;
	}
	return true;
}

/* 0 "loss", 1 other losses, 2 the rest. */
static int key_rank(const char *key)
{
	if (strcmp(key, "loss") == 0)
		return 0;
	return strstr(key, "loss") ? 1 : 2;
}

/* Insertion keeps the order among equals; there are tens of them. */
static int insert_key(struct history_keys *keys, const char *key)
{
	size_t at = keys->count;

	if (array_grow(&keys->items, &keys->cap, keys->count, sizeof(*keys->items)) < 0)
		return -ENOMEM;
	while (at > 0 && key_rank(keys->items[at - 1]) > key_rank(key)) {
		keys->items[at] = keys->items[at - 1];
		at--;
	}
	keys->items[at] = key;
	keys->count++;
	return 0;
}

int history_keys(const struct history *history, bool numbers_only, struct history_keys *out)
{
	*out = (struct history_keys){ .items = NULL };
	for (size_t i = 0; i < history->count; i++) {
		const struct history_item *item = &history->items[i];

		for (size_t j = 0; j < item->meta_count && out->count < META_MAX; j++) {
			const char *key = item->metas[j].key;

			if (holds_key(out, key) ||
			    (numbers_only && !is_number_everywhere(history, key)))
				continue;
			if (insert_key(out, key) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

void history_keys_release(struct history_keys *keys)
{
	free(keys->items);
	*keys = (struct history_keys){ .items = NULL };
}

/* --- names ---------------------------------------------------------------------------------- */

void history_path(const struct cli *cli, const struct ckpt_place *place, const char *path,
		  const char *name, struct ckpt_buf *out)
{
	const char *rest = name + (ckpt_path_is_below(name, place->name) ? strlen(place->name) : 0);
	struct ckpt_buf start;
	size_t len;

	ckpt_buf_init(&start);
	if (!path)
		ckpt_buf_add_str(&start, cli->base ? cli->base : "");
	else if (cli->base && access(path, F_OK) != 0)
		ckpt_path_join(&start, cli->base, path);
	else
		ckpt_buf_add_str(&start, path);
	len = start.len_bytes;
	while (len > 1 && start.data[len - 1] == '/')
		len--;
	ckpt_buf_add(out, start.data, len);
	while (*rest == '/')
		rest++;
	if (*rest && len > 0 && out->data[out->len_bytes - 1] != '/')
		ckpt_buf_add_char(out, '/');
	ckpt_buf_add_str(out, *rest || len > 0 ? rest : ".");
	ckpt_buf_release(&start);
}
