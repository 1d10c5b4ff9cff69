/*
 * suggest.c - the distance of two words (optimal string alignment: R. A. Wagner
 * and R. Lowrance, "An Extension of the String-to-String Correction Problem",
 * 1975, in the restricted form that git and others use).
 */
#include "cli/suggest.h"

#include <stdint.h>
#include <string.h>

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

size_t suggest_distance(const char *typed, const char *word)
{
	/* rows[i] is the line of the table for the first i letters of @typed. */
	static size_t rows[SUGGEST_WORD_MAX + 1][SUGGEST_WORD_MAX + 1];
	size_t typed_len = strlen(typed);
	size_t word_len = strlen(word);

	if (typed_len > SUGGEST_WORD_MAX || word_len > SUGGEST_WORD_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= word_len; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= typed_len; i++) {
		rows[i][0] = i;
		for (size_t j = 1; j <= word_len; j++) {
			size_t best = rows[i - 1][j - 1] + (typed[i - 1] != word[j - 1]);

			best = least(best, least(rows[i - 1][j], rows[i][j - 1]) + 1);
			if (i > 1 && j > 1 && typed[i - 1] == word[j - 2] &&
			    typed[i - 2] == word[j - 1])
				best = least(best, rows[i - 2][j - 2] + 1);
			rows[i][j] = best;
		}
	}
	return rows[typed_len][word_len];
}

int suggest_near(const char *typed, size_t distance)
{
	/* A third of the letters may be wrong, and one of two ("l" for "ls"). */
	return distance <= least(3, strlen(typed) / 3 + 1);
}
