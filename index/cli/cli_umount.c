/* cli_umount.c - take a mount off, and wait until its daemon has ended. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "cli/cli.h"
#include "cli/daemon.h"
#include "cli/holders.h"
#include "cli/mounts.h"
#include "cli/options.h"

/* The daemon finishes what it has begun, a commit for one; a stuck one is named, not waited for. */
#define DAEMON_WAIT_MS 60000

/* Not a mount of ours: what is it, and what might be meant? */
static int explain(const struct ckpt_mount_list *list, const char *point, struct ckpt_err *err)
{
	const struct ckpt_mount *at = mounts_at(list, point);
	const struct ckpt_mount *around = ckpt_mount_list_find(list, point);
	const struct ckpt_mount *elsewhere = mounts_of(list, point);

	if (at)
		return ckpt_err_set(
			err, -EINVAL,
			"'%s' is a mount of type %s, not of ckptfs; take it off with 'umount %s'",
			point, at->fstype, point);
	if (elsewhere)
		return ckpt_err_set(
			err, -EINVAL,
			"'%s' is a store, mounted on '%s'; 'ckptfs umount %s' takes it off", point,
			elsewhere->point, elsewhere->point);
	if (around && ckpt_mount_is_ours(around))
		return ckpt_err_set(err, -EINVAL,
				    "'%s' lies in the mount '%s'; 'ckptfs umount %s' takes it off",
				    point, around->point, around->point);
	if (access(point, F_OK) != 0 && errno == ENOENT)
		return ckpt_err_set(err, -ENOENT, "'%s' does not exist", point);
	return ckpt_err_set(err, -EINVAL, "'%s' is not mounted", point);
}

static int report_busy(const char *point, const struct daemon *daemon, struct ckpt_err *err)
{
	size_t count = holders_report(point, daemon->pid);

	if (count > 0)
		return ckpt_err_set(err, -EBUSY, "end %s and try again; '%s' stays mounted",
				    count == 1 ? "it" : "them", point);
	return ckpt_err_set(err, -EBUSY,
			    "'%s' is busy, but no process that %s may look at holds it; %s", point,
			    geteuid() == 0 ? "root" : "this user",
			    geteuid() == 0 ? "is something mounted or shared below it?"
					   : "try again as root to see who does");
}

static int take_off(const char *point, struct ckpt_err *err)
{
	struct daemon daemon = { .pid = 0 };
	int rc;

	if (mounts_is_dead(point))
		return mounts_detach(point, true, err);
	/* Found before: afterwards nothing leads from the mount to it. */
	daemon = daemon_find(point);
	rc = mounts_detach(point, false, err);
	if (rc == -EBUSY)
		return report_busy(point, &daemon, err);
	if (rc < 0)
		return rc;
	if (daemon.pid > 0 && !daemon_wait(&daemon, DAEMON_WAIT_MS))
		return ckpt_err_set(
			err, -ETIMEDOUT,
			"'%s' is unmounted, but its daemon (process %d) still runs after %d s; end it with 'kill %d'",
			point, (int)daemon.pid, DAEMON_WAIT_MS / 1000, (int)daemon.pid);
	return 0;
}

static int umount_path(const struct cli *cli, const char *path, struct ckpt_err *err)
{
	struct ckpt_mount_list list = { .mounts = NULL };
	const struct ckpt_mount *mount;
	struct ckpt_buf point;
	int rc;

	(void)cli;
	ckpt_buf_init(&point);
	rc = mounts_absolute(path, &point, err);
	if (rc == 0)
		rc = ckpt_mount_list_read(&list, err);
	if (rc == 0) {
		mount = mounts_at(&list, point.data);
		rc = mount && ckpt_mount_is_ours(mount) ? take_off(point.data, err)
							: explain(&list, point.data, err);
	}
	ckpt_mount_list_release(&list);
	ckpt_buf_release(&point);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	return options_run_path(cli, argc, argv, umount_path);
}

const struct cli_command cli_umount_command = {
	.name = "umount",
	.args = "MNT",
	.summary = "take a mount off",
	.details =
		"Waits until the daemon has ended. If the mount is busy, names the processes that\n"
		"hold it and leaves it mounted. Clears a mount whose daemon has died.\n",
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
