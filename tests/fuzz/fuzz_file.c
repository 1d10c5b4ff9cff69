/* fuzz_file.c - what is parsed from a descriptor, for all parsers of one; see fuzz.h. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "fuzz.h"

int fuzz_file(const uint8_t *data, size_t len_bytes)
{
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0 || ckpt_io_ftruncate(fd, 0) < 0 ||
	    ckpt_io_pwrite_full(fd, data, len_bytes, 0) < 0)
		abort();
	return fd;
}
