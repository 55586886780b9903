/* A crash handler to be preloaded, of the kind that prints and dies: what
 * libSegFault.so was.  SEGFAULT_HANDLER says how it ends: "reraise" (default),
 * "return", "exit", or "fork" (a child runs a program, then as "reraise"). */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *ending = "reraise";

static void say(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		_exit(98);
}

static void run_program(void)
{
	char *const arguments[] = {"sh", "-c", "echo \"*** program ran\" >&2",
				   NULL};
	pid_t child = fork();
	int status;

	if (child == 0) {
		execv("/bin/sh", arguments);
		_exit(97);
	}
	if (waitpid(child, &status, 0) < 0 || status != 0)
		say("*** program failed\n");
}

static void handler(int sig, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	say("*** segfault handler\n");
	if (strcmp(ending, "exit") == 0)
		_exit(7);
	if (strcmp(ending, "fork") == 0)
		run_program();
	signal(sig, SIG_DFL);
	if (strcmp(ending, "return") != 0)
		raise(sig);
}

__attribute__((constructor)) static void install(void)
{
	struct sigaction action = {.sa_sigaction = handler,
				   .sa_flags = SA_SIGINFO | SA_ONSTACK};
	const char *value = getenv("SEGFAULT_HANDLER");

	if (value != NULL)
		ending = value;
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGABRT, &action, NULL);
}
