/*
 * replay.c - run inputs of the fuzzers that were kept: `ckpt-fuzz-replay PARSER FILE…`,
 * without a name to list the parsers. A fault ends the process, as it does when fuzzing.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "fuzz.h"

/* No kept input is longer. */
#define INPUT_MAX (UINT64_C(1) << 20)

#define PARSERS(X) X(dcp) X(manifest) X(npy) X(pickle) X(safetensors) X(sharding) X(torch) X(zip)

#define DECLARE(name) int fuzz_##name(const uint8_t *data, size_t len_bytes);
#define LIST(name) { #name, fuzz_##name },

PARSERS(DECLARE)

static const struct parser {
	const char *name;
	int (*run)(const uint8_t *data, size_t len_bytes);
} parsers[] = { PARSERS(LIST) };

/* From a block of its own size, so that a sanitizer sees a read behind its end. */
static int replay(const struct parser *parser, const char *path)
{
	struct ckpt_err err = CKPT_ERR_INIT;
	struct ckpt_buf text;
	uint8_t *bytes;

	ckpt_buf_init(&text);
	if (ckpt_io_read_file(AT_FDCWD, path, INPUT_MAX, &text, &err) < 0) {
		(void)fprintf(stderr, "ckpt-fuzz-replay: %s\n", err.msg);
		return 1;
	}
	bytes = malloc(text.len_bytes > 0 ? text.len_bytes : 1);
	if (bytes) {
		memcpy(bytes, text.data, text.len_bytes);
		(void)parser->run(bytes, text.len_bytes);
	}
	free(bytes);
	ckpt_buf_release(&text);
	return bytes ? 0 : 1;
}

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(parsers) / sizeof(parsers[0]); i++) {
		if (argc < 2)
			(void)printf("%s\n", parsers[i].name);
		if (argc < 2 || strcmp(argv[1], parsers[i].name) != 0)
			continue;
		for (int j = 2; j < argc; j++) {
			(void)fprintf(stderr, "%s %s\n", argv[1], argv[j]);
			if (replay(&parsers[i], argv[j]) != 0)
				return 1;
		}
		(void)printf("%s: %d inputs\n", argv[1], argc - 2);
		return 0;
	}
	if (argc >= 2)
		(void)fprintf(stderr,
			      "ckpt-fuzz-replay: no parser '%s'; without a name they are "
			      "listed\n",
			      argv[1]);
	return argc < 2 ? 0 : 2;
}
