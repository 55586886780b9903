/* The original death: what a signal would have done without us. */
#ifndef SF_DEATH_H
#define SF_DEATH_H

#include "machine.h"

/* True when the kernel forced the signal on the thread for what it did; else
 * somebody sent it, be it the kernel (a terminal, a resource limit). */
bool sf_forced(const siginfo_t *si);

/* Finds abort(), once, at start-up: the loader's lists are no place to go to
 * after a crash. */
void sf_death_init(void);

/* True when `uc` was interrupted inside libc's abort(). */
bool sf_called_by_abort(const struct ucontext *uc);

/* True when the thread sent itself the signal by a system call of its own. */
bool sf_sent_past_libc(const siginfo_t *si, const struct ucontext *uc);

/* True when an init process would natively ignore this signal: the kernel
 * gives a SIG_DFL signal that somebody sent to no init of a pid namespace. */
bool sf_ignored_by_init(const siginfo_t *si, const struct ucontext *uc);

/* Arranges that returning from the handler ends the process by `si`, with the
 * registers of `uc`, exactly as if no handler had ever been installed. */
void sf_die_by(const siginfo_t *si, struct ucontext *uc);

#endif
