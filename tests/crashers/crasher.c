/* One program, one argument for each way to die.
 *
 *	crasher WAY [THREADS]
 *
 * Each way has a function of its own name, so that a test can ask whether the
 * stack shows it.  `crasher list` prints the ways.
 */
#include "ways.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int threads = 4;
volatile int sink;
volatile uintptr_t zero;

static const struct {
	const char *name;
	void (*die)(void);
} ways[] = {
#define WAY(name) {#name, name},
	ALL_WAYS(WAY)
#undef WAY
};

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "list";

	if (argc > 2)
		threads = atoi(argv[2]);
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		if (strcmp(way, ways[i].name) == 0)
			ways[i].die();
		else if (strcmp(way, "list") == 0)
			puts(ways[i].name);
	}
	return strcmp(way, "list") == 0 ? 0 : 99; /* survived, or unknown */
}
