/* What a processor refuses. */
#include "ways.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

NOINLINE void null_read(void)
{
	sink = *(volatile int *)zero;
}

NOINLINE void null_write(void)
{
	*(volatile int *)zero = 1;
}

NOINLINE void wild(void)
{
	sink = *(volatile int *)(zero + 0x0000123456789abcUL);
}

NOINLINE void non_canonical(void)
{
	sink = *(volatile int *)(zero + 0xdead00000000beefUL);
}

NOINLINE void call_null(void)
{
	((void (*)(void))zero)();
	sink = 1;
}

NOINLINE void exec_data(void)
{
	static volatile unsigned char data[16] = {0xc3};

	((void (*)(void))(uintptr_t)data)();
	sink = 1;
}

NOINLINE void ro_write(void)
{
	*(volatile char *)(uintptr_t) "read-only" = 'R';
}

NOINLINE void bus(void)
{
	int fd = memfd_create("crasher", 0);
	volatile char *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

	sink = page[100];
}

#ifdef __aarch64__
#define UNDEFINED  "udf #0"
#define BREAKPOINT "brk #0"
#else
#define UNDEFINED  "ud2"
#define BREAKPOINT "int3"
#endif

NOINLINE void ill(void)
{
	__asm__ volatile(UNDEFINED);
}

NOINLINE void div0(void)
{
	sink = sink / (int)zero;
}

NOINLINE void int3(void)
{
	__asm__ volatile(BREAKPOINT);
	sink = 1;
}

NOINLINE void unmapped(void)
{
	volatile char *page =
		mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap((void *)page, 4096);
	sink = *page;
}

NOINLINE void guarded(void)
{
	volatile char *page =
		mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	sink = *page;
}

/* A vector instruction that wants 16-byte alignment; on arm64 an exclusive. */
NOINLINE void misaligned(void)
{
	static char data[32] __attribute__((aligned(16)));

#if defined(__x86_64__)
	__asm__ volatile("movaps (%0), %%xmm0" : : "r"(data + 1) : "xmm0");
#else
	__asm__ volatile("ldaxr x0, [%0]" : : "r"(data + 1) : "x0");
#endif
}

/* Every misaligned access of the thread faults from here on. */
NOINLINE void alignment_check(void)
{
#if defined(__x86_64__)
	static volatile char data[16] __attribute__((aligned(16)));

	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
			 "pushfq\n\t"
			 "orq $0x40000, (%%rsp)\n\t"
			 "popfq\n\t"
			 "lea 128(%%rsp), %%rsp"
			 :
			 :
			 : "memory", "cc");
	sink = *(volatile int *)(data + 1);
#else
	exit(NOT_HERE);
#endif
}

NOINLINE void null_stack(void)
{
#if defined(__x86_64__)
	__asm__ volatile("xor %%esp, %%esp\n\tpush %%rax" : : : "memory");
#else
	__asm__ volatile("mov x0, #0\n\tmov sp, x0\n\tstr x0, [sp, #-16]!"
			 :
			 :
			 : "x0", "memory");
#endif
}

NOINLINE void corrupted_frames(void)
{
	volatile uintptr_t *frame = __builtin_frame_address(0);

	frame[0] = 0x4141414141414141; /* the caller's frame pointer */
	frame[1] = 0x4242424242424242; /* the return address */
	sink = *(volatile int *)zero;
}
