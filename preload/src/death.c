#include "death.h"

#include "dispositions.h"
#include "next.h"
#include "sys.h"

#define ALL_SIGNALS (~0UL)
#define ABORT_WORDS 128 /* of stack between raise and its caller abort() */
#define WORDS	    16	/* looked at together: our stack may be small */

static struct sf_symbol abort_;
static struct sf_code libc;

void sf_death_init(void)
{
	abort_ = sf_next("abort");
	libc = sf_code_of(&abort_);
}

/* abort() in an init process: its raise() is ignored, then it dies of its own
 * invalid instruction.  musl blocks every signal before that, so this raise is
 * our only sight of it. */
bool sf_called_by_abort(const struct ucontext *uc)
{
	uint64_t words[WORDS];

	for (uint64_t at = 0; at < ABORT_WORDS; at += WORDS) {
		if (sf_peek(sf_sp(uc) + at * sizeof(*words), words,
			    sizeof(words)))
			return false;
		for (int i = 0; i < WORDS; i++)
			if (words[i] - abort_.address < abort_.size)
				return true;
	}
	return false;
}

bool sf_sent_past_libc(const siginfo_t *si, const struct ucontext *uc)
{
	uint64_t pc = sf_pc(uc);

	return si->si_code == SI_TKILL && si->si_pid == sf_getpid() &&
	       !(pc >= libc.start && pc < libc.end) && sf_after_syscall(uc);
}

bool sf_forced(const siginfo_t *si)
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
	if (sf_forced(si) || sf_getpid() != 1)
		return false;
	return !(si->si_signo == SIGABRT && si->si_pid == 1 &&
		 sf_called_by_abort(uc));
}

void sf_die_by(const siginfo_t *si, struct ucontext *uc)
{
	static const struct sigaction fallback = {.sa_handler = SIG_DFL};
	int sig = si->si_signo;
	int pid = sf_getpid();
	long error;

	sf_sys4(__NR_rt_sigaction, sig, &fallback, NULL, sizeof(sigset_t));
	/* Everything else stays blocked, or a SIGTERM that came meanwhile would
	 * be delivered first and change the exit status. */
	*sf_sigbits(&uc->uc_sigmask) = ALL_SIGNALS & ~SF_BIT(sig);
	/* abort() in an init process ends in a fault, which has a handler. */
	if (pid == 1 && sig == SIGABRT)
		*sf_sigbits(&uc->uc_sigmask) &= ~SF_BIT(SIGSEGV);
	/* Queued even for a fault that would happen again: memory may have been
	 * mapped since, and a process must not survive its crash.  Self-sent,
	 * so the kernel keeps the original si_code and si_addr. */
	error = sf_sys4(__NR_rt_tgsigqueueinfo, pid, sf_gettid(), sig, si);
	/* A filter may refuse that: what was sent is sent again, its si_code
	 * lost. */
	if (error && !sf_forced(si))
		error = sf_sys3(__NR_tgkill, pid, sf_gettid(), sig);
	/* The kernel drops that signal for init; with that, or where nothing
	 * can be sent, the process has to fault again. */
	if (pid == 1 || error)
		sf_rewind(uc, si);
}
