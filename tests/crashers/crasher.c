/* One program, one argument for each way to die.
 *
 *	crasher WAY [THREADS]
 *
 * Each way has a function of its own name, so that a test can ask whether the
 * stack shows it.  `crasher list` prints the ways.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

static int threads = 4;
static volatile int sink;
static volatile uintptr_t zero; /* unknown to the optimizer */

/* Faults. */

static NOINLINE void null_read(void)
{
	sink = *(volatile int *)zero;
}

static NOINLINE void null_write(void)
{
	*(volatile int *)zero = 1;
}

static NOINLINE void wild(void)
{
	sink = *(volatile int *)(zero + 0x0000123456789abcUL);
}

static NOINLINE void non_canonical(void)
{
	sink = *(volatile int *)(zero + 0xdead00000000beefUL);
}

static NOINLINE void call_null(void)
{
	((void (*)(void))zero)();
	sink = 1;
}

static NOINLINE void exec_data(void)
{
	static volatile unsigned char data[16] = {0xc3};

	((void (*)(void))(uintptr_t)data)();
	sink = 1;
}

static NOINLINE void ro_write(void)
{
	*(volatile char *)(uintptr_t) "read-only" = 'R';
}

static NOINLINE void bus(void)
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

static NOINLINE void ill(void)
{
	__asm__ volatile(UNDEFINED);
}

static NOINLINE void div0(void)
{
	sink = sink / (int)zero;
}

static NOINLINE void int3(void)
{
	__asm__ volatile(BREAKPOINT);
	sink = 1;
}

/* Signals a process sends itself. */

static NOINLINE void abort_call(void)
{
	abort();
}

static NOINLINE void assert_false(void)
{
	assert(zero == 1);
}

static NOINLINE void kill_self(void)
{
	kill(getpid(), SIGSEGV);
}

static NOINLINE void raise_segv(void)
{
	raise(SIGSEGV);
}

static NOINLINE void raise_abrt(void)
{
	raise(SIGABRT);
}

static NOINLINE void seccomp_trap(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_acct, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(*filter), filter};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	syscall(SYS_acct, NULL);
}

/* Stack overflow. */

static NOINLINE int recurse(int depth)
{
	volatile char frame[256];

	frame[0] = (char)depth;
	sink = recurse(depth + 1) + frame[0];
	return sink;
}

static NOINLINE void overflow_main(void)
{
	recurse(0);
}

static void *recurse_in_thread(void *unused)
{
	(void)unused;
	recurse(0);
	return NULL;
}

static void start(pthread_t *ret, const pthread_attr_t *attr,
		  void *(*routine)(void *), void *argument)
{
	int error = pthread_create(ret, attr, routine, argument);

	if (error) {
		fprintf(stderr, "crasher: pthread_create: %s\n",
			strerror(error));
		exit(100);
	}
}

static NOINLINE void overflow_thread(void)
{
	pthread_t thread;

	start(&thread, NULL, recurse_in_thread, NULL);
	pthread_join(thread, NULL);
}

static NOINLINE void overflow_small_thread(void)
{
	pthread_t thread;
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	start(&thread, &attr, recurse_in_thread, NULL);
	pthread_join(thread, NULL);
}

static NOINLINE void overflow_supplied_stack(void)
{
	const size_t bytes = 1 << 20;
	char *stack = mmap(NULL, bytes + 4096, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t thread;
	pthread_attr_t attr;

	mprotect(stack + 4096, bytes, PROT_READ | PROT_WRITE);
	pthread_attr_init(&attr);
	pthread_attr_setstack(&attr, stack + 4096, bytes);
	start(&thread, &attr, recurse_in_thread, NULL);
	pthread_join(thread, NULL);
}

/* Threads. */

static pthread_barrier_t barrier;
static atomic_int working; /* threads past the barrier */

static NOINLINE void wait_here(void)
{
	for (;;)
		pause();
}

static void *wait_in_thread(void *unused)
{
	(void)unused;
	pthread_barrier_wait(&barrier);
	working++;
	wait_here();
	return NULL;
}

static void *crash_in_thread(void *unused)
{
	(void)unused;
	pthread_barrier_wait(&barrier);
	null_read();
	return NULL;
}

/* Past libc, which keeps some signals for itself. */
static void block_all_signals(void)
{
	uint64_t all = ~0ULL;

	syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, sizeof(all));
}

static void *wait_masked(void *unused)
{
	(void)unused;
	block_all_signals();
	pthread_barrier_wait(&barrier);
	wait_here();
	return NULL;
}

static void *close_in_thread(void *unused)
{
	(void)unused;
	block_all_signals();
	pthread_barrier_wait(&barrier);
	for (;;)
		syscall(SYS_close_range, 3U, ~0U, 0U);
	return NULL;
}

static void *exit_in_thread(void *unused)
{
	struct timespec pause_ = {0, 50000000};

	(void)unused;
	pthread_barrier_wait(&barrier);
	nanosleep(&pause_, NULL);
	_exit(0);
}

static void *spin_in_thread(void *unused)
{
	(void)unused;
	pthread_barrier_wait(&barrier);
	working++;
	for (;;)
		sink++;
	return NULL;
}

/* Starts `threads` of them and returns when all are at work. */
static void start_all(void *(*routine)(void *))
{
	pthread_attr_t attr;

	pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
	pthread_attr_init(&attr);
	for (int i = 0; i < threads; i++) {
		pthread_t thread;

		start(&thread, &attr, routine, NULL);
	}
	pthread_barrier_wait(&barrier);
}

static void until_all_work(void)
{
	while (working < threads)
		sched_yield();
}

static void until_asleep(const char *tid)
{
	char path[64];
	char line[512] = "";

	snprintf(path, sizeof(path), "/proc/self/task/%s/stat", tid);
	while (!strstr(line, ") S")) {
		FILE *stat = fopen(path, "r");

		if (!stat || !fgets(line, sizeof(line), stat))
			exit(100);
		fclose(stat);
	}
}

/* All threads but this one are in a system call. */
static void until_all_sleep(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;

	until_all_work();
	while (tasks && (task = readdir(tasks)))
		if (task->d_name[0] != '.' && atoi(task->d_name) != getpid())
			until_asleep(task->d_name);
	closedir(tasks);
}

static NOINLINE void thread_segv(void)
{
	threads = 1;
	start_all(crash_in_thread);
	wait_here();
}

static NOINLINE void with_threads(void)
{
	start_all(wait_in_thread);
	until_all_sleep();
	null_read();
}

static NOINLINE void with_spinning(void)
{
	start_all(spin_in_thread);
	until_all_work();
	null_read();
}

static NOINLINE void with_masked(void)
{
	start_all(wait_masked);
	null_read();
}

static NOINLINE void with_closing(void)
{
	threads = 1;
	start_all(close_in_thread);
	null_read();
}

static NOINLINE void all_crash(void)
{
	start_all(crash_in_thread);
	wait_here();
}

static NOINLINE void exit_during_hold(void)
{
	threads = 1;
	start_all(exit_in_thread);
	null_read();
}

static void *end_in_thread(void *unused)
{
	pthread_exit(unused);
}

static NOINLINE void threads_that_end(void)
{
	for (int i = 0; i < threads; i++) {
		pthread_t thread;

		start(&thread, NULL, end_in_thread, NULL);
		pthread_join(thread, NULL);
	}
	exit(0);
}

/* Not a byte behind the attributes can be read. */
static NOINLINE void attributes_at_the_end(void)
{
	char *pages = mmap(NULL, 1 << 17, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t *attr = (pthread_attr_t *)(pages + (1 << 16)) - 1;
	pthread_t thread;

	mprotect(pages + (1 << 16), 1 << 16, PROT_NONE);
	pthread_attr_init(attr);
	start(&thread, attr, end_in_thread, NULL);
	pthread_join(thread, NULL);
	exit(0);
}

/* What is no crash, or not ours. */

static void own_handler(int sig)
{
	_exit(sig == SIGSEGV ? 42 : 43);
}

static NOINLINE void handled(void)
{
	signal(SIGSEGV, own_handler);
	null_read();
}

static NOINLINE void ignored(void)
{
	signal(SIGABRT, SIG_IGN);
	raise(SIGABRT);
	exit(3);
}

static void leave(int sig)
{
	(void)sig;
	_exit(7);
}

static NOINLINE void fault_leaving_on_int(void)
{
	signal(SIGINT, leave);
	null_read();
}

static NOINLINE void abort_leaving_on_int(void)
{
	signal(SIGINT, leave);
	abort();
}

static NOINLINE void forked_child(void)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0)
		null_read();
	waitpid(child, &status, 0);
	exit(WIFSIGNALED(status) ? WTERMSIG(status) : 100);
}

/* The child of a vfork crashes, then its parent does: two reports. */
static NOINLINE void vforked_child(void)
{
	pid_t child = vfork();

	if (child == 0)
		null_read();
	waitpid(child, NULL, 0);
	null_write();
}

/* Bad places to crash in. */

static NOINLINE void not_dumpable(void)
{
	prctl(PR_SET_DUMPABLE, 0);
	sink = *(volatile int *)zero;
}

#define FORBID(number)                                                         \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1),                   \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

static void install_filter(struct sock_filter *filter, size_t instructions)
{
	struct sock_fprog program = {(unsigned short)instructions, filter};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

#define LOAD_CALL                                                              \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ALLOW	      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define INSTALL(list) install_filter(list, sizeof(list) / sizeof(*(list)))

static NOINLINE void forbidding_filter(void)
{
	struct sock_filter filter[] = {
		LOAD_CALL,
		FORBID(SYS_close_range),
		FORBID(SYS_process_vm_readv),
		FORBID(SYS_prctl),
		FORBID(SYS_tgkill),
		FORBID(SYS_rt_tgsigqueueinfo),
		ALLOW,
	};

	INSTALL(filter);
	null_read();
}

/* What containerd's default profile refuses a pod. */
static void forbid_like_a_runtime(void)
{
	struct sock_filter filter[] = {
		LOAD_CALL,
		FORBID(SYS_process_vm_readv),
		FORBID(SYS_process_vm_writev),
		FORBID(SYS_ptrace),
		ALLOW,
	};

	INSTALL(filter);
}

static NOINLINE void filtered_int3(void)
{
	forbid_like_a_runtime();
	int3();
}

static NOINLINE void filtered_abort(void)
{
	forbid_like_a_runtime();
	abort();
}

static long memory_number(const char *name)
{
	char path[128];
	char line[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/sys/fs/cgroup/memory/memory.%s_in_bytes",
		 name);
	file = fopen(path, "r");
	if (!file || !fgets(line, sizeof(line), file))
		exit(100);
	fclose(file);
	return atol(line);
}

/* Uses the memory of its cgroup up to THREADS KiB below the limit. */
static NOINLINE void hog(void)
{
	long until = memory_number("limit") - threads * 1024L;

	while (memory_number("usage") < until) {
		volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		page[0] = 1;
	}
	null_read();
}

static NOINLINE void exit_normal(void)
{
	exit(0);
}

#define ALL_WAYS(X)                                                            \
	X(null_read)                                                           \
	X(null_write)                                                          \
	X(wild)                                                                \
	X(non_canonical)                                                       \
	X(call_null)                                                           \
	X(exec_data)                                                           \
	X(ro_write)                                                            \
	X(bus)                                                                 \
	X(ill)                                                                 \
	X(div0)                                                                \
	X(int3)                                                                \
	X(abort_call)                                                          \
	X(assert_false)                                                        \
	X(kill_self)                                                           \
	X(raise_segv)                                                          \
	X(raise_abrt)                                                          \
	X(seccomp_trap)                                                        \
	X(overflow_main)                                                       \
	X(overflow_thread)                                                     \
	X(overflow_small_thread)                                               \
	X(overflow_supplied_stack)                                             \
	X(thread_segv)                                                         \
	X(with_threads)                                                        \
	X(with_spinning)                                                       \
	X(with_masked)                                                         \
	X(with_closing)                                                        \
	X(all_crash)                                                           \
	X(exit_during_hold)                                                    \
	X(threads_that_end)                                                    \
	X(attributes_at_the_end)                                               \
	X(handled)                                                             \
	X(ignored)                                                             \
	X(fault_leaving_on_int)                                                \
	X(abort_leaving_on_int)                                                \
	X(forked_child)                                                        \
	X(vforked_child)                                                       \
	X(not_dumpable)                                                        \
	X(forbidding_filter)                                                   \
	X(filtered_int3)                                                       \
	X(filtered_abort)                                                      \
	X(hog)                                                                 \
	X(exit_normal)

static const struct {
	const char *name;
	void (*die)(void);
} ways[] = {
#define WAY(name) {#name, name},
	ALL_WAYS(WAY)
#undef WAY
};

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "list";

	if (argc > 2)
		threads = atoi(argv[2]);
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		if (strcmp(way, ways[i].name) == 0)
			ways[i].die();
		else if (strcmp(way, "list") == 0)
			puts(ways[i].name);
	}
	return strcmp(way, "list") == 0 ? 0 : 99; /* survived, or unknown */
}
