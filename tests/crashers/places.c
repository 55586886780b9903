/* Bad places to crash in. */
#include "ways.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>

NOINLINE void not_dumpable(void)
{
	prctl(PR_SET_DUMPABLE, 0);
	sink = *(volatile int *)zero;
}

static long memory_number(const char *name)
{
	char path[128];
	char line[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/sys/fs/cgroup/memory/memory.%s_in_bytes",
		 name);
	file = fopen(path, "r");
	if (!file || !fgets(line, sizeof(line), file))
		exit(100);
	fclose(file);
	return atol(line);
}

/* Uses the memory of its cgroup up to THREADS KiB below the limit. */
NOINLINE void hog(void)
{
	long until = memory_number("limit") - threads * 1024L;

	while (memory_number("usage") < until) {
		volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		page[0] = 1;
	}
	null_read();
}
