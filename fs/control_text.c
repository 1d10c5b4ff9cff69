/* control_text.c - see control_text.h. */
#include "control_text.h"

#include "removal.h"
#include "store/store.h"
#include "summing.h"

/* Thirty lines, as wide as a terminal. */
const char control_readme[] =
	"This is a store of checkpoints, mounted by ckptfs.\n"
	"\n"
	"A checkpoint is a folder, a shard is a file in it. Use them with the tools you\n"
	"have: ls, cp, cat, tar, rsync, torch.load, safetensors, numpy.memmap.\n"
	"A committed checkpoint is complete, never changes, and every shard of it is\n"
	"checked against its xxHash sums before it is read. Damage answers EIO; the log of\n"
	"the mount then names the shard, the block and the command to run. It can only be\n"
	"renamed or removed as a whole: rm -r moves it into the trash. Everything else here\n"
	"(open checkpoints, groups, loose files) is the plain folder below, passed through.\n"
	"An open checkpoint is committed by mv NAME.tmp NAME, or by ckptfs commit NAME.\n"
	"\n"
	"Every folder has a control folder .ckptfs. It answers by name and is never\n"
	"listed, so that cp -r, tar and crawlers see shards only:\n"
	"\n"
	"  CHECKPOINT/.ckptfs/manifest.jsonl   the truth about the checkpoint\n"
	"  CHECKPOINT/.ckptfs/XXH128SUMS       in the checkpoint: xxhsum -c .ckptfs/XXH128SUMS\n"
	"  CHECKPOINT/.ckptfs/hf/              what from_pretrained() takes as a model folder\n"
	"  CHECKPOINT/.ckptfs/safetensors/     all.safetensors, and a file a group of tensors\n"
	"  CHECKPOINT/.ckptfs/tensors/         each tensor, whole, for numpy.load\n"
	"  GROUP/.ckptfs/latest                symlink to what was committed there last\n"
	"  .ckptfs/store.json                  which store this is\n"
	"  .ckptfs/stats                       counters, in the text format of Prometheus\n"
	"  .ckptfs/status                      saves and removals that run now, as JSON\n"
	"\n"
	"What is known of a file is in its extended attributes (getfattr -d FILE):\n"
	"user.ckptfs.state, .step, .world_size and .id of a checkpoint; .xxh128, .rank,\n"
	".fqn, .dtype, .shape and .chunk of a shard.\n"
	"\n"
	"  ckptfs ls PATH        the checkpoints of a group, the shards of a checkpoint\n"
	"  ckptfs show PATH      what a checkpoint holds\n"
	"  ckptfs verify PATH    read all of it and compare every sum\n"
	"\n"
	"More: man mount.ckptfs, man ckptfs, man ckptfs-format.\n";

const char control_readme_bare[] =
	"This is a folder that is no store of checkpoints, mounted by ckptfs to be looked at.\n"
	"\n"
	"Everything here is the plain folder below, read-only; nothing is ever written into\n"
	"it. What was never committed has no sums, so it cannot be verified: a damaged file\n"
	"is shown as it is. A checkpoint that lies here with its manifest is verified.\n"
	"\n"
	"A folder that holds tensors (safetensors, PyTorch DCP, .pt, .npz, .npy) has a control\n"
	"folder .ckptfs with other views of them, which take no space. It answers by name and\n"
	"is never listed, so that cp -r, tar and crawlers see stored files only:\n"
	"\n"
	"  FOLDER/.ckptfs/hf/                  what from_pretrained() takes as a model folder\n"
	"  FOLDER/.ckptfs/safetensors/         all.safetensors, and a file a group of tensors\n"
	"  FOLDER/.ckptfs/tensors/             each tensor, for numpy.load\n"
	"  .ckptfs/stats                       counters, in the text format of Prometheus\n"
	"  .ckptfs/status                      what runs now, as JSON\n"
	"\n"
	"  ckptfs show PATH      what a checkpoint holds\n"
	"  ckptfs ls PATH        its files; PATH/.ckptfs: its views\n"
	"  ckptfs init DIR       make a store of the folder: then checkpoints can be committed,\n"
	"                        verified, removed and brought back\n"
	"\n"
	"More: man mount.ckptfs, man ckptfs, man ckptfs-format.\n";

/* --- status ------------------------------------------------------------------------------- */

static bool is_begun(const struct ckpt_buf *out)
{
	return out->len_bytes > 0 && out->data[out->len_bytes - 1] != '[';
}

static void add_line(struct ckpt_buf *out, const char *name, const char *doing)
{
	ckpt_buf_add_str(out, is_begun(out) ? ",\n" : "\n");
	ckpt_buf_add_str(out, "{\"name\":");
	ckpt_buf_add_json_str(out, name);
	ckpt_buf_printf(out, ",\"doing\":\"%s\"", doing);
}

static void add_save(void *ctx, const struct summing_tally *tally)
{
	const char *doing = tally->pending_count > 0 ? "summing" : "idle";

	add_line(ctx, tally->name, tally->open_count > 0 ? "writing" : doing);
	ckpt_buf_printf(ctx, ",\"open_files\":%zu,\"pending_files\":%zu}", tally->open_count,
			tally->pending_count);
}

static void add_removal(void *ctx, const char *name)
{
	add_line(ctx, name, "removing");
	ckpt_buf_add_char(ctx, '}');
}

/* Of any process and host: it goes past this mount, or, by its path, through it. */
static void add_running(void *ctx, const struct ckpt_running *running)
{
	const struct ckpt_save_progress *progress = running->progress;

	add_line(ctx, running->name, "saving");
	ckpt_buf_add_str(ctx, ",\"host\":");
	ckpt_buf_add_json_str(ctx, running->host);
	ckpt_buf_printf(ctx, ",\"pid\":%lld", (long long)running->pid);
	if (progress)
		ckpt_buf_printf(
			ctx,
			",\"ranks\":%llu,\"done_bytes\":%llu,\"total_bytes\":%llu,\"slowest_rank\":%llu,\"since\":\"%s\"",
			(unsigned long long)progress->rank_count,
			(unsigned long long)progress->bytes_done,
			(unsigned long long)progress->bytes_total,
			(unsigned long long)progress->slowest_rank, progress->since);
	ckpt_buf_add_char(ctx, '}');
}

void control_status(struct fs *fs, struct ckpt_buf *out)
{
	ckpt_buf_add_char(out, '[');
	summing_each(fs, add_save, out);
	removal_each(fs, add_removal, out);
	/* What cannot be read is not shown: the rest is worth as much without it. */
	ckpt_ignore(ckpt_running_each(fs->store, add_running, out));
	ckpt_buf_add_str(out, is_begun(out) ? "\n]\n" : "]\n");
}
