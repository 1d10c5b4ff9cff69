/* cli_doctor.c - what is wrong with a store and its mounts, and what to do about it. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/path.h"
#include "cli/doctor.h"
#include "cli/holders.h"
#include "cli/mounts.h"
#include "cli/options.h"

#define ABANDONED_SECS UINT64_C(86400)
/* linux/capability.h: CAP_SYS_ADMIN */
#define CAP_SYS_ADMIN_BIT 21

static const char *const state_names[] = {
	[DOCTOR_OK] = "ok", [DOCTOR_NOTE] = "note", [DOCTOR_FOUND] = "found", [DOCTOR_FIXED] = "fixed"
};

static const struct table_column columns[] = {
	{ "CHECK", 0 }, { "STATE", 0 }, { "WHAT", 0 }, { "DO", 0 }
};

void doctor_tell(struct doctor *doctor, enum doctor_state state, const char *check,
		 const char *remedy, const char *fmt, ...)
{
	struct ckpt_buf what;
	struct ckpt_buf shown;
	va_list args;

	ckpt_buf_init(&what);
	ckpt_buf_init(&shown);
	va_start(args, fmt);
	ckpt_buf_vprintf(&what, fmt, args);
	va_end(args);
	doctor->found_count += state == DOCTOR_FOUND;
	if (doctor->json) {
		table_text(&doctor->table, check);
		table_text(&doctor->table, state_names[state]);
		table_text(&doctor->table, what.data);
		table_text(&doctor->table, remedy[0] ? remedy : NULL);
	} else {
		ckpt_path_escape(&shown, what.data);
		(void)printf("%-5s  %-11s  %s\n", state_names[state], check, shown.data);
		ckpt_buf_reset(&shown);
		ckpt_path_escape(&shown, remedy);
		if (remedy[0])
			(void)printf("%20sdo: %s\n", "", shown.data);
	}
	ckpt_buf_release(&shown);
	ckpt_buf_release(&what);
}

void doctor_fstype(const char *path, struct ckpt_buf *out)
{
	struct ckpt_mount_list list = { .mounts = NULL };
	const struct ckpt_mount *mount = NULL;
	CKPT_FREE char *whole = realpath(path, NULL);

	if (whole && ckpt_mount_list_read(&list, NULL) == 0)
		mount = ckpt_mount_list_find(&list, whole);
	ckpt_buf_add_str(out, mount ? mount->fstype : "an unknown file system");
	ckpt_mount_list_release(&list);
}

/* --- mounts -------------------------------------------------------------------------------------- */

static void look_at_dead(struct doctor *doctor, const struct ckpt_mount *mount)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_buf remedy;
	size_t holders = doctor->fix ? 0 : holders_report(mount->point, 0);
	const char *of = holders > 0 ? "; who holds it is named above" : "";

	ckpt_buf_init(&remedy);
	ckpt_buf_printf(&remedy, "'ckptfs umount %s' takes it off", mount->point);
	if (!doctor->fix)
		doctor_tell(doctor, DOCTOR_FOUND, "mount", remedy.data,
			    "'%s' is dead: its daemon has ended%s", mount->point, of);
	else if (mounts_detach(mount->point, true, &err) < 0)
		doctor_tell(doctor, DOCTOR_FOUND, "mount", err.msg,
			    "'%s' is dead: its daemon has ended", mount->point);
	else
		doctor_tell(doctor, DOCTOR_FIXED, "mount", "", "'%s' was dead, and is taken off",
			    mount->point);
	ckpt_buf_release(&remedy);
}

void doctor_mounts(struct doctor *doctor, const char *store_path)
{
	struct ckpt_mount_list list = { .mounts = NULL };
	size_t count = 0;

	if (ckpt_mount_list_read(&list, NULL) < 0) {
		doctor_tell(doctor, DOCTOR_NOTE, "mount", "mount /proc",
			    "mounts cannot be listed without /proc");
		return;
	}
	for (size_t i = 0; i < list.count; i++) {
		const struct ckpt_mount *mount = &list.mounts[i];

		if (!ckpt_mount_is_ours(mount) ||
		    (store_path && strcmp(mount->source, store_path) != 0))
			continue;
		count++;
		if (mounts_is_dead(mount->point))
			look_at_dead(doctor, mount);
		else
			doctor_tell(doctor, DOCTOR_OK, "mount", "", "'%s' on '%s' answers",
				    mount->source, mount->point);
	}
	if (count == 0)
		doctor_tell(doctor, DOCTOR_OK, "mount", "",
			    store_path ? "the store is not mounted" : "nothing is mounted");
	ckpt_mount_list_release(&list);
}

/* --- passthrough ----------------------------------------------------------------------------------- */

struct reason {
	const char *word; /* as stats say it */
	const char *why;
	const char *remedy;
};

static const struct reason reasons[] = {
	{ "no-CAP_SYS_ADMIN", "the daemon has no CAP_SYS_ADMIN", "mount as root" },
	{ "store-on-stacked-file-system",
	  "the store lies on a stacked file system (overlayfs, another FUSE)",
	  "keep it on ext4, XFS, btrfs or another plain one, in a container on a volume" },
	{ "store-file-system-has-none", "the store's file system takes no part in it",
	  "keep it on ext4, XFS or btrfs" },
	{ "kernel-refuses", "the kernel refuses it", "see its log, 'dmesg'" },
	{ "kernel-has-none", "the kernel has none",
	  "it came with Linux 6.9 (CONFIG_FUSE_PASSTHROUGH)" },
	{ "passthrough=off", "it was turned off", "mount without '-o passthrough=off'" },
};

static void tell_reason(struct doctor *doctor, const char *word)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if (strcmp(reasons[i].word, word) != 0)
			continue;
		doctor_tell(doctor, DOCTOR_NOTE, "passthrough", reasons[i].remedy,
			    "reads go through the daemon: %s", reasons[i].why);
		return;
	}
	doctor_tell(doctor, DOCTOR_NOTE, "passthrough", "", "reads go through the daemon: %s",
		    word);
}

/* The text between the quotes of reason="…" in the line that begins with ckptfs_passthrough. */
static bool read_reason(const char *point, char *out, size_t out_size)
{
	CKPT_FREE char *line = NULL;
	struct ckpt_buf path;
	size_t cap = 0;
	FILE *file;
	bool found = false;

	ckpt_buf_init(&path);
	ckpt_buf_printf(&path, "%s/.ckptfs/stats", point);
	file = fopen(path.data, "re");
	ckpt_buf_release(&path);
	while (file && !found && getline(&line, &cap, file) >= 0) {
		const char *at = strstr(line, "reason=\"");

		if (strncmp(line, "ckptfs_passthrough{", 19) != 0 || !at)
			continue;
		at += strlen("reason=\"");
		(void)snprintf(out, out_size, "%.*s", (int)strcspn(at, "\""), at);
		found = true;
	}
	if (file)
		(void)fclose(file);
	return found;
}

static bool has_sys_admin(void)
{
	CKPT_FREE char *line = NULL;
	FILE *file = fopen("/proc/self/status", "re");
	size_t cap = 0;
	bool has = false;

	while (file && getline(&line, &cap, file) >= 0) {
		if (strncmp(line, "CapEff:", 7) == 0)
			has = strtoull(line + 7, NULL, 16) >> CAP_SYS_ADMIN_BIT & 1;
	}
	if (file)
		(void)fclose(file);
	return has;
}

static bool kernel_is_old(void)
{
	struct utsname name;
	char *end = NULL;
	unsigned long major;
	unsigned long minor;

	if (uname(&name) < 0)
		return false;
	major = strtoul(name.release, &end, 10);
	minor = *end == '.' ? strtoul(end + 1, NULL, 10) : 0;
	return major < 6 || (major == 6 && minor < 9);
}

static bool is_stacked(const char *store_path)
{
	struct ckpt_buf fstype;
	bool stacked;

	ckpt_buf_init(&fstype);
	doctor_fstype(store_path, &fstype);
	stacked = strcmp(fstype.data, "overlay") == 0 || strncmp(fstype.data, "fuse", 4) == 0;
	ckpt_buf_release(&fstype);
	return stacked;
}

/* No mount to be asked: what would one of this user's say? */
static void foretell(struct doctor *doctor, const char *store_path)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		doctor_tell(doctor, DOCTOR_NOTE, "fuse",
			    "load the module fuse, give the container the device",
			    "nothing can be mounted here: '/dev/fuse' cannot be opened");
		return;
	}
	close(fd);
	if (kernel_is_old())
		tell_reason(doctor, "kernel-has-none");
	else if (!has_sys_admin())
		tell_reason(doctor, "no-CAP_SYS_ADMIN");
	else if (store_path && is_stacked(store_path))
		tell_reason(doctor, "store-on-stacked-file-system");
	else
		doctor_tell(doctor, DOCTOR_OK, "passthrough", "",
			    "nothing is known to be in its way; a mount's .ckptfs/stats tells");
}

void doctor_passthrough(struct doctor *doctor, const char *store_path)
{
	struct ckpt_mount_list list = { .mounts = NULL };
	const struct ckpt_mount *mount = NULL;
	char reason[128];

	if (store_path && ckpt_mount_list_read(&list, NULL) == 0)
		mount = mounts_of(&list, store_path);
	if (!mount || mounts_is_dead(mount->point) ||
	    !read_reason(mount->point, reason, sizeof(reason)))
		foretell(doctor, store_path);
	else if (reason[0] == '\0')
		doctor_tell(doctor, DOCTOR_OK, "passthrough", "", "'%s' hands reads to the kernel",
			    mount->point);
	else
		tell_reason(doctor, reason);
	ckpt_mount_list_release(&list);
}

/* --- the command -------------------------------------------------------------------------------------- */

static int examine_store(struct doctor *doctor, const struct ckpt_place *place, const char *path,
			 struct ckpt_err *err)
{
	int rc;

	if (!place->store_path ||
	    (place->kind != CKPT_PLACE_STORE && place->kind != CKPT_PLACE_GROUP))
		return ckpt_err_set(err, -EINVAL, "'%s' is %s; name a store or a group",
				    path ? path : ".", cli_place_describe(place->kind));
	rc = doctor_store(doctor, place, err);
	if (rc < 0)
		return rc;
	doctor_mounts(doctor, place->store_path);
	doctor_passthrough(doctor, place->store_path);
	return 0;
}

static int examine_once(struct doctor *doctor, const struct cli *cli, const char *path,
			struct ckpt_err *err)
{
	struct ckpt_place place = { .name = NULL };
	int rc = cli_place(cli, path, &place, err);

	if (rc == -ENXIO && !path && !cli->base) {
		doctor_tell(doctor, DOCTOR_NOTE, "store", "name one: 'ckptfs doctor STORE'",
			    "you stand in none");
		doctor_mounts(doctor, NULL);
		doctor_passthrough(doctor, NULL);
		rc = 0;
	} else if (rc == 0) {
		rc = examine_store(doctor, &place, path, err);
	}
	ckpt_place_release(&place);
	return rc;
}

/* A dead mount hides what lies below it; --fix takes it off first. */
static int examine(struct doctor *doctor, const struct cli *cli, const char *path,
		   struct ckpt_err *err)
{
	int rc = examine_once(doctor, cli, path, err);

	if (rc != -ENOTCONN)
		return rc;
	doctor_mounts(doctor, NULL);
	return doctor->fix ? examine_once(doctor, cli, path, err) : rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct doctor doctor = { .fix = false };
	struct option_number age = { .value = ABANDONED_SECS };
	const struct option_row rows[] = {
		{ "fix", 0, OPTION_FLAG, &doctor.fix, NULL,
		  "do what is safe; no checkpoint is touched" },
		{ "age", 0, OPTION_AGE, &age, "AGE",
		  "an open checkpoint that did not change for so long is abandoned; 1d if not given" },
		{ "json", 0, OPTION_FLAG, &doctor.json, NULL, "one JSON array of objects" },
		OPTION_END,
	};
	struct ckpt_err err = CKPT_ERR_INIT;
	struct option_args args;
	int code;
	int rc;

	if (!options_parse(cli, argc, argv, rows, &args, &code))
		return code;
	doctor.max_age_secs = age.value;
	table_init(&doctor.table, columns, sizeof(columns) / sizeof(columns[0]));
	rc = examine(&doctor, cli, args.count > 0 ? args.items[0] : NULL, &err);
	if (doctor.json) {
		struct ckpt_err print_err = CKPT_ERR_INIT;

		if (table_print(&doctor.table, true, &print_err) < 0 && rc == 0) {
			err = print_err;
			rc = -ENOMEM;
		}
	}
	table_release(&doctor.table);
	if (rc == 0 && doctor.found_count > 0)
		rc = CLI_FAILED;
	return cli_flush(rc < 0 ? cli_report(&err) : rc);
}

const struct cli_command cli_doctor_command = {
	.name = "doctor",
	.args = "[--fix] [--age AGE] [--json] [PATH]",
	.summary = "what is wrong with a store and its mounts, and what to do",
	.details =
		"Looks at the store that PATH (the current folder) lies in: can it be written, is its\n"
		"index whole and where, checkpoints that cannot be used, open ones that nobody writes\n"
		"any more, locks and sessions of dead processes, the trash; at its mounts, and who\n"
		"holds a dead one; and why reads go through the daemon, if they do. A line each: ok,\n"
		"note, found (with what to do) or fixed. Below a group, checkpoints of that group.\n"
		"--fix takes dead mounts off, builds a damaged index anew, and removes what dead\n"
		"processes and damaged indexes have left; it touches no checkpoint and no trash.\n"
		"The exit code is 1 if something is left to do.\n",
	.max_args = 1,
	.run = run,
};
