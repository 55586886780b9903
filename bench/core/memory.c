/* Fills memory, then crashes or waits.
 *
 *	memory MIB heap|random RESERVED_MIB THREADS crash|wait
 *
 * "heap" is what allocators leave: small numbers, pointers, short texts and
 * free space; "random" does not compress.  THREADS wait beside the first.
 * Before it crashes, or when it waits, CLOCK_MONOTONIC in ns goes to standard
 * output as 8 bytes.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile uintptr_t zero;
static uint64_t state = 88172645463325252ULL;
char *memory; /* not static: or the compiler drops what nobody reads */

static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void fill(uint64_t *words, size_t count, int heap)
{
	for (size_t i = 0; i + 8 <= count; i += 8) {
		for (int j = 0; j < 8; j++)
			words[i + (size_t)j] = heap ? 0 : next();
		if (!heap)
			continue;
		words[i] = 0x41; /* size of a chunk */
		words[i + 1] = (uintptr_t)memory + next() % (count * 8);
		words[i + 2] = next() & 0xffff;
		memcpy(&words[i + 3], "customer-order", 14);
	}
}

static void *wait_for_ever(void *unused)
{
	for (;;)
		pause();
	return unused;
}

int main(int argc, char **argv)
{
	size_t bytes, reserved;
	struct timespec now;
	uint64_t ns;

	if (argc != 6)
		return 2;
	bytes = (size_t)atoi(argv[1]) << 20;
	reserved = (size_t)atoi(argv[3]) << 20;
	memory = malloc(bytes);
	fill((uint64_t *)memory, bytes / 8, argv[2][0] == 'h');
	if (reserved != 0 && mmap(NULL, reserved, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				  -1, 0) == MAP_FAILED)
		return 1;
	for (int i = atoi(argv[4]); i > 0; i--) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, wait_for_ever, NULL) != 0)
			return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (write(1, &ns, sizeof(ns)) != sizeof(ns))
		return 1;
	if (argv[5][0] == 'w')
		pause();
	else
		*(volatile int *)zero = 1;
	return 1;
}
