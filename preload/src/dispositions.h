/* What the kernel does with the signals we watch, and what the application
 * thinks it does.
 *
 * Physically a watched signal is ours, unless the application ignores it.  Its
 * own action is kept here and called by us.  So that every function that sets
 * an action keeps libc's own behaviour, there is one way to change one: expose
 * the application's action to the kernel, let libc do its work, adopt what it
 * left.
 */
#ifndef SF_DISPOSITIONS_H
#define SF_DISPOSITIONS_H

#include "machine.h"

typedef void sf_handler(int sig, siginfo_t *si, void *uc);

/* Above every signal that can be watched. */
#define SF_WATCHED_END 32

#define SF_BIT(sig) (1UL << ((sig)-1))

/* Takes over every configured signal that is not ignored. */
void sf_dispositions_install(void);

/* True for a signal whose action is kept here. */
bool sf_watched(int sig);

/* The application's action for a watched signal, as the kernel has it. */
struct sigaction sf_action(int sig);

/* SA_RESETHAND: the application's action is the default from now on. */
void sf_action_reset(int sig);

/* Puts the application's action in the kernel's hands. */
void sf_expose(int sig);

/* Takes over again, with whatever action is there now. */
void sf_adopt(int sig);

/* The signals that a handler of another signal need not block, though it asks
 * to: nobody handles them, so one that comes is a crash. */
uint64_t sf_to_open(void);

/* Which of these the handler of `sig` had asked to block. */
uint64_t sf_opened(int sig);
void sf_set_opened(int sig, uint64_t signals);

/* Gives all signals back for good: our system calls would kill. */
void sf_dispositions_withdraw(void);

/* Installs `handler` for `sig` with every signal blocked while it runs, and
 * puts back what was there. */
void sf_handle(int sig, sf_handler *handler, struct sigaction *old_ret);
void sf_restore_action(int sig, const struct sigaction *old);

#endif
