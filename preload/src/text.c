#include "text.h"

/* What every machine we run on moves at once, wherever it lies. */
typedef uint64_t block __attribute__((vector_size(16), aligned(1), may_alias));

/* In blocks, because a recovered fault copies a signal frame of several
 * kilobytes: byte by byte that took longer than the kernel's whole delivery. */
void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
	uint8_t *t = to;
	const uint8_t *f = from;

	for (; size >= sizeof(block); size -= sizeof(block)) {
		*(block *)t = *(const block *)f;
		t += sizeof(block);
		f += sizeof(block);
	}
	while (size--)
		*t++ = *f++;
	return to;
}

void *memset(void *to, int byte, size_t size)
{
	uint8_t *t = to;

	while (size--)
		*t++ = (uint8_t)byte;
	return to;
}

void *memmove(void *to, const void *from, size_t size)
{
	uint8_t *t = to;
	const uint8_t *f = from;

	if (t <= f) {
		while (size--)
			*t++ = *f++;
	} else {
		while (size--)
			t[size] = f[size];
	}
	return to;
}

size_t sf_strlen(const char *text)
{
	size_t length = 0;

	while (text[length] != '\0')
		length++;
	return length;
}

bool sf_equal(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

void sf_copy(char *ret, size_t size, const char *text)
{
	ret[0] = '\0';
	sf_append(ret, size, text);
}

void sf_append(char *text, size_t size, const char *more)
{
	size_t used = sf_strlen(text);

	while (*more != '\0' && used + 1 < size)
		text[used++] = *more++;
	text[used] = '\0';
}

void sf_append_number(char *text, size_t size, uint64_t value)
{
	char digits[21];
	char *at = digits + sizeof(digits) - 1;

	*at = '\0';
	do {
		*--at = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	sf_append(text, size, at);
}

static unsigned digit(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	return ~0U;
}

uint64_t sf_number(const char **text, unsigned base)
{
	uint64_t value = 0;

	for (; digit(**text) < base; (*text)++)
		if (__builtin_mul_overflow(value, base, &value) ||
		    __builtin_add_overflow(value, digit(**text), &value))
			value = UINT64_MAX;
	return value;
}

static const char *after(const char *text, const char *prefix)
{
	while (*prefix != '\0' && *text == *prefix) {
		text++;
		prefix++;
	}
	return *prefix == '\0' ? text : NULL;
}

const char *sf_field(const char *text, const char *label)
{
	while (*text != '\0') {
		const char *value = after(text, label);

		if (value) {
			while (*value == ' ' || *value == '\t')
				value++;
			return value;
		}
		while (*text != '\0' && *text++ != '\n')
			;
	}
	return NULL;
}

void sf_hex(char *ret, const uint8_t *bytes, size_t count)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < count; i++) {
		*ret++ = digits[bytes[i] >> 4];
		*ret++ = digits[bytes[i] & 15];
	}
	*ret = '\0';
}
