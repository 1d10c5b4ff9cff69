/* own_ids.c - see own_ids.h. Source: user_namespaces(7), "Defining user and group ID mappings". */
#include "own_ids.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

static struct {
	pthread_once_t once;
	bool single;
	uid_t uid;
	gid_t gid;
} ids = { .once = PTHREAD_ONCE_INIT };

/* Is the one line of the map "INSIDE OUTSIDE 1"? */
static void look(void)
{
	CKPT_CLOSE int fd = ckpt_io_openat(AT_FDCWD, "/proc/self/uid_map", O_RDONLY, 0);
	char text[128];
	size_t len = 0;
	unsigned long count = 0;
	char *end;

	ids.uid = geteuid();
	ids.gid = getegid();
	if (fd < 0 || ckpt_io_pread_full(fd, text, sizeof(text) - 1, 0, &len) < 0)
		return;
	text[len] = '\0';
	end = strchr(text, '\n');
	if (!end || end[1] != '\0') /* more lines are more ids */
		return;
	(void)strtoul(text, &end, 10);
	(void)strtoul(end, &end, 10);
	count = strtoul(end, &end, 10);
	ids.single = count == 1;
}

void own_ids_show(struct stat *st)
{
	/* Fails for a bad argument only. */
	ckpt_ignore(pthread_once(&ids.once, look));
	if (!ids.single)
		return;
	st->st_uid = ids.uid;
	st->st_gid = ids.gid;
}
