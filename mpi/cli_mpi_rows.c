/* cli_mpi_rows.c - see cli_mpi_options.h. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "base/path.h"
#include "cli_mpi_options.h"
#include "store/store.h"

/* --- words and numbers ------------------------------------------------------------------ */

static int take_store(struct mpi_parse *parse, const char *text)
{
	parse->options->base = text;
	return 0;
}

static int take_from(struct mpi_parse *parse, const char *text)
{
	parse->options->from = text;
	return 0;
}

static int take_to(struct mpi_parse *parse, const char *text)
{
	parse->options->to = text;
	return 0;
}

static int take_pre_commit(struct mpi_parse *parse, const char *text)
{
	parse->options->pre_commit = text;
	return 0;
}

static int take_post_commit(struct mpi_parse *parse, const char *text)
{
	parse->options->post_commit = text;
	return 0;
}

static int take_failures(struct mpi_parse *parse, const char *text)
{
	parse->options->failures = text;
	return 0;
}

static int take_async(struct mpi_parse *parse, const char *text)
{
	(void)text;
	parse->options->is_async = true;
	return 0;
}

static int take_progress(struct mpi_parse *parse, const char *text)
{
	(void)text;
	parse->options->progress = true;
	return 0;
}

static int take_json(struct mpi_parse *parse, const char *text)
{
	(void)text;
	parse->options->json = true;
	return 0;
}

/* A number in [min, max], or the message that names the option. */
static int take_number(struct mpi_parse *parse, const char *name, const char *text, uint64_t max,
		       uint64_t *out)
{
	if (num_parse_u64(text, out) < 0 || *out > max)
		return ckpt_err_set(parse->err, -EINVAL,
				    "option '--%s': '%s' is no number from 0 to %llu", name, text,
				    (unsigned long long)max);
	return 0;
}

static int take_size(struct mpi_parse *parse, const char *name, const char *text, uint64_t *out)
{
	if (num_parse_size(text, out) < 0)
		return ckpt_err_set(
			parse->err, -EINVAL,
			"option '--%s': '%s' is no size; give bytes, or as in 64KiB, 512MiB, 4GiB",
			name, text);
	return 0;
}

static int take_shard(struct mpi_parse *parse, const char *text)
{
	parse->options->has_shard_dim = true;
	return take_number(parse, "shard", text, CKPT_MPI_DIM_MAX - 1, &parse->options->shard_dim);
}

static int take_step(struct mpi_parse *parse, const char *text)
{
	parse->options->has_step = true;
	return take_number(parse, "step", text, CKPT_STEP_MAX, &parse->options->step);
}

static int take_coordinator(struct mpi_parse *parse, const char *text)
{
	uint64_t rank = 0;
	int rc = take_number(parse, "coordinator", text, INT32_MAX, &rank);

	parse->options->coordinator = (int)rank;
	return rc;
}

static int take_aggregators(struct mpi_parse *parse, const char *text)
{
	uint64_t count = 0;
	int rc = take_number(parse, "aggregators", text, INT32_MAX, &count);

	parse->options->aggregators = (int)count;
	return rc;
}

static int take_timeout(struct mpi_parse *parse, const char *text)
{
	uint64_t secs = 0;
	int rc = take_number(parse, "timeout", text, UINT32_MAX, &secs);

	if (rc == 0 && secs == 0)
		return ckpt_err_set(
			parse->err, -EINVAL,
			"option '--timeout': 0 s would end every wait at once; give 1 or more");
	parse->options->timeout_secs = (uint32_t)secs;
	return rc;
}

static int take_min_rate(struct mpi_parse *parse, const char *text)
{
	return take_size(parse, "min-rate", text, &parse->options->min_bytes_per_sec);
}

static int take_bench_size(struct mpi_parse *parse, const char *text)
{
	int rc = take_size(parse, "size", text, &parse->options->size_bytes);

	if (rc == 0 && parse->options->size_bytes == 0)
		return ckpt_err_set(parse->err, -EINVAL,
				    "option '--size': there is nothing to measure in 0 bytes");
	return rc;
}

static int take_rounds(struct mpi_parse *parse, const char *text)
{
	int rc = take_number(parse, "rounds", text, 1000, &parse->options->rounds);

	if (rc == 0 && parse->options->rounds == 0)
		return ckpt_err_set(parse->err, -EINVAL, "option '--rounds': give 1 or more");
	return rc;
}

static int take_shard_count(struct mpi_parse *parse, const char *text)
{
	return take_number(parse, "shards", text, UINT32_MAX, &parse->options->shard_count);
}

static int take_io(struct mpi_parse *parse, const char *text)
{
	if (strcmp(text, "posix") == 0)
		parse->options->io = CKPT_MPI_IO_POSIX;
	else if (strcmp(text, "mpiio") == 0)
		parse->options->io = CKPT_MPI_IO_MPIIO;
	else
		return ckpt_err_set(parse->err, -EINVAL,
				    "option '--io': '%s' is neither 'posix' nor 'mpiio'", text);
	return 0;
}

static int take_layout(struct mpi_parse *parse, const char *text)
{
	if (strcmp(text, "shards") == 0)
		parse->options->layout = CKPT_MPI_LAYOUT_SHARDS;
	else if (strcmp(text, "global") == 0)
		parse->options->layout = CKPT_MPI_LAYOUT_GLOBAL;
	else
		return ckpt_err_set(parse->err, -EINVAL,
				    "option '--layout': '%s' is neither 'shards' nor 'global'",
				    text);
	return 0;
}

/* --- KEY=VALUE ---------------------------------------------------------------------------- */

/* The length of KEY; 0, and a message, where there is none. */
static size_t key_length(struct mpi_parse *parse, const char *name, const char *text)
{
	size_t len = strcspn(text, "=");

	if (len > 0 && text[len] == '=')
		return len;
	(void)ckpt_err_set(parse->err, -EINVAL, "option '--%s': '%s' is not KEY=VALUE", name, text);
	return 0;
}

/* Kept as "{…" with one member an option; close_meta() ends it. */
static int take_meta(struct mpi_parse *parse, const char *text)
{
	struct ckpt_buf *meta = &parse->options->meta;
	size_t key_len = key_length(parse, "meta", text);
	struct ckpt_buf key;

	if (key_len == 0)
		return -EINVAL;
	if (!ckpt_path_is_utf8(text, strlen(text)))
		return ckpt_err_set(
			parse->err, -EINVAL,
			"option '--meta': key and value must be UTF-8 without control characters");
	ckpt_buf_init(&key);
	ckpt_buf_add(&key, text, key_len);
	ckpt_buf_add_char(meta, meta->len_bytes ? ',' : '{');
	ckpt_buf_add_json_str(meta, key.data);
	ckpt_buf_add_char(meta, ':');
	ckpt_json_print_scalar(text + key_len + 1, meta);
	ckpt_buf_release(&key);
	return ckpt_buf_check(meta);
}

static int add_pair(struct mpi_parse *parse, const char *name, const char *text,
		    struct mpi_pair_list *list)
{
	size_t key_len = key_length(parse, name, text);
	char *key;

	if (key_len == 0)
		return -EINVAL;
	if (array_grow(&list->items, &list->cap, list->count, sizeof(*list->items)) < 0)
		return -ENOMEM;
	key = strndup(text, key_len);
	if (!key)
		return -ENOMEM;
	list->items[list->count++] = (struct mpi_pair){ .key = key, .value = text + key_len + 1 };
	for (size_t i = 0; i + 1 < list->count; i++) {
		if (strcmp(list->items[i].key, key) == 0)
			return ckpt_err_set(parse->err, -EINVAL,
					    "option '--%s': the key '%s' is given twice", name,
					    key);
	}
	return 0;
}

static int take_hook_arg(struct mpi_parse *parse, const char *text)
{
	/* What environment variables are called: CKPTFS_ARG_KEY. */
	for (const char *p = text; *p && *p != '='; p++) {
		if (!isalnum((unsigned char)*p) && *p != '_')
			return ckpt_err_set(
				parse->err, -EINVAL,
				"option '--arg': the key of '%s' becomes part of a variable's name; use letters, digits and '_'",
				text);
	}
	return add_pair(parse, "arg", text, &parse->options->hook_args);
}

static int take_blob(struct mpi_parse *parse, const char *text)
{
	if (!ckpt_path_is_utf8(text, strcspn(text, "=")))
		return ckpt_err_set(
			parse->err, -EINVAL,
			"option '--blob': the key must be UTF-8 without control characters");
	return add_pair(parse, "blob", text, &parse->options->blobs);
}

/* --- meshes ----------------------------------------------------------------------------- */

/* Digits up to @end, which is where the number must end; -1 where it is none. */
static int take_int(const char **at, char end)
{
	long value = 0;
	const char *p = *at;

	for (; *p >= '0' && *p <= '9' && value < INT_MAX / 10; p++)
		value = value * 10 + (*p - '0');
	if (p == *at || (*p != end && *p != '\0'))
		return -1;
	*at = p;
	return (int)value;
}

static int take_mesh(struct mpi_parse *parse, const char *text)
{
	struct mpi_options *options = parse->options;
	const char *at = text;
	size_t count = 0;

	for (;; at++) {
		int extent = count < MPI_MESH_AXES_MAX ? take_int(&at, 'x') : -1;

		if (extent <= 0)
			return ckpt_err_set(
				parse->err, -EINVAL,
				"option '--mesh': '%s' is no mesh; give the extents of its axes, as in 4 or 2x2",
				text);
		options->mesh_extents[count++] = extent;
		if (*at == '\0')
			break;
	}
	options->mesh = (struct ckpt_mpi_mesh){ .extents = options->mesh_extents,
						.placements = options->mesh_placements,
						.axis_count = count };
	return 0;
}

static int take_placements(struct mpi_parse *parse, const char *text)
{
	struct mpi_options *options = parse->options;
	const char *at = text;
	size_t count = 0;

	for (;; at++) {
		int dim = CKPT_MPI_REPLICATE;
		bool is_good = count < MPI_MESH_AXES_MAX && (*at == 'S' || *at == 'R');

		if (is_good && *at++ == 'S') {
			dim = take_int(&at, ',');
			is_good = dim >= 0 && dim < CKPT_MPI_DIM_MAX;
		}
		if (!is_good || (*at != ',' && *at != '\0'))
			return ckpt_err_set(
				parse->err, -EINVAL,
				"option '--placements': '%s' is no list of placements; give one an axis of the mesh, Sn to cut dimension n or R to replicate, as in S0,R",
				text);
		options->mesh_placements[count++] = dim;
		if (*at == '\0')
			break;
	}
	options->placement_count = count;
	return 0;
}

static int check_mesh(const struct mpi_parse *parse, int world_size)
{
	const struct mpi_options *options = parse->options;
	size_t axis_count = options->mesh.axis_count;
	uint64_t ranks = 1;

	if (axis_count == 0 && options->placement_count == 0)
		return 0;
	if (axis_count != options->placement_count)
		return ckpt_err_set(
			parse->err, -EINVAL,
			"options '--mesh' and '--placements' belong together: there are %zu axes and %zu placements; give one an axis",
			axis_count, options->placement_count);
	if (options->has_shard_dim)
		return ckpt_err_set(
			parse->err, -EINVAL,
			"options '--shard' and '--mesh' each say how tensors are cut; give one of them");
	for (size_t i = 0; i < axis_count; i++) {
		if (!num_mul(ranks, (uint64_t)options->mesh_extents[i], &ranks))
			ranks = UINT64_MAX;
	}
	if (ranks != (uint64_t)world_size)
		return ckpt_err_set(
			parse->err, -EINVAL,
			"option '--mesh': it has %llu places, and the job has %d ranks; start as many ranks as the mesh has places",
			(unsigned long long)ranks, world_size);
	return 0;
}

/* --- all of them ---------------------------------------------------------------------------- */

const struct mpi_row mpi_rows[] = {
	{ "from", 'f', "FILE", "FILE.safetensors, or an index.json that names several", take_from },
	{ "to", 't', "OUT", "write one safetensors file with all tensors", take_to },
	{ "shard", 'd', "DIM",
	  "cut tensors along dimension DIM (0); one without it is written once", take_shard },
	{ "mesh", 'M', "AxB", "the ranks as a grid, in row-major order", take_mesh },
	{ "placements", 'P', "LIST",
	  "one an axis of the mesh: Sn cuts dimension n, R replicates; as in S0,R",
	  take_placements },
	{ "layout", 'l', "WAY",
	  "shards (default): each rank's own; global: one model.safetensors by all", take_layout },
	{ "blob", 'b', "K=FILE", "save the bytes of FILE as K, by rank 0; may be repeated",
	  take_blob },
	{ "size", 'z', "SIZE", "bytes of all ranks together (1GiB)", take_bench_size },
	{ "rounds", 'n', "N", "saves and loads to measure (1)", take_rounds },
	{ "shards", 'N', "N", "N shards of 256 bytes a rank instead of large tensors",
	  take_shard_count },
	{ "async", 'y', NULL, "move the bytes in a thread of their own", take_async },
	{ "step", 's', "N", "training step of the checkpoint", take_step },
	{ "meta", 'm', "K=V", "a fact to keep with the checkpoint; may be repeated", take_meta },
	{ "pre-commit", 'p', "CMD", "shell command of every rank; its failure is a vote against",
	  take_pre_commit },
	{ "post-commit", 'q', "CMD", "shell command of every rank, behind the commit",
	  take_post_commit },
	{ "arg", 'a', "K=V", "CKPTFS_ARG_K in both commands; may be repeated", take_hook_arg },
	{ "io", 'i', "WAY", "how shared files are written: posix (default) or mpiio", take_io },
	{ "aggregators", 'A', "N", "layout global: ranks that write for the others (0: one a node)",
	  take_aggregators },
	{ "coordinator", 'c', "RANK", "rank that plans and commits (0)", take_coordinator },
	{ "timeout", 'w', "SECS", "how long ranks wait for each other (600)", take_timeout },
	{ "min-rate", 'r', "SIZE",
	  "bytes a second that the slowest disk moves: more time for more bytes (64MiB)",
	  take_min_rate },
	{ "failures", 'F', "FILE", "every rank writes the failure table to FILE.RANK, as JSON",
	  take_failures },
	{ "progress", 'g', NULL, "a bar also where stderr is no terminal (also $CKPTFS_PROGRESS=1)",
	  take_progress },
	{ "json", 'j', NULL, "print one JSON object", take_json },
	{ NULL, 'C', "DIR", "the store for names that are not found from here (also $CKPTFS_STORE)",
	  take_store },
};
const size_t mpi_row_count = sizeof(mpi_rows) / sizeof(mpi_rows[0]);
_Static_assert(sizeof(mpi_rows) / sizeof(mpi_rows[0]) <= MPI_ROW_MAX, "raise MPI_ROW_MAX");

static int close_meta(const struct mpi_parse *parse)
{
	struct ckpt_buf *meta = &parse->options->meta;
	struct ckpt_json *root = NULL;
	int rc;

	if (meta->len_bytes == 0)
		return 0;
	ckpt_buf_add_char(meta, '}');
	rc = ckpt_buf_check(meta);
	/* All members are well-formed by themselves: what can be wrong is a key given twice. */
	if (rc == 0 && ckpt_json_parse(meta->data, meta->len_bytes, &root, NULL) < 0)
		rc = ckpt_err_set(parse->err, -EINVAL, "option '--meta': a key is given twice");
	ckpt_json_free(root);
	return rc;
}

/* All ranks are, or a node's, and no more: the library would say so later, of each rank. */
static int check_aggregators(const struct mpi_parse *parse, int world_size)
{
	const struct mpi_options *options = parse->options;

	if (options->aggregators > world_size)
		return ckpt_err_set(parse->err, -EINVAL,
				    "option '--aggregators': %d of %d ranks cannot be; give fewer",
				    options->aggregators, world_size);
	if (options->aggregators > 0 && options->layout != CKPT_MPI_LAYOUT_GLOBAL)
		return ckpt_err_set(parse->err, -EINVAL,
				    "option '--aggregators' goes with '--layout global'");
	return 0;
}

int mpi_rows_check(struct mpi_parse *parse, int world_size)
{
	int rc = close_meta(parse);

	if (rc == 0)
		rc = check_mesh(parse, world_size);
	return rc < 0 ? rc : check_aggregators(parse, world_size);
}
