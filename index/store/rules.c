/*
 * rules.c - asking the table of completion rules (rules_table.c) about a folder,
 * and finding the folder that a new file may complete.
 */
#include "store/rules.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "store/rules_internal.h"
#include "store/store_internal.h"

static int judge_look(const struct rule_look *look, struct ckpt_rule_verdict *out,
		      struct ckpt_buf *waits)
{
	const struct rule_question q = { .look = look, .waits = waits };

	for (size_t i = 0; i < rule_count; i++) {
		int rc;

		if (!rule_table[i].applies(look))
			continue;
		out->rule = rule_table[i].name;
		out->proof = rule_table[i].proof;
		rc = rule_table[i].judge(&q);
		out->complete = rc == 1;
		return rc < 0 ? rc : 0;
	}
	ckpt_buf_add_str(waits, "a commit: no completion rule knows its files");
	return 0;
}

int ckpt_rules_judge_as(int store_fd, const char *name, const char *lasting,
			struct ckpt_rule_verdict *out, struct ckpt_buf *waits_for,
			struct ckpt_err *err)
{
	struct ckpt_rule_verdict verdict = { .rule = NULL };
	struct rule_look look;
	struct ckpt_buf waits;
	int rc;

	ckpt_buf_init(&waits);
	rc = rule_look_at(store_fd, name, &look);
	if (rc == 0) {
		look.name = lasting;
		if (ckpt_path_is_temporary(lasting))
			ckpt_buf_add_str(&waits, "the rename to its lasting name, or a commit");
		else
			rc = judge_look(&look, &verdict, &waits);
		rule_look_release(&look);
	}
	if (rc == 0)
		rc = ckpt_buf_check(&waits);
	if (rc == 0 && waits_for && !verdict.complete) {
		ckpt_path_escape(waits_for, waits.data);
		rc = ckpt_buf_check(waits_for);
	}
	ckpt_buf_release(&waits);
	if (rc < 0)
		return ckpt_err_sys(err, rc, "cannot tell whether '%s' is complete", name);
	*out = verdict;
	return 0;
}

int ckpt_rules_judge(int store_fd, const char *name, struct ckpt_rule_verdict *out,
		     struct ckpt_buf *waits_for, struct ckpt_err *err)
{
	return ckpt_rules_judge_as(store_fd, name, name, out, waits_for, err);
}

/* --- what may complete one ----------------------------------------------------------------- */

bool ckpt_rules_may_complete(const char *path)
{
	const char *base = ckpt_path_basename(path);

	/* A folder that was moved to such a name may bring all its files along. */
	return rule_is_tracker(base) || rule_is_proof(base) || ckpt_name_is_numbered(base);
}

/* The checkpoint that the word in the tracker at @path names (appended). */
static int tracked_by(int store_fd, const char *path, struct ckpt_buf *out)
{
	struct ckpt_buf word;
	uint64_t number;
	int rc;

	ckpt_buf_init(&word);
	rc = rule_read_tracker(store_fd, path, &word, NULL);
	if (rc == 0) {
		rule_beside(path, "", out);
		if (num_parse_u64(word.data, &number) == 0)
			ckpt_buf_printf(out, "iter_%07" PRIu64, number);
		else
			ckpt_buf_add_str(out, word.data);
		rc = ckpt_buf_check(out);
	}
	ckpt_buf_release(&word);
	return rc;
}

/* The outermost open checkpoint that @path lies in, or is. */
static int open_at(int store_fd, const char *path, struct ckpt_buf *out)
{
	enum ckpt_state state = CKPT_STATE_NONE;
	struct ckpt_buf name;
	int rc;

	ckpt_buf_init(&name);
	rc = ckpt_state_find_above(store_fd, path, &name, NULL);
	if (rc == -ENOENT) {
		ckpt_buf_reset(&name);
		ckpt_buf_add_str(&name, path);
		rc = ckpt_buf_check(&name);
	}
	if (rc == 0)
		rc = ckpt_state_of(store_fd, name.data, &state, NULL, NULL);
	if (rc == -ENOTDIR || (rc == 0 && state != CKPT_STATE_OPEN))
		rc = -ENOENT;
	if (rc == 0) {
		ckpt_buf_add_str(out, name.data);
		rc = ckpt_buf_check(out);
	}
	ckpt_buf_release(&name);
	return rc;
}

int ckpt_rules_completes(int store_fd, const char *path, struct ckpt_buf *out)
{
	struct ckpt_buf target;
	int rc = 0;

	if (!ckpt_rules_may_complete(path))
		return -ENOENT;
	ckpt_buf_init(&target);
	if (rule_is_tracker(ckpt_path_basename(path)))
		rc = tracked_by(store_fd, path, &target);
	else
		ckpt_buf_add_str(&target, path);
	if (rc == 0)
		rc = ckpt_buf_check(&target);
	if (rc == 0)
		rc = open_at(store_fd, target.data, out);
	ckpt_buf_release(&target);
	return rc;
}
