/* Signals a process sends itself. */
#include "ways.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

NOINLINE void abort_call(void)
{
	abort();
}

NOINLINE void assert_false(void)
{
	assert(zero == 1);
}

NOINLINE void kill_self(void)
{
	kill(getpid(), SIGSEGV);
}

NOINLINE void raise_segv(void)
{
	raise(SIGSEGV);
}

NOINLINE void raise_abrt(void)
{
	raise(SIGABRT);
}
