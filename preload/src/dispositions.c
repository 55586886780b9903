#include "dispositions.h"

#include "config.h"
#include "next.h"
#include "sys.h"

#define SIGNALS_MAX  64
#define ALL_SIGNALS  (~0UL)
#define SIGSET_BYTES sizeof(sigset_t)
#define ABORT_WORDS  128 /* of stack between raise and its caller abort() */

#ifndef SA_RESTORER
#define SA_RESTORER 0x04000000
#endif

static long set_action(int sig, const struct sigaction *new,
		       struct sigaction *old)
{
	return sf_sys4(__NR_rt_sigaction, sig, new, old, SIGSET_BYTES);
}

static struct sigaction action(sf_handler *handler)
{
	return (struct sigaction){
		.sa_handler = (__sighandler_t)(void *)handler,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_RESTORER,
		.sa_restorer = sf_restore,
		.sa_mask = sf_sigset(ALL_SIGNALS),
	};
}

void sf_handle(int sig, sf_handler *handler)
{
	struct sigaction ours = action(handler);

	set_action(sig, &ours, NULL);
}

void sf_dispositions_install(sf_handler *handler)
{
	struct sigaction ours = action(handler);

	for (int sig = 1; sig <= SIGNALS_MAX; sig++) {
		struct sigaction old;

		if (!(sf_config.signals & (1ULL << (sig - 1))))
			continue;
		/* Set first, then put back what was not the default: one call
		 * instead of two for nearly every process. */
		if (set_action(sig, &ours, &old) == 0 &&
		    old.sa_handler != SIG_DFL)
			set_action(sig, &old, NULL);
	}
}

/* abort() in an init process: its raise() is ignored, then it dies of its own
 * invalid instruction.  musl blocks every signal before that, so this raise is
 * our only sight of it. */
static bool called_by_abort(const struct ucontext *uc)
{
	struct sf_symbol abort_ = sf_next("abort");
	uint64_t words[ABORT_WORDS];

	if (abort_.address == 0 || sf_peek(sf_sp(uc), words, sizeof(words)))
		return false;
	for (int i = 0; i < ABORT_WORDS; i++)
		if (words[i] - abort_.address < abort_.size)
			return true;
	return false;
}

/* True when the kernel forced the signal on the thread for what it did; else
 * somebody sent it, be it the kernel (a terminal, a resource limit). */
static bool forced(const siginfo_t *si)
{
	switch (si->si_signo) {
	case SIGBUS:
		return si->si_code > 0 && si->si_code != BUS_MCEERR_AO;
	case SIGSEGV:
	case SIGILL:
	case SIGFPE:
	case SIGTRAP:
	case SIGSYS:
		return si->si_code > 0;
	default:
		return false;
	}
}

bool sf_ignored_by_init(const siginfo_t *si, const struct ucontext *uc)
{
	if (forced(si) || sf_getpid() != 1)
		return false;
	return !(si->si_signo == SIGABRT && si->si_pid == 1 &&
		 called_by_abort(uc));
}

void sf_die_by(const siginfo_t *si, struct ucontext *uc)
{
	static const struct sigaction fallback = {.sa_handler = SIG_DFL};
	int sig = si->si_signo;
	int pid = sf_getpid();
	long error;

	set_action(sig, &fallback, NULL);
	/* Everything else stays blocked, or a SIGTERM that came meanwhile would
	 * be delivered first and change the exit status. */
	uc->uc_sigmask = sf_sigset(ALL_SIGNALS & ~(1UL << (sig - 1)));
	/* Queued even for a fault that would happen again: memory may have been
	 * mapped since, and a process must not survive its crash.  Self-sent,
	 * so the kernel keeps the original si_code and si_addr. */
	error = sf_sys4(__NR_rt_tgsigqueueinfo, pid, sf_gettid(), sig, si);
	/* The kernel drops that signal for init, and a filter may refuse it:
	 * then the process has to fault again. */
	if (pid == 1 || error)
		sf_rewind(uc, si);
}
