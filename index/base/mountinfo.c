/* mountinfo.c - parse /proc/self/mountinfo; see mountinfo.h. */
#include "mountinfo.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"
#include "num.h"
#include "path.h"

/* 100,000 mounts of long lines: more is no machine of ours. */
#define MOUNTINFO_MAX (64 * CKPT_MIB)

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* Undo the kernel's escapes (\040 for a blank) in place: the result is never longer. */
static void decode_octal(char *text)
{
	char *to = text;

	for (const char *at = text; *at != '\0'; to++) {
		if (at[0] == '\\' && is_octal(at[1]) && is_octal(at[2]) && is_octal(at[3])) {
			*to = (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0'));
			at += 4;
		} else {
			*to = *at++;
		}
	}
	*to = '\0';
}

static void release_mount(struct ckpt_mount *mount)
{
	free(mount->root);
	free(mount->point);
	free(mount->fstype);
	free(mount->source);
}

/* The next blank-separated word of @rest, which moves behind it; NULL at the end. */
static char *next_word(char **rest)
{
	char *word;

	while ((word = strsep(rest, " ")) && *word == '\0')
		;
	return word;
}

/* A heap copy of @word without escapes; NULL when there is no word or no memory. */
static char *copy_word(const char *word)
{
	char *copy = word ? strdup(word) : NULL;

	if (copy)
		decode_octal(copy);
	return copy;
}

/* "36 35 98:0 ROOT POINT OPTIONS [TAGS…] - FSTYPE SOURCE SUPER"; false when a word is missing. */
static bool parse_line(char *line, struct ckpt_mount *out)
{
	char *rest = line;
	const char *word = NULL;

	for (int i = 0; i < 3; i++) {
		if (!next_word(&rest))
			return false;
	}
	out->root = copy_word(next_word(&rest));
	out->point = copy_word(next_word(&rest));
	do {
		word = next_word(&rest);
	} while (word && strcmp(word, "-") != 0);
	out->fstype = copy_word(next_word(&rest));
	/* A source may be the empty string: then two blanks follow each other. */
	out->source = copy_word(rest ? strsep(&rest, " ") : "");
	return out->root && out->point && out->fstype && out->source;
}

static int add_line(struct ckpt_mount_list *list, char *line)
{
	struct ckpt_mount mount = { 0 };
	int rc;

	if (!parse_line(line, &mount)) {
		/* Not a line of the form we know: no mount of ours. */
		release_mount(&mount);
		return 0;
	}
	rc = array_grow(&list->mounts, &list->cap, list->count, sizeof(mount));
	if (rc < 0) {
		release_mount(&mount);
		return rc;
	}
	list->mounts[list->count++] = mount;
	return 0;
}

int ckpt_mount_list_read(struct ckpt_mount_list *out, struct ckpt_err *err)
{
	struct ckpt_mount_list list = { 0 };
	struct ckpt_buf text;
	char *rest;
	char *line;
	int rc;

	ckpt_buf_init(&text);
	rc = ckpt_io_read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, err);
	rest = text.data;
	while (rc == 0 && (line = strsep(&rest, "\n"))) {
		rc = add_line(&list, line);
		if (rc < 0)
			ckpt_err_sys(err, rc, "cannot list the mounts");
	}
	ckpt_buf_release(&text);
	if (rc < 0) {
		ckpt_mount_list_release(&list);
		return rc;
	}
	*out = list;
	return 0;
}

void ckpt_mount_list_release(struct ckpt_mount_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		release_mount(&list->mounts[i]);
	free(list->mounts);
	*list = (struct ckpt_mount_list){ 0 };
}

const struct ckpt_mount *ckpt_mount_list_find(const struct ckpt_mount_list *list, const char *path)
{
	const struct ckpt_mount *found = NULL;
	size_t found_len = 0;

	assert(path[0] == '/');
	for (size_t i = 0; i < list->count; i++) {
		const char *point = list->mounts[i].point;
		bool is_root = strcmp(point, "/") == 0;
		size_t len = is_root ? 0 : strlen(point);

		/* ">=": what was mounted later lies on top. */
		if ((is_root || ckpt_path_is_below(path, point)) && (!found || len >= found_len)) {
			found = &list->mounts[i];
			found_len = len;
		}
	}
	return found;
}

bool ckpt_mount_is_ours(const struct ckpt_mount *mount)
{
	return strcmp(mount->fstype, CKPT_MOUNT_FSTYPE) == 0;
}
