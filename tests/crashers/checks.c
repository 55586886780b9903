/* What libc and the compiler check at run time. */
#include "ways.h"

#include <stdlib.h>
#include <string.h>

/* glibc's; musl has no such thing. */
extern void *__memcpy_chk(void *to, const void *from, size_t bytes, size_t room)
	__attribute__((weak));

NOINLINE void fortify(void)
{
	char room[8];

	if (!__memcpy_chk)
		exit(NOT_HERE);
	__memcpy_chk(room, "longer than that", 16 + zero, sizeof(room));
	sink = room[0];
}

static NOINLINE void fill(volatile char *buffer, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		buffer[i] = 'A';
}

__attribute__((stack_protect)) NOINLINE void stack_smash(void)
{
	char buffer[16];

	fill(buffer, sizeof(buffer) + 16 + zero);
	sink = buffer[0];
}

NOINLINE void double_free(void)
{
	char *volatile twice = malloc(24);

	free(twice);
	free(twice);
}

NOINLINE void invalid_free(void)
{
	char *room = calloc(1, 64); /* libc takes it for its own records */

	free(room + 16 + zero);
}
