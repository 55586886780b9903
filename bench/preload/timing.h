/* How long one of many takes. */
#ifndef BENCH_TIMING_H
#define BENCH_TIMING_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

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

/* Does `one` `count` times and prints the median nanoseconds of one, over
 * batches of `batch`. */
static void print_median(int count, int batch, void (*one)(void))
{
	int batches = count / batch;
	double *times = calloc((size_t)batches + 1, sizeof(*times));

	for (int i = 0; i < batches; i++) {
		uint64_t start = now_ns();

		for (int j = 0; j < batch; j++)
			one();
		times[i] = (double)(now_ns() - start) / batch;
	}
	qsort(times, (size_t)batches, sizeof(*times), compare);
	printf("%.1f\n", times[batches / 2]);
	free(times);
}

#endif
