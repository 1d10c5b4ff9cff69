/* fault.c - see fault.h. */
#include "fault.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"

static const char *const action_names[] = {
	[CKPT_FAULT_ERROR] = "error", [CKPT_FAULT_EXIT] = "exit",     [CKPT_FAULT_KILL] = "kill",
	[CKPT_FAULT_STOP] = "stop",   [CKPT_FAULT_ENOSPC] = "enospc", [CKPT_FAULT_SHORT] = "short",
};

#define REMEDY "CKPTFS_FAULT is PHASE@RANK[,RANK...][:ACTION], ';' between several"

static int parse_phase(const char *word, enum ckpt_mpi_phase *out)
{
	for (int i = 0; i < CKPT_MPI_PHASE_COUNT; i++) {
		if (strcmp(word, ckpt_mpi_phase_name((enum ckpt_mpi_phase)i)) == 0) {
			*out = (enum ckpt_mpi_phase)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_action(const char *word, enum ckpt_fault_action *out)
{
	for (size_t i = 0; i < sizeof(action_names) / sizeof(action_names[0]); i++) {
		if (strcmp(word, action_names[i]) == 0) {
			*out = (enum ckpt_fault_action)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_ranks(char *list, struct ckpt_fault fault, struct ckpt_fault_set *out,
		       struct ckpt_err *err)
{
	for (char *word = list; word;) {
		char *rest = strchr(word, ',');
		uint64_t rank;

		if (rest)
			*rest++ = '\0';
		if (num_parse_u64(word, &rank) < 0 || rank > INT32_MAX)
			return ckpt_err_set(err, -EINVAL, "'%s' is no rank; " REMEDY, word);
		if (out->count == CKPT_FAULT_MAX)
			return ckpt_err_set(err, -EINVAL, "more than %d faults; " REMEDY,
					    CKPT_FAULT_MAX);
		fault.rank = (int)rank;
		out->faults[out->count++] = fault;
		word = rest;
	}
	return 0;
}

/* PHASE@RANKS[:ACTION]; taken apart in place. */
static int parse_one(char *word, struct ckpt_fault_set *out, struct ckpt_err *err)
{
	struct ckpt_fault fault = { .action = CKPT_FAULT_ERROR };
	char *ranks = strchr(word, '@');
	char *action;

	if (!ranks)
		return ckpt_err_set(err, -EINVAL, "'%s' has no '@'; " REMEDY, word);
	*ranks++ = '\0';
	action = strchr(ranks, ':');
	if (action)
		*action++ = '\0';
	if (parse_phase(word, &fault.phase) < 0)
		return ckpt_err_set(err, -EINVAL, "'%s' is no phase; " REMEDY, word);
	if (action && parse_action(action, &fault.action) < 0)
		return ckpt_err_set(err, -EINVAL, "'%s' is no action; " REMEDY, action);
	return parse_ranks(ranks, fault, out, err);
}

int ckpt_fault_parse(const char *text, struct ckpt_fault_set *out, struct ckpt_err *err)
{
	CKPT_FREE char *copy = NULL;
	int rc = 0;

	out->text = NULL;
	out->count = 0;
	if (!text || !*text)
		return 0;
	copy = strdup(text);
	if (!copy)
		return ckpt_err_sys(err, -ENOMEM, "cannot read CKPTFS_FAULT");
	for (char *word = copy; word && rc == 0;) {
		char *rest = strchr(word, ';');

		if (rest)
			*rest++ = '\0';
		rc = parse_one(word, out, err);
		word = rest;
	}
	if (rc == 0)
		out->text = strdup(text);
	if (rc == 0 && !out->text)
		rc = ckpt_err_sys(err, -ENOMEM, "cannot read CKPTFS_FAULT");
	return rc;
}

void ckpt_fault_release(struct ckpt_fault_set *set)
{
	free(set->text);
	set->text = NULL;
	set->count = 0;
}

static int act(enum ckpt_fault_action action, struct ckpt_err *err)
{
	switch (action) {
	case CKPT_FAULT_EXIT:
		_exit(1);
	case CKPT_FAULT_KILL:
		ckpt_ignore(raise(SIGKILL)); /* it cannot fail for this process */
		return 0;
	case CKPT_FAULT_STOP:
		/* Whoever continues the process finds it as healthy as before. */
		ckpt_ignore(raise(SIGSTOP));
		return 0;
	case CKPT_FAULT_ENOSPC:
		return ckpt_err_sys(err, -ENOSPC, "fault on demand (CKPTFS_FAULT)");
	case CKPT_FAULT_SHORT:
		return ckpt_err_set(
			err, -EIO,
			"fault on demand (CKPTFS_FAULT): fewer bytes were moved than asked");
	case CKPT_FAULT_ERROR:
		break;
	}
	return ckpt_err_sys(err, -EIO, "fault on demand (CKPTFS_FAULT)");
}

int ckpt_fault_hit(const struct ckpt_fault_set *set, enum ckpt_mpi_phase phase, int rank,
		   struct ckpt_err *err)
{
	for (size_t i = 0; i < set->count; i++) {
		const struct ckpt_fault *fault = &set->faults[i];
		int rc = 0;

		if (fault->phase == phase && fault->rank == rank)
			rc = act(fault->action, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}
