/* What the kernel does with the signals we watch. */
#ifndef SF_DISPOSITIONS_H
#define SF_DISPOSITIONS_H

#include "arch.h"

typedef void sf_handler(int sig, siginfo_t *si, void *uc);

/* Installs `handler` for each configured signal whose action is still the
 * default.  An ignored signal stays ignored, a handler stays in place. */
void sf_dispositions_install(sf_handler *handler);

/* Installs `handler` for `sig` with every signal blocked while it runs. */
void sf_handle(int sig, sf_handler *handler);

/* True when an init process would natively ignore this signal: the kernel
 * gives a SIG_DFL signal that somebody sent to no init of a pid namespace. */
bool sf_ignored_by_init(const siginfo_t *si, const struct ucontext *uc);

/* Arranges that returning from the handler ends the process by `si`, with the
 * registers of `uc`, exactly as if no handler had ever been installed. */
void sf_die_by(const siginfo_t *si, struct ucontext *uc);

#endif
