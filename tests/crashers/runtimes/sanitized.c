/* What AddressSanitizer sees: sanitized WAY. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))

static volatile uintptr_t zero; /* unknown to the optimizer */

static NOINLINE void null_write(void)
{
	*(volatile int *)zero = 1;
}

static NOINLINE void use_after_free(void)
{
	volatile char *memory = malloc(32);

	free((void *)memory);
	memory[3] = 1;
}

static NOINLINE void abort_call(void)
{
	abort();
}

int main(int argc, char **argv)
{
	const char *way = argc == 2 ? argv[1] : "";

	if (strcmp(way, "null_write") == 0)
		null_write();
	else if (strcmp(way, "use_after_free") == 0)
		use_after_free();
	else if (strcmp(way, "abort_call") == 0)
		abort_call();
	puts("clean");
	return 0;
}
