/* suggest.h - which of the words there are did somebody mean? */
#ifndef CKPT_CLI_SUGGEST_H
#define CKPT_CLI_SUGGEST_H

#include <stddef.h>

/* Longer words are not compared: no command or option comes near. */
#define SUGGEST_WORD_MAX 32

/**
 * suggest_distance - letters to insert, delete, replace or swap with their neighbour; a big number
 * for long words.
 */
size_t suggest_distance(const char *typed, const char *word);
/** suggest_near - is a word at this distance close enough to be meant? */
int suggest_near(const char *typed, size_t distance);

#endif
