/* Signals a process sends itself. */
#include "ways.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

NOINLINE void tgkill_self(void)
{
	syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), SIGBUS);
}

NOINLINE void queue_self(void)
{
	sigqueue(getpid(), SIGSEGV, (union sigval){.sival_int = 7});
}

NOINLINE void killed_from_outside(void)
{
	pid_t other = fork();

	if (other == 0) {
		kill(getppid(), SIGSEGV);
		_exit(0);
	}
	waitpid(other, NULL, 0);
}

/* Blocked by a system call that no library sees. */
NOINLINE void fault_while_blocked_raw(void)
{
	uint64_t all = ~0ULL;

	syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, sizeof(all));
	null_read();
}

/* The signal waits for ever. */
NOINLINE void raised_while_blocked(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGSEGV);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	raise(SIGSEGV);
	exit(3);
}
