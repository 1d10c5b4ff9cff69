/*
 * ioctl.c - what a command asks of the daemon, base/control.h: it works on the
 * daemon's own store handle, which reaches the store also where the mount
 * covers it. Runs in a worker: a commit takes its time, and the kernel must not
 * be told to forget names by a thread that it waits for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/control.h"
#include "base/io.h"
#include "base/log.h"
#include "base/path.h"
#include "change.h"
#include "gesture.h"
#include "group.h"
#include "ops.h"
#include "removal.h"
#include "request.h"
#include "resave.h"
#include "summing.h"

static void forget_state(struct fs *fs, const char *path)
{
	groups_expire(fs->groups);
	gesture_forget_now(fs, path);
}

/* --- the requests ------------------------------------------------------------------------- */

static bool given_up(void *ctx)
{
	return request_given_up(ctx);
}

static int copy_name(char *to, size_t room, const char *from)
{
	size_t len = strlen(from);

	if (len >= room)
		return -ENAMETOOLONG;
	memcpy(to, from, len + 1);
	return 0;
}

/* The stored name of what the mount shows under @name: another one while it is written again. */
static int stored_name(struct fs *fs, const char *name, struct ckpt_buf *out)
{
	int rc = resave_stored(fs, name, out);

	if (rc == -ENOENT) {
		ckpt_buf_add_str(out, name);
		rc = ckpt_buf_check(out);
	}
	return rc;
}

static int commit(struct request *rq, const char *stored, struct ckpt_err *err)
{
	struct ckpt_control *control = rq->control;
	const struct gesture gesture = {
		.name = stored,
		.final_name = strcmp(stored, control->name) == 0 ? NULL : control->name,
		.replace = (control->flags & CKPT_CONTROL_REPLACE) != 0,
		.skip_crc = (control->flags & CKPT_CONTROL_NO_CRC) != 0,
		.has_step = control->has_step != 0,
		.step = control->step,
		.meta = control->meta[0] != '\0' ? control->meta : NULL,
		.given_up = given_up,
		.ctx = rq,
	};
	struct ckpt_commit_result result = { 0 };
	int rc = gesture_commit(rq->fs, &gesture, &result, err);

	/* Who asked looks at once. */
	forget_state(rq->fs, control->name);
	if (rc < 0)
		return rc;
	forget_state(rq->fs, result.name);
	control->seq = result.seq;
	control->shard_count = result.shard_count;
	control->size_bytes = result.size_bytes;
	memcpy(control->id, result.id, sizeof(result.id));
	rc = copy_name(control->name, sizeof(control->name), result.name);
	free(result.name);
	return rc;
}

static int do_commit(struct request *rq, struct ckpt_err *err)
{
	struct ckpt_buf stored;
	int rc;

	ckpt_buf_init(&stored);
	rc = stored_name(rq->fs, rq->control->name, &stored);
	if (rc == 0)
		rc = commit(rq, stored.data, err);
	else
		rc = ckpt_err_sys(err, rc, "cannot commit '%s'", rq->control->name);
	ckpt_buf_release(&stored);
	return rc;
}

static int settle(struct request *rq, const char *stored, struct ckpt_err *err)
{
	int rc = summing_settle(rq->fs, stored, given_up, rq);

	if (rc == -EIO)
		return ckpt_err_set(
			err, rc,
			"a file in '%s' could not be made durable (the log of the mount names it); write that "
			"file again",
			stored);
	return rc < 0 ? ckpt_err_sys(err, rc, "cannot sum '%s'", stored) : 0;
}

static int do_settle(struct request *rq, struct ckpt_err *err)
{
	struct ckpt_buf stored;
	int rc;

	ckpt_buf_init(&stored);
	rc = stored_name(rq->fs, rq->control->name, &stored);
	rc = rc == 0 ? settle(rq, stored.data, err)
		     : ckpt_err_sys(err, rc, "cannot sum '%s'", rq->control->name);
	ckpt_buf_release(&stored);
	return rc;
}

/* What this mount is about to write down there is not waited for: it goes with the rest. */
static int abort_stored(struct request *rq, const char *stored, struct ckpt_err *err)
{
	struct fs *fs = rq->fs;
	int rc = change_freeze(fs, stored);

	if (rc == -EBUSY)
		return ckpt_err_set(
			err, rc, "'%s', or a folder in it, is being committed or renamed", stored);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot drop '%s'", stored);
	rc = summing_settle(fs, stored, given_up, rq);
	if (rc == 0 || rc == -EIO)
		rc = ckpt_abort(fs->store, stored, err);
	else
		rc = ckpt_err_sys(err, rc, "cannot drop '%s'", stored);
	change_thaw(fs, stored);
	if (rc == 0) {
		summing_committed(fs, stored);
		resave_ended(fs, rq->control->name);
	}
	return rc;
}

static int do_abort(struct request *rq, struct ckpt_err *err)
{
	struct ckpt_buf stored;
	int rc;

	ckpt_buf_init(&stored);
	rc = stored_name(rq->fs, rq->control->name, &stored);
	rc = rc == 0 ? abort_stored(rq, stored.data, err)
		     : ckpt_err_sys(err, rc, "cannot drop '%s'", rq->control->name);
	ckpt_buf_release(&stored);
	forget_state(rq->fs, rq->control->name);
	return rc;
}

static int do_refresh(struct request *rq, struct ckpt_err *err)
{
	struct ckpt_db_checkpoint row;
	int rc = ckpt_store_lookup(rq->fs->store, rq->control->name, &row, err);

	if (rc == 0)
		ckpt_db_checkpoint_release(&row);
	forget_state(rq->fs, rq->control->name);
	/* What is not committed (any more) is refreshed by being forgotten. */
	return rc == -ENOENT ? 0 : rc;
}

static void log_problem(void *ctx, const struct ckpt_err *problem)
{
	(void)ctx;
	ckpt_log("%s", problem->msg);
}

static int do_reindex(struct request *rq, struct ckpt_err *err)
{
	int rc = ckpt_store_reindex(rq->fs->store, rq->control->name, log_problem, NULL,
				    &rq->control->shard_count, err);

	groups_expire(rq->fs->groups);
	return rc;
}

static int do_remove(struct request *rq, struct ckpt_err *err)
{
	int rc = ckpt_trash_remove(rq->fs->store, rq->control->name, NULL, err);

	trash_room_changed(removals_room(rq->fs->removals));
	forget_state(rq->fs, rq->control->name);
	return rc;
}

static int do_restore(struct request *rq, struct ckpt_err *err)
{
	struct ckpt_control *control = rq->control;
	struct ckpt_buf room;
	struct ckpt_buf name;
	int rc;

	ckpt_buf_init(&room);
	ckpt_buf_init(&name);
	rc = ckpt_trash_find(rq->fs->store, control->name, &room, err);
	if (rc == 0)
		rc = ckpt_trash_restore(rq->fs->store, room.data, &name, err);
	if (rc == 0) {
		trash_room_changed(removals_room(rq->fs->removals));
		forget_state(rq->fs, name.data);
		rc = copy_name(control->name, sizeof(control->name), name.data);
	}
	ckpt_buf_release(&name);
	ckpt_buf_release(&room);
	return rc;
}

static int do_pin(struct request *rq, struct ckpt_err *err)
{
	struct ckpt_control *control = rq->control;
	bool was = false;
	int rc = control->op == CKPT_CONTROL_PIN
			 ? ckpt_pin(rq->fs->store, control->name, &was, err)
			 : ckpt_unpin(rq->fs->store, control->name, &was, err);

	control->was = was;
	return rc;
}

static int do_purge(struct request *rq, struct ckpt_err *err)
{
	struct ckpt_control *control = rq->control;
	const struct ckpt_purge_options options = {
		.max_age_secs = control->step,
		.want_bytes = control->size_bytes,
		.below = control->name,
		.last_too = (control->flags & CKPT_CONTROL_LAST_TOO) != 0,
		.dry_run = (control->flags & CKPT_CONTROL_DRY_RUN) != 0,
	};
	struct ckpt_purge_result result = { 0 };
	const struct ckpt_leftovers_options leftovers = {
		.below = control->name,
		.max_age_secs = CKPT_TRASH_MAX_AGE_SECS,
		.dry_run = options.dry_run,
	};
	uint64_t leftover_count = 0;
	int rc = ckpt_trash_purge(rq->fs->store, &options, &result, err);

	/* What the dead have left takes next to no room: the next one tries again. */
	ckpt_ignore(ckpt_leftovers_sweep(rq->fs->store, &leftovers, &leftover_count, NULL));
	trash_room_changed(removals_room(rq->fs->removals));
	control->shard_count = result.checkpoint_count;
	control->size_bytes = result.freed_bytes;
	control->seq = result.kept_count;
	return rc;
}

static int carry_out(struct request *rq, struct ckpt_err *err)
{
	switch (rq->control->op) {
	case CKPT_CONTROL_COMMIT:
		return do_commit(rq, err);
	case CKPT_CONTROL_ABORT:
		return do_abort(rq, err);
	case CKPT_CONTROL_REFRESH:
		return do_refresh(rq, err);
	case CKPT_CONTROL_REINDEX:
		return do_reindex(rq, err);
	case CKPT_CONTROL_SETTLE:
		return do_settle(rq, err);
	case CKPT_CONTROL_REMOVE:
		return do_remove(rq, err);
	case CKPT_CONTROL_RESTORE:
		return do_restore(rq, err);
	case CKPT_CONTROL_PIN:
	case CKPT_CONTROL_UNPIN:
		return do_pin(rq, err);
	case CKPT_CONTROL_PURGE:
		return do_purge(rq, err);
	default:
		return ckpt_err_set(err, -EINVAL,
				    "the mount does not know request %u; its daemon is older than "
				    "this command: unmount and mount again",
				    rq->control->op);
	}
}

static int run_ioctl(struct request *rq)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_control *control = rq->control;

	control->rc = carry_out(rq, &err);
	/* Both are arrays of CKPT_ERR_MAX bytes. */
	memcpy(control->msg, err.msg, sizeof(control->msg));
	if (control->rc >= 0)
		control->msg[0] = '\0';
	if (request_claim(rq))
		ckpt_ignore(fuse_reply_ioctl(rq->req, 0, control, sizeof(*control)));
	return 0;
}

/* --- the operation ------------------------------------------------------------------------ */

/* Root, the store's owner and the daemon's user may. */
static bool may_control(const struct fs *fs, uid_t uid)
{
	return uid == 0 || uid == fs->owner_uid || uid == geteuid();
}

/* The argument with its strings ended; NULL: it is none, *@out_rc says why. */
static struct ckpt_control *take_argument(const void *in, int *out_rc)
{
	struct ckpt_control *control = malloc(sizeof(*control));

	*out_rc = -ENOMEM;
	if (!control)
		return NULL;
	memcpy(control, in, sizeof(*control));
	if (control->version == CKPT_CONTROL_VERSION &&
	    memchr(control->name, '\0', sizeof(control->name)) &&
	    memchr(control->meta, '\0', sizeof(control->meta)))
		return control;
	*out_rc = -EINVAL;
	free(control);
	return NULL;
}

/* NOLINTNEXTLINE(readability-function-size): libfuse sets the parameters */
void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
	      struct fuse_file_info *fi, unsigned int flags, const void *in, size_t in_bytes,
	      size_t out_bytes)
{
	struct request rq;
	int rc = 0;

	(void)arg;
	(void)fi;
	if (cmd != CKPT_IOC_CONTROL || ino != FUSE_ROOT_ID || (flags & FUSE_IOCTL_COMPAT) ||
	    in_bytes != sizeof(struct ckpt_control) || out_bytes != sizeof(struct ckpt_control))
		rc = -ENOTTY;
	else if (!may_control(fs_of(req), fuse_req_ctx(req)->uid))
		rc = -EPERM;
	request_init(&rq, req, ino, run_ioctl);
	if (rc == 0)
		rq.control = take_argument(in, &rc);
	if (!rq.control) {
		ckpt_ignore(fuse_reply_err(req, -rc));
		return;
	}
	rq.eintr_ok = true;
	request_submit(&rq, LANE_COMMITS);
}
