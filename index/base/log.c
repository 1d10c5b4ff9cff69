/* log.c - one line a message; see log.h. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "clock.h"
#include "io.h"

/* Longest line: a message of err.h and what comes before it. */
#define LOG_LINE_MAX (CKPT_ERR_MAX + 256)

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
/* All three protected by mu. */
static const char *syslog_ident; /* NULL until syslog is chosen; borrowed for ever */
static int log_fd = STDERR_FILENO;
static bool stamped; /* a file has no other clock */

void ckpt_log_to_syslog(const char *ident)
{
	pthread_mutex_lock(&mu);
	openlog(ident, LOG_PID, LOG_DAEMON);
	syslog_ident = ident;
	pthread_mutex_unlock(&mu);
}

int ckpt_log_to_file(const char *path, struct ckpt_err *err)
{
	int fd = ckpt_io_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY, 0640);

	if (fd < 0)
		return ckpt_err_sys(err, fd, "cannot open the log '%s'", path);
	pthread_mutex_lock(&mu);
	if (log_fd != STDERR_FILENO)
		close(log_fd);
	log_fd = fd;
	stamped = true;
	syslog_ident = NULL;
	pthread_mutex_unlock(&mu);
	return 0;
}

/* One message is one line, whatever names it quotes. */
static void flatten(char *text)
{
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
	}
}

/* The whole line in one write, so that lines of several processes do not mix. */
static void write_line(const char *text)
{
	char line[LOG_LINE_MAX];
	char now[CKPT_RFC3339_SIZE];
	int len;

	len = snprintf(line, sizeof(line), "%s%s%s: %s\n", stamped ? ckpt_clock_rfc3339(now) : "",
		       stamped ? " " : "", program_invocation_short_name, text);
	if (len < 0)
		return;
	if ((size_t)len >= sizeof(line)) {
		len = (int)sizeof(line) - 1;
		line[len - 1] = '\n';
	}
	/* Where the log itself cannot be written there is nobody to tell. */
	if (write(log_fd, line, (size_t)len) < 0)
		return;
}

void ckpt_log(const char *fmt, ...)
{
	char text[CKPT_ERR_MAX];
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (len < 0)
		return;
	flatten(text);
	pthread_mutex_lock(&mu);
	if (syslog_ident)
		syslog(LOG_NOTICE, "%s", text);
	else
		write_line(text);
	pthread_mutex_unlock(&mu);
}
