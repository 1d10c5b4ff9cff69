/*
 * rules_table.c - the completion rules: one table, a row a tool. The first row that
 * applies to a folder decides; what it proves by is what its tool writes last,
 * and what that implies. Whoever commits by a rule waits for a quiet time
 * besides, so a row need not know of files that follow within seconds.
 *
 * What the tools do (versions that were read: PyTorch 2.13, Lightning 2.6,
 * transformers 5, accelerate 1.15, Orbax 0.12; forks of Megatron core and DeepSpeed):
 * - DCP renames `.metadata` to its place when all ranks have written. Without
 *   collectives each rank leaves `__N.metadata`: that says nothing of the others.
 * - Lightning writes `meta.pt` behind it. Nothing before that tells its folders
 *   from others, but their name (`*.ckpt` of ModelCheckpoint), or that others
 *   in the group have one.
 * - accelerate writes a DCP folder a model and an optimizer, then every rank its
 *   `random_states_N.pkl`.
 * - transformers writes `trainer_state.json` behind models, optimizers and
 *   schedulers; old ones write the random states after it.
 * - DCP's safetensors writer ends with the index, which names all shards. Saving
 *   distributed without consolidation it writes none: a shard a rank, which all
 *   begin at once, as their plans are made together.
 * - Megatron writes `metadata.json` when all is there, then the tracker; its old
 *   format only the tracker. DeepSpeed's rank 0 may write the tracker while others
 *   still write. Trackers go on to the next checkpoint: one that was written
 *   behind this one and names a later one will do.
 * - Orbax renames; a folder that got its name otherwise has `commit_success.txt`.
 */
#include "store/rules_internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/json.h"
#include "base/num.h"
#include "base/path.h"
#include "store/rules.h"
#include "store/store_internal.h"

static const char dcp_metadata[] = ".metadata";
static const char dcp_data[] = ".distcp";
static const char lightning_file[] = "meta.pt";
static const char trainer_file[] = "trainer_state.json";
static const char index_file[] = "model.safetensors.index.json";
static const char st_suffix[] = ".safetensors";
static const char st_shard[] = "shard-";
static const char st_sharded_dir[] = "sharded";
static const char megatron_tracker[] = "latest_checkpointed_iteration.txt";
static const char megatron_file[] = "metadata.json";
static const char deepspeed_tracker[] = "latest";
static const char orbax_file[] = "_CHECKPOINT_METADATA";
static const char orbax_success[] = "commit_success.txt";
static const char rng_prefix[] = "random_states_";

/* An index of a million tensors is shorter. */
#define INDEX_MAX (256 * CKPT_MIB)
/* Checkpoints of the group that are asked whether Lightning writes there. */
#define SIBLINGS_MAX 16

static int wait_for(const struct rule_question *q, const char *path)
{
	ckpt_buf_printf(q->waits, "'%s'", path);
	return 0;
}

static int need_file(const struct rule_question *q, const char *file)
{
	return rule_names_has(&q->look->files, file) ? 1 : wait_for(q, file);
}

static bool has_like(const struct rule_names *names, const char *prefix, const char *suffix)
{
	size_t from = 0;

	return rule_names_first(names, &from, prefix, suffix) != NULL;
}

static const char *own_name(const struct rule_look *look)
{
	return ckpt_path_basename(look->name);
}

/* --- DCP folders inside of a checkpoint ------------------------------------------------- */

/* Every folder directly in it that holds DCP's shards has its metadata, too. */
static int need_nested_metadata(const struct rule_question *q)
{
	int rc = 1;

	for (size_t i = 0; rc == 1 && i < q->look->dirs.count; i++) {
		const char *dir = q->look->dirs.items[i];
		struct rule_names files;
		struct rule_names dirs;

		rc = rule_names_of(q->look->fd, dir, &files, &dirs);
		if (rc < 0)
			return rc;
		rc = 1;
		if (has_like(&files, "", dcp_data) && !rule_names_has(&files, dcp_metadata)) {
			ckpt_buf_printf(q->waits, "'%s/%s'", dir, dcp_metadata);
			rc = 0;
		}
		rule_names_release(&files);
		rule_names_release(&dirs);
	}
	return rc;
}

/* --- PyTorch Distributed Checkpoint, Lightning ------------------------------------------- */

static bool is_dcp(const struct rule_look *look)
{
	return rule_names_has(&look->files, dcp_metadata) || has_like(&look->files, "", dcp_data);
}

/* 1 the folder @dir of the group holds both files, 0 not the second, -ENOENT not the first. */
static int sibling_has_meta(int group_fd, const char *dir)
{
	CKPT_CLOSE int fd = ckpt_io_openat(group_fd, dir, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	struct stat st;

	if (fd < 0 || ckpt_io_fstatat(fd, dcp_metadata, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -ENOENT;
	return ckpt_io_fstatat(fd, lightning_file, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int ask_siblings(DIR *group)
{
	const char *name;
	int found = 0;
	int rc = 0;

	for (int asked = 0; found != 1 && asked < SIBLINGS_MAX;) {
		rc = ckpt_io_readdir(group, &name);
		if (rc <= 0)
			break;
		found = sibling_has_meta(dirfd(group), name);
		asked += found >= 0;
	}
	return rc < 0 ? rc : found == 1;
}

static int group_has_meta(const struct rule_look *look)
{
	struct ckpt_buf path;
	DIR *group = NULL;
	int rc;

	ckpt_buf_init(&path);
	rule_beside(look->name, ".", &path);
	rc = ckpt_buf_check(&path);
	if (rc == 0)
		rc = ckpt_dir_open(look->store_fd, path.data, &group);
	ckpt_buf_release(&path);
	if (rc < 0 || !group)
		return rc;
	rc = ask_siblings(group);
	closedir(group);
	return rc;
}

static int judge_dcp(const struct rule_question *q)
{
	int rc = need_file(q, dcp_metadata);

	if (rc == 1)
		rc = need_nested_metadata(q);
	if (rc != 1 || rule_names_has(&q->look->files, lightning_file))
		return rc;
	rc = ckpt_has_suffix(own_name(q->look), ".ckpt") ? 1 : group_has_meta(q->look);
	if (rc < 0)
		return rc;
	return rc == 1 ? wait_for(q, lightning_file) : 1;
}

static bool is_dcp_ranks(const struct rule_look *look)
{
	return !rule_names_has(&look->files, dcp_metadata) &&
	       has_like(&look->files, "__", dcp_metadata);
}

static int judge_dcp_ranks(const struct rule_question *q)
{
	ckpt_buf_add_str(
		q->waits,
		"a commit: each rank wrote metadata of its own, and none tells how many ranks there are");
	return 0;
}

/* --- accelerate -------------------------------------------------------------------------- */

static bool is_accelerate(const struct rule_look *look)
{
	return has_like(&look->dirs, "pytorch_model_fsdp_", "");
}

/* Ranks that wrote into a DCP folder: their files are called __RANK_N.distcp. */
static int count_ranks(const struct rule_look *look, uint64_t *out)
{
	*out = 1;
	for (size_t i = 0; i < look->dirs.count; i++) {
		struct rule_names files;
		struct rule_names dirs;
		int rc = rule_names_of(look->fd, look->dirs.items[i], &files, &dirs);

		if (rc < 0)
			return rc;
		for (size_t k = 0; k < files.count; k++) {
			uint64_t rank;
			const char *rest;

			if (rule_number_behind(files.items[k], "__", &rank, &rest) &&
			    ckpt_has_suffix(rest, dcp_data))
				*out = num_max(*out, rank + 1);
		}
		rule_names_release(&files);
		rule_names_release(&dirs);
	}
	return 0;
}

static int judge_accelerate(const struct rule_question *q)
{
	uint64_t rank_count;
	uint64_t next = 0;
	int rc = need_nested_metadata(q);

	if (rc == 1)
		rc = count_ranks(q->look, &rank_count) < 0 ? -ENOMEM : 1;
	if (rc != 1)
		return rc;
	rc = rule_numbers_missing(&q->look->files, rng_prefix, ".pkl", 0, &next);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (rc == 0 && next >= rank_count)
		return 1;
	ckpt_buf_printf(q->waits, "'%s%" PRIu64 ".pkl'", rng_prefix, next);
	return 0;
}

/* --- safetensors families ------------------------------------------------------------------ */

static bool is_st_shard(const char *name)
{
	return ckpt_has_prefix(name, st_shard) && strstr(name, "-model-") != NULL &&
	       ckpt_has_suffix(name, st_suffix);
}

static bool has_st_shard(const struct rule_names *files)
{
	size_t from = 0;

	for (const char *name; (name = rule_names_first(files, &from, st_shard, st_suffix));) {
		if (is_st_shard(name))
			return true;
	}
	return false;
}

/*
 * A model folder as save_pretrained writes it has a config.json: what follows there (a tokenizer,
 * a model card, next month's version) nobody can tell. Numbered ones are checkpoints.
 */
static bool is_safetensors(const struct rule_look *look)
{
	if (rule_names_has(&look->files, "config.json") && !ckpt_name_is_numbered(own_name(look)))
		return false;
	return rule_names_has(&look->files, index_file) || has_st_shard(&look->files) ||
	       rule_names_has(&look->dirs, st_sharded_dir);
}

struct weights {
	const struct rule_question *q;
	char *missing; /* heap; NULL: none yet */
};

static int need_weight_file(void *ctx, const char *fqn, const struct ckpt_json *value)
{
	struct weights *weights = ctx;
	const char *file = ckpt_json_kind(value) == CKPT_JSON_STRING ? ckpt_json_string(value) : "";

	(void)fqn;
	if (*file != '\0' && rule_names_has(&weights->q->look->files, file))
		return 0;
	weights->missing = strdup(file);
	return weights->missing ? 1 : -ENOMEM;
}

/* 1 every file that the index names is there. */
static int need_weights(const struct rule_question *q, const struct ckpt_json *index)
{
	const struct ckpt_json *map = NULL;
	struct weights weights = { .q = q };
	int rc;

	if (ckpt_json_kind(index) == CKPT_JSON_OBJECT)
		map = ckpt_json_get(index, "weight_map");
	if (!map || ckpt_json_kind(map) != CKPT_JSON_OBJECT) {
		ckpt_buf_printf(q->waits, "'%s' naming its shards", index_file);
		return 0;
	}
	rc = ckpt_json_each(map, need_weight_file, &weights);
	if (rc == 1)
		wait_for(q, weights.missing);
	free(weights.missing);
	return rc == 0 ? 1 : rc == 1 ? 0 : rc;
}

static int need_index(const struct rule_question *q)
{
	struct ckpt_json *root = NULL;
	struct ckpt_buf text;
	int rc;

	ckpt_buf_init(&text);
	rc = ckpt_io_read_file(q->look->fd, index_file, INDEX_MAX, &text, NULL);
	if (rc == 0)
		rc = ckpt_json_parse(text.data, text.len_bytes, &root, NULL);
	ckpt_buf_release(&text);
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0) {
		ckpt_buf_printf(q->waits, "'%s' naming its shards", index_file);
		return 0;
	}
	rc = need_weights(q, root);
	ckpt_json_free(root);
	return rc;
}

static int judge_safetensors(const struct rule_question *q)
{
	uint64_t missing;
	int rc;

	if (rule_names_has(&q->look->files, index_file))
		return need_index(q);
	if (rule_names_has(&q->look->dirs, st_sharded_dir))
		return wait_for(q, index_file);
	rc = rule_numbers_missing(&q->look->files, st_shard, "-model-", 1, &missing);
	if (rc == 1) {
		ckpt_buf_printf(q->waits, "'%s%05" PRIu64 "-model-...'", st_shard, missing);
		return 0;
	}
	return rc == 0 ? 1 : rc;
}

/* --- transformers ---------------------------------------------------------------------------- */

static bool is_trainer(const struct rule_look *look)
{
	return ckpt_name_is_trainer(own_name(look));
}

static int judge_trainer(const struct rule_question *q)
{
	int rc = need_file(q, trainer_file);

	if (rc == 1)
		rc = need_nested_metadata(q);
	if (rc == 1 && is_dcp(q->look))
		rc = need_file(q, dcp_metadata);
	if (rc == 1 && rule_names_has(&q->look->files, index_file))
		rc = need_index(q);
	return rc;
}

/* --- trackers: Megatron, DeepSpeed ------------------------------------------------------------ */

/* "global_step" and 100 of "global_step100": false where it ends in no number. */
static bool split_number(const char *name, size_t *out_len, uint64_t *out)
{
	size_t len = strlen(name);
	size_t start = len;

	while (start > 0 && name[start - 1] >= '0' && name[start - 1] <= '9')
		start--;
	*out_len = start;
	return start < len && num_parse_u64(name + start, out) == 0;
}

/* Is @word, in a tracker that was written behind everything in the checkpoint, a later one's name? */
static bool names_later(const struct rule_look *look, const char *word, int64_t tracker_ns)
{
	const char *own = own_name(look);
	struct ckpt_calm calm;
	uint64_t own_number;
	uint64_t number;
	size_t own_len;
	size_t len;

	/* Megatron's tracker holds the number alone. */
	if (!split_number(own, &own_len, &own_number) || !split_number(word, &len, &number) ||
	    number <= own_number || (len > 0 && (len != own_len || memcmp(own, word, len) != 0)))
		return false;
	return ckpt_calm_of(look->store_fd, look->stored, &calm) == 0 &&
	       tracker_ns >= calm.newest_ns;
}

static bool names_it(const struct rule_look *look, const char *word)
{
	const char *own = own_name(look);
	uint64_t own_number;
	uint64_t number;
	const char *rest;

	if (strcmp(own, word) == 0)
		return true;
	return rule_number_behind(own, "iter_", &own_number, &rest) && *rest == '\0' &&
	       num_parse_u64(word, &number) == 0 && number == own_number;
}

static int need_tracker(const struct rule_question *q, const char *tracker)
{
	struct ckpt_buf path;
	struct ckpt_buf word;
	int64_t mtime_ns = 0;
	bool good = false;
	int rc;

	ckpt_buf_init(&path);
	ckpt_buf_init(&word);
	rule_beside(q->look->name, tracker, &path);
	rc = ckpt_buf_check(&path);
	if (rc == 0)
		rc = rule_read_tracker(q->look->store_fd, path.data, &word, &mtime_ns);
	if (rc == 0)
		good = names_it(q->look, word.data) || names_later(q->look, word.data, mtime_ns);
	ckpt_buf_release(&word);
	ckpt_buf_release(&path);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (!good)
		ckpt_buf_printf(q->waits, "the tracker '%s' naming it", tracker);
	return good;
}

static bool is_megatron(const struct rule_look *look)
{
	uint64_t number;
	const char *rest;

	return (rule_number_behind(own_name(look), "iter_", &number, &rest) && *rest == '\0') ||
	       (strcmp(own_name(look), "release") == 0 &&
		(rule_names_has(&look->files, megatron_file) ||
		 has_like(&look->dirs, "mp_rank_", "")));
}

/* The old format: each model-parallel rank has a folder with its file. */
static int need_rank_files(const struct rule_question *q)
{
	static const char rank_file[] = "model_optim_rng.pt";
	size_t from = 0;
	const char *dir = rule_names_first(&q->look->dirs, &from, "mp_rank_", "");

	if (!dir)
		return wait_for(q, megatron_file);
	for (; dir; dir = rule_names_first(&q->look->dirs, &from, "mp_rank_", "")) {
		struct rule_names files;
		struct rule_names dirs;
		bool there;
		int rc = rule_names_of(q->look->fd, dir, &files, &dirs);

		if (rc < 0)
			return rc;
		there = rule_names_has(&files, rank_file) || rule_names_has(&files, "model_rng.pt");
		rule_names_release(&files);
		rule_names_release(&dirs);
		if (!there) {
			ckpt_buf_printf(q->waits, "'%s/%s'", dir, rank_file);
			return 0;
		}
	}
	return 1;
}

static int judge_megatron(const struct rule_question *q)
{
	int rc = 1;

	if (is_dcp(q->look))
		rc = need_file(q, dcp_metadata);
	if (rc == 1 && has_like(&q->look->dirs, "mp_rank_", ""))
		rc = need_rank_files(q);
	else if (rc == 1)
		rc = need_file(q, megatron_file);
	return rc == 1 ? need_tracker(q, megatron_tracker) : rc;
}

static bool is_deepspeed_file(const char *name)
{
	return strstr(name, "mp_rank_") != NULL && (ckpt_has_suffix(name, "_model_states.pt") ||
						    ckpt_has_suffix(name, "_optim_states.pt"));
}

static bool is_deepspeed(const struct rule_look *look)
{
	for (size_t i = 0; i < look->files.count; i++) {
		if (is_deepspeed_file(look->files.items[i]))
			return true;
	}
	return ckpt_has_prefix(own_name(look), "global_step");
}

/* The numbers behind @prefix run from 0 without a gap. */
static int need_ranks(const struct rule_question *q, const char *prefix, const char *suffix)
{
	uint64_t missing;
	int rc = rule_numbers_missing(&q->look->files, prefix, suffix, 0, &missing);

	if (rc != 1)
		return rc == -ENOENT || rc == 0 ? 1 : rc;
	ckpt_buf_printf(q->waits, "the files of '%s%" PRIu64 "'", prefix, missing);
	return 0;
}

static int judge_deepspeed(const struct rule_question *q)
{
	int rc = 1;

	if (!has_like(&q->look->files, "", "_model_states.pt")) {
		ckpt_buf_add_str(q->waits, "'mp_rank_00_model_states.pt'");
		return 0;
	}
	rc = need_ranks(q, "mp_rank_", "_model_states");
	if (rc == 1)
		rc = need_ranks(q, "zero_pp_rank_", "_mp_rank_");
	if (rc == 1)
		rc = need_ranks(q, "bf16_zero_pp_rank_", "_mp_rank_");
	return rc == 1 ? need_tracker(q, deepspeed_tracker) : rc;
}

/* --- Orbax --------------------------------------------------------------------------------- */

static bool is_orbax(const struct rule_look *look)
{
	return rule_names_has(&look->files, orbax_file);
}

static int judge_orbax(const struct rule_question *q)
{
	for (size_t i = 0; i < q->look->dirs.count; i++) {
		if (ckpt_path_component_is_temporary(q->look->dirs.items[i])) {
			ckpt_buf_printf(q->waits, "the rename of '%s'", q->look->dirs.items[i]);
			return 0;
		}
	}
	return need_file(q, orbax_success);
}

/* --- the table -------------------------------------------------------------------------------- */

/* In the order in which they are asked. */
const struct rule rule_table[] = {
	{ "orbax", "'commit_success.txt' beside '_CHECKPOINT_METADATA'", is_orbax, judge_orbax },
	{ "megatron",
	  "'metadata.json' (old format: the file of each 'mp_rank_*'), and 'latest_checkpointed_iteration.txt' naming it",
	  is_megatron, judge_megatron },
	{ "transformers", "'trainer_state.json', and '.metadata' in each folder with '*.distcp'",
	  is_trainer, judge_trainer },
	{ "deepspeed", "the files of all ranks, and 'latest' naming it", is_deepspeed,
	  judge_deepspeed },
	{ "accelerate",
	  "'.metadata' in each folder with '*.distcp', and 'random_states_N.pkl' of each rank",
	  is_accelerate, judge_accelerate },
	{ "dcp-ranks", "nothing: '__N.metadata' is of one rank only", is_dcp_ranks,
	  judge_dcp_ranks },
	{ "dcp", "'.metadata', and 'meta.pt' where Lightning writes one", is_dcp, judge_dcp },
	{ "safetensors",
	  "'model.safetensors.index.json' and all shards it names; without one, shards without a gap",
	  is_safetensors, judge_safetensors },
};
const size_t rule_count = sizeof(rule_table) / sizeof(rule_table[0]);

/* --- names ------------------------------------------------------------------------------------- */

bool rule_is_tracker(const char *base)
{
	return strcmp(base, megatron_tracker) == 0 || strcmp(base, deepspeed_tracker) == 0;
}

bool rule_is_proof(const char *base)
{
	static const char *const names[] = {
		dcp_metadata,  lightning_file, trainer_file,	     index_file,     megatron_file,
		orbax_success, orbax_file,     "model_optim_rng.pt", "model_rng.pt",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(base, names[i]) == 0)
			return true;
	}
	return (ckpt_has_prefix(base, rng_prefix) && ckpt_has_suffix(base, ".pkl")) ||
	       is_deepspeed_file(base) || is_st_shard(base) ||
	       (ckpt_has_prefix(base, "model-") && ckpt_has_suffix(base, st_suffix));
}
