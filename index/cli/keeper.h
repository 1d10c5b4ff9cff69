/*
 * keeper.h - the process that keeps the mount of `ckptfs run`: it starts mount.ckptfs, and ends it
 * when the command has ended, or `ckptfs run` was killed. It is in a session of its own, where no
 * signal of a terminal and none to the job's process group reaches it.
 */
#ifndef CKPT_CLI_KEEPER_H
#define CKPT_CLI_KEEPER_H

#include <sys/types.h>

#include "base/err.h"
#include "cli/mounting.h"

struct keeper {
	pid_t pid;
	int life_fd;  /* the keeper sees it close when we die */
	int ready_fd; /* one struct keeper_news comes; nothing, if the keeper was killed */
};

/* What comes through ready_fd. */
struct keeper_news {
	int ready;  /* 1: the mount answers */
	int status; /* else how mount.ckptfs ended, as waitpid(2) says */
};

/** keeper_start - @argv: of mount.ckptfs. keeper_end() it. */
int keeper_start(const struct mounting *mounting, char *const argv[], struct keeper *out,
		 struct ckpt_err *err) CKPT_MUST_CHECK;
/** keeper_end - the command has ended: returns when the mount and its daemon are gone. */
void keeper_end(struct keeper *keeper);

#endif
