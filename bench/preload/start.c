/* start COUNT PRELOAD COMMAND...: runs COMMAND COUNT times, one after the
 * other, with LD_PRELOAD=PRELOAD ("" for none), and prints the nanoseconds of
 * wall and of processor time.
 *
 * C, because a Python parent's own fork is slower and noisier than what is
 * measured. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

static long long wall_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long long children_ns(void)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL;
}

int main(int argc, char **argv)
{
	char preload[4096];
	char *environment[] = {preload, NULL};
	long long wall = wall_ns();

	if (argc < 4)
		return 2;
	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", argv[2]);
	if (argv[2][0] == '\0')
		environment[0] = NULL;
	for (int left = atoi(argv[1]); left > 0; left--) {
		pid_t child;
		int status;

		if (posix_spawn(&child, argv[3], NULL, NULL, argv + 3,
				environment) != 0 ||
		    waitpid(child, &status, 0) != child || status != 0)
			return 1;
	}
	printf("%lld %lld\n", wall_ns() - wall, children_ns());
	return 0;
}
