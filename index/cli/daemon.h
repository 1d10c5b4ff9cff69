/* daemon.h - the process behind a mount: finding it, and seeing it end. */
#ifndef CKPT_CLI_DAEMON_H
#define CKPT_CLI_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* A process, told apart from a later one with the same pid. */
struct daemon {
	pid_t pid;	      /* 0: not found */
	uint64_t start_ticks; /* /proc/PID/stat field 22 */
};

/** daemon_find - the daemon that serves the mount at @point; pid 0 where none is to be seen. */
struct daemon daemon_find(const char *point);
/** daemon_wait - until it has ended; false: it had not after @wait_ms. */
bool daemon_wait(const struct daemon *daemon, uint64_t wait_ms);

#endif
