/* threads COUNT: starts and joins COUNT threads, one after the other, and
 * prints the median nanoseconds of one, over batches. */
#include <pthread.h>
#include <stdlib.h>

#include "timing.h"

#define BATCH 100

static void *nothing(void *argument)
{
	return argument;
}

static void start_and_join(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, nothing, NULL))
		exit(1);
	pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	print_median(argc > 1 ? atoi(argv[1]) : 0, BATCH, start_and_join);
	return 0;
}
