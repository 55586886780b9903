/* threads COUNT: starts and joins COUNT threads, one after the other, and
 * prints the median nanoseconds of one, over batches. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BATCH 100

static void *nothing(void *argument)
{
	return argument;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	int batches = argc > 1 ? atoi(argv[1]) / BATCH : 0;
	double *times = calloc((size_t)batches + 1, sizeof(*times));

	for (int i = 0; i < batches; i++) {
		uint64_t start = now_ns();

		for (int j = 0; j < BATCH; j++) {
			pthread_t thread;

			if (pthread_create(&thread, NULL, nothing, NULL))
				return 1;
			pthread_join(thread, NULL);
		}
		times[i] = (double)(now_ns() - start) / BATCH;
	}
	qsort(times, (size_t)batches, sizeof(*times), compare);
	printf("%.1f\n", times[batches / 2]);
	return 0;
}
