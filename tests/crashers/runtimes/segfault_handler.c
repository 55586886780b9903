/* A crash handler to be preloaded, of the kind that prints and dies: what
 * libSegFault.so was, for the signals that it took (SEGFAULT_SIGNALS=all).
 * SEGFAULT_HANDLER says how it ends: "reraise" (default), "return", "exit", or
 * "fork" (a child runs a program, then as "reraise"). */
#define _GNU_SOURCE
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define FRAMES_MAX 64

static const int signals[] = {SIGSEGV, SIGILL,	SIGBUS,
			      SIGFPE,  SIGABRT, SIGSTKFLT};

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

static void print_fault(const siginfo_t *info, const ucontext_t *context)
{
	const greg_t *registers = context->uc_mcontext.gregs;

	dprintf(STDERR_FILENO, "*** signal %d code %d\n", info->si_signo,
		info->si_code);
	if (info->si_code > 0)
		dprintf(STDERR_FILENO, "*** address %p\n", info->si_addr);
	else
		dprintf(STDERR_FILENO, "*** sender %d\n", info->si_pid);
	dprintf(STDERR_FILENO, "*** trap %lld error %lld\n",
		registers[REG_TRAPNO], registers[REG_ERR]);
}

static void print_backtrace(void)
{
	void *frames[FRAMES_MAX];

	backtrace_symbols_fd(frames, backtrace(frames, FRAMES_MAX),
			     STDERR_FILENO);
}

static void handler(int sig, siginfo_t *info, void *context)
{
	print_fault(info, context);
	print_backtrace();
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
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		sigaction(signals[i], &action, NULL);
}
