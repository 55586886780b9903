/* Says when it crashes: touches MIB MiB, writes CLOCK_MONOTONIC in ns to its
 * standard output as 8 bytes, and dereferences null. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile uintptr_t zero;
char *memory; /* not static: or the compiler drops what nobody reads */

int main(int argc, char **argv)
{
	size_t bytes = (size_t)(argc > 1 ? atoi(argv[1]) : 0) << 20;
	struct timespec now;
	uint64_t ns;

	memory = malloc(bytes + 1);
	memset(memory, 0x5a, bytes + 1);
	clock_gettime(CLOCK_MONOTONIC, &now);
	ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (write(1, &ns, sizeof(ns)) == sizeof(ns))
		*(volatile int *)zero = 1;
	return 1;
}
