#include "masks.h"

#include <asm/signal.h>
#include <linux/errno.h>

#include "config.h"
#include "dispositions.h"
#include "inflight.h"
#include "init.h"
#include "interpose.h"
#include "process.h"
#include "sys.h"
#include "threads.h"

/* What the kernel does not block, what the two libcs keep for themselves (32 to
 * 34), and what qemu-user, in whose place the host's libc keeps two, has no
 * signal for (63 and 64). */
#define NEVER_BLOCKED                                                          \
	(SF_BIT(SIGKILL) | SF_BIT(SIGSTOP) | 7UL << 31 | 3UL << 62)

static long change_mask(int how, uint64_t set, uint64_t *old)
{
	return sf_sys4(__NR_rt_sigprocmask, how, &set, old, sizeof(sigset_t));
}

uint64_t sf_kept_open(void)
{
	return sf_config.disabled ? 0
				  : sf_config.signals | SF_BIT(SF_PARK_SIGNAL);
}

/* Where the calling thread's mask is kept: a handler's is its own. */
static uint64_t *blocked(void)
{
	uint64_t sp = (uint64_t)__builtin_frame_address(0);
	struct sf_inflight *record = sf_inflight_at(sp);

	return record ? &record->blocked : &sf_thread_state.blocked;
}

uint64_t sf_blocked(void)
{
	return *blocked();
}

void sf_set_blocked(uint64_t signals)
{
	*blocked() = signals;
}

struct sf_mask sf_mask(void)
{
	return (struct sf_mask){sf_blocked(), sf_thread_state.witness};
}

void sf_inherit_mask(struct sf_mask mask)
{
	sf_thread_state.blocked = mask.blocked;
	sf_thread_state.witness = mask.witness;
}

void sf_notice_bypass(uint64_t mask)
{
	if (sf_thread_state.witness & ~mask) {
		sf_thread_state.blocked = 0;
		sf_thread_state.witness = 0;
	}
}

uint64_t sf_block_all(void)
{
	uint64_t old = 0;

	change_mask(SIG_SETMASK, ~0UL, &old);
	return old;
}

void sf_set_mask(uint64_t mask)
{
	change_mask(SIG_SETMASK, mask, NULL);
}

/* A vfork child's mask is its own, but what we remember is its parent's: from
 * its first change on, the child's is the kernel's alone. */
static bool is_native(void)
{
	return sf_thread_state.native_pid != 0 &&
	       sf_thread_state.native_pid == sf_getpid();
}

uint64_t sf_expose_mask(void)
{
	uint64_t wanted = sf_blocked();
	uint64_t old = 0;

	if (!wanted || is_native())
		return 0;
	change_mask(SIG_BLOCK, wanted, &old);
	if (sf_thread_state.witness & ~old) {
		/* Past us all were opened. */
		change_mask(SIG_SETMASK, old, NULL);
		return 0;
	}
	return wanted & ~old;
}

void sf_hide_mask(uint64_t exposed)
{
	if (exposed)
		change_mask(SIG_UNBLOCK, exposed, NULL);
}

static uint64_t changed(int how, uint64_t before, uint64_t set)
{
	switch (how) {
	case SIG_BLOCK:
		return before | set;
	case SIG_UNBLOCK:
		return before & ~set;
	default:
		return set;
	}
}

/* Keeps the witness of the blocked signals up to date with a call that sets
 * them: `physical` is the kernel's share of it. */
static void witness(int how, uint64_t physical)
{
	uint64_t *seen = &sf_thread_state.witness;

	if (sf_thread_state.blocked == 0)
		*seen = 0;
	else
		*seen = changed(how, *seen, physical) & ~NEVER_BLOCKED;
}

/* sigprocmask and pthread_sigmask. */
static int mask(next_sigprocmask *next, int how,
		const struct sf_libc_sigset *set, struct sf_libc_sigset *old)
{
	struct sf_libc_sigset physical;
	uint64_t *ours = blocked();
	uint64_t before = *ours;
	uint64_t after = before;
	int result;

	if (set) {
		physical = *set;
		after = changed(how, before, set->word[0] & sf_kept_open());
		if (how != SIG_UNBLOCK)
			physical.word[0] &= ~sf_kept_open();
	}
	if (is_native())
		return next(how, set, old);
	/* In a handler nobody is asked: what is kept ends with it, and runtimes
	 * open their signal in the handler of every fault they recover from. */
	if (after != before && ours == &sf_thread_state.blocked &&
	    !sf_process_is_ours()) {
		sf_expose_mask();
		sf_thread_state.native_pid = sf_getpid();
		return next(how, set, old);
	}
	/* Before the call: what waits behind the mask comes in it. */
	*ours = after;
	result = next(how, set ? &physical : NULL, old);
	if (result != 0)
		*ours = before;
	else if (set && ours == &sf_thread_state.blocked)
		witness(how, physical.word[0]);
	if (result == 0 && old)
		old->word[0] |= before;
	return result;
}

SF_EXPORT int sigprocmask(int how, const struct sf_libc_sigset *set,
			  struct sf_libc_sigset *old)
{
	next_sigprocmask *next = SF_NEXT(sigprocmask);

	sf_init();
	return next ? mask(next, how, set, old) : -1;
}

SF_EXPORT int pthread_sigmask(int how, const struct sf_libc_sigset *set,
			      struct sf_libc_sigset *old)
{
	next_pthread_sigmask *next = SF_NEXT(pthread_sigmask);

	sf_init();
	return next ? mask(next, how, set, old) : ENOSYS;
}

/* BSD's, of the first 32 signals; dash opens a child's mask with them. */
static int bsd_mask(int how, int signals)
{
	struct sf_libc_sigset set = {.word[0] = (uint32_t)signals};
	struct sf_libc_sigset old = {.word[0] = 0};

	return sigprocmask(how, &set, &old) ? -1 : (int)old.word[0];
}

SF_EXPORT int sigsetmask(int signals)
{
	return bsd_mask(SIG_SETMASK, signals);
}

SF_EXPORT int sigblock(int signals)
{
	return bsd_mask(SIG_BLOCK, signals);
}

SF_EXPORT int sigsuspend(const struct sf_libc_sigset *set)
{
	next_sigsuspend *next = SF_NEXT(sigsuspend);
	struct sf_libc_sigset physical = *set;
	uint64_t *ours = blocked();
	uint64_t before = *ours;
	int result;

	sf_init();
	if (!next)
		return -1;
	if (((physical.word[0] | before) & sf_kept_open()) == 0 ||
	    !sf_process_is_ours())
		return next(set);
	*ours = set->word[0] & sf_kept_open();
	physical.word[0] &= ~sf_kept_open();
	result = next(&physical);
	*ours = before;
	return result;
}
