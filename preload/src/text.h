/* Bytes and text without a libc. */
#ifndef SF_TEXT_H
#define SF_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The compiler may emit calls to the first three even when freestanding. */
void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int byte, size_t size);
void *memmove(void *to, const void *from, size_t size);

size_t sf_strlen(const char *text);
bool sf_equal(const char *a, const char *b);

/* Copies with truncation; `ret` is always terminated. */
void sf_copy(char *ret, size_t size, const char *text);

/* Appends to a terminated string, with truncation. */
void sf_append(char *text, size_t size, const char *more);
void sf_append_number(char *text, size_t size, uint64_t value);

/* Reads digits of base 10 or 16 and moves *text past them; UINT64_MAX for what
 * is larger. */
uint64_t sf_number(const char **text, unsigned base);

/* The value after `label` at the start of a line, blanks skipped, or NULL. */
const char *sf_field(const char *text, const char *label);

/* Two lower-case digits for each byte, and a NUL. */
void sf_hex(char *ret, const uint8_t *bytes, size_t count);

#endif
