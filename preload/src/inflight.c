#include "inflight.h"

#include <stddef.h>

#include "text.h"

#define COOKIE 0x5f6d617266656c69ULL /* arbitrary */

/* Arbitrary: a handler on the interrupted stack goes no deeper below its own
 * frame.  (An alternate stack has an end of its own.) */
#define REACH (1UL << 20)

__thread struct sf_thread_state sf_thread_state;

static uint64_t cookie_of(const struct sf_inflight *record)
{
	return (uint64_t)record ^ COOKIE;
}

/* Makes `record`, or none, the innermost. */
static void enter(struct sf_inflight *record)
{
	sf_thread_state.inflight = record;
	if (record) {
		sf_thread_state.stack_start = record->stack_start;
		sf_thread_state.stack_end = record->stack_end;
	}
}

/* Records its place; the cookie is last, for a fault in between. */
static void place(struct sf_inflight *record, uint64_t start, uint64_t end)
{
	record->stack_start = start;
	record->stack_end = end;
	record->cookie = cookie_of(record);
	enter(record);
}

void sf_inflight_enter(struct sf_inflight *record, struct sf_inflight *outer,
		       const siginfo_t *si, const struct ucontext *uc)
{
	uint64_t start = (uint64_t)uc->uc_stack.ss_sp;
	uint64_t end = start + uc->uc_stack.ss_size;
	uint64_t at = (uint64_t)record;

	record->outer = outer;
	record->frame = uc;
	record->resent = false;
	record->moving = false;
	record->si = *si;
	memcpy(record->uc, uc, sizeof(record->uc));
	if (at >= start && at < end)
		place(record, start, end);
	else
		place(record, at - REACH, at);
}

struct sf_inflight *sf_inflight_move(struct sf_inflight *record, void *to)
{
	struct sf_inflight *moved = to;

	memcpy(moved, record, sizeof(*moved));
	place(moved, (uint64_t)moved - REACH, (uint64_t)moved);
	return moved;
}

struct sf_inflight *sf_inflight_leave(const struct ucontext *frame)
{
	uint64_t sp = (uint64_t)__builtin_frame_address(0);
	struct sf_inflight *record = sf_inflight_at(sp);

	/* Handlers that were left without a word may be on top. */
	while (record && record->frame != frame)
		record = record->cookie == cookie_of(record) ? record->outer
							     : NULL;
	enter(record ? record->outer : NULL);
	if (record)
		record->cookie = 0;
	return record;
}

struct sf_inflight *sf_inflight_at(uint64_t sp)
{
	struct sf_inflight *record = sf_thread_state.inflight;

	/* In this order: where sp is on its stack, its memory is there. */
	return record && sp >= sf_thread_state.stack_start &&
			       sp < sf_thread_state.stack_end &&
			       sp < (uint64_t)record &&
			       record->cookie == cookie_of(record)
		       ? record
		       : NULL;
}

struct sf_inflight *sf_inflight_outermost(struct sf_inflight *record)
{
	while (record->outer)
		record = record->outer;
	return record;
}

void sf_inflight_forget(void)
{
	sf_thread_state.inflight = NULL;
}
