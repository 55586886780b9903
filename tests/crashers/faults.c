/* What a processor refuses. */
#include "ways.h"

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

NOINLINE void ill(void)
{
	__asm__ volatile("ud2");
}

NOINLINE void div0(void)
{
	sink = sink / (int)zero;
}

NOINLINE void int3(void)
{
	__asm__ volatile("int3");
	sink = 1;
}
