/* holders.h - which processes keep a mount busy? (proc_pid(5): cwd, root, exe, fd, maps) */
#ifndef CKPT_CLI_HOLDERS_H
#define CKPT_CLI_HOLDERS_H

#include <stddef.h>
#include <sys/types.h>

/**
 * holders_report - say on stderr, a line a process, who holds something of the mount at @point:
 * pid, command and path
 * @but: the daemon itself; 0: none
 * Returns how many. Processes of other users are not visible to an ordinary one.
 */
size_t holders_report(const char *point, pid_t but);

#endif
