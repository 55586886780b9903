/* Sequential output to a file, buffered; or only counted. */
#ifndef SF_OUTPUT_H
#define SF_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

#define SF_OUTPUT_COUNT_ONLY (-1)

struct sf_output {
	int fd;		 /* or SF_OUTPUT_COUNT_ONLY */
	int error;	 /* the first -errno; nothing is written after it */
	uint64_t offset; /* in the file, of the next byte put */
	size_t used;
	char buffer[8192];
};

void sf_output_open(struct sf_output *ret, int fd);
void sf_output_put(struct sf_output *out, const void *bytes, size_t size);

/* Zeros up to a multiple of `alignment`, a power of two. */
void sf_output_align(struct sf_output *out, uint64_t alignment);
void sf_output_flush(struct sf_output *out);

/* Writes memory that may be unreadable: returns the bytes written, short at
 * the first bad page, or -errno of the file. */
int64_t sf_write_memory(int fd, uint64_t offset, uint64_t address,
			uint64_t size);

#endif
