/*
 * state_names.c - what the name of a folder says about it; see state.c for what follows from that.
 */
#include <stdbool.h>
#include <string.h>

#include "store/store_internal.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_all_digits(const char *text)
{
	return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/*
 * Is there a number behind @word somewhere in @name, with at most one '-', '_', '=' or '.'
 * between?
 */
static bool has_number_behind(const char *name, const char *word)
{
	size_t word_len = strlen(word);

	for (const char *at = strstr(name, word); at; at = strstr(at + 1, word)) {
		const char *next = at + word_len;

		if (*next != '\0' && strchr("-_=.", *next))
			next++;
		if (is_digit(*next))
			return true;
	}
	return false;
}

bool ckpt_name_is_numbered(const char *name)
{
	static const char *const words[] = { "step",  "iter",	    "iteration",
					     "epoch", "checkpoint", "ckpt" };

	if (is_all_digits(name))
		return true;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (has_number_behind(name, words[i]))
			return true;
	}
	return false;
}

bool ckpt_name_is_part(const char *name)
{
	static const char *const numbered[] = { "pytorch_model_fsdp_", "optimizer_" };

	for (size_t i = 0; i < sizeof(numbered) / sizeof(numbered[0]); i++) {
		if (ckpt_has_prefix(name, numbered[i]) && is_all_digits(name + strlen(numbered[i])))
			return true;
	}
	return strcmp(name, "sharded") == 0;
}

bool ckpt_name_is_trainer(const char *name)
{
	static const char prefix[] = "checkpoint-";

	return ckpt_has_prefix(name, prefix) && is_all_digits(name + sizeof(prefix) - 1);
}
