/* The orderly end of a process, and its beginning. */
#include "threads.h"
#include "ways.h"

#include <stdlib.h>
#include <unistd.h>

NOINLINE void exit_normal(void)
{
	exit(0);
}

NOINLINE void crash_in_atexit(void)
{
	atexit(null_read);
	exit(0);
}

#define CONSTRUCTOR "CRASH_IN_CONSTRUCTOR"

__attribute__((constructor)) static void construct(void)
{
	if (getenv(CONSTRUCTOR))
		null_read();
}

NOINLINE void crash_in_constructor(void)
{
	setenv(CONSTRUCTOR, "1", 1);
	execl("/proc/self/exe", "crasher", "exit_normal", (char *)NULL);
}

static int destroying;

__attribute__((destructor)) static void destroy(void)
{
	if (destroying)
		null_read();
}

NOINLINE void crash_in_destructor(void)
{
	destroying = 1;
	exit(0);
}

static void destroy_value(void *value)
{
	(void)value;
	null_read();
}

static void *end_with_value(void *key)
{
	pthread_setspecific(*(pthread_key_t *)key, key);
	return NULL;
}

NOINLINE void crash_in_tls_destructor(void)
{
	pthread_key_t key;
	pthread_t thread;

	pthread_key_create(&key, destroy_value);
	start(&thread, NULL, end_with_value, &key);
	pthread_join(thread, NULL);
}

static pthread_barrier_t exiting;

static void exit_slowly(void)
{
	pthread_barrier_wait(&exiting);
	for (;;)
		pause();
}

static void *exit_in_thread(void *unused)
{
	(void)unused;
	exit(0);
}

/* Another thread is in exit(), in an atexit function. */
NOINLINE void crash_while_exiting(void)
{
	pthread_t thread;

	pthread_barrier_init(&exiting, NULL, 2);
	atexit(exit_slowly);
	start(&thread, NULL, exit_in_thread, NULL);
	pthread_barrier_wait(&exiting);
	null_read();
}
