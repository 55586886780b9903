/* The native method of Crash.java; jni.h has nothing that it needs. */
__attribute__((noinline)) static void write_to(volatile long *address)
{
	*address = 1;
}

void Java_Crash_write(void *environment, void *class, long address);

void Java_Crash_write(void *environment, void *class, long address)
{
	(void)environment;
	(void)class;
	write_to((volatile long *)address);
}
