#include "stacks.h"

#include <linux/elf.h>

#include "altstack.h"
#include "maps.h"
#include "ranges.h"
#include "sys.h"

#define NEWEST_BYTES (64UL * 1024)
#define OLDEST_BYTES (16UL * 1024) /* arbitrary: a few dozen root frames */
#define ORIGIN_BYTES 4096UL	   /* of what lies above the oldest frame */

/* A frame may be large, but a fault further from sp is not an overflow. */
#define OVERFLOW_REACH (64UL * 1024)

static bool usable(const struct sf_map *map)
{
	return map && (map->flags & PF_R) && (map->flags & PF_W);
}

/* The mapping of the stack that `sp` is in or has just left. */
static const struct sf_map *stack_of(uint64_t sp)
{
	const struct sf_map *map = sf_maps_at_or_above(sp);

	/* A guard area is a mapping without access, below its stack. */
	if (map && !usable(map) && map->flags == 0)
		map = sf_maps_at_or_above(map->end);
	return usable(map) ? map : NULL;
}

bool sf_stack_overflowed(const siginfo_t *si, const struct ucontext *uc)
{
	uint64_t sp = sf_sp(uc);
	uint64_t address = (uint64_t)si->si_addr;
	const struct sf_map *stack = stack_of(sp);

	return si->si_signo == SIGSEGV && si->si_code > 0 && stack &&
	       address < stack->start && address + OVERFLOW_REACH > sp &&
	       address < sp + OVERFLOW_REACH &&
	       stack->start < sp + OVERFLOW_REACH;
}

static void add(const struct sf_map *stack, uint64_t start, uint64_t end)
{
	sf_ranges_add(start > stack->start ? start : stack->start,
		      end < stack->end ? end : stack->end);
}

/* The alternate stack we carved from this stack, or NULL: it lies between the
 * thread's first frames (libc's) and all others, and holds nothing itself. */
static const stack_t *carved_from(const struct sf_map *stack,
				  const struct ucontext *uc)
{
	const stack_t *alternate = &uc->uc_stack;
	uint64_t start = (uint64_t)alternate->ss_sp;

	return start > sf_sp(uc) && start < stack->end ? alternate : NULL;
}

static void add_above(const struct sf_map *stack, const stack_t *alternate)
{
	uint64_t above = (uint64_t)alternate->ss_sp + alternate->ss_size;

	add(stack, above, above + ORIGIN_BYTES);
}

void sf_stack_add(const struct ucontext *uc)
{
	uint64_t start = sf_sp(uc) - SF_RED_ZONE;
	uint64_t end = sf_sp(uc) + NEWEST_BYTES;
	const struct sf_map *stack = stack_of(sf_sp(uc));
	const stack_t *alternate = stack ? carved_from(stack, uc) : NULL;

	if (alternate && (uint64_t)alternate->ss_sp < end) {
		add(stack, start, (uint64_t)alternate->ss_sp);
		add_above(stack, alternate);
	} else if (stack) {
		add(stack, start, end);
	} else if (sf_maps.count == 0) {
		sf_ranges_add(start, end); /* no /proc: try */
	}
}

void sf_stack_add_oldest(const struct ucontext *uc)
{
	const struct sf_map *stack = stack_of(sf_sp(uc));
	const stack_t *alternate = stack ? carved_from(stack, uc) : NULL;
	uint64_t origin = sf_main_stack_origin;

	if (!stack)
		return;
	if (alternate) {
		origin = (uint64_t)alternate->ss_sp;
		add_above(stack, alternate);
	} else if (origin < stack->start || origin >= stack->end) {
		origin = stack->end;
	}
	add(stack, origin - OLDEST_BYTES, origin + ORIGIN_BYTES);
}
