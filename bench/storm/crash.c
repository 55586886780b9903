/* Waits for the opening of a FIFO's other end, as all the others do, and dies. */
#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 2 || open(argv[1], O_RDONLY | O_CLOEXEC) < 0)
		return 1;
	*(volatile int *)0 = 1;
	return 0;
}
