/* The application's own handlers. */
#include "ways.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void own_handler(int sig)
{
	_exit(sig == SIGSEGV ? 42 : 43);
}

NOINLINE void handled(void)
{
	signal(SIGSEGV, own_handler);
	null_read();
}

NOINLINE void ignored(void)
{
	signal(SIGABRT, SIG_IGN);
	raise(SIGABRT);
	exit(3);
}

static void leave(int sig)
{
	(void)sig;
	_exit(7);
}

NOINLINE void fault_leaving_on_int(void)
{
	signal(SIGINT, leave);
	null_read();
}

NOINLINE void abort_leaving_on_int(void)
{
	signal(SIGINT, leave);
	abort();
}
