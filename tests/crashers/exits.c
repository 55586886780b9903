/* The orderly end of a process. */
#include "ways.h"

#include <stdlib.h>

NOINLINE void exit_normal(void)
{
	exit(0);
}
