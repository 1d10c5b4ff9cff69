/* cli_latest.c - which checkpoint was committed last? */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "cli/cli.h"
#include "cli/options.h"

static const char *const word = "latest";

static void cut(struct ckpt_buf *path, size_t len)
{
	if (len < path->len_bytes) {
		path->len_bytes = len;
		path->data[len] = '\0';
	}
}

static void trim_slashes(struct ckpt_buf *path)
{
	size_t len = path->len_bytes;

	while (len > 1 && path->data[len - 1] == '/')
		len--;
	cut(path, len);
}

/* The folder that is asked about, as the user can name it from here. */
static void start_path(const struct cli *cli, const char *path, struct ckpt_buf *out)
{
	if (!path)
		ckpt_buf_add_str(out, cli->base ? cli->base : ".");
	else if (cli->base && access(path, F_OK) != 0)
		ckpt_path_join(out, cli->base, path);
	else
		ckpt_buf_add_str(out, path);
	trim_slashes(out);
}

/* "run1/latest" and "run1" are the same question, unless something real has that name. */
static void drop_word(struct ckpt_buf *path)
{
	size_t word_len = strlen(word);

	if (strcmp(ckpt_path_basename(path->data), word) != 0 || access(path->data, F_OK) == 0)
		return;
	if (path->len_bytes == word_len) {
		ckpt_buf_reset(path);
		ckpt_buf_add_char(path, '.');
		return;
	}
	cut(path, path->len_bytes - word_len);
	trim_slashes(path);
}

/* @name as seen from @path, which is @place. */
static void print_from(const struct ckpt_place *place, const char *path, const char *name)
{
	const char *rest = name + strlen(place->name);
	struct ckpt_buf out;

	ckpt_buf_init(&out);
	while (*rest == '/')
		rest++;
	if (*rest == '\0')
		ckpt_buf_add_str(&out, path);
	else
		ckpt_path_join(&out, path, rest);
	(void)puts(out.data);
	ckpt_buf_release(&out);
}

static int latest_below(const struct ckpt_place *place, const char *path, struct ckpt_err *err)
{
	struct ckpt_store *store = NULL;
	struct ckpt_buf name;
	int rc;

	if (!place->store_path) {
		(void)puts(path);
		return 0;
	}
	ckpt_buf_init(&name);
	rc = ckpt_store_open(place->store_path, 0, NULL, &store, err);
	if (rc == 0) {
		rc = ckpt_store_latest(store, place->name, &name, err);
		if (rc == -ENOENT)
			rc = ckpt_err_set(
				err, rc,
				"no committed checkpoint at or below '%s'; see what there is with 'ckptfs ls %s'",
				path, path);
	}
	if (rc == 0)
		print_from(place, path, name.data);
	ckpt_buf_release(&name);
	ckpt_store_free(store);
	return rc;
}

static int latest(const struct cli *cli, const char *path, struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	struct ckpt_buf start;
	int rc;

	ckpt_buf_init(&start);
	start_path(cli, path, &start);
	drop_word(&start);
	rc = ckpt_place_find(start.data, NULL, &place, err);
	if (rc == 0 && place.kind == CKPT_PLACE_NOTHING)
		rc = ckpt_err_set(err, -ENOENT,
				  "'%s' does not exist; see what does with 'ckptfs ls'",
				  start.data);
	else if (rc == 0 && (place.kind == CKPT_PLACE_ENTRY || place.kind == CKPT_PLACE_LOOSE))
		rc = ckpt_err_set(err, -EINVAL, "'%s' is %s; no checkpoint lies below it",
				  start.data, cli_place_describe(place.kind));
	else if (rc == 0)
		rc = latest_below(&place, start.data, err);
	ckpt_place_release(&place);
	ckpt_buf_release(&start);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	return options_run_path(cli, argc, argv, latest);
}

const struct cli_command cli_latest_command = {
	.name = "latest",
	.args = "[PATH]",
	.summary = "print the path of the checkpoint committed last",
	.details =
		"At or below PATH (left out: where you stand), by sequence number, not by clock.\n"
		"What is printed begins with PATH, so that it can be used from here. Wherever a\n"
		"checkpoint is named, 'PATH/latest' means the same.\n",
	.max_args = 1,
	.run = run,
};
