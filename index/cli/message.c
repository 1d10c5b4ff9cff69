/* message.c - what the program says: errors on stderr, results on stdout. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/progress.h"

void cli_error(const char *fmt, ...)
{
	struct ckpt_buf line;
	va_list args;

	ckpt_buf_init(&line);
	ckpt_buf_add_str(&line, "ckptfs: ");
	va_start(args, fmt);
	ckpt_buf_vprintf(&line, fmt, args);
	va_end(args);
	ckpt_buf_add_char(&line, '\n');
	progress_erase();
	/* What was printed so far comes first, also where both go to one file. */
	(void)fflush(stdout);
	(void)fputs(line.data, stderr);
	ckpt_buf_release(&line);
}

int cli_report(const struct ckpt_err *err)
{
	cli_error("%s", err->msg);
	return CLI_FAILED;
}

int cli_flush(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	cli_error("cannot write to standard output: %s", strerror(errno));
	return CLI_FAILED;
}

int cli_write(const void *data, size_t len_bytes, struct ckpt_err *err)
{
	const char *at = data;

	while (len_bytes > 0) {
		ssize_t done = write(STDOUT_FILENO, at, len_bytes);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return ckpt_err_sys(err, -errno, "cannot write to standard output");
		at += done;
		len_bytes -= (size_t)done;
	}
	return 0;
}
