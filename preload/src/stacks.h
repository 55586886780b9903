/* Which pages of each thread's stack go into the snapshot. */
#ifndef SF_STACKS_H
#define SF_STACKS_H

#include "machine.h"

/* True when sp has left the stack it belongs to, or the fault is just there. */
bool sf_stack_overflowed(const siginfo_t *si, const struct ucontext *uc);

/* Adds the newest part of the stack to sf_ranges. */
void sf_stack_add(const struct ucontext *uc);

/* Adds the oldest part too: the frames an overflow started from. */
void sf_stack_add_oldest(const struct ucontext *uc);

#endif
