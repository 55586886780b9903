/* Crashes of a child. */
#include "threads.h"
#include "ways.h"

#include <spawn.h>
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

/* Between fork and exec, in a process that has threads. */
static void *fork_in_thread(void *unused)
{
	(void)unused;
	forked_child();
	return NULL;
}

NOINLINE void forked_by_thread(void)
{
	pthread_t thread;

	start(&thread, NULL, fork_in_thread, NULL);
	pthread_join(thread, NULL);
}

NOINLINE void after_exec(void)
{
	execl("/proc/self/exe", "crasher", "null_read", (char *)NULL);
}

NOINLINE void spawned_child(void)
{
	char *argv[] = {"crasher", "null_read", NULL};
	pid_t child;
	int status = 0;

	if (posix_spawn(&child, "/proc/self/exe", NULL, NULL, argv, environ))
		exit(100);
	waitpid(child, &status, 0);
	exit(WIFSIGNALED(status) ? WTERMSIG(status) : 100);
}
