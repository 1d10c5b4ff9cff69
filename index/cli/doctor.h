/* doctor.h - what the files of `ckptfs doctor` share: findings, and who looks for them. */
#ifndef CKPT_CLI_DOCTOR_H
#define CKPT_CLI_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mountinfo.h"
#include "cli/cli.h"
#include "cli/table.h"

enum doctor_state {
	DOCTOR_OK,
	DOCTOR_NOTE,  /* good to know, and nobody's fault */
	DOCTOR_FOUND, /* something to do */
	DOCTOR_FIXED,
};

struct doctor {
	bool fix;
	bool json;
	uint64_t max_age_secs; /* an open checkpoint in which nothing changed for so long is abandoned */
	struct table table;
	size_t found_count;
};

/**
 * doctor_tell - one finding; @remedy: what to do, "" for nothing
 * Printed at once, or kept for the JSON.
 */
void doctor_tell(struct doctor *doctor, enum doctor_state state, const char *check,
		 const char *remedy, const char *fmt, ...) CKPT_PRINTF(5, 6);
/** doctor_mounts - dead mounts, of @store_path, or where that is NULL of all stores. */
void doctor_mounts(struct doctor *doctor, const char *store_path);
/** doctor_passthrough - can reads bypass the daemon, and if not, why? @store_path: NULL, no store */
void doctor_passthrough(struct doctor *doctor, const char *store_path);
/** doctor_store - all that lies in the store. Errors: what keeps it from looking at all. */
int doctor_store(struct doctor *doctor, const struct ckpt_place *place, struct ckpt_err *err)
	CKPT_MUST_CHECK;
/**
 * doctor_fstype - "ext4": the type of the file system that @path lies on, into @out (appended); "an
 * unknown file system" where nobody can tell
 */
void doctor_fstype(const char *path, struct ckpt_buf *out);

#endif
