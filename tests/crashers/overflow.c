/* Stacks that end. */
#include "ways.h"
#include "threads.h"

#include <sys/mman.h>

NOINLINE int recurse(int depth)
{
	volatile char frame[256];

	frame[0] = (char)depth;
	sink = recurse(depth + 1) + frame[0];
	return sink;
}

NOINLINE void overflow_main(void)
{
	recurse(0);
}

static void *recurse_in_thread(void *unused)
{
	(void)unused;
	recurse(0);
	return NULL;
}

NOINLINE void overflow_thread(void)
{
	pthread_t thread;

	start(&thread, NULL, recurse_in_thread, NULL);
	pthread_join(thread, NULL);
}

NOINLINE void overflow_small_thread(void)
{
	pthread_t thread;
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	start(&thread, &attr, recurse_in_thread, NULL);
	pthread_join(thread, NULL);
}

NOINLINE void overflow_supplied_stack(void)
{
	const size_t bytes = 1 << 20;
	char *stack = mmap(NULL, bytes + 4096, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t thread;
	pthread_attr_t attr;

	mprotect(stack + 4096, bytes, PROT_READ | PROT_WRITE);
	pthread_attr_init(&attr);
	pthread_attr_setstack(&attr, stack + 4096, bytes);
	start(&thread, &attr, recurse_in_thread, NULL);
	pthread_join(thread, NULL);
}
