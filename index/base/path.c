/*
 * path.c - the rules for names; see path.h. Pure string work.
 * Escaping (for messages, for shard names) is in here too, because it is about
 * the same bytes; the patterns of temporary names are those of
 * ckptfs-format(5) "Temporary names" and nothing else.
 */
#include "path.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "hash.h"
#include "num.h"

/* Digits a pack's number has at least. */
#define PACK_DIGITS_MIN 5
/* An escaped FQN longer than this is cut: NAME_MAX less "@START" of some dimensions. */
#define ESC_LEN_MAX 200
#define ESC_CUT_LEN 160
/* Steps are numbers that JSON readers hold exactly. */
#define STEP_MAX (1ULL << 53)

/* --- UTF-8 ---------------------------------------------------------------- */

static bool is_continuation(unsigned char byte)
{
	return (byte & 0xc0) == 0x80;
}

/*
 * Length of the well-formed sequence at @text, 0 if there is none. The lowest
 * and highest second bytes keep out overlong forms, surrogates and what lies
 * above U+10FFFF. Source: Unicode 15, table 3-7.
 */
static size_t utf8_sequence(const unsigned char *text, size_t len_bytes)
{
	unsigned char low = 0x80;
	unsigned char high = 0xbf;
	size_t need;

	assert(len_bytes > 0);
	if (text[0] < 0x80)
		return 1;
	if (text[0] < 0xc2 || text[0] > 0xf4)
		return 0;
	need = text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
	if (text[0] == 0xe0)
		low = 0xa0;
	else if (text[0] == 0xed)
		high = 0x9f;
	else if (text[0] == 0xf0)
		low = 0x90;
	else if (text[0] == 0xf4)
		high = 0x8f;
	if (len_bytes < need || text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < need; i++) {
		if (!is_continuation(text[i]))
			return 0;
	}
	return need;
}

/*
 * Length of the printable character at @text; 0 for a control character or a byte that is no
 * UTF-8.
 */
static size_t printable_sequence(const char *text, size_t len_bytes)
{
	const unsigned char *bytes = (const unsigned char *)text;
	size_t len = utf8_sequence(bytes, len_bytes);

	if (len == 1 && (bytes[0] < 0x20 || bytes[0] == 0x7f))
		return 0;
	if (len == 2 && bytes[0] == 0xc2 && bytes[1] < 0xa0) /* C1: U+0080 to U+009F */
		return 0;
	return len;
}

static bool is_utf8(const char *text, size_t len_bytes, bool printable)
{
	for (size_t i = 0; i < len_bytes;) {
		size_t len =
			printable ? printable_sequence(text + i, len_bytes - i)
				  : utf8_sequence((const unsigned char *)text + i, len_bytes - i);

		if (len == 0)
			return false;
		i += len;
	}
	return true;
}

bool ckpt_path_is_utf8(const char *text, size_t len_bytes)
{
	return is_utf8(text, len_bytes, true);
}

bool ckpt_text_is_utf8(const char *text)
{
	return is_utf8(text, strlen(text), false);
}

/* --- what may be a name --------------------------------------------------- */

static bool equals(const char *text, size_t len_bytes, const char *word)
{
	return strlen(word) == len_bytes && memcmp(text, word, len_bytes) == 0;
}

/* File "@path: @reason", with the path made fit for a terminal; returns @code. */
static int refuse(struct ckpt_err *err, int code, const char *path, const char *reason)
{
	struct ckpt_buf shown;

	if (!err)
		return code;
	ckpt_buf_init(&shown);
	ckpt_path_escape(&shown, path);
	/* Out of memory: an empty name in the message is better than none at all. */
	ckpt_err_set(err, code, "cannot use the name '%s': %s", shown.data, reason);
	ckpt_buf_release(&shown);
	return code;
}

/* Why one component may not be used; NULL if it may. */
static const char *component_fault(const char *text, size_t len_bytes)
{
	if (len_bytes == 0)
		return "it has an empty component";
	if (equals(text, len_bytes, ".") || equals(text, len_bytes, ".."))
		return "'.' and '..' are not allowed in it";
	if (equals(text, len_bytes, CKPT_CONTROL_DIR))
		return "'" CKPT_CONTROL_DIR "' is reserved";
	if (!ckpt_path_is_utf8(text, len_bytes))
		return "it is not UTF-8, or holds control characters";
	return NULL;
}

static int check_components(const char *path, size_t depth_max, struct ckpt_err *err)
{
	const char *at = path;
	size_t depth = 0;

	for (;;) {
		size_t len_bytes = strcspn(at, "/");
		const char *fault = component_fault(at, len_bytes);

		if (fault)
			return refuse(err, -EINVAL, path, fault);
		if (len_bytes > CKPT_COMPONENT_MAX)
			return refuse(err, -ENAMETOOLONG, path,
				      "a component has more than 255 bytes");
		if (++depth > depth_max)
			return refuse(err, -EINVAL, path, "it has too many levels");
		if (at[len_bytes] == '\0')
			return 0;
		at += len_bytes + 1;
	}
}

int ckpt_path_check_name(const char *name, struct ckpt_err *err)
{
	return check_components(name, CKPT_NAME_DEPTH_MAX, err);
}

int ckpt_path_check_entry(const char *path, struct ckpt_err *err)
{
	if (strlen(path) > CKPT_ENTRY_PATH_MAX)
		return refuse(err, -ENAMETOOLONG, path, "it has more than 3072 bytes");
	return check_components(path, CKPT_ENTRY_DEPTH_MAX, err);
}

int ckpt_path_check_pack(const char *path, struct ckpt_err *err)
{
	static const char prefix[] = CKPT_CONTROL_DIR "/pack-";
	size_t prefix_len = sizeof(prefix) - 1;
	size_t digits;

	if (strncmp(path, prefix, prefix_len) != 0)
		return refuse(err, -EINVAL, path, "a pack is called '.ckptfs/pack-NNNNN'");
	digits = strspn(path + prefix_len, "0123456789");
	if (digits < PACK_DIGITS_MIN || path[prefix_len + digits] != '\0')
		return refuse(err, -EINVAL, path, "a pack is called '.ckptfs/pack-NNNNN'");
	if (strlen("pack-") + digits > CKPT_COMPONENT_MAX)
		return refuse(err, -EINVAL, path, "a component has more than 255 bytes");
	return 0;
}

/* --- temporary names ------------------------------------------------------ */

static const char *const temporary_suffixes[] = { ".tmp", ".partial", ".incomplete" };
static const char *const temporary_prefixes[] = { "tmp_", "tmp-", ".tmp" };
static const char temporary_infix[] = ".orbax-checkpoint-tmp";

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Part of a component: [start, end). */
struct span {
	const char *start;
	const char *end;
};

/* Take one temporary mark off @part; false if it has none. */
static bool strip_mark(struct span *part)
{
	size_t len_bytes = (size_t)(part->end - part->start);
	const char *infix;

	for (size_t i = 0; i < COUNT_OF(temporary_suffixes); i++) {
		size_t mark_len = strlen(temporary_suffixes[i]);

		if (len_bytes >= mark_len &&
		    memcmp(part->end - mark_len, temporary_suffixes[i], mark_len) == 0) {
			part->end -= mark_len;
			return true;
		}
	}
	infix = memmem(part->start, len_bytes, temporary_infix, sizeof(temporary_infix) - 1);
	if (infix) {
		part->end = infix;
		return true;
	}
	for (size_t i = 0; i < COUNT_OF(temporary_prefixes); i++) {
		size_t mark_len = strlen(temporary_prefixes[i]);

		if (len_bytes >= mark_len &&
		    memcmp(part->start, temporary_prefixes[i], mark_len) == 0) {
			part->start += mark_len;
			return true;
		}
	}
	return false;
}

bool ckpt_path_component_is_temporary(const char *component)
{
	struct span part = { .start = component, .end = component + strlen(component) };

	return strip_mark(&part);
}

bool ckpt_path_is_temporary(const char *name)
{
	for (;;) {
		size_t len_bytes = strcspn(name, "/");
		struct span part = { .start = name, .end = name + len_bytes };

		if (strip_mark(&part))
			return true;
		if (name[len_bytes] == '\0')
			return false;
		name += len_bytes + 1;
	}
}

/* What remains of a component without its marks; it may carry several. */
static struct span lasting_part(const char *component)
{
	struct span part = { .start = component, .end = component + strlen(component) };

	while (strip_mark(&part))
		;
	return part;
}

int ckpt_path_final_name(const char *name, struct ckpt_buf *out, struct ckpt_err *err)
{
	const char *last = ckpt_path_basename(name);
	struct span part = lasting_part(last);

	for (const char *at = name; at < last;) {
		size_t len_bytes = strcspn(at, "/");
		struct span upper = { .start = at, .end = at + len_bytes };

		if (strip_mark(&upper))
			return refuse(err, -EINVAL, name,
				      "a folder above it has a temporary name; rename that one");
		at += len_bytes + 1;
	}
	if (component_fault(part.start, (size_t)(part.end - part.start)))
		return refuse(err, -EINVAL, name, "no lasting name is left of it");
	ckpt_buf_add(out, name, (size_t)(last - name));
	ckpt_buf_add(out, part.start, (size_t)(part.end - part.start));
	return 0;
}

/* --- taking apart and putting together ------------------------------------ */

const char *ckpt_path_basename(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

void ckpt_path_join(struct ckpt_buf *out, const char *dir, const char *name)
{
	size_t dir_len = strlen(dir);

	if (dir_len > 0 && strcmp(dir, ".") != 0) {
		ckpt_buf_add(out, dir, dir_len);
		if (dir[dir_len - 1] != '/')
			ckpt_buf_add_char(out, '/');
	}
	ckpt_buf_add_str(out, name);
}

bool ckpt_path_is_below(const char *path, const char *dir)
{
	size_t dir_len = strlen(dir);

	if (dir_len == 0)
		return true;
	return strncmp(path, dir, dir_len) == 0 && (path[dir_len] == '/' || path[dir_len] == '\0');
}

int ckpt_path_step(const char *name, unsigned long long *out)
{
	const char *last = ckpt_path_basename(name);
	const char *end = last + strlen(last);
	unsigned long long step = 0;
	const char *digit;

	while (end > last && (end[-1] < '0' || end[-1] > '9'))
		end--;
	for (digit = end; digit > last && digit[-1] >= '0' && digit[-1] <= '9';)
		digit--;
	if (digit == end)
		return -ENOENT;
	for (; digit < end; digit++) {
		step = step * 10 + (unsigned)(*digit - '0');
		if (step > STEP_MAX)
			return -ENOENT;
	}
	*out = step;
	return 0;
}

/* --- escaping ------------------------------------------------------------- */

void ckpt_path_escape(struct ckpt_buf *out, const char *text)
{
	size_t len_bytes = strlen(text);

	for (size_t i = 0; i < len_bytes;) {
		size_t len = printable_sequence(text + i, len_bytes - i);

		if (len == 0)
			ckpt_buf_printf(out, "\\x%02x", (unsigned)(unsigned char)text[i]);
		else
			ckpt_buf_add(out, text + i, len);
		i += num_max(len, 1);
	}
}

static bool fqn_byte_is_plain(unsigned char byte, bool first)
{
	if (byte == '/' || byte == '%' || byte == 0x7f || byte < 0x21)
		return false;
	return byte != '.' || !first;
}

void ckpt_path_escape_fqn(struct ckpt_buf *out, const char *fqn)
{
	char hex[CKPT_HEX64_LEN + 1];
	size_t start = out->len_bytes;
	size_t cut;

	for (const char *at = fqn; *at != '\0'; at++) {
		if (fqn_byte_is_plain((unsigned char)*at, at == fqn))
			ckpt_buf_add_char(out, *at);
		else
			ckpt_buf_printf(out, "%%%02X", (unsigned)(unsigned char)*at);
	}
	if (ckpt_buf_check(out) < 0 || out->len_bytes - start <= ESC_LEN_MAX)
		return;
	/* Not through a character: half of one is no UTF-8, and no commit would take the name. */
	for (cut = ESC_CUT_LEN; cut > 0 && is_continuation((unsigned char)out->data[start + cut]);)
		cut--;
	out->len_bytes = start + cut;
	ckpt_buf_printf(out, "~%s", ckpt_hex64(ckpt_hash64(fqn, strlen(fqn)), hex));
}
