/* Crashes of a child. */
#include "ways.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

NOINLINE void forked_child(void)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0)
		null_read();
	waitpid(child, &status, 0);
	exit(WIFSIGNALED(status) ? WTERMSIG(status) : 100);
}

/* The child of a vfork crashes, then its parent does: two reports. */
NOINLINE void vforked_child(void)
{
	pid_t child = vfork();

	if (child == 0)
		null_read();
	waitpid(child, NULL, 0);
	null_write();
}
