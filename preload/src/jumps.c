/* Jumps, which may lead out of a handler.
 *
 * Where they lead is libc's secret (glibc scrambles it), so every jump counts
 * as leaving.  One that stays inside its handler costs the report of a later
 * abort() there the signal it began with, no more.
 */
#include "inflight.h"
#include "interpose.h"

#define JUMPS(name)                                                            \
	SF_EXPORT void name(void *env, int value)                              \
	{                                                                      \
		sf_inflight_forget();                                          \
		SF_NEXT(name)(env, value);                                     \
	}

JUMPS(longjmp)
JUMPS(_longjmp)
JUMPS(siglongjmp)
JUMPS(__longjmp_chk)
