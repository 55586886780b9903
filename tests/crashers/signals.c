/* Signals a process sends itself. */
#include "ways.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
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

/* Computes meanwhile, so that it is always killed at the same place. */
NOINLINE void killed_from_outside(void)
{
	volatile int *step = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (fork() == 0) {
		while (*step == 0)
			sched_yield();
		kill(getppid(), SIGSEGV);
		*step = getppid() == 1 ? 2 : 1; /* an init process lives on */
		_exit(0);
	}
	*step = 1;
	while (*step == 1)
		sink++;
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
