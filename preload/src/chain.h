/* The entry of every watched signal: the application's handler first, and a
 * crash only where it has none, may not run, or did not help. */
#ifndef SF_CHAIN_H
#define SF_CHAIN_H

#include "machine.h"

/* The physical handler.  Costs no system call when the application's handler
 * recovers from a fault. */
void sf_on_signal(int sig, siginfo_t *si, void *context);

/* After the application's handler has returned, before sigreturn. */
void sf_handler_returned(struct ucontext *uc);

/* Reports what the application is in the middle of handling, because it is
 * about to end or to become another program; nothing when it handles no
 * signal. */
void sf_report_inflight(void);

#endif
