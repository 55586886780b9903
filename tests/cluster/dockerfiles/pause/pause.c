/* Pid 1 of a pod: holds its namespaces, and reaps what its containers leave
 * behind. */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

static void stop(int signo)
{
	(void)signo;
	_exit(0);
}

static void reap(int signo)
{
	(void)signo;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

int main(void)
{
	const struct sigaction on_stop = {.sa_handler = stop};
	const struct sigaction on_child = {.sa_handler = reap,
					   .sa_flags = SA_NOCLDSTOP};

	sigaction(SIGINT, &on_stop, NULL);
	sigaction(SIGTERM, &on_stop, NULL);
	sigaction(SIGCHLD, &on_child, NULL);
	for (;;)
		pause();
}
