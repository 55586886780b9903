#include "chain.h"

#include "crash.h"
#include "death.h"
#include "dispositions.h"
#include "inflight.h"
#include "masks.h"
#include "process.h"
#include "sys.h"
#include "text.h"
#include "threads.h"

/* A fault this near to the stack pointer may be the stack's end. */
#define NEAR_SP (64UL * 1024)

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

static bool in_our_code(const struct ucontext *uc)
{
	uint64_t pc = sf_pc(uc);

	return pc >= (uint64_t)__ehdr_start && pc < (uint64_t)etext;
}

/* What the crash of a thread at `sp` began with, if it began in a handler. */
static struct sf_inflight *origin(uint64_t sp)
{
	struct sf_inflight *record;

	if (!sf_inflight_at(sp) || !sf_process_is_ours())
		return NULL;
	record = sf_inflight_at(sp); /* not in a forked child */
	return record ? sf_inflight_outermost(record) : NULL;
}

/* What a handler of the application was called for. */
static bool report(struct sf_inflight *record, uint32_t flags)
{
	return sf_crash_report(&record->si, sf_inflight_uc(record),
			       SF_INVOLVEMENT_HANDLER, flags);
}

/* The default action: report, and die by it. */
static void crash(const siginfo_t *si, struct ucontext *uc)
{
	struct sf_inflight *first;

	sf_allow_misaligned();
	sf_block_all();
	if (sf_ignored_by_init(si, uc))
		return;
	first = origin(sf_sp(uc));
	if (first)
		report(first, SF_FLAG_RERAISED);
	else
		sf_crash_report(si, uc,
				in_our_code(uc) ? SF_INVOLVEMENT_FRAME
						: SF_INVOLVEMENT_NONE,
				0);
	sf_die_by(si, uc);
}

/* A blocked signal that somebody sent: blocked for the kernel from now on, and
 * sent again, so that it waits, as it would have. */
static void postpone(int sig, const siginfo_t *si, struct ucontext *uc,
		     struct sf_inflight *record)
{
	int pid = sf_getpid();

	*sf_sigbits(&uc->uc_sigmask) |= SF_BIT(sig);
	sf_block_all(); /* until then it would come at once */
	if (si->si_code == SI_TKILL)
		sf_sys4(__NR_rt_tgsigqueueinfo, pid, sf_gettid(), sig, si);
	else if (sf_sys3(__NR_rt_sigqueueinfo, pid, sig, si) != 0) {
		/* Only the main thread may say that kill() sent it
		 * (kernel/signal.c, do_rt_sigqueueinfo). */
		siginfo_t queued = *si;

		queued.si_code = SI_QUEUE;
		sf_sys3(__NR_rt_sigqueueinfo, pid, sig, &queued);
	}
	/* A handler that wants to die by the signal it handles sends it once
	 * more and returns. */
	if (record && record->si.si_signo == sig && si->si_code <= 0 &&
	    si->si_pid == pid)
		record->resent = true;
}

static bool on_alternate_stack(const struct ucontext *uc, uint64_t address)
{
	uint64_t start = (uint64_t)uc->uc_stack.ss_sp;

	return address - start < uc->uc_stack.ss_size;
}

/* True where natively the kernel could write a signal frame of that size. */
static bool has_room(uint64_t sp, uint64_t bytes)
{
	for (uint64_t at = sp - bytes; at < sp; at += SF_PAGE)
		if (!sf_writable(at))
			return false;
	return sf_writable(sp - sizeof(uint64_t));
}

/* A handler that did not ask for the alternate stack may need more room than
 * that has: its signal frame moves to the interrupted stack, whole, or the next
 * signal would overwrite it.  Does not return but when there is no room, which
 * natively kills. */
static void enter_on_own_stack(int sig, const siginfo_t *si,
			       struct ucontext *uc, sf_handler *handler,
			       struct sf_inflight *record)
{
	uint64_t sp = sf_sp(uc) - SF_RED_ZONE;
	uint64_t bytes = sizeof(*record) + 64 + sf_frame_bytes(uc);
	uint64_t distance = (uint64_t)si->si_addr - sf_sp(uc) + NEAR_SP;
	struct sf_frame frame;

	/* Elsewhere than near its end a stack has room: no system call. */
	if ((!sf_forced(si) || distance < 2 * NEAR_SP) && !has_room(sp, bytes))
		return;
	sp = (sp - sizeof(*record)) & ~63UL;
	record->moving = true;
	record = sf_inflight_move(record, (void *)sp);
	sf_frame_copy(&frame, sp, si, uc);
	record->frame = frame.uc;
	record->moving = false;
	sf_frame_enter(&frame, handler, sig);
}

/* Its stack pointer leads nowhere: copying the frame there has faulted, and the
 * thread goes back to its first fault, to die by it. */
static void die_without_a_stack(struct sf_inflight *record, struct ucontext *uc)
{
	memcpy(uc, record->uc, sizeof(record->uc));
	crash(&record->si, uc);
}

static void call_handler(int sig, siginfo_t *si, struct ucontext *uc,
			 const struct sigaction *action,
			 struct sf_inflight *outer, uint64_t blocked)
{
	sf_handler *handler = (sf_handler *)(void *)action->sa_handler;
	struct sf_inflight record;

	if (action->sa_flags & SA_RESETHAND)
		sf_action_reset(sig);
	*sf_sigbits(&uc->uc_sigmask) |=
		blocked; /* as the application knows it */
	sf_inflight_enter(&record, outer, si, uc);
	record.blocked =
		blocked | (*sf_sigbits(&action->sa_mask) & sf_kept_open());
	if (!(action->sa_flags & SA_NODEFER))
		record.blocked |= SF_BIT(sig);
	if (!(action->sa_flags & SA_ONSTACK) &&
	    on_alternate_stack(uc, (uint64_t)&record) &&
	    !on_alternate_stack(uc, sf_sp(uc)) && !sf_shadow_stack()) {
		enter_on_own_stack(sig, si, uc, handler, &record);
		crash(si, uc);
		return;
	}
	handler(sig, si, uc);
	sf_handler_returned(uc);
}

void sf_on_signal(int sig, siginfo_t *si, void *context)
{
	struct ucontext *uc = context;
	struct sigaction action = sf_action(sig);
	struct sf_inflight *outer = sf_inflight_at(sf_sp(uc));
	bool forced = sf_forced(si);
	uint64_t blocked;

	sf_notice_bypass(*sf_sigbits(&uc->uc_sigmask));
	blocked = outer ? outer->blocked : sf_thread_state.blocked;
	/* Go opens a signal it wants to die by, in its handler, past libc. */
	if ((blocked & SF_BIT(sig)) && sf_sent_past_libc(si, uc))
		sf_set_blocked(blocked &= ~SF_BIT(sig));
	if (outer && outer->moving)
		die_without_a_stack(outer, uc);
	else if ((blocked & SF_BIT(sig)) && !forced &&
		 !(sig == SIGABRT && sf_called_by_abort(uc)))
		postpone(sig, si, uc, outer);
	/* The kernel asks no handler of a fault that is blocked. */
	else if (action.sa_handler == SIG_DFL ||
		 ((blocked & SF_BIT(sig)) && forced))
		crash(si, uc);
	else if (action.sa_handler != SIG_IGN)
		call_handler(sig, si, uc, &action, outer, blocked);
}

/* Reports a handler's signal, which the process dies of when it returns. */
static void report_and_return(struct sf_inflight *record, uint32_t flags,
			      struct ucontext *uc)
{
	sf_block_all();
	report(record, flags);
	*sf_sigbits(&uc->uc_sigmask) = ~SF_BIT(record->si.si_signo);
}

void sf_handler_returned(struct ucontext *uc)
{
	struct sf_inflight *record = sf_inflight_leave(uc);

	/* The handler may have changed the mask it returns to. */
	sf_set_blocked(*sf_sigbits(&uc->uc_sigmask) & sf_kept_open());
	*sf_sigbits(&uc->uc_sigmask) &= ~sf_kept_open();
	if (!record)
		return;
	if (record->resent &&
	    sf_action(record->si.si_signo).sa_handler == SIG_DFL)
		report_and_return(record, SF_FLAG_RERAISED, uc);
	else if (record->si.si_signo == SIGABRT && !sf_forced(&record->si) &&
		 sf_called_by_abort(uc))
		/* abort() will have its way, by means we do not see. */
		report_and_return(record, 0, uc);
}

void sf_report_inflight(void)
{
	struct sf_inflight *record =
		origin((uint64_t)__builtin_frame_address(0));
	uint64_t mask;

	if (!record)
		return;
	mask = sf_block_all();
	if (report(record, 0))
		sf_threads_resume();
	sf_set_mask(mask);
}
