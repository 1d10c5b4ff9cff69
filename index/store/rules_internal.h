/*
 * rules_internal.h - looking at an open checkpoint for the completion rules:
 * the names at its top, what its folders hold, and the files beside it.
 * May be included only by index/store/{rules,rules_table,rules_look}.c.
 */
#ifndef CKPT_STORE_RULES_INTERNAL_H
#define CKPT_STORE_RULES_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* The names of one folder, sorted by their bytes. */
struct rule_names {
	char **items;
	size_t count, cap;
};

struct rule_look {
	int store_fd;	    /* borrowed */
	const char *stored; /* its folder, below the store; borrowed */
	const char *name;   /* what it is, or will be, called; borrowed */
	int fd;		    /* of its folder */
	struct rule_names files;
	struct rule_names dirs; /* control folder left out */
};

/** rule_look_at - rule_look_release() it. -ENOENT; system. */
int rule_look_at(int store_fd, const char *name, struct rule_look *out) CKPT_MUST_CHECK;
void rule_look_release(struct rule_look *look);
/** rule_names_of - names of the files and folders of @dir below @dirfd; what cannot be looked into holds nothing. */
int rule_names_of(int dirfd, const char *dir, struct rule_names *files, struct rule_names *dirs)
	CKPT_MUST_CHECK;
void rule_names_release(struct rule_names *names);
bool rule_names_has(const struct rule_names *names, const char *name);
/** rule_names_first - the first one from @from on that is @prefix, anything, @suffix; NULL: none. */
const char *rule_names_first(const struct rule_names *names, size_t *from, const char *prefix,
			     const char *suffix);

/** rule_number_behind - the decimal number in @text behind @prefix, *@out_rest what follows it; false: none. */
bool rule_number_behind(const char *text, const char *prefix, uint64_t *out, const char **out_rest);

/**
 * rule_numbers_missing - the numbers of the names PREFIX N SUFFIX…, from @first to the highest, without a gap?
 * 1 and *@out: one is missing; 0 none is; -ENOENT there is no such name; -ENOMEM.
 */
int rule_numbers_missing(const struct rule_names *names, const char *prefix, const char *suffix,
			 uint64_t first, uint64_t *out) CKPT_MUST_CHECK;

/* --- rules_table.c --------------------------------------------------------------------- */

/* One question about one checkpoint. */
struct rule_question {
	const struct rule_look *look;
	struct ckpt_buf *waits; /* receives what is missing, where something is; never NULL */
};

struct rule {
	const char *name;
	const char *proof; /* for people */
	bool (*applies)(const struct rule_look *look);
	/* 1 complete; 0 not; negative errno */
	int (*judge)(const struct rule_question *q);
};

/* In the order in which they are asked: the first that applies decides. */
extern const struct rule rule_table[];
extern const size_t rule_count;

/** rule_is_tracker, rule_is_proof - may a file of that name complete a checkpoint: one beside it, one in it? */
bool rule_is_tracker(const char *base);
bool rule_is_proof(const char *base);

/* --- the files beside a checkpoint -------------------------------------------------------- */

/** rule_beside - path of @file in the folder that the checkpoint lies in (appended). */
void rule_beside(const char *name, const char *file, struct ckpt_buf *out);
/**
 * rule_read_tracker - the one word in a tracker file, without blanks at its ends (appended)
 * *@out_ns: NULL, or its mtime. -ENOENT there is none, or it holds no word that can name a folder.
 */
int rule_read_tracker(int store_fd, const char *path, struct ckpt_buf *out, int64_t *out_ns)
	CKPT_MUST_CHECK;

#endif
