/* mount_options.c - see mount_options.h. */
#include "mount_options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/num.h"
#include "base/path.h"
#include "store/store.h"

/* Defaults: what a disk reads in a second or so, and a day. */
#define VERIFY_OPEN_MAX_BYTES CKPT_GIB
#define VERIFY_TTL_MS (UINT64_C(86400) * 1000)

const char mount_options_help[] =
	"usage: mount.ckptfs STORE MNT [-o OPTION[,OPTION]...] [--foreground]\n"
	"\n"
	"Mount the store of checkpoints STORE on the folder MNT. A folder that is no store is\n"
	"mounted read-only; nothing in it can be verified.\n"
	"\n"
	"  -o ro               show only what is committed\n"
	"  -o rw               show everything; what is not committed can be written (default)\n"
	"  -o allow_other      let other users in (default for root)\n"
	"  -o index=PATH       keep the index in this file\n"
	"  -o log=FILE         log to this file; log=syslog: to syslog, also with --foreground\n"
	"  -o verify=WHEN      compare shards with their sums: open: all of a shard at its first\n"
	"                      open; read: every block at every read; off: never; auto (default):\n"
	"                      open for shards of up to verify_open_max, larger ones block by\n"
	"                      block as they are read and in the background\n"
	"  -o verify_open_max=SIZE  see above (default 1GiB)\n"
	"  -o verify_ttl=SECS  verify again after so long (default 86400)\n"
	"  -o autocommit=SECS  commit what a completion rule calls complete when it was quiet for\n"
	"                      so long (default 60); off: never\n"
	"  -o resave=replace   let a committed name be written again; the old checkpoint goes to\n"
	"                      the trash when the new one commits (default refuse)\n"
	"  -o trash=AGE        purge removed checkpoints that are older (default 1d; s, m, h, d)\n"
	"  -o passthrough=off  have every read and write go through the daemon\n"
	"  --foreground        do not go to the background; log to stderr\n"
	"  -f, -n, -s, -v      as mount(8) passes them: fake, no mtab, sloppy, verbose\n"
	"  -h, --help          show this text\n"
	"  -V, --version       show the version\n"
	"\n"
	"Exit status: 0 mounted, 1 usage, 2 system error, 32 mount failed.\n"
	"See mount.ckptfs(8). To unmount: ckptfs umount MNT.\n";

/*
 * What mount(8) and fstab(5) may hand through, and what means nothing here: the mount is always
 * nosuid and nodev.
 */
static const char *const ignored[] = {
	"suid",	      "nosuid",	  "dev",	"nodev",       "exec",		"defaults",
	"auto",	      "noauto",	  "user",	"nouser",      "users",		"nousers",
	"owner",      "noowner",  "group",	"nogroup",     "nofail",	"_netdev",
	"async",      "sync",	  "dirsync",	"atime",       "noatime",	"diratime",
	"nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime",
	"nolazytime", "iversion", "noiversion", "mand",	       "nomand",	"loud",
	"silent",
};
/* The same with anything behind. */
static const char *const ignored_prefixes[] = { "x-",	 "X-",	     "comment=",
						"user=", "uhelper=", "helper=" };

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_ignored(const char *option)
{
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
		if (strcmp(option, ignored[i]) == 0)
			return true;
	}
	for (size_t i = 0; i < sizeof(ignored_prefixes) / sizeof(ignored_prefixes[0]); i++) {
		if (has_prefix(option, ignored_prefixes[i]))
			return true;
	}
	return false;
}

/* --- values ------------------------------------------------------------------------------- */

/* The daemon's working folder is /, so paths are made absolute here; symlinks in them stay. */
static int set_path(char **slot, const char *value, const char *option, struct ckpt_err *err)
{
	struct ckpt_buf path;
	char cwd[PATH_MAX];

	if (*value == '\0')
		return ckpt_err_set(err, -EINVAL, "option '%s' needs a path behind the '='",
				    option);
	ckpt_buf_init(&path);
	if (*value != '/') {
		if (!getcwd(cwd, sizeof(cwd)))
			return ckpt_err_sys(
				err, -errno,
				"cannot tell the current folder; give option '%s' an absolute path",
				option);
		ckpt_buf_add_str(&path, cwd);
		ckpt_buf_add_char(&path, '/');
	}
	ckpt_buf_add_str(&path, value);
	free(*slot);
	*slot = ckpt_buf_steal(&path);
	return *slot ? 0 : ckpt_err_sys(err, -ENOMEM, "cannot read option '%s'", option);
}

static int set_verify(struct mount_options *out, const char *value, struct ckpt_err *err)
{
	static const char *const known[] = {
		[VERIFY_AUTO] = "auto", [VERIFY_OPEN] = "open", [VERIFY_READ] = "read", [VERIFY_OFF] = "off"
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(value, known[i]) == 0) {
			out->verify = (enum verify_when)i;
			return 0;
		}
	}
	return ckpt_err_set(err, -EINVAL,
			    "verify='%s' is not understood; use auto, open, read or off", value);
}

static int set_verify_open_max(struct mount_options *out, const char *value, struct ckpt_err *err)
{
	if (num_parse_size(value, &out->verify_open_max) == 0)
		return 0;
	return ckpt_err_set(err, -EINVAL,
			    "verify_open_max='%s' is no size; give one like 512MiB or 4GiB", value);
}

static int set_verify_ttl(struct mount_options *out, const char *value, struct ckpt_err *err)
{
	uint64_t seconds;

	if (num_parse_u64(value, &seconds) == 0 && num_mul(seconds, 1000, &out->verify_ttl_ms))
		return 0;
	return ckpt_err_set(err, -EINVAL,
			    "verify_ttl='%s' is no number of seconds; the default is 86400", value);
}

static int set_passthrough(struct mount_options *out, const char *value, struct ckpt_err *err)
{
	if (strcmp(value, "off") != 0 && strcmp(value, "auto") != 0)
		return ckpt_err_set(err, -EINVAL,
				    "passthrough='%s' is not understood; use auto or off", value);
	out->passthrough_off = strcmp(value, "off") == 0;
	return 0;
}

static int set_autocommit(struct mount_options *out, const char *value, struct ckpt_err *err)
{
	uint64_t seconds = 0;

	if (strcmp(value, "off") == 0) {
		out->autocommit_ms = 0;
		return 0;
	}
	if (num_parse_u64(value, &seconds) == 0 && seconds > 0 &&
	    num_mul(seconds, 1000, &out->autocommit_ms))
		return 0;
	return ckpt_err_set(
		err, -EINVAL,
		"autocommit='%s' is not understood; give a number of seconds, at least 1, or off",
		value);
}

static int set_resave(struct mount_options *out, const char *value, struct ckpt_err *err)
{
	if (strcmp(value, "refuse") != 0 && strcmp(value, "replace") != 0)
		return ckpt_err_set(err, -EINVAL,
				    "resave='%s' is not understood; use refuse or replace", value);
	out->resave_replace = strcmp(value, "replace") == 0;
	return 0;
}

static int set_trash(struct mount_options *out, const char *value, struct ckpt_err *err)
{
	if (num_parse_age(value, &out->trash_max_age_secs) == 0)
		return 0;
	return ckpt_err_set(err, -EINVAL, "trash='%s' is no age; give one like 90m, 12h or 1d",
			    value);
}

static int set_index(struct mount_options *out, const char *value, struct ckpt_err *err)
{
	return set_path(&out->index_path, value, "index", err);
}

static int set_log(struct mount_options *out, const char *value, struct ckpt_err *err)
{
	out->log_syslog = strcmp(value, "syslog") == 0;
	if (!out->log_syslog)
		return set_path(&out->log_path, value, "log", err);
	free(out->log_path);
	out->log_path = NULL;
	return 0;
}

/* Options with a value. */
static const struct {
	const char *prefix;
	int (*set)(struct mount_options *out, const char *value, struct ckpt_err *err);
} valued[] = {
	{ "index=", set_index },
	{ "log=", set_log },
	{ "verify=", set_verify },
	{ "verify_open_max=", set_verify_open_max },
	{ "verify_ttl=", set_verify_ttl },
	{ "autocommit=", set_autocommit },
	{ "resave=", set_resave },
	{ "trash=", set_trash },
	{ "passthrough=", set_passthrough },
};

/* Options without one. True: it is one of them. */
static bool set_switch(struct mount_options *out, const char *option)
{
	if (strcmp(option, "ro") == 0)
		out->read_only = true;
	else if (strcmp(option, "rw") == 0)
		out->read_only = false;
	else if (strcmp(option, "allow_other") == 0)
		out->allow_other = true;
	else if (strcmp(option, "noexec") == 0)
		out->noexec = true;
	else if (strcmp(option, "exec") == 0)
		out->noexec = false;
	else
		return false;
	return true;
}

static int set_option(struct mount_options *out, const char *option, struct ckpt_err *err)
{
	for (size_t i = 0; i < sizeof(valued) / sizeof(valued[0]); i++) {
		if (has_prefix(option, valued[i].prefix))
			return valued[i].set(out, option + strlen(valued[i].prefix), err);
	}
	if (strcmp(option, "remount") == 0)
		return ckpt_err_set(err, -EINVAL,
				    "a mount cannot be changed; unmount it and mount it again");
	if (set_switch(out, option) || is_ignored(option) || out->sloppy)
		return 0;
	return ckpt_err_set(err, -EINVAL,
			    "unknown option '%s'; 'mount.ckptfs --help' lists the options", option);
}

static int set_options(struct mount_options *out, const char *list, struct ckpt_err *err)
{
	char *copy = strdup(list);
	char *rest = copy;
	const char *option;
	int rc = 0;

	if (!copy)
		return ckpt_err_sys(err, -ENOMEM, "cannot read the options");
	while (rc == 0 && (option = strsep(&rest, ","))) {
		if (*option != '\0')
			rc = set_option(out, option, err);
	}
	free(copy);
	return rc;
}

/* --- the command line --------------------------------------------------------------------- */

enum {
	OPT_FOREGROUND = 256,
};

static const struct option long_options[] = {
	{ "foreground", no_argument, NULL, OPT_FOREGROUND },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ "fake", no_argument, NULL, 'f' },
	{ "no-mtab", no_argument, NULL, 'n' },
	{ "options", required_argument, NULL, 'o' },
	{ "verbose", no_argument, NULL, 'v' },
	{ NULL, 0, NULL, 0 },
};

static int set_flag(struct mount_options *out, int flag, char *const argv[], struct ckpt_err *err)
{
	switch (flag) {
	case OPT_FOREGROUND:
		out->foreground = true;
		return 0;
	case 'f':
		out->fake = true;
		return 0;
	case 's':
		out->sloppy = true;
		return 0;
	case 'v':
		out->verbose = true;
		return 0;
	case 'r':
		out->read_only = true;
		return 0;
	case 'h':
		out->help = true;
		return 0;
	case 'V':
		out->version = true;
		return 0;
	case 'n': /* there is no mtab to write */
	case 'w':
	case 't': /* the type mount(8) was called with */
	case 'N': /* the namespace it has entered already */
		return 0;
	case 'o':
		return set_options(out, optarg, err);
	case ':':
		return ckpt_err_set(err, -EINVAL, "'%s' needs a value; see 'mount.ckptfs --help'",
				    argv[optind - 1]);
	default:
		return ckpt_err_set(err, -EINVAL,
				    "unknown option '%s'; 'mount.ckptfs --help' lists the options",
				    argv[optind - 1]);
	}
}

/* -s may stand behind the -o that it is about. */
static bool is_sloppy(int argc, char *const argv[])
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (argv[i][0] == '-' && argv[i][1] != '-' && argv[i][1] != 'o' &&
		    strchr(argv[i], 's'))
			return true;
	}
	return false;
}

static int set_paths(struct mount_options *out, int count, char *const paths[],
		     struct ckpt_err *err)
{
	int rc;

	if (count < 2)
		return ckpt_err_set(err, -EINVAL, "%s; usage: mount.ckptfs STORE MNT [-o OPTIONS]",
				    count == 0 ? "the store and the mount point are missing"
					       : "the mount point is missing");
	if (count > 2)
		return ckpt_err_set(
			err, -EINVAL,
			"'%s' is one argument too many; usage: mount.ckptfs STORE MNT [-o OPTIONS]",
			paths[2]);
	rc = set_path(&out->store_path, paths[0], "STORE", err);
	return rc < 0 ? rc : set_path(&out->mount_point, paths[1], "MNT", err);
}

int mount_options_parse(int argc, char *const argv[], struct mount_options *out,
			struct ckpt_err *err)
{
	int flag;
	int rc = 0;

	*out = (struct mount_options){ .allow_other = geteuid() == 0,
				       .verify_open_max = VERIFY_OPEN_MAX_BYTES,
				       .verify_ttl_ms = VERIFY_TTL_MS,
				       .autocommit_ms = CKPT_RULE_QUIET_SECS * UINT64_C(1000),
				       .trash_max_age_secs = CKPT_TRASH_MAX_AGE_SECS,
				       .sloppy = is_sloppy(argc, argv) };
	opterr = 0;
	while (rc == 0) {
		/* One thread yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
		flag = getopt_long(argc, argv, ":fnsvrwo:t:N:hV", long_options, NULL);
		if (flag == -1)
			break;
		rc = set_flag(out, flag, argv, err);
	}
	if (rc < 0 || out->help || out->version)
		return rc;
	return set_paths(out, argc - optind, argv + optind, err);
}

void mount_options_release(struct mount_options *options)
{
	free(options->store_path);
	free(options->mount_point);
	free(options->index_path);
	free(options->log_path);
	*options = (struct mount_options){ 0 };
}
