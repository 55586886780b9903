/* glibc's own reasons to abort: libc WAY. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline, noclone))

static NOINLINE void fortify(const char *long_text)
{
	char small[8];

	strcpy(small, long_text); /* _FORTIFY_SOURCE knows its size */
	puts(small);
}

static NOINLINE char stack_smash(size_t bytes)
{
	volatile char small[16];

	for (size_t i = 0; i < bytes; i++)
		small[i] = 'x';
	return small[0];
}

static NOINLINE void double_free(void)
{
	void *volatile memory = malloc(32);

	free(memory);
	free(memory);
}

static NOINLINE void invalid_free(void)
{
	char *volatile memory = malloc(32);

	free(memory + 8);
}

static NOINLINE void assert_false(int argument)
{
	assert(argument == 0);
}

int main(int argc, char **argv)
{
	const char *way = argc == 2 ? argv[1] : "";

	if (strcmp(way, "fortify") == 0)
		fortify("longer than eight bytes");
	else if (strcmp(way, "stack_smash") == 0)
		stack_smash(64);
	else if (strcmp(way, "double_free") == 0)
		double_free();
	else if (strcmp(way, "invalid_free") == 0)
		invalid_free();
	else if (strcmp(way, "assert_false") == 0)
		assert_false(argc);
	return 99;
}
