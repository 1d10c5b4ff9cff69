/*
 * cli_mount.c - mount a store, or a folder that is none: runs mount.ckptfs, which returns when the mount answers.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/mounting.h"
#include "cli/options.h"

/* Returns an exit code, or a negative errno. */
static int run_program(char *const argv[], struct ckpt_err *err)
{
	struct ckpt_buf path;
	int status = 0;
	pid_t child;

	ckpt_buf_init(&path);
	mounting_program(&path);
	(void)fflush(NULL);
	child = fork();
	if (child == 0) {
		/* The daemon lives on: it must not hold our caller's pipes and files open. */
		ckpt_ignore((int)syscall(SYS_close_range, 3U, ~0U, 0U));
		(void)execvp(path.data, argv);
		_exit(MOUNTING_NOT_FOUND);
	}
	ckpt_buf_release(&path);
	if (child < 0)
		return ckpt_err_sys(err, -errno, "cannot start '%s'", argv[0]);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		continue;
	return mounting_code(status, err);
}

static int mount_store(const struct mounting *mounting, const struct option_list *options,
		       struct ckpt_err *err)
{
	static const char *const none[] = { NULL };
	char **argv;
	int rc;

	if (mounting->is_mounted) {
		cli_error("'%s' is mounted on '%s' already%s", mounting->store_path.data,
			  mounting->point.data,
			  options->count > 0 ? ", with the options that it has" : "");
		return CLI_OK;
	}
	argv = mounting_argv(mounting, options, none);
	rc = argv ? run_program(argv, err) : ckpt_err_set(err, -ENOMEM, "out of memory");
	mounting_argv_free(argv);
	return rc;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct option_list options = { .items = NULL };
	const struct option_row rows[] = {
		{ "options", 'o', OPTION_LIST, &options, "OPT,...",
		  "mount options, as mount.ckptfs(8) has them" },
		OPTION_END,
	};
	struct ckpt_err err = CKPT_ERR_INIT;
	struct mounting mounting;
	struct option_args args;
	int code;

	if (options_parse(cli, argc, argv, rows, &args, &code)) {
		code = mounting_prepare(args.items[0], args.count > 1 ? args.items[1] : NULL,
					&mounting, &err);
		if (code == 0)
			code = mount_store(&mounting, &options, &err);
		mounting_release(&mounting);
		code = cli_flush(code < 0 ? cli_report(&err) : code);
	}
	option_list_release(&options);
	return code;
}

const struct cli_command cli_mount_command = {
	.name = "mount",
	.args = "STORE|DIR [MNT] [-o OPT,...]",
	.summary = "show a store as a file system",
	.details =
		"A folder that is no store is shown read-only: what holds tensors in it has views,\n"
		"nothing is written into it, and nothing can be verified.\n"
		"MNT left out: over STORE itself, so that no path changes. Returns when the mount\n"
		"answers. A dead mount in the place is taken off first; a store that is mounted\n"
		"there already is left as it is, with exit code 0.\n",
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
