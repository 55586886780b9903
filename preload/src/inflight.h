/* Signals in the middle of the application's own handler.
 *
 * A record lives on the stack of the handler's run.  It keeps the signal and
 * the registers as they were at entry (language runtimes edit the ucontext),
 * so that abort(), exit() or a second fault inside the handler is reported as
 * what it began with.  A handler can be left without a word (by an exception,
 * or a jump we do not see): a record counts only while the stack pointer is
 * below it and it is unharmed.
 */
#ifndef SF_INFLIGHT_H
#define SF_INFLIGHT_H

#include <stdbool.h>

#include "machine.h"

struct sf_inflight {
	uint64_t cookie;	      /* its own address, scrambled */
	struct sf_inflight *outer;    /* the handler this one interrupted */
	const struct ucontext *frame; /* the kernel's, which sigreturn reads */
	uint64_t stack_start, stack_end; /* where sp is while this counts */
	uint64_t blocked;		 /* virtual mask inside the handler */
	bool resent; /* the handler sent the signal once more, to die by it */
	bool moving; /* its signal frame is being copied to another stack */
	siginfo_t si;
	/* The beginning of a struct ucontext, which may be large. */
	char uc[SF_UCONTEXT_BYTES] __attribute__((aligned(16)));
};

static inline struct ucontext *sf_inflight_uc(struct sf_inflight *record)
{
	return (struct ucontext *)record->uc;
}

/* Per thread; initial-exec, so found without a call. */
struct sf_thread_state {
	struct sf_inflight *inflight; /* the innermost, or stale: then its
					 memory may be gone, so what tells is
					 kept here, too */
	uint64_t stack_start, stack_end;
	uint64_t blocked; /* virtual mask outside handlers */
	uint64_t witness; /* what the same calls blocked for the kernel */
	int native_pid;	  /* a vfork child whose mask is not virtual */
};

extern __thread struct sf_thread_state sf_thread_state
	__attribute__((visibility("hidden")));

/* Fills and enters a record for the signal frame (si, uc). */
void sf_inflight_enter(struct sf_inflight *record, struct sf_inflight *outer,
		       const siginfo_t *si, const struct ucontext *uc);

/* Puts an entered record elsewhere on the stack, where its frame goes too. */
struct sf_inflight *sf_inflight_move(struct sf_inflight *record, void *to);

/* Leaves the record of `frame` and returns it, or NULL if it was lost. */
struct sf_inflight *sf_inflight_leave(const struct ucontext *frame);

/* The innermost record of the thread that is at `sp`, or NULL.  No system
 * call. */
struct sf_inflight *sf_inflight_at(uint64_t sp);

/* The first of the handlers that led to `record`. */
struct sf_inflight *sf_inflight_outermost(struct sf_inflight *record);

/* The thread is in no handler any more: it jumped out, or it is a forked
 * child's, whose parent was. */
void sf_inflight_forget(void);

#endif
