/*
 * signals.h - ending on SIGINT and SIGTERM without leaving half a thing behind.
 *
 * A command that has something to clean up calls signals_catch() before it
 * begins. The first signal is then only noted; the command sees it through
 * signals_caught(), cleans up and returns, and main() lets the process die of
 * that same signal, as its caller expects. A second signal kills at once.
 */
#ifndef CKPT_CLI_SIGNALS_H
#define CKPT_CLI_SIGNALS_H

/** signals_catch - note SIGINT, SIGTERM and SIGHUP from now on. */
void signals_catch(void);
/** signals_caught - the number of the signal that came, 0 while none did. Any thread. */
int signals_caught(void);
/** signals_die - if one was caught, die of it; else return. */
void signals_die(void);

#endif
