/* gesture.c - see gesture.h. */
#include "gesture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "change.h"
#include "group.h"
#include "resave.h"
#include "summing.h"

/* One commit through the mount. */
struct run {
	struct fs *fs;
	const struct gesture *gesture;
	uint64_t started_ms;
	_Atomic uint64_t read_bytes; /* hashed now: nobody had summed them */
};

static bool is_given_up(void *ctx)
{
	const struct run *run = ctx;

	return run->fs->ending ||
	       (run->gesture->given_up && run->gesture->given_up(run->gesture->ctx));
}

static int on_progress(void *ctx, uint64_t bytes_done, uint64_t bytes_total)
{
	struct run *run = ctx;
	uint64_t most = atomic_load(&run->read_bytes);

	(void)bytes_total;
	/* Several threads report, in no order. */
	while (bytes_done > most &&
	       !atomic_compare_exchange_weak(&run->read_bytes, &most, bytes_done))
		;
	return is_given_up(run) ? -ECANCELED : 0;
}

static void log_done(const struct run *run, const struct ckpt_commit_result *result)
{
	char size[16];
	char read[16];

	ckpt_log("committed '%s' as '%s'%s%s: %" PRIu64 " shards, %s, in %" PRIu64
		 " ms; %s had to be summed for it",
		 run->gesture->name, result->name, run->gesture->rule ? ", complete by rule " : "",
		 run->gesture->rule ? run->gesture->rule : "", result->shard_count,
		 num_format_size(result->size_bytes, size, sizeof(size)),
		 ckpt_clock_mono_ms() - run->started_ms,
		 num_format_size(atomic_load(&run->read_bytes), read, sizeof(read)));
}

static int settle(struct run *run, struct ckpt_err *err)
{
	const char *name = run->gesture->name;
	int rc = summing_settle(run->fs, name, is_given_up, run);

	if (rc == -ECANCELED)
		return ckpt_err_set(err, rc, "the commit of '%s' was given up; it stays open",
				    name);
	if (rc == -EIO)
		return ckpt_err_set(
			err, rc,
			"cannot commit '%s': a file in it could not be made durable (the log of the mount "
			"names it); write that file again, and commit again",
			name);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot commit '%s'", name);
	return 0;
}

/* What every table and the kernel have to know of it. */
static void spread(struct fs *fs, const char *old_name, const char *new_name)
{
	summing_committed(fs, old_name);
	groups_expire(fs->groups);
	/* Who is in the folder stays in it. */
	gesture_relocate(fs, new_name);
	resave_ended(fs, new_name);
	gesture_forget_name(fs, old_name);
	gesture_forget_name(fs, new_name);
}

static int commit_frozen(struct run *run, struct ckpt_commit_result *out, struct ckpt_err *err)
{
	const struct gesture *gesture = run->gesture;
	const struct ckpt_commit_options options = {
		.has_step = gesture->has_step,
		.step = gesture->step,
		.meta = gesture->meta,
		.final_name = gesture->final_name,
		.replace = gesture->replace || resave_is_stored(run->fs, gesture->name),
		.skip_crc = gesture->skip_crc,
		.progress = on_progress,
		.progress_ctx = run,
	};
	int rc = settle(run, err);

	if (rc == 0)
		rc = ckpt_commit(run->fs->store, gesture->name, &options, out, err);
	if (rc == 0)
		spread(run->fs, gesture->name, out->name);
	return rc;
}

int gesture_commit(struct fs *fs, const struct gesture *gesture, struct ckpt_commit_result *out,
		   struct ckpt_err *err)
{
	struct run run = { .fs = fs, .gesture = gesture, .started_ms = ckpt_clock_mono_ms() };
	struct ckpt_err why = CKPT_ERR_INIT;
	int rc = change_freeze(fs, gesture->name);

	if (rc == -EBUSY)
		rc = ckpt_err_set(&why, rc,
				  "'%s', or a folder in it, is being committed or renamed already",
				  gesture->name);
	else if (rc < 0)
		rc = ckpt_err_sys(&why, rc, "cannot commit '%s'", gesture->name);
	if (rc < 0)
		goto out;
	rc = commit_frozen(&run, out, &why);
	change_thaw(fs, gesture->name);
	if (rc == 0)
		log_done(&run, out);
out:
	/*
	 * A caller that was killed knows; for all others the log says it, too: rename(2) has no
	 * words.
	 */
	if (rc < 0 && rc != -ECANCELED && !gesture->rule)
		fs_log_once("%s", why.msg);
	return rc < 0 ? ckpt_err_set(err, rc, "%s", why.msg) : 0;
}
