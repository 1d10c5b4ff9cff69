/*
 * progress.h - a bar on the terminal for work that takes over a second.
 *
 * There is one bar at a time, on stderr, and none where stderr is no terminal.
 * It is erased when the work ends and whenever a message is printed.
 */
#ifndef CKPT_CLI_PROGRESS_H
#define CKPT_CLI_PROGRESS_H

#include <stdint.h>

/** progress_start - begin to count time; @label is copied, e.g. "verifying run1/step-9". */
void progress_start(const char *label);
/**
 * progress_update - so much is done; draws at most ten times a second
 * @ctx: not used; there so that this is a progress callback as store.h wants it
 * Returns non-zero when a signal was caught, which cancels the work. Any thread.
 */
int progress_update(void *ctx, uint64_t bytes_done, uint64_t bytes_total);
/** progress_erase - take the bar off the terminal; the next update draws it again. */
void progress_erase(void);
/** progress_end - the work has ended; erases. */
void progress_end(void);

#endif
