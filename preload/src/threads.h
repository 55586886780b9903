/* The other threads: stopped where they are, with their registers kept.
 *
 * A stopped thread waits in a signal handler with every signal blocked.  It is
 * resumed only where the process goes on to end by itself.
 */
#ifndef SF_THREADS_H
#define SF_THREADS_H

#include "machine.h"

#define SF_THREADS_MAX 1024

/* SIGSTKFLT: nothing in the kernel raises it and, unlike a real-time signal,
 * its delivery needs no queue slot (RLIMIT_SIGPENDING may be 0). */
#define SF_PARK_SIGNAL SIGSTKFLT

struct sf_thread {
	int tid;
	uint32_t parked;	   /* set last */
	const struct ucontext *uc; /* where it was interrupted */
	uint64_t tls_base;
};

struct sf_threads {
	uint32_t total; /* threads seen besides the crashing one */
	uint32_t count; /* entries below, at most SF_THREADS_MAX */
	uint32_t captured;
	struct sf_thread entry[SF_THREADS_MAX];
};

extern struct sf_threads sf_threads;

/* Stops every thread but the caller, within a bounded time; those that block
 * all signals are left out. */
void sf_threads_stop(void);

/* Lets all go on where they were. */
void sf_threads_resume(void);

/* Stops the calling thread, which came here by itself (it crashed too). */
void sf_threads_park(const struct ucontext *uc);

#endif
