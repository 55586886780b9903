/* What the fuzz targets share: an input cut into pieces, and a check that ends
 * the process with the sentence that turned out false. */
#ifndef SF_FUZZ_H
#define SF_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "sys.h"
#include "text.h"

/* <stdlib.h> would bring libc's signal types, which are not the kernel's. */
void *malloc(size_t size);
void free(void *bytes);
unsigned long long strtoull(const char *text, char **end_ret, int base);

/* libFuzzer calls it with any bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define CHECK(statement)                                                       \
	do {                                                                   \
		if (!(statement)) {                                            \
			fprintf(stderr, "%s:%d: false: %s\n", __FILE__,        \
				__LINE__, #statement);                         \
			__builtin_trap();                                      \
		}                                                              \
	} while (0)

struct input {
	const uint8_t *at;
	size_t left;
};

/* Fills `ret`; past the end of the input with zeros. */
static inline void take(struct input *in, void *ret, size_t size)
{
	size_t part = size < in->left ? size : in->left;

	memset(ret, 0, size);
	memcpy(ret, in->at, part);
	in->at += part;
	in->left -= part;
}

static inline uint8_t take_byte(struct input *in)
{
	uint8_t value;

	take(in, &value, sizeof(value));
	return value;
}

static inline uint64_t take_word(struct input *in)
{
	uint64_t value;

	take(in, &value, sizeof(value));
	return value;
}

/* A file in memory, empty at first. */
static inline int scratch_file(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = (int)sf_sys2(__NR_memfd_create, "fuzz", 0);
	CHECK(fd >= 0 && sf_sys2(__NR_ftruncate, fd, 0) == 0);
	return fd;
}

#endif
