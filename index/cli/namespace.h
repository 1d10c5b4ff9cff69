/*
 * namespace.h - a mount namespace of one's own: what is mounted in it only this process and its
 * children see.
 */
#ifndef CKPT_CLI_NAMESPACE_H
#define CKPT_CLI_NAMESPACE_H

#include "base/err.h"

/**
 * namespace_enter - put this process into a new mount namespace; who may not have one alone gets a
 * user namespace with it, in which his ids are what they were What others mount still comes in,
 * what is mounted in here does not go out. Only with one thread.
 * Errors: -EPERM this system does not allow it; system.
 */
int namespace_enter(struct ckpt_err *err) CKPT_MUST_CHECK;
/**
 * namespace_keep_mounting - let the program that this process executes next mount in the namespace:
 * in a user namespace, execve(2) would take that right away from all but uid 0. Nothing to do
 * elsewhere.
 */
int namespace_keep_mounting(void) CKPT_MUST_CHECK;
/**
 * namespace_kill_others - SIGKILL to every process of this mount namespace but this one and
 * @spared, until none is left.
 */
void namespace_kill_others(int spared);

#endif
