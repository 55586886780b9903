/* The application's own handlers, masks and dispositions: what a process that
 * handles its signals does with them, and how it dies all the same.
 *
 * A way that survives says so by its exit status: 0 when everything was as the
 * application had set it, else the number of the check that failed.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ways.h"

#define RECOVERIES 1000
#define LIBC_FLAG  0x04000000u /* SA_RESTORER: libc's own business */

extern char **environ;

static sigjmp_buf back;
static volatile int calls; /* of a handler */

static void check(int number, int condition)
{
	if (!condition)
		_exit(number);
}

static NOINLINE void fault(void)
{
	sink = *(volatile int *)(zero + 0x10);
}

static void handle(int sig, int flags, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

	sigaction(sig, &action, NULL);
}

static void say(const char *text)
{
	(void)!write(2, text, strlen(text));
}

static void block(int how, int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(how, &set, NULL);
}

static int is_blocked(int sig)
{
	sigset_t set;

	sigprocmask(SIG_BLOCK, NULL, &set);
	return sigismember(&set, sig);
}

/* Recovered faults: no crash. */

static void jump_back(int sig)
{
	(void)sig;
	calls++;
	siglongjmp(back, 1);
}

static NOINLINE void recover(int flags)
{
	handle(SIGSEGV, flags, jump_back);
	for (volatile int i = 0; i < RECOVERIES; i++)
		if (sigsetjmp(back, 1) == 0)
			fault();
	check(1, calls == RECOVERIES);
	check(2, !is_blocked(SIGSEGV));
	exit(0);
}

NOINLINE void recovered(void)
{
	recover(0);
}

NOINLINE void recovered_on_stack(void)
{
	recover(SA_ONSTACK);
}

/* Deeper than the handler's record was, so that a stale one could be taken
 * for one in force. */
static NOINLINE void abort_deep_down(int depth)
{
	volatile char frame[4096];

	frame[0] = (char)depth;
	if (depth > 0)
		abort_deep_down(depth - 1);
	sink = frame[0];
	abort();
}

NOINLINE void recovered_then_abort(void)
{
	handle(SIGSEGV, 0, jump_back);
	if (sigsetjmp(back, 1) == 0)
		fault();
	abort_deep_down(16);
}

static volatile char *page;

static void open_page(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	check(1, si->si_addr == (void *)page);
	mprotect((void *)page, 4096, PROT_READ | PROT_WRITE);
	calls++;
}

NOINLINE void recovered_by_mapping(void)
{
	struct sigaction action = {.sa_sigaction = open_page,
				   .sa_flags = SA_SIGINFO};

	page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaction(SIGSEGV, &action, NULL);
	for (int i = 1; i <= RECOVERIES; i++) {
		page[0] = 1;
		mprotect((void *)page, 4096, PROT_NONE);
		check(2, calls == i);
	}
	exit(0);
}

static void use_much_stack(int sig)
{
	volatile char frame[200 * 1024];

	for (size_t i = 0; i < sizeof(frame); i += 512)
		frame[i] = (char)sig;
	calls++;
	siglongjmp(back, 1);
}

/* Natively it has the whole stack of its thread. */
NOINLINE void recovered_with_large_frame(void)
{
	handle(SIGSEGV, 0, use_much_stack);
	if (sigsetjmp(back, 1) == 0)
		fault();
	check(1, calls == 1);
	exit(0);
}

static void *recover_in_a_thread(void *unused)
{
	recover(SA_ONSTACK);
	return unused;
}

NOINLINE void recovered_in_thread(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, recover_in_a_thread, NULL);
	pthread_join(thread, NULL);
}

/* Handlers that do not help: one crash, which began with the fault. */

static void leave(int sig)
{
	_exit(sig == SIGSEGV ? 42 : 43);
}

NOINLINE void handled(void)
{
	signal(SIGSEGV, leave);
	fault();
}

static void say_goodbye(void)
{
	say("atexit ran\n");
}

static void leave_properly(int sig)
{
	(void)sig;
	exit(41);
}

static void *wait_for_ever(void *unused)
{
	for (;;)
		pause();
	return unused;
}

/* exit() runs handlers that need the other threads. */
NOINLINE void handler_exits(void)
{
	pthread_t thread;

	atexit(say_goodbye);
	pthread_create(&thread, NULL, wait_for_ever, NULL);
	signal(SIGSEGV, leave_properly);
	fault();
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int asked;
static int answered;

static void *answer(void *unused)
{
	pthread_mutex_lock(&mutex);
	while (!asked)
		pthread_cond_wait(&condition, &mutex);
	answered = 1;
	pthread_cond_broadcast(&condition);
	pthread_mutex_unlock(&mutex);
	return unused;
}

static void ask(void)
{
	pthread_mutex_lock(&mutex);
	asked = 1;
	pthread_cond_broadcast(&condition);
	while (!answered)
		pthread_cond_wait(&condition, &mutex);
	pthread_mutex_unlock(&mutex);
	say("the thread answered\n");
}

NOINLINE void handler_exits_with_a_thread(void)
{
	pthread_t thread;

	atexit(ask);
	pthread_create(&thread, NULL, answer, NULL);
	signal(SIGSEGV, leave_properly);
	fault();
}

static void give_up(int sig)
{
	(void)sig;
	abort();
}

NOINLINE void handler_aborts(void)
{
	signal(SIGSEGV, give_up);
	fault();
}

static void raise_again(int sig)
{
	signal(sig, SIG_DFL);
	raise(sig);
}

NOINLINE void handler_reraises(void)
{
	handle(SIGSEGV, SA_ONSTACK, raise_again);
	fault();
}

static void raise_again_and_leave(int sig)
{
	signal(sig, SIG_DFL);
	raise(sig);
	_exit(3);
}

/* Natively the raised signal waits behind the mask, and the exit wins. */
NOINLINE void handler_reraises_and_exits(void)
{
	handle(SIGSEGV, 0, raise_again_and_leave);
	fault();
}

NOINLINE void handler_reraises_undeferred(void)
{
	handle(SIGSEGV, SA_NODEFER, raise_again_and_leave);
	fault();
}

static void restore_default(int sig)
{
	signal(sig, SIG_DFL);
}

NOINLINE void handler_restores_default(void)
{
	handle(SIGSEGV, SA_ONSTACK, restore_default);
	fault();
}

static void count(int sig)
{
	(void)sig;
	say("handled\n");
}

NOINLINE void handler_once(void)
{
	handle(SIGSEGV, SA_RESETHAND, count);
	fault();
}

static NOINLINE void fault_again(int sig)
{
	(void)sig;
	sink = *(volatile int *)(zero + 0x20);
}

NOINLINE void handler_faults(void)
{
	handle(SIGSEGV, SA_ONSTACK, fault_again);
	fault();
}

static void fault_once_more(int sig)
{
	if (calls++ > 0)
		_exit(5);
	fault_again(sig);
}

NOINLINE void handler_faults_undeferred(void)
{
	handle(SIGSEGV, SA_NODEFER, fault_once_more);
	fault();
}

static void become_true(int sig)
{
	(void)sig;
	execl("/bin/true", "true", (char *)NULL);
	_exit(4);
}

NOINLINE void handler_execs(void)
{
	signal(SIGSEGV, become_true);
	fault();
}

/* What a crash reporter does that starts a debugger. */
static void run_true(int sig)
{
	pid_t child = fork();

	if (child == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(4);
	}
	waitpid(child, NULL, 0);
	raise_again(sig);
}

NOINLINE void handler_forks(void)
{
	signal(SIGSEGV, run_true);
	fault();
}

NOINLINE void abort_handler_returns(void)
{
	signal(SIGABRT, count);
	abort();
}

NOINLINE void abort_handler_jumps(void)
{
	signal(SIGABRT, jump_back);
	if (sigsetjmp(back, 1) == 0)
		abort();
	exit(0);
}

NOINLINE void abort_blocked(void)
{
	block(SIG_BLOCK, SIGABRT);
	abort();
}

/* The stack pointer is nowhere: natively there is no place for a frame. */
NOINLINE void handler_without_a_stack(void)
{
	handle(SIGSEGV, 0, leave);
#if defined(__x86_64__)
	__asm__ volatile("movabs $0x123456789000, %%rsp\n\t"
			 "movl 0x10, %%eax" ::
				 : "rax", "memory");
#else
	__asm__ volatile("mov x0, #0x12340000\n\tmov sp, x0\n\t"
			 "mov x0, #0x10\n\tldr w0, [x0]" ::
				 : "x0", "memory");
#endif
}

/* Stack overflow. */

/* Natively there is no room for the handler's frame. */
NOINLINE void overflow_with_handler(void)
{
	handle(SIGSEGV, 0, leave);
	recurse(0);
}

NOINLINE void overflow_with_handler_on_stack(void)
{
	static char stack[65536];
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};

	sigaltstack(&alternate, NULL);
	handle(SIGSEGV, SA_ONSTACK, leave);
	recurse(0);
}

/* A handler of another signal, with every signal blocked. */

static void install_full_mask(int sig, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler};
	struct sigaction old;

	sigfillset(&action.sa_mask);
	sigaction(sig, &action, NULL);
	sigaction(sig, NULL, &old);
	check(1, sigismember(&old.sa_mask, SIGSEGV));
}

NOINLINE void fault_in_masked_handler(void)
{
	install_full_mask(SIGUSR1, fault_again);
	raise(SIGUSR1);
}

/* The kernel asks no handler of a fault that is blocked. */
NOINLINE void fault_in_masked_handler_with_handler(void)
{
	install_full_mask(SIGUSR1, fault_again);
	handle(SIGSEGV, 0, leave);
	raise(SIGUSR1);
}

/* An ordinary handler that crashes, on the interrupted stack and on its own. */

NOINLINE void fault_in_signal(void)
{
	handle(SIGUSR1, 0, fault_again);
	raise(SIGUSR1);
}

NOINLINE void fault_in_signal_on_stack(void)
{
	static char stack[65536];
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};

	sigaltstack(&alternate, NULL);
	handle(SIGUSR1, SA_ONSTACK, fault_again);
	raise(SIGUSR1);
}

/* Masks. */

static void block_everything(void)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
}

NOINLINE void blocked_fault(void)
{
	block_everything();
	fault();
}

/* The kernel asks no handler of a fault that is blocked. */
NOINLINE void blocked_fault_with_handler(void)
{
	handle(SIGSEGV, 0, leave);
	block_everything();
	fault();
}

NOINLINE void blocked_raise(void)
{
	sigset_t pending;

	block(SIG_BLOCK, SIGSEGV);
	raise(SIGSEGV);
	sigpending(&pending);
	check(1, sigismember(&pending, SIGSEGV));
	say("still here\n");
	block(SIG_UNBLOCK, SIGSEGV);
	exit(2);
}

NOINLINE void blocked_raise_is_waited_for(void)
{
	sigset_t set;
	int sig = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGABRT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	kill(getpid(), SIGABRT);
	check(1, sigwait(&set, &sig) == 0 && sig == SIGABRT);
	kill(getpid(), SIGABRT);
	check(2, sigwait(&set, &sig) == 0 && sig == SIGABRT);
	exit(0);
}

static void note_call(int sig)
{
	(void)sig;
	calls++;
}

NOINLINE void blocked_raise_is_suspended_for(void)
{
	sigset_t open;

	handle(SIGTRAP, 0, note_call);
	block(SIG_BLOCK, SIGTRAP);
	raise(SIGTRAP);
	check(1, calls == 0);
	sigemptyset(&open);
	sigsuspend(&open);
	check(2, calls == 1);
	check(3, is_blocked(SIGTRAP));
	exit(0);
}

static void check_mask_in_handler(int sig)
{
	check(11, is_blocked(sig));
	check(12, is_blocked(SIGBUS)); /* in sa_mask */
	check(13, is_blocked(SIGFPE)); /* was blocked before */
	check(14, !is_blocked(SIGILL));
	calls++;
}

static void *check_inherited_mask(void *unused)
{
	check(21, is_blocked(SIGFPE));
	check(22, !is_blocked(SIGBUS));
	return unused;
}

NOINLINE void mask_is_read_back(void)
{
	struct sigaction action = {.sa_handler = check_mask_in_handler};
	pthread_t thread;

	sigemptyset(&action.sa_mask);
	sigaddset(&action.sa_mask, SIGBUS);
	sigaction(SIGSEGV, &action, NULL);
	check(1, !is_blocked(SIGFPE));
	block(SIG_BLOCK, SIGFPE);
	check(2, is_blocked(SIGFPE));
	raise(SIGSEGV);
	check(3, calls == 1);
	check(4, is_blocked(SIGFPE) && !is_blocked(SIGBUS) &&
			 !is_blocked(SIGSEGV));
	pthread_create(&thread, NULL, check_inherited_mask, NULL);
	pthread_join(thread, NULL);
	block(SIG_UNBLOCK, SIGFPE);
	check(5, !is_blocked(SIGFPE));
	exit(0);
}

/* Deprecated, and used. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void deprecated_siginterrupt(int sig, int interrupt)
{
	siginterrupt(sig, interrupt);
}
#pragma GCC diagnostic pop

NOINLINE void action_is_read_back(void)
{
	struct sigaction action = {.sa_handler = leave,
				   .sa_flags = SA_NODEFER | SA_RESETHAND};
	struct sigaction old;

	sigaction(SIGSEGV, NULL, &old);
	check(1, old.sa_handler == SIG_DFL && old.sa_flags == 0);
	sigaddset(&action.sa_mask, SIGBUS);
	check(2, sigaction(SIGSEGV, &action, &old) == 0);
	check(3, old.sa_handler == SIG_DFL);
	sigaction(SIGSEGV, NULL, &old);
	check(4, old.sa_handler == leave);
	check(5, ((unsigned)old.sa_flags & ~LIBC_FLAG) ==
			 (SA_NODEFER | SA_RESETHAND));
	check(6, sigismember(&old.sa_mask, SIGBUS) &&
			 !sigismember(&old.sa_mask, SIGFPE));
	check(7, signal(SIGSEGV, SIG_IGN) == leave);
	check(8, signal(SIGSEGV, SIG_DFL) == SIG_IGN);
	check(9, signal(SIGSEGV, leave) == SIG_DFL);
	deprecated_siginterrupt(SIGSEGV, 1);
	sigaction(SIGSEGV, NULL, &old);
	check(10, old.sa_handler == leave && !(old.sa_flags & SA_RESTART));
	exit(0);
}

/* The mask that the kernel has, past libc. */
NOINLINE void tell_mask(void)
{
	uint64_t mask = 0;

	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof(mask));
	exit(mask & (1UL << (SIGFPE - 1)) ? 0 : 1);
}

NOINLINE void mask_survives_exec(void)
{
	block(SIG_BLOCK, SIGFPE);
	execl("/proc/self/exe", "crasher", "tell_mask", (char *)NULL);
	_exit(2);
}

NOINLINE void mask_survives_spawn(void)
{
	char *const arguments[] = {"crasher", "tell_mask", NULL};
	int status = 0;
	pid_t child;

	block(SIG_BLOCK, SIGFPE);
	check(2, posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments,
			     environ) == 0);
	waitpid(child, &status, 0);
	check(3, is_blocked(SIGFPE));
	exit(WEXITSTATUS(status));
}

/* What a language runtime's subprocess module does. */
NOINLINE void vforked_child_changes_all(void)
{
	sigset_t all;
	sigset_t before;
	int status = 0;
	pid_t child;

	handle(SIGSEGV, 0, leave);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	child = vfork();
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		execl("/proc/self/exe", "crasher", "tell_mask", (char *)NULL);
		_exit(2);
	}
	waitpid(child, &status, 0);
	check(1, WEXITSTATUS(status) == 1); /* SIGFPE is open there */
	check(2, is_blocked(SIGSEGV));
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	fault();
}

/* No crash at all. */

NOINLINE void ignored(void)
{
	signal(SIGABRT, SIG_IGN);
	raise(SIGABRT);
	exit(3);
}

/* The kernel forces what is ignored. */
NOINLINE void fault_while_ignored(void)
{
	signal(SIGSEGV, SIG_IGN);
	fault();
}

/* A handler for a signal from outside. */

static void leave_by_7(int sig)
{
	(void)sig;
	_exit(7);
}

NOINLINE void fault_leaving_on_int(void)
{
	signal(SIGINT, leave_by_7);
	fault();
}

NOINLINE void abort_leaving_on_int(void)
{
	signal(SIGINT, leave_by_7);
	abort();
}

/* Filters of the application's own. */

static void filter(uint32_t number, uint32_t action)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog list = {sizeof(program) / sizeof(*program), program};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	check(1, syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &list) == 0);
}

/* Would end by SIGSYS if we made the call. */
NOINLINE void filter_that_kills(void)
{
	filter(SYS_openat, SECCOMP_RET_KILL_PROCESS);
	fault();
}

/* A healthy process whose filter traps a call of ours. */
NOINLINE void filter_that_traps(void)
{
	handle(SIGSYS, 0, note_call);
	filter(SYS_gettid, SECCOMP_RET_TRAP);
	recover(0);
}
