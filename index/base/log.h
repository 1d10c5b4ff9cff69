/*
 * log.h - the log of a program that has no terminal (the mount daemon): one
 * line a message, to stderr until ckpt_log_to_syslog(), to syslog(3) after.
 * Only main-level code and the FUSE callback layer call this. Thread-safe.
 */
#ifndef CKPT_BASE_LOG_H
#define CKPT_BASE_LOG_H

#include "err.h"

/**
 * ckpt_log_to_syslog - from now on to syslog as @ident (kept by the caller for ever), facility
 * daemon.
 */
void ckpt_log_to_syslog(const char *ident);
/** ckpt_log_to_file - from now on append to @path (for tests and `-o log=FILE`). */
int ckpt_log_to_file(const char *path, struct ckpt_err *err) CKPT_MUST_CHECK;
/** ckpt_log - one line; @ident given at start or the program's short name comes before it. */
void ckpt_log(const char *fmt, ...) CKPT_PRINTF(1, 2);

#endif
