/* faults COUNT [on-stack]: recovers from COUNT faults and prints the median
 * nanoseconds of one, over batches.
 *
 * The handler steps over the instruction, as a language runtime's null check
 * does; nothing else happens, so what is added to it shows. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <ucontext.h>

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

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	int batches = argc > 1 ? atoi(argv[1]) / BATCH : 0;
	double *times = calloc((size_t)batches + 1, sizeof(*times));
	static char alternate[65536];
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
	struct sigaction action = {.sa_sigaction = step_over,
				   .sa_flags = SA_SIGINFO};

	if (argc > 2) {
		action.sa_flags |= SA_ONSTACK;
		sigaltstack(&stack, NULL);
	}
	sigaction(SIGSEGV, &action, NULL);
	for (int i = 0; i < batches; i++) {
		uint64_t start = now_ns();

		for (int j = 0; j < BATCH; j++)
			fault();
		times[i] = (double)(now_ns() - start) / BATCH;
	}
	qsort(times, (size_t)batches, sizeof(*times), compare);
	printf("%.1f\n", times[batches / 2]);
	return 0;
}
