#include "dispositions.h"

#include "chain.h"
#include "config.h"
#include "masks.h"
#include "sys.h"

#define ALL_SIGNALS  (~0UL)
#define SIGSET_BYTES sizeof(sigset_t)

#ifndef SA_RESTORER
#define SA_RESTORER 0x04000000
#endif

/* Flags of the application that the kernel has to see.  Its handler runs with
 * its own mask, but for the watched signals: they stay open, or a fault in the
 * handler would kill unseen. */
#define PASSED_ON (SA_RESTART | SA_NOCLDSTOP | SA_NOCLDWAIT)

static struct sigaction actions[SF_WATCHED_END];

#define SIGNALS_END 65

static uint64_t opened[SIGNALS_END];

static long set_action(int sig, const struct sigaction *new,
		       struct sigaction *old)
{
	return sf_sys4(__NR_rt_sigaction, sig, new, old, SIGSET_BYTES);
}

static struct sigaction action(sf_handler *handler, uint64_t flags,
			       uint64_t mask)
{
	return (struct sigaction){
		.sa_handler = (__sighandler_t)(void *)handler,
		.sa_flags = flags | SA_SIGINFO | SA_ONSTACK | SA_RESTORER,
		.sa_restorer = sf_restore,
		.sa_mask = sf_sigset(mask),
	};
}

void sf_handle(int sig, sf_handler *handler, struct sigaction *old_ret)
{
	struct sigaction ours = action(handler, SA_RESTART, ALL_SIGNALS);

	set_action(sig, &ours, old_ret);
}

void sf_restore_action(int sig, const struct sigaction *old)
{
	set_action(sig, old, NULL);
}

static bool is_ours(const struct sigaction *action)
{
	return (void *)action->sa_handler == (void *)sf_on_signal;
}

/* What the kernel has to do for the application's action `theirs`. */
static struct sigaction physical(const struct sigaction *theirs)
{
	if (theirs->sa_handler == SIG_IGN)
		return *theirs;
	if (theirs->sa_handler == SIG_DFL)
		return action(sf_on_signal, SA_RESTART, ALL_SIGNALS);
	return action(sf_on_signal, (theirs->sa_flags & PASSED_ON) | SA_NODEFER,
		      *sf_sigbits(&theirs->sa_mask) & ~sf_kept_open());
}

void sf_dispositions_install(void)
{
	static const struct sigaction fallback = {.sa_handler = SIG_DFL};
	struct sigaction ours = physical(&fallback);

	for (int sig = 1; sig < SF_WATCHED_END; sig++) {
		struct sigaction old;

		if (!sf_watched(sig))
			continue;
		/* Set first, then look: one call instead of two for nearly
		 * every process. */
		if (set_action(sig, &ours, &old) == 0 &&
		    old.sa_handler != SIG_DFL) {
			set_action(sig, &old, NULL);
			sf_adopt(sig);
		}
	}
}

bool sf_watched(int sig)
{
	return sig > 0 && sig < SF_WATCHED_END && !sf_config.disabled &&
	       (sf_config.signals & SF_BIT(sig));
}

struct sigaction sf_action(int sig)
{
	return actions[sig];
}

void sf_action_reset(int sig)
{
	actions[sig].sa_handler = SIG_DFL;
}

void sf_expose(int sig)
{
	struct sigaction now;

	if (set_action(sig, NULL, &now) == 0 && is_ours(&now))
		set_action(sig, &actions[sig], NULL);
}

/* A watched signal has a handler now: other handlers that asked to block it
 * have to, from now on. */
static void close_masks(int sig)
{
	for (int other = 1; other < SIGNALS_END; other++) {
		struct sigaction now = {0};

		if (!(opened[other] & SF_BIT(sig)) ||
		    set_action(other, NULL, &now) != 0)
			continue;
		*sf_sigbits(&now.sa_mask) |= SF_BIT(sig);
		set_action(other, &now, NULL);
		opened[other] &= ~SF_BIT(sig);
	}
}

void sf_adopt(int sig)
{
	struct sigaction now;
	struct sigaction ours;

	if (set_action(sig, NULL, &now) != 0 || is_ours(&now))
		return;
	/* The handler last: a signal that comes now calls the old one. */
	actions[sig].sa_flags = now.sa_flags;
	actions[sig].sa_mask = now.sa_mask;
	actions[sig].sa_restorer = now.sa_restorer;
	__atomic_store_n(&actions[sig].sa_handler, now.sa_handler,
			 __ATOMIC_RELEASE);
	ours = physical(&now);
	set_action(sig, &ours, NULL);
	if (now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN)
		close_masks(sig);
}

uint64_t sf_to_open(void)
{
	uint64_t signals = 0;

	for (int sig = 1; sig < SF_WATCHED_END; sig++)
		if (sf_watched(sig) && actions[sig].sa_handler == SIG_DFL)
			signals |= SF_BIT(sig);
	return signals;
}

uint64_t sf_opened(int sig)
{
	return sig > 0 && sig < SIGNALS_END ? opened[sig] : 0;
}

void sf_set_opened(int sig, uint64_t signals)
{
	if (sig > 0 && sig < SIGNALS_END)
		opened[sig] = signals;
}

void sf_dispositions_withdraw(void)
{
	for (int sig = 1; sig < SF_WATCHED_END; sig++)
		if (sf_watched(sig))
			sf_expose(sig);
	sf_config.disabled = true;
}
