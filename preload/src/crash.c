/* The pipeline of a crash: stop the world, snapshot, hold, die.
 *
 * Everything here runs with all signals blocked, mostly in a signal handler.
 * What is large is static, the stack included, and belongs to the one thread
 * that crashed first.
 */
#include "crash.h"

#include <linux/close_range.h>
#include <linux/resource.h>

#include "config.h"
#include "core.h"
#include "debug.h"
#include "handover.h"
#include "headroom.h"
#include "sys.h"
#include "threads.h"

enum turn {
	TURN_FIRST, /* this crash is the one that is reported */
	TURN_LATE,  /* another thread of the process was first */
	TURN_OVER,  /* reported already, or not ours to report */
};

/* Which thread reports: pid << 32 | tid, and OWNER_BUSY while it uses our
 * static memory.  Keyed by pid, because a vfork child shares this memory and a
 * forked one inherits it: neither is the process that wrote it.  One word,
 * because a look at two could see the first from before and the second from
 * after. */
#define OWNER_BUSY (1ULL << 63)
static uint64_t owner;

static struct sf_crash crash;
static struct sf_handover handover;

/* The pipeline's own stack: what an application's handler has left of its
 * alternate stack, from which it calls abort(), may be a few KiB and end
 * without a guard page (Ruby, Rust). */
#define STACK_BYTES (64UL * 1024)
static char stack[STACK_BYTES] __attribute__((aligned(16)));

static enum turn take_turn(uint64_t us)
{
	uint64_t them = __atomic_load_n(&owner, __ATOMIC_ACQUIRE);

	for (;;) {
		uint64_t thread = them & ~OWNER_BUSY;
		uint64_t process = thread >> 32;

		if (process == us >> 32)
			return thread == us ? TURN_OVER : TURN_LATE;
		if ((them & OWNER_BUSY) && sf_sys2(__NR_kill, process, 0) == 0)
			return TURN_OVER;
		if (__atomic_compare_exchange_n(&owner, &them, us | OWNER_BUSY,
						false, __ATOMIC_ACQ_REL,
						__ATOMIC_ACQUIRE))
			return TURN_FIRST;
	}
}

/* Limits that could cost the snapshot; what they were is in `limits`. */
#define LIMITS 2
static const int limited[LIMITS] = {RLIMIT_NOFILE, RLIMIT_FSIZE};
static struct rlimit64 limits[LIMITS];

/* As far as an unprivileged process may; it has no use for them any more. */
static void raise_limits(void)
{
	for (int i = 0; i < LIMITS; i++) {
		struct rlimit64 raised = {0, 0};

		sf_sys4(__NR_prlimit64, 0, limited[i], NULL, &raised);
		limits[i] = raised;
		raised.rlim_cur = raised.rlim_max;
		if (raised.rlim_cur != limits[i].rlim_cur)
			sf_sys4(__NR_prlimit64, 0, limited[i], &raised, NULL);
	}
}

static void restore_limits(void)
{
	for (int i = 0; i < LIMITS; i++)
		if (limits[i].rlim_cur != limits[i].rlim_max)
			sf_sys4(__NR_prlimit64, 0, limited[i], &limits[i],
				NULL);
}

/* Our descriptors go into a table of our own, where no other thread's
 * close_range() can drop the lock and none of the application's numbers are
 * used up. */
static uint32_t unshare_descriptors(void)
{
	return sf_sys3(__NR_close_range, ~0U, ~0U, CLOSE_RANGE_UNSHARE)
		       ? SF_FLAG_FD_TABLE_SHARED
		       : 0;
}

/* Notes what only this moment knows. */
static void begin(int pid, int tid, const siginfo_t *si,
		  const struct ucontext *uc)
{
	crash = (struct sf_crash){
		.si = si,
		.uc = uc,
		.pid = pid,
		.tid = tid,
		.tls_base = sf_tls_base(),
		.note.crash_realtime_ns = sf_clock_ns(CLOCK_REALTIME),
		.note.crash_monotonic_ns = sf_clock_ns(CLOCK_MONOTONIC),
	};
}

/* Writes the times and the reason into the note, in place. */
static void update_note(void)
{
	sf_write_memory(handover.file, crash.note_offset, (uint64_t)&crash.note,
			sizeof(crash.note));
}

static int snapshot(void)
{
	int error = sf_handover_create(&handover);

	if (error)
		return error;
	error = sf_core_write(handover.file, &crash, handover.id);
	if (error) {
		sf_handover_discard(&handover);
		return error;
	}
	crash.note.snapshot_monotonic_ns = sf_clock_ns(CLOCK_MONOTONIC);
	update_note();
	/* Whoever looks at us while we are held sees the application's own. */
	restore_limits();
	return sf_handover_publish(&handover);
}

static void hold(void)
{
	crash.note.release = sf_handover_hold(&handover);
	crash.note.release_monotonic_ns = sf_clock_ns(CLOCK_MONOTONIC);
	raise_limits();
	update_note();
}

static int write_and_hold(void)
{
	int error;

	raise_limits();
	crash.note.flags |= unshare_descriptors();
	error = sf_handover_open(&handover);
	if (!error) {
		sf_threads_stop();
		error = snapshot();
	}
	if (!error)
		hold();
	/* Or the kernel would write a core that was forbidden. */
	restore_limits();
	return error;
}

static void report(void)
{
	/* First of all: what follows needs memory, too. */
	int error = sf_may_snapshot() ? write_and_hold() : -ENOMEM;

	sf_debug_report(&crash, handover.name, error);
}

bool sf_crash_report(const siginfo_t *si, const struct ucontext *uc,
		     enum sf_involvement involvement, uint32_t flags)
{
	int pid = sf_getpid();
	int tid = sf_gettid();
	uint64_t us = (uint64_t)pid << 32 | (uint32_t)tid;

	switch (take_turn(us)) {
	case TURN_FIRST:
		begin(pid, tid, si, uc);
		crash.note.involvement = involvement;
		crash.note.flags = flags;
		sf_call_on_stack(stack + STACK_BYTES, report);
		__atomic_store_n(&owner, us, __ATOMIC_RELEASE);
		return true;
	case TURN_LATE:
		sf_threads_park(uc);
		return false;
	default:
		return false;
	}
}
