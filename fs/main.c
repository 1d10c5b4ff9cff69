/*
 * main.c - mount.ckptfs: read the command line, check everything while somebody
 * listens, go to the background, serve the mount.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/version.h"
#include "mount_options.h"
#include "session.h"
#include "start.h"

static int fail(int exit_code, const struct ckpt_err *err)
{
	(void)fprintf(stderr, "mount.ckptfs: %s\n", err->msg);
	return exit_code;
}

/* 2 is for what the system refuses, 32 for what is wrong with the store or the mount point. */
static int failure_code(int rc)
{
	return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE || rc == -EAGAIN ? EXIT_SYSTEM
										: EXIT_MOUNT_FAILED;
}

static int choose_log(const struct mount_options *options, struct ckpt_err *err)
{
	if (options->log_path)
		return ckpt_log_to_file(options->log_path, err);
	if (!options->foreground || options->log_syslog)
		ckpt_log_to_syslog("mount.ckptfs");
	return 0;
}

static int run(struct mount_options *options)
{
	struct start_pipe pipe = { .fd = -1 };
	struct ckpt_err err = CKPT_ERR_INIT;
	int store_fd = -1;
	int code;
	int rc = start_check(options, &store_fd, &err);

	if (rc == 0)
		rc = choose_log(options, &err);
	if (rc < 0)
		return fail(failure_code(rc), &err);
	if (options->verbose)
		(void)printf("mount.ckptfs: %s '%s' on '%s'\n",
			     options->fake ? "would mount" : "mounting", options->store_path,
			     options->mount_point);
	if (options->fake)
		return EXIT_SUCCESS;
	if (fflush(stdout) != 0)
		return EXIT_SYSTEM;
	if (!options->foreground && start_daemon(options, &pipe, &err) < 0)
		return fail(EXIT_SYSTEM, &err);
	code = session_run(options, store_fd, &pipe);
	close(store_fd);
	return code;
}

int main(int argc, char *argv[])
{
	struct mount_options options;
	struct ckpt_err err = CKPT_ERR_INIT;
	int code = EXIT_SUCCESS;
	int rc = mount_options_parse(argc, argv, &options, &err);

	if (rc < 0)
		code = fail(rc == -EINVAL ? EXIT_USAGE : EXIT_SYSTEM, &err);
	else if (options.help)
		(void)fputs(mount_options_help, stdout);
	else if (options.version)
		(void)puts("mount.ckptfs " CKPTFS_VERSION);
	else
		code = run(&options);
	mount_options_release(&options);
	return code;
}
