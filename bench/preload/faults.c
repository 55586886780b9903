/* faults COUNT [on-stack]: recovers from COUNT faults and prints the median
 * nanoseconds of one, over batches.
 *
 * The handler steps over the instruction, as a language runtime's null check
 * does; nothing else happens, so what is added to it shows. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <ucontext.h>

#include "timing.h"

#define BATCH 500

extern const char after_fault[];

static void step_over(int sig, siginfo_t *si, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)si;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)after_fault;
}

static __attribute__((noinline, noclone)) void fault(void)
{
	__asm__ volatile("xor %%eax, %%eax\n\t"
			 "mov (%%rax), %%rax\n"
			 ".globl after_fault\nafter_fault:"
			 :
			 :
			 : "rax", "memory");
}

int main(int argc, char **argv)
{
	static char alternate[65536];
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
	struct sigaction action = {.sa_sigaction = step_over,
				   .sa_flags = SA_SIGINFO};

	if (argc > 2) {
		action.sa_flags |= SA_ONSTACK;
		sigaltstack(&stack, NULL);
	}
	sigaction(SIGSEGV, &action, NULL);
	print_median(argc > 1 ? atoi(argv[1]) : 0, BATCH, fault);
	return 0;
}
