/* session.c - see session.h. */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "autocommit.h"
#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/num.h"
#include "block_cache.h"
#include "buffers.h"
#include "change.h"
#include "fs.h"
#include "gesture.h"
#include "group.h"
#include "inode.h"
#include "open_file.h"
#include "ops.h"
#include "passthrough.h"
#include "removal.h"
#include "request.h"
#include "resave.h"
#include "shard_check.h"
#include "slots.h"
#include "summing.h"
#include "verified.h"
#include "view_trees.h"

/* Readers wait for disks as much as for processors; a few more than processors keep both busy. */
#define READ_THREADS_MIN 4U
#define READ_THREADS_MAX 32U
/* fsyncs of many ranks at a time: a journal takes them together. */
#define WRITE_THREADS 16U
/* Index loads side by side. */
#define TASK_THREADS 4U
/* A commit may wait five seconds for a writer; those behind it wait, too. */
#define COMMIT_THREADS 8U
/* Threads of libfuse: they answer from memory and the index, so a few are many. */
#define FUSE_THREADS 10U
/* Pages that the kernel reads ahead: its own 128 KiB make eight requests of one block. */
#define READAHEAD_BYTES (1024U * 1024U)
/* Read-ahead requests under way at a time; the kernel's own 12 starve a machine of many readers. */
#define BACKGROUND_MAX 32U

/* One session a process; libfuse's log function and op_init have no other way to reach it. */
static struct {
	struct start_pipe *pipe;
	char mount_error[CKPT_ERR_MAX]; /* what libfuse said last, while mounting */
	bool serving;
} session;

/* --- what libfuse says -------------------------------------------------------------------- */

static void on_fuse_log(enum fuse_log_level level, const char *fmt, va_list args)
{
	char text[CKPT_ERR_MAX];
	size_t len;

	if (level > FUSE_LOG_WARNING || vsnprintf(text, sizeof(text), fmt, args) < 0)
		return;
	len = strlen(text);
	if (len > 0 && text[len - 1] == '\n')
		text[len - 1] = '\0';
	if (session.serving)
		fs_log_once("%s", text);
	else
		memcpy(session.mount_error, text, sizeof(text));
}

/* --- what is agreed with the kernel ------------------------------------------------------- */

static void want(struct fuse_conn_info *conn, unsigned int flag, bool on)
{
	if (on)
		conn->want |= conn->capable & flag;
	else
		conn->want &= ~flag;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	/*
	 * Names with their attributes in one request: `ls -l` and find gain more than plain `ls`
	 * loses.
	 */
	want(conn, FUSE_CAP_READDIRPLUS, true);
	want(conn, FUSE_CAP_READDIRPLUS_AUTO, false);
	/* Replies come out of memory: pipes on the way only cost. */
	want(conn, FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE, false);
	/*
	 * A plain file that another process changes: its pages go when its mtime or size is seen
	 * to differ.
	 */
	want(conn, FUSE_CAP_AUTO_INVAL_DATA, true);
	/* Commands talk to the daemon by ioctl(2) on the top folder. */
	want(conn, FUSE_CAP_IOCTL_DIR, true);
	/* Locks stay with the kernel. */
	want(conn, FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS, false);
	conn->max_readahead = READAHEAD_BYTES;
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
	passthrough_agree(conn);
	start_ready(session.pipe);
}

static const struct fuse_lowlevel_ops operations = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.symlink = op_symlink,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.setattr = op_setattr,
	.create = op_create,
	.open = op_open,
	.read = op_read,
	.write_buf = op_write_buf,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
	.release = op_release,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.fsyncdir = op_fsyncdir,
	.releasedir = op_releasedir,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.removexattr = op_removexattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.ioctl = op_ioctl,
};

/* "fsname=STORE", as /proc/mounts shows it; a comma in it is escaped. */
static int add_source(const char *store_path, char **list)
{
	struct ckpt_buf source;
	int rc;

	ckpt_buf_init(&source);
	ckpt_buf_printf(&source, "fsname=%s", store_path);
	rc = ckpt_buf_check(&source);
	if (rc == 0 && fuse_opt_add_opt_escaped(list, source.data) < 0)
		rc = -ENOMEM;
	ckpt_buf_release(&source);
	return rc;
}

/* The options of the mount itself. With "ro" the kernel refuses every change by itself. */
static int add_options(const struct mount_options *options, char **list)
{
	if (fuse_opt_add_opt(list, "nosuid,nodev,default_permissions,subtype=ckptfs") < 0 ||
	    ((options->read_only || options->bare) && fuse_opt_add_opt(list, "ro") < 0) ||
	    (options->allow_other && fuse_opt_add_opt(list, "allow_other") < 0) ||
	    (options->noexec && fuse_opt_add_opt(list, "noexec") < 0))
		return -ENOMEM;
	return add_source(options->store_path, list);
}

static int session_new(struct fs *fs, struct ckpt_err *err)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char *list = NULL;
	int rc = add_options(fs->options, &list);

	if (rc == 0 && (fuse_opt_add_arg(&args, "mount.ckptfs") < 0 ||
			fuse_opt_add_arg(&args, "-o") < 0 || fuse_opt_add_arg(&args, list) < 0))
		rc = -ENOMEM;
	if (rc == 0)
		fs->session = fuse_session_new(&args, &operations, sizeof(operations), fs);
	fuse_opt_free_args(&args);
	free(list);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot mount '%s'", fs->options->store_path);
	if (!fs->session)
		return ckpt_err_set(err, -EINVAL,
				    "cannot mount '%s': libfuse refuses its options: %s",
				    fs->options->store_path, session.mount_error);
	return 0;
}

/*
 * The kernel's own read-ahead is 128 KiB; only root may raise it. A mount without is slower, not
 * wrong.
 */
static void raise_readahead(const char *mount_point)
{
	char path[96];
	char text[16];
	struct statx st;
	int fd;

	/* DONT_SYNC: the kernel answers by itself, for nobody serves the mount yet. */
	if (statx(AT_FDCWD, mount_point, AT_STATX_DONT_SYNC, 0, &st) < 0 ||
	    snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", st.stx_dev_major,
		     st.stx_dev_minor) < 0 ||
	    snprintf(text, sizeof(text), "%u", READAHEAD_BYTES / 1024) < 0)
		return;
	fd = ckpt_io_openat(AT_FDCWD, path, O_WRONLY, 0);
	if (fd < 0)
		return;
	ckpt_ignore(ckpt_io_pwrite_full(fd, text, strlen(text), 0));
	close(fd);
}

/* The kernel has agreed on how the mount is served. */
static void log_start(void *ctx)
{
	const struct fs *fs = ctx;
	const char *reason = "";
	const char *place = ckpt_store_index_place(fs->store, &reason);

	if (passthrough_active())
		ckpt_log("mounted '%s' on '%s'; passthrough is active", fs->options->store_path,
			 fs->options->mount_point);
	else
		ckpt_log(
			"mounted '%s' on '%s'; passthrough is off (%s): files are read through the daemon",
			fs->options->store_path, fs->options->mount_point, passthrough_reason());
	if (fs->options->bare)
		ckpt_log(
			"'%s' is no store: it is shown read-only, and nothing that was never committed can be verified",
			fs->options->store_path);
	if (reason[0] != '\0')
		ckpt_log("the index of '%s' is '%s': %s", fs->options->store_path, place, reason);
}

static int session_mount(struct fs *fs, struct ckpt_err *err)
{
	const char *at = fs->options->mount_point;

	if (fuse_session_mount(fs->session, at) < 0)
		return ckpt_err_set(err, -EIO, "cannot mount on '%s': %s", at,
				    session.mount_error[0] != '\0'
					    ? session.mount_error
					    : "fusermount3 refuses (its message stands above)");
	raise_readahead(at);
	return passthrough_attach(fs->session, !fs->options->passthrough_off,
				  ckpt_store_fd(fs->store), log_start, fs, err);
}

/* --- the parts ---------------------------------------------------------------------------- */

/* A file of a checkpoint that is open here holds a descriptor. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	/* Allowed up to the hard limit; else there are fewer. */
	ckpt_ignore(setrlimit(RLIMIT_NOFILE, &limit));
}

static int new_tables(struct fs *fs, const struct stat *top, struct ckpt_err *err)
{
	fs->inodes = inode_table_new(top);
	fs->slots = slots_new();
	fs->groups = groups_new();
	fs->open_files = open_files_new();
	fs->blocks = block_cache_new();
	fs->verified = verified_new(fs->options->verify_ttl_ms);
	fs->changes = changes_new();
	fs->resaves = resaves_new();
	fs->views = views_new();
	if (!fs->inodes || !fs->slots || !fs->groups || !fs->open_files || !fs->blocks ||
	    !fs->verified || !fs->changes || !fs->resaves || !fs->views)
		return ckpt_err_sys(err, -ENOMEM, "cannot mount '%s'", fs->options->store_path);
	return 0;
}

static int new_pools(struct fs *fs, struct ckpt_err *err)
{
	uint64_t threads =
		num_min(num_max(2 * ckpt_cpu_count(), READ_THREADS_MIN), READ_THREADS_MAX);
	/*
	 * No bound on their queues: a request waits in its application, and the kernel bounds what
	 * waits in none.
	 */
	int rc = ckpt_pool_new(threads, 0, &fs->reads, err);

	if (rc == 0)
		rc = ckpt_pool_new(WRITE_THREADS, 0, &fs->writes, err);
	if (rc == 0)
		rc = ckpt_pool_new(TASK_THREADS, 0, &fs->tasks, err);
	if (rc == 0)
		rc = ckpt_pool_new(COMMIT_THREADS, 0, &fs->commits, err);
	if (rc == 0)
		rc = shard_checks_new(fs, ckpt_cpu_count(), &fs->checks, err);
	if (rc == 0)
		rc = summing_new(fs, &fs->summing, err);
	if (rc == 0)
		rc = removals_new(fs, &fs->removals, err);
	if (rc == 0)
		rc = autocommit_new(fs, &fs->autocommit, err);
	return rc;
}

static int parts_open(struct fs *fs, int store_fd, struct ckpt_err *err)
{
	struct stat top;
	int rc = ckpt_io_fstat(store_fd, &top);

	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot open the store '%s'", fs->options->store_path);
	fs->dev = top.st_dev;
	fs->owner_uid = top.st_uid;
	fs->owner_gid = top.st_gid;
	fs->is_root = geteuid() == 0;
	/* CLOCK_REALTIME is always there. */
	ckpt_ignore(clock_gettime(CLOCK_REALTIME, &fs->started));
	rc = ckpt_store_open_fd(store_fd, fs->options->store_path,
				fs->options->bare ? CKPT_STORE_BARE : 0, fs->options->index_path,
				&fs->store, err);
	if (rc == 0)
		rc = new_tables(fs, &top, err);
	if (rc == 0)
		rc = new_pools(fs, err);
	return rc;
}

/* The reverse of parts_open. Workers end first: they use all the rest, and reply to the session. */
static void parts_close(struct fs *fs)
{
	autocommit_free(fs->autocommit);
	shard_checks_free(fs->checks);
	ckpt_pool_free(fs->commits);
	ckpt_pool_free(fs->tasks);
	ckpt_pool_free(fs->writes);
	ckpt_pool_free(fs->reads);
	summing_free(fs->summing);
	removals_free(fs->removals);
	resaves_free(fs->resaves);
	changes_free(fs->changes);
	open_files_free(fs->open_files);
	views_free(fs->views);
	buffers_release();
	verified_free(fs->verified);
	block_cache_free(fs->blocks);
	groups_free(fs->groups);
	slots_free(fs->slots);
	inode_table_free(fs->inodes);
	ckpt_store_free(fs->store);
}

/* --- serving ------------------------------------------------------------------------------ */

static int serve(struct fs *fs, struct ckpt_err *err)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int rc;

	if (!config)
		return ckpt_err_sys(err, -ENOMEM, "cannot serve '%s'", fs->options->mount_point);
	/*
	 * One queue for all: several gain nothing that was measured, and our own read of the
	 * device needs the one.
	 */
	fuse_loop_cfg_set_clone_fd(config, 0);
	fuse_loop_cfg_set_max_threads(config, FUSE_THREADS);
	session.serving = true;
	rc = fuse_session_loop_mt(fs->session, config);
	session.serving = false;
	fuse_loop_cfg_destroy(config);
	/* Positive: the signal that ended it. */
	if (rc < 0)
		return ckpt_err_sys(err, rc, "the mount '%s' has failed", fs->options->mount_point);
	return 0;
}

/* Workers reply to the session's descriptor, whose number must not be another's by then. */
static void drain(struct fs *fs)
{
	fs->ending = true;
	shard_checks_stop(fs->checks); /* first: they hand their requests to the reads */
	ckpt_pool_wait(fs->reads);     /* before the tasks: a read may go on in them */
	ckpt_pool_wait(fs->writes);
	ckpt_pool_wait(fs->commits);
	ckpt_pool_wait(fs->tasks);
	gesture_stop();
}

static int mount_and_serve(struct fs *fs, struct ckpt_err *err)
{
	int rc = session_mount(fs, err);

	if (rc == 0 && fuse_set_signal_handlers(fs->session) < 0)
		rc = ckpt_err_sys(err, -errno, "cannot serve '%s'", fs->options->mount_point);
	if (rc == 0) {
		rc = serve(fs, err);
		fuse_remove_signal_handlers(fs->session);
		drain(fs);
	}
	passthrough_detach();
	fuse_session_unmount(fs->session);
	if (rc == 0)
		ckpt_log("unmounted '%s'", fs->options->mount_point);
	return rc;
}

/* Mount, serve, and stop the thread that watches requests. */
static int run_watched(struct fs *fs, struct ckpt_err *err)
{
	int rc = request_watch_start(err);

	if (rc < 0)
		return rc;
	rc = mount_and_serve(fs, err);
	request_watch_stop();
	return rc;
}

int session_run(const struct mount_options *options, int store_fd, struct start_pipe *pipe)
{
	struct fs fs = { .options = options };
	struct ckpt_err err = CKPT_ERR_INIT;
	int rc;

	session.pipe = pipe;
	fuse_set_log_func(on_fuse_log);
	raise_descriptor_limit();
	rc = parts_open(&fs, store_fd, &err);
	if (rc == 0)
		rc = session_new(&fs, &err);
	if (rc == 0)
		rc = run_watched(&fs, &err);
	parts_close(&fs);
	if (fs.session)
		fuse_session_destroy(fs.session);
	if (rc == 0)
		return EXIT_SUCCESS;
	if (pipe->fd >= 0 || options->foreground)
		start_failed(pipe, &err);
	else
		ckpt_log("%s", err.msg);
	return EXIT_MOUNT_FAILED;
}
