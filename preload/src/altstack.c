#include "altstack.h"

#include "machine.h"
#include "sys.h"

uint64_t sf_main_stack_origin;

void sf_altstack_use(void *stack)
{
	stack_t ours = {.ss_sp = stack, .ss_size = SF_ALTSTACK_BYTES};
	stack_t old;

	/* Set first, then put back: one call in nearly every case. */
	if (sf_sys2(__NR_sigaltstack, &ours, &old) == 0 &&
	    !(old.ss_flags & SS_DISABLE))
		sf_sys2(__NR_sigaltstack, &old, NULL);
}

void sf_altstack_init(void)
{
	static char stack[SF_ALTSTACK_BYTES] __attribute__((aligned(64)));

	sf_main_stack_origin = (uint64_t)__builtin_frame_address(0);
	sf_altstack_use(stack);
}
