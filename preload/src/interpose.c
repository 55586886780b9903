#include "interpose.h"

#include <stddef.h>

#include "next.h"

const struct sf_next_table *sf_next_functions(void)
{
	static struct sf_next_table table;
	static int ready;

	if (__atomic_load_n(&ready, __ATOMIC_ACQUIRE))
		return &table;
		/* Two threads at once write the same values. */
#define LOOK_UP(name, result, arguments)                                       \
	table.name = (result(*) arguments)sf_next(#name).address;
	SF_NEXT_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
	__atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
	return &table;
}
